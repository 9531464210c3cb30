//! Peaks of arithmetic: loops that touch nothing but registers.

use std::array;
use std::hint::black_box;
use std::time::{Duration, Instant};

use super::rate;
#[cfg(target_arch = "x86_64")]
use super::x86;
use crate::simd::{Isa, Level};

/// An image of the register file, loaded before a loop and stored after it: accumulators first,
/// operands at the end.
pub(super) type Image = [u8; 2048];

/// Shortest time of a pass: short enough that some pass escapes the neighbours, long enough that
/// the start of a thread does not count.
const PASS: Duration = Duration::from_millis(1);

/// A loop over the instruction to be measured.
struct Loop {
    /// Runs so many rounds, one at least. Needs the instruction set that its maker has checked.
    kernel: unsafe fn(u32, &mut Image),
    /// Operations in a round.
    operations: u32,
    /// Bytes of the image that are accumulators.
    accumulators: usize,
}

impl Loop {
    /// Multiply-adds in `f32`.
    fn f32(isa: Isa) -> Self {
        match isa.0 {
            #[cfg(target_arch = "x86_64")]
            Level::V4 => Self::new(x86::fma_f32_v4, 2 * 24 * 16, 24 * 64),
            #[cfg(target_arch = "x86_64")]
            Level::V3 => Self::new(x86::fma_f32_v3, 2 * 12 * 8, 12 * 32),
            _ => Self::new(portable_f32, 4 * 48, 4 * 48),
        }
    }

    /// Multiply-adds in `f64`.
    fn f64(isa: Isa) -> Self {
        match isa.0 {
            #[cfg(target_arch = "x86_64")]
            Level::V4 => Self::new(x86::fma_f64_v4, 2 * 24 * 8, 24 * 64),
            #[cfg(target_arch = "x86_64")]
            Level::V3 => Self::new(x86::fma_f64_v3, 2 * 12 * 4, 12 * 32),
            _ => Self::new(portable_f64, 4 * 24, 8 * 24),
        }
    }

    /// Products of bytes, added up, by the best instruction for it.
    fn int8(isa: Isa) -> Self {
        match isa.0 {
            #[cfg(target_arch = "x86_64")]
            Level::V4 if is_x86_feature_detected!("avx512vnni") => {
                Self::new(x86::dot_v4, 2 * 24 * 64, 24 * 64)
            }
            #[cfg(target_arch = "x86_64")]
            Level::V3 | Level::V4 if is_x86_feature_detected!("avxvnni") => {
                Self::new(x86::dot_v3, 2 * 12 * 32, 12 * 32)
            }
            #[cfg(target_arch = "x86_64")]
            Level::V3 | Level::V4 => Self::pairs(),
            _ => Self::new(portable_dot, 2 * 512, 4 * 16),
        }
    }

    /// Products of bytes where only AVX2 is.
    #[cfg(target_arch = "x86_64")]
    fn pairs() -> Self {
        Self::new(x86::pairs_v3, 2 * 8 * 32, 8 * 32)
    }

    fn new(kernel: unsafe fn(u32, &mut Image), operations: u32, accumulators: usize) -> Self {
        Self { kernel, operations, accumulators }
    }

    /// Zeros for the accumulators, and what `operand` makes of random bits behind them.
    fn image<const N: usize>(&self, operand: impl Fn(u32) -> [u8; N]) -> Image {
        let mut image = [0; size_of::<Image>()];
        let operands = image[self.accumulators..].as_chunks_mut().0;
        for (i, bytes) in (1..).zip(operands) {
            *bytes = operand(2_654_435_761_u32.wrapping_mul(i));
        }
        image
    }

    fn run(&self, rounds: u32, image: &mut Image) {
        // SAFETY: `f32`, `f64` and `int8` pick kernels by an `Isa`, which this machine has, and by
        // what else they ask the processor.
        unsafe { (self.kernel)(rounds, image) }
    }
}

/// A loop with what it works on and how long.
pub(super) struct Peak {
    body: Loop,
    image: Image,
    rounds: u32,
}

impl Peak {
    /// Multiply-adds in `f32`.
    pub(super) fn f32(isa: Isa) -> Self {
        Self::new(Loop::f32(isa), |bits| (unit(bits) as f32).to_ne_bytes())
    }

    /// Multiply-adds in `f64`.
    pub(super) fn f64(isa: Isa) -> Self {
        Self::new(Loop::f64(isa), |bits| unit(bits).to_ne_bytes())
    }

    /// Products of bytes, added up.
    pub(super) fn int8(isa: Isa) -> Self {
        // Seven bits mean the same signed and unsigned.
        Self::new(Loop::int8(isa), |bits| [(bits >> 25) as u8])
    }

    fn new<const N: usize>(body: Loop, operand: impl Fn(u32) -> [u8; N]) -> Self {
        let image = body.image(operand);
        let mut peak = Self { body, image, rounds: 1024 };
        // Three tries, because the neighbours can make a pass look longer than it is.
        while (0..3).any(|_| peak.is_short()) {
            peak.rounds *= 2;
        }
        peak
    }

