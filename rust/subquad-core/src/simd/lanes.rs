//! The vector operations that kernels are written in.

use std::fmt;
use std::hint::black_box;
use std::ops::{Add, Div, Mul, Neg, Sub};

use half::{bf16, f16};

use crate::scratch::Zeroable;

/// A compute type: `f32` or `f64`.
pub trait Float:
    Copy
    + Send
    + Sync
    + PartialOrd
    + Zeroable
    + fmt::Debug
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Minus infinity: the logit of a hidden key.
    const NEG_INFINITY: Self;
    /// log2(e).
    const LOG2_E: Self;
    /// Half the distance from 1 to the next number: the unit roundoff.
    const UNIT_ROUNDOFF: f64;
    /// The largest finite number.
    const LARGEST: f64;
    /// The smallest positive number, and the smallest of full precision.
    const SMALLEST: f64;
    /// See [`SMALLEST`](Self::SMALLEST).
    const SMALLEST_NORMAL: f64;
    /// Coefficients of 2^x on [-1/2, 1/2], highest power first, without the constant term 1.
    const EXP2: &'static [Self];
    /// Bound on the relative error of [`EXP2`](Self::EXP2) as a polynomial, before rounding.
    const EXP2_ERROR: f64;
    /// Nearest value, infinite beyond the range.
    fn from_f64(x: f64) -> Self;
    /// Nearest finite value of what is finite.
    fn narrow(x: f64) -> Self;
    /// Exact value.
    fn to_f64(self) -> f64;
    /// Is it neither infinite nor NaN?
    fn is_finite(self) -> bool;
    /// e^self.
    #[must_use]
    fn exp(self) -> Self;
    /// Natural logarithm.
    #[must_use]
    fn ln(self) -> Self;
    /// The larger, or `other` where `self` is NaN.
    #[must_use]
    fn max(self, other: Self) -> Self;
}

// The last coefficients resemble ln(2) and are not.
macro_rules! float {
    ($t:ident, $error:literal, $exp2:expr) => {
        impl Float for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NEG_INFINITY: Self = $t::NEG_INFINITY;
            const LOG2_E: Self = std::$t::consts::LOG2_E;
            const UNIT_ROUNDOFF: f64 = $t::EPSILON as f64 / 2.0;
            #[allow(clippy::cast_lossless)]
            const LARGEST: f64 = $t::MAX as f64;
            #[allow(clippy::cast_lossless)]
            const SMALLEST: f64 = $t::from_bits(1) as f64;
            #[allow(clippy::cast_lossless)]
            const SMALLEST_NORMAL: f64 = $t::MIN_POSITIVE as f64;
            #[allow(clippy::approx_constant)]
            const EXP2: &'static [Self] = $exp2;
            const EXP2_ERROR: f64 = $error;
            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn narrow(x: f64) -> Self {
                const MAX: f64 = $t::MAX as f64;
                if x.is_finite() { x.clamp(-MAX, MAX) as $t } else { x as $t }
            }
            #[inline(always)]
            #[allow(clippy::cast_lossless)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                self.is_finite()
            }
            fn exp(self) -> Self {
                self.exp()
            }
            fn ln(self) -> Self {
                self.ln()
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                $t::max(self, other)
            }
        }
    };
}

// Minimax with constant term 1, degree 5.
float!(f32, 1.2e-7, &[0.001_326_472_7, 0.009_671_513, 0.055_507_336, 0.240_222_42, 0.693_147]);
// Interpolation at Chebyshev nodes with constant term 1, degree 11. The bound covers the rounding of
// the coefficients.
float!(
    f64,
    4e-17,
    &[
        4.454_960_598_186_518_6e-10,
        7.072_585_949_269_223e-9,
        1.017_806_244_584_577_4e-7,
        1.321_544_258_792_169e-6,
        1.525_273_382_983_612e-5,
        1.540_353_044_173_605e-4,
        1.333_355_814_641_693_6e-3,
        9.618_129_107_606_888e-3,
        5.550_410_866_482_16e-2,
        0.240_226_506_959_100_97,
        0.693_147_180_559_945_3,
    ]
);

