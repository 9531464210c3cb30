//! AVX-VNNI: the instruction of AVX-512 VNNI on the registers of AVX2.

use std::arch::x86_64::{_mm256_dpbusd_avx_epi32, _mm256_slli_epi32};

use super::Ints;
use super::avx2::I32x8;
use crate::simd::avx2::F32x8;

/// 8 lanes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Vnni8(I32x8);

impl Ints for Vnni8 {
    type F = F32x8;
    const N: usize = 8;
    const NARROW: bool = false;
    #[inline(always)]
    unsafe fn splat(x: i32) -> Self {
        // SAFETY: passed on.
        Self(unsafe { I32x8::splat(x) })
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> Self {
        // SAFETY: passed on.
        Self(unsafe { I32x8::load(p) })
    }
    #[inline(always)]
    fn bits<const SHIFT: i32>(self, mask: Self) -> Self {
        Self(self.0.bits::<SHIFT>(mask.0))
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        Self(self.0.add(b.0))
    }
    #[inline(always)]
    fn dot(self, codes: Self, query: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        Self(I32x8(unsafe { _mm256_dpbusd_avx_epi32(self.0.0, codes.0.0, query.0.0) }))
    }
    #[inline(always)]
    fn pairs(self, codes: Self, query: Self) -> Self {
        self.dot(codes, query)
    }
    #[inline(always)]
    fn widen(self) -> Self {
        self
    }
    #[inline(always)]
    fn fine(sums: [Self; 2], codes: Self, words: [Self; 2]) -> [Self; 2] {
        [sums[0].dot(codes, words[0]), sums[1].dot(codes, words[1])]
    }
    #[inline(always)]
    fn join(sums: [Self; 2]) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        let high = I32x8(unsafe { _mm256_slli_epi32::<7>(sums[0].0.0) });
        Self(high).add(sums[1])
    }
    #[inline(always)]
    fn to_float(self) -> F32x8 {
        self.0.to_float()
    }
    #[inline(always)]
    fn sum(self) -> i32 {
        self.0.sum()
    }
    #[inline(always)]
    fn of_bits(x: F32x8) -> Self {
        Self(I32x8::of_bits(x))
    }
    #[inline(always)]
    unsafe fn pack(self, bits: u32, to: *mut i32) {
        // SAFETY: passed on.
        unsafe { self.0.pack(bits, to) }
    }
}