    fn is_short(&self) -> bool {
        let start = Instant::now();
        self.pass(1);
        start.elapsed() < PASS
    }

    /// Runs one pass on each of `threads` threads and returns GF/s or Gop/s.
    pub(super) fn pass(&self, threads: usize) -> f64 {
        rate(threads, |_| {
            let mut image = self.image;
            self.body.run(self.rounds, &mut image);
            f64::from(self.rounds) * f64::from(self.body.operations)
        })
    }
}

/// Random bits as a number in [-1/2, 1/2).
fn unit(bits: u32) -> f64 {
    f64::from(bits) / 4_294_967_296.0 - 0.5
}

/// Defines a loop of multiplications and additions, one operation each, that the compiler turns
/// into the vector instructions which every machine of the target has.
///
/// `x * a + b` again and again, because the product of two operands would move out of the loop.
macro_rules! portable {
    ($name:ident, $float:ty, $lanes:literal) => {
        fn $name(rounds: u32, image: &mut Image) {
            let numbers = image.as_chunks_mut::<{ size_of::<$float>() }>().0;
            let mut sums: [$float; $lanes] =
                array::from_fn(|i| <$float>::from_ne_bytes(numbers[i]));
            let [a, b, c, d] =
                array::from_fn(|i| <$float>::from_ne_bytes(numbers[numbers.len() - 1 - i]));
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = (*sum * a + b) * c + d;
                }
            }
            for (number, sum) in numbers.iter_mut().zip(sums) {
                *number = sum.to_ne_bytes();
            }
        }
    };
}
portable!(portable_f32, f32, 48);
portable!(portable_f64, f64, 24);

/// Products of the last kibibyte, half by half, added up.
fn portable_dot(rounds: u32, image: &mut Image) {
    let (sums, operands) = image.split_at_mut(1024);
    let mut total = [0i32; 16];
    for _ in 0..rounds {
        let (a, b) = black_box(&*operands).split_at(512);
        for (a, b) in a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0) {
            for i in 0..16 {
                total[i] = total[i].wrapping_add(i32::from(a[i]) * i32::from(b[i]));
            }
        }
    }
    for (sum, total) in sums.as_chunks_mut().0.iter_mut().zip(total) {
        *sum = total.to_ne_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the accumulators hold after three rounds on operands of one: the number of products.
    fn products<const N: usize, const M: usize>(
        body: &Loop,
        one: [u8; N],
        number: impl Fn([u8; M]) -> u32,
    ) -> u32 {
        let mut image = body.image(|_| one);
        body.run(3, &mut image);
        image[..body.accumulators].as_chunks().0.iter().map(|bytes| number(*bytes)).sum()
    }

    /// Sets of instructions that this machine has, up to the one in use.
    fn sets() -> impl Iterator<Item = Isa> {
        let best = Isa::detect().0;
        [Level::Portable, Level::V3, Level::V4].into_iter().filter(move |x| *x <= best).map(Isa)
    }

    #[test]
    fn a_round_does_the_operations_it_claims() {
        for isa in sets() {
            let body = Loop::f32(isa);
            let found = products(&body, 1f32.to_ne_bytes(), |x| f32::from_ne_bytes(x) as u32);
            assert_eq!(2 * found, 3 * body.operations, "f32 {isa:?}");

            let body = Loop::f64(isa);
            let found = products(&body, 1f64.to_ne_bytes(), |x| f64::from_ne_bytes(x) as u32);
            assert_eq!(2 * found, 3 * body.operations, "f64 {isa:?}");

            let mut bodies = vec![Loop::int8(isa)];
            #[cfg(target_arch = "x86_64")]
            if isa.0 >= Level::V3 {
                // No machine with a better instruction would pick this one.
                bodies.push(Loop::pairs());
            }
            for body in bodies {
                // Accumulators have 16 or 32 bits; in three rounds only the lower 16 count.
                let found = products(&body, [1], |x| u32::from(u16::from_ne_bytes(x)));
                assert_eq!(2 * found, 3 * body.operations, "int8 {isa:?}");
            }
        }
    }

    #[test]
    fn operands_are_not_zero_and_keep_accumulators_finite() {
        for isa in sets() {
            let Peak { body, mut image, rounds } = Peak::f32(isa);
            let (zeros, operands) = image.split_at(body.accumulators);
            assert!(zeros.iter().all(|byte| *byte == 0), "{isa:?}");
            let numbers = operands.as_chunks().0.iter().map(|x| f32::from_ne_bytes(*x));
            assert!(numbers.clone().all(|x| x.abs() > 1e-6 && x.abs() <= 0.5), "{isa:?}");
            assert!(numbers.clone().any(|x| x > 0.0) && numbers.clone().any(|x| x < 0.0));

            body.run(rounds, &mut image);
            let sums = image[..body.accumulators].as_chunks().0.iter();
            assert!(sums.map(|x| f32::from_ne_bytes(*x)).all(f32::is_normal), "{isa:?}");
        }
    }
}