/// A vector register of floating-point lanes.
///
/// The constructors are unsafe: a value must be made only inside a function compiled for its
/// instruction set, which the entry points made by [`multiversion!`](super::multiversion) are.
/// Whoever holds a value may then use every other operation.
pub(crate) trait Lanes: Copy {
    /// Type of a lane.
    type T: Float + Element;
    /// Number of lanes, a power of two.
    const N: usize;
    /// Number of vector registers.
    const REGISTERS: usize = 16;

    /// # Safety
    /// The instruction set must be enabled.
    unsafe fn splat(x: Self::T) -> Self;
    /// # Safety
    /// As [`splat`](Self::splat); `N` values must be readable at `p`, which need not be aligned.
    unsafe fn load(p: *const Self::T) -> Self;
    /// # Safety
    /// As [`load`](Self::load). Converts from `f32`.
    unsafe fn load_f32(p: *const f32) -> Self;
    /// # Safety
    /// As [`load`](Self::load). Converts from `f64`; what is finite stays finite.
    unsafe fn load_f64(p: *const f64) -> Self;
    /// # Safety
    /// As [`load`](Self::load). Widens float16.
    unsafe fn load_f16(p: *const half::f16) -> Self;
    /// # Safety
    /// As [`load`](Self::load). Widens bfloat16.
    unsafe fn load_bf16(p: *const half::bf16) -> Self;
    /// Minus infinity where the byte is zero, else 0.
    ///
    /// # Safety
    /// As [`load`](Self::load), for bytes.
    unsafe fn load_mask(p: *const u8) -> Self;
    /// # Safety
    /// `N` values must be writable at `p`, which need not be aligned.
    unsafe fn store(self, p: *mut Self::T);

    /// As [`store`](Self::store), past the caches where the instruction set can: for results that no cache
    /// holds. To be followed by [`drain`](Self::drain) before anybody reads them.
    ///
    /// # Safety
    /// As [`store`](Self::store); `p` must be aligned to the whole vector.
    #[inline(always)]
    unsafe fn stream(self, p: *mut Self::T) {
        // SAFETY: passed on.
        unsafe { self.store(p) }
    }
    /// Waits for what was [`stream`](Self::stream)ed.
    ///
    /// # Safety
    /// The instruction set must be enabled.
    #[inline(always)]
    unsafe fn drain() {}

    /// Asks for a cache line, on the machines of this instruction set that read faster for it: from
    /// memory Zen 5 gains a tenth to a third, Zen 3 loses a tenth.
    fn prefetch(_: *const u8) {}

    /// `self * b + c`, fused where the instruction set has it.
    fn fma(self, b: Self, c: Self) -> Self;
    /// `self * b - c`, as [`fma`](Self::fma).
    fn fms(self, b: Self, c: Self) -> Self;
    fn add(self, b: Self) -> Self;
    fn sub(self, b: Self) -> Self;
    fn mul(self, b: Self) -> Self;
    /// The larger, lane by lane; `b` where either is NaN.
    fn max(self, b: Self) -> Self;
    /// The absolute value.
    fn abs(self) -> Self;
    /// Bit `i` is set if lane `i` is at least that of `b`; no bit where either is NaN.
    fn ge_bits(self, b: Self) -> u32;
    /// Is any lane of `self` above the same lane of `b`?
    fn any_gt(self, b: Self) -> bool;
    /// Are all lanes minus infinity?
    fn all_hidden(self) -> bool;
    /// Minus infinity in the lanes outside `from .. to`.
    fn keep(self, from: i32, to: i32) -> Self;
    /// Alternating lanes of `self` and `b`: the lower halves, then the upper halves.
    fn zip(self, b: Self) -> (Self, Self);
    /// Lanes 0 and 1 exchanged, 2 and 3, and so on.
    fn swap_pairs(self) -> Self;
    /// Sum of the lanes in a fixed order.
    fn sum(self) -> Self::T;
    /// The largest lane, if none is NaN.
    #[inline(always)]
    fn largest(self) -> Self::T {
        // Halves against each other, until all lanes are the same.
        let mut most = self;
        for _ in 0..Self::N.ilog2() {
            let (low, high) = most.zip(most);
            most = low.max(high);
        }
        let mut lanes = [Self::T::ZERO; 16];
        // SAFETY: no vector has more than 16 lanes.
        unsafe { most.store(lanes.as_mut_ptr()) };
        lanes[0]
    }
    /// Nearest integer `n`, in whatever form [`ldexp`](Self::ldexp) takes, and `x - n`.
    fn split_exponent(self) -> (Self, Self);
    /// `self * 2^n`, exactly 0 where `n` is below the range of exponents.
    fn ldexp(self, n: Self) -> Self;

