//! Vectors as arrays: whatever the compiler makes of them on the target's baseline.

use half::{bf16, f16};

use super::{Float, Lanes};

/// `N` lanes without any promise about the machine.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Array<T, const N: usize>([T; N]);

pub(crate) type F32x4 = Array<f32, 4>;
pub(crate) type F64x2 = Array<f64, 2>;

impl<T: Float, const N: usize> Array<T, N> {
    #[inline(always)]
    pub(super) fn of(x: [T; N]) -> Self {
        Self(x)
    }
    #[inline(always)]
    pub(super) fn get(self) -> [T; N] {
        self.0
    }
    #[inline(always)]
    fn map2(self, b: Self, f: impl Fn(T, T) -> T) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], b.0[i])))
    }
}

macro_rules! lanes {
    ($t:ident, $n:literal, $mantissa:literal, $bias:literal, $magic:literal) => {
        #[allow(clippy::cast_lossless)] // lossless in one of the two instances
        impl Lanes for Array<$t, $n> {
            type T = $t;
            const N: usize = $n;
            #[inline(always)]
            unsafe fn splat(x: $t) -> Self {
                Self([x; $n])
            }
            #[inline(always)]
            unsafe fn load(p: *const $t) -> Self {
                // SAFETY: the caller promises `N` readable values.
                Self(unsafe { p.cast::<[$t; $n]>().read_unaligned() })
            }
            #[inline(always)]
            unsafe fn load_f32(p: *const f32) -> Self {
                // SAFETY: as above.
                Self(unsafe { p.cast::<[f32; $n]>().read_unaligned() }.map(|x| x as $t))
            }
            #[inline(always)]
            unsafe fn load_f64(p: *const f64) -> Self {
                // SAFETY: as above.
                Self(unsafe { p.cast::<[f64; $n]>().read_unaligned() }.map($t::narrow))
            }
            #[inline(always)]
            unsafe fn load_f16(p: *const f16) -> Self {
                // SAFETY: as above.
                Self(unsafe { p.cast::<[f16; $n]>().read_unaligned() }.map(|x| x.to_f32() as $t))
            }
            #[inline(always)]
            unsafe fn load_bf16(p: *const bf16) -> Self {
                // SAFETY: as above.
                Self(unsafe { p.cast::<[bf16; $n]>().read_unaligned() }.map(|x| x.to_f32() as $t))
            }
            #[inline(always)]
            unsafe fn load_mask(p: *const u8) -> Self {
                // SAFETY: as above.
                let seen = unsafe { p.cast::<[u8; $n]>().read_unaligned() };
                Self(seen.map(|x| if x == 0 { $t::NEG_INFINITY } else { 0.0 }))
            }
            #[inline(always)]
            unsafe fn store(self, p: *mut $t) {
                // SAFETY: the caller promises `N` writable values.
                unsafe { p.cast::<[$t; $n]>().write_unaligned(self.0) }
            }
            // Not `mul_add`: without the instruction that is a library call, 44 times slower.
            #[inline(always)]
            fn fma(self, b: Self, c: Self) -> Self {
                Self(std::array::from_fn(|i| self.0[i] * b.0[i] + c.0[i]))
            }
            #[inline(always)]
            fn fms(self, b: Self, c: Self) -> Self {
                Self(std::array::from_fn(|i| self.0[i] * b.0[i] - c.0[i]))
            }
            #[inline(always)]
            fn add(self, b: Self) -> Self {
                self.map2(b, |x, y| x + y)
            }
            #[inline(always)]
            fn sub(self, b: Self) -> Self {
                self.map2(b, |x, y| x - y)
            }
            #[inline(always)]
            fn mul(self, b: Self) -> Self {
                self.map2(b, |x, y| x * y)
            }
            #[inline(always)]
            fn max(self, b: Self) -> Self {
                self.map2(b, |x, y| if x > y { x } else { y })
            }
            #[inline(always)]
            fn abs(self) -> Self {
                Self(self.0.map($t::abs))
            }
            #[inline(always)]
            fn ge_bits(self, b: Self) -> u32 {
                (0..$n).fold(0, |bits, i| bits | u32::from(self.0[i] >= b.0[i]) << i)
            }
            #[inline(always)]
            fn any_gt(self, b: Self) -> bool {
                (0..$n).any(|i| self.0[i] > b.0[i])
            }
            #[inline(always)]
            fn all_hidden(self) -> bool {
                self.0.iter().all(|&x| x == $t::NEG_INFINITY)
            }
            #[inline(always)]
            fn keep(self, from: i32, to: i32) -> Self {
                let kept = |i: usize| from <= i as i32 && (i as i32) < to;
                Self(std::array::from_fn(|i| if kept(i) { self.0[i] } else { $t::NEG_INFINITY }))
            }
            #[inline(always)]
            fn zip(self, b: Self) -> (Self, Self) {
                let pick = |i: usize| if i % 2 == 0 { self.0[i / 2] } else { b.0[i / 2] };
                (Self(std::array::from_fn(pick)), Self(std::array::from_fn(|i| pick(i + $n))))
            }
            #[inline(always)]
            fn swap_pairs(self) -> Self {
                Self(std::array::from_fn(|i| self.0[i ^ 1]))
            }
            #[inline(always)]
            fn sum(self) -> $t {
                let mut x = self.0;
                let mut width = $n / 2;
                while width > 0 {
                    for i in 0..width {
                        x[i] += x[i + width];
                    }
                    width /= 2;
                }
                x[0]
            }
            // x + magic rounds x to an integer and leaves the biased exponent in the low bits.
            #[inline(always)]
            fn split_exponent(self) -> (Self, Self) {
                const MAGIC: $t = $magic + $bias;
                // This way round, NaN stays NaN.
                let x = self.0.map(|x| if x < -$bias { -$bias } else { x });
                let n = x.map(|x| x + MAGIC);
                (Self(n), Self(std::array::from_fn(|i| x[i] - (n[i] - MAGIC))))
            }
            #[inline(always)]
            fn ldexp(self, n: Self) -> Self {
                self.map2(n, |x, n| x * $t::from_bits(n.to_bits() << $mantissa))
            }
        }
    };
}

lanes!(f32, 4, 23, 127.0, 12_582_912.0);
lanes!(f64, 2, 52, 1023.0, 6_755_399_441_055_744.0);
