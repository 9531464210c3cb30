//! AVX2: two steps of pairs where VNNI has one of four.

#[allow(clippy::wildcard_imports)] // half of this file is their names
use std::arch::x86_64::*;

use super::Ints;
use crate::simd::avx2::F32x8;

/// 8 lanes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct I32x8(pub(super) __m256i);

impl Ints for I32x8 {
    type F = F32x8;
    const N: usize = 8;
    const NARROW: bool = true;
    #[inline(always)]
    unsafe fn splat(x: i32) -> Self {
        // SAFETY: the caller promises the instruction set.
        Self(unsafe { _mm256_set1_epi32(x) })
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> Self {
        // SAFETY: the caller promises the instruction set and the readable bytes.
        Self(unsafe { _mm256_loadu_si256(p.cast()) })
    }
    #[inline(always)]
    fn bits<const SHIFT: i32>(self, mask: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe {
            // Bits that cross from byte to byte are masked.
            let moved = match SHIFT {
                0 => self.0,
                2 => _mm256_srli_epi16::<2>(self.0),
                4 => _mm256_srli_epi16::<4>(self.0),
                _ => _mm256_srli_epi16::<6>(self.0),
            };
            Self(_mm256_and_si256(moved, mask.0))
        }
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        Self(unsafe { _mm256_add_epi32(self.0, b.0) })
    }
    #[inline(always)]
    fn dot(self, codes: Self, query: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        let products = Self(unsafe { _mm256_maddubs_epi16(codes.0, query.0) });
        self.add(products.widen())
    }
    #[inline(always)]
    fn pairs(self, codes: Self, query: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        Self(unsafe { _mm256_add_epi16(self.0, _mm256_maddubs_epi16(codes.0, query.0)) })
    }
    #[inline(always)]
    fn widen(self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        Self(unsafe { _mm256_madd_epi16(self.0, _mm256_set1_epi16(1)) })
    }
    #[inline(always)]
    fn fine(sums: [Self; 2], codes: Self, words: [Self; 2]) -> [Self; 2] {
        // SAFETY: a value exists, so the instruction set is enabled.
        let (even, odd) = unsafe {
            let even = _mm256_and_si256(codes.0, _mm256_set1_epi16(0xff));
            let odd = _mm256_srli_epi16::<8>(codes.0);
            (_mm256_madd_epi16(even, words[0].0), _mm256_madd_epi16(odd, words[1].0))
        };
        [sums[0].add(Self(even)), sums[1].add(Self(odd))]
    }
    #[inline(always)]
    fn join(sums: [Self; 2]) -> Self {
        sums[0].add(sums[1])
    }
    #[inline(always)]
    fn to_float(self) -> F32x8 {
        // SAFETY: a value exists, so the instruction set is enabled.
        F32x8::of(unsafe { _mm256_cvtepi32_ps(self.0) })
    }
    #[inline(always)]
    fn sum(self) -> i32 {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe {
            let x = _mm256_castsi256_si128(self.0);
            let x = _mm_add_epi32(x, _mm256_extracti128_si256::<1>(self.0));
            let x = _mm_add_epi32(x, _mm_shuffle_epi32::<0b01_00_11_10>(x));
            _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32::<0b10_11_00_01>(x)))
        }
    }
    #[inline(always)]
    fn of_bits(x: F32x8) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        Self(unsafe { _mm256_castps_si256(x.get()) })
    }
    #[inline(always)]
    unsafe fn pack(self, bits: u32, to: *mut i32) {
        // SAFETY: a value exists, so the instruction set is enabled; the caller promises the room.
        unsafe {
            // A byte for every lane: all ones where its bit is set, then the numbers of those lanes.
            let bytes = _pdep_u64(u64::from(bits), 0x0101_0101_0101_0101).wrapping_mul(0xff);
            let lanes = _pext_u64(0x0706_0504_0302_0100, bytes);
            let order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(lanes as i64));
            _mm256_storeu_si256(to.cast(), _mm256_permutevar8x32_epi32(self.0, order));
        }
    }
}