    /// 2^self; exactly 0 for minus infinity, so that a hidden key has no weight at all. Lanes must
    /// not exceed the largest exponent; below the smallest normal exponent they may be flushed to 0.
    #[inline(always)]
    fn exp2(self, table: Exp2<Self::T>) -> Self {
        let (n, x) = self.split_exponent();
        // SAFETY: `self` exists, so the instruction set is enabled.
        let constant = |c| unsafe { Self::splat(c) };
        let mut p = constant(table.coefficient(0));
        for i in 1..Self::T::EXP2.len() {
            p = p.fma(x, constant(table.coefficient(i)));
        }
        p.fma(x, constant(Self::T::ONE)).ldexp(n)
    }
}

/// The coefficients of 2^x, where the optimiser cannot see that they are constants.
///
/// It would load them into registers once, before the loop over tiles, and push accumulators of
/// the products onto the stack to make room.
#[derive(Clone, Copy)]
pub(crate) struct Exp2<T>(*const T);

impl<T: Float> Exp2<T> {
    /// To be called anew for every tile.
    #[inline(always)]
    pub fn table() -> Self {
        Self(black_box(T::EXP2.as_ptr()))
    }

    #[inline(always)]
    fn coefficient(self, i: usize) -> T {
        debug_assert!(i < T::EXP2.len());
        // SAFETY: the pointer is that of the table, and callers stay below its length.
        unsafe { *self.0.add(i) }
    }
}

/// A type that can be read from memory as lanes.
pub(crate) trait Element: Copy {
    /// # Safety
    /// As [`Lanes::load`].
    unsafe fn load<V: Lanes>(p: *const Self) -> V;
    fn to_f64(self) -> f64;
}

macro_rules! element {
    ($t:ty, $load:ident, $widen:expr) => {
        impl Element for $t {
            #[inline(always)]
            unsafe fn load<V: Lanes>(p: *const Self) -> V {
                // SAFETY: passed on.
                unsafe { V::$load(p) }
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                $widen(self)
            }
        }
    };
}

element!(f32, load_f32, f64::from);
element!(f64, load_f64, |x| x);
element!(f16, load_f16, f64::from);
element!(bf16, load_bf16, f64::from);

/// A byte of a boolean mask: minus infinity where it is false.
impl Element for u8 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(p: *const Self) -> V {
        // SAFETY: passed on.
        unsafe { V::load_mask(p) }
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        if self == 0 { f64::NEG_INFINITY } else { 0.0 }
    }
}

/// The transpose of the `N x N` block whose rows are the first `N` entries of `rows`.
///
/// Interleaving row `i` with row `i + N/2` is one step of a perfect shuffle of the index bits;
/// `log2 N` of them exchange the row with the column.
#[inline(always)]
pub(crate) fn transpose<V: Lanes>(rows: &mut [V; 16]) {
    for _ in 0..V::N.trailing_zeros() {
        let from = *rows;
        for i in 0..V::N / 2 {
            (rows[2 * i], rows[2 * i + 1]) = from[i].zip(from[i + V::N / 2]);
        }
    }
}
