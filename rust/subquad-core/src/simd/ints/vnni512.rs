//! AVX-512 VNNI.

#[allow(clippy::wildcard_imports)] // half of this file is their names
use std::arch::x86_64::*;

use super::Ints;
use crate::simd::avx512::F32x16;

/// 16 lanes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct I32x16(__m512i);

impl Ints for I32x16 {
    type F = F32x16;
    const N: usize = 16;
    const NARROW: bool = false;
    #[inline(always)]
    unsafe fn splat(x: i32) -> Self {
        // SAFETY: the caller promises the instruction set.
        Self(unsafe { _mm512_set1_epi32(x) })
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> Self {
        // SAFETY: the caller promises the instruction set and the readable bytes.
        Self(unsafe { _mm512_loadu_si512(p.cast()) })
    }
    #[inline(always)]
    fn bits<const SHIFT: i32>(self, mask: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe {
            // Bits that cross from byte to byte are masked.
            let moved = match SHIFT {
                0 => self.0,
                2 => _mm512_srli_epi16::<2>(self.0),
                4 => _mm512_srli_epi16::<4>(self.0),
                _ => _mm512_srli_epi16::<6>(self.0),
            };
            Self(_mm512_and_si512(moved, mask.0))
        }
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        Self(unsafe { _mm512_add_epi32(self.0, b.0) })
    }
    #[inline(always)]
    fn dot(self, codes: Self, query: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        Self(unsafe { _mm512_dpbusd_epi32(self.0, codes.0, query.0) })
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
        Self(unsafe { _mm512_slli_epi32::<7>(sums[0].0) }).add(sums[1])
    }
    #[inline(always)]
    fn to_float(self) -> F32x16 {
        // SAFETY: a value exists, so the instruction set is enabled.
        F32x16::of(unsafe { _mm512_cvtepi32_ps(self.0) })
    }
    #[inline(always)]
    fn sum(self) -> i32 {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { _mm512_reduce_add_epi32(self.0) }
    }
    #[inline(always)]
    fn of_bits(x: F32x16) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        Self(unsafe { _mm512_castps_si512(x.get()) })
    }
    #[inline(always)]
    unsafe fn pack(self, bits: u32, to: *mut i32) {
        // To a register first: Zen 4 takes a hundred cycles to compress into memory.
        // SAFETY: a value exists, so the instruction set is enabled; the caller promises the room.
        unsafe { _mm512_storeu_si512(to.cast(), _mm512_maskz_compress_epi32(bits as u16, self.0)) }
    }
}
