//! x86-64-v4: AVX-512 F, VL, BW, DQ and CD.

#[allow(clippy::wildcard_imports)] // half of this file is their names
use std::arch::x86_64::*;

use half::{bf16, f16};

use super::{Float, Lanes};

/// 16 lanes of `f32`.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct F32x16(__m512);

impl F32x16 {
    #[inline(always)]
    pub(super) fn of(x: __m512) -> Self {
        Self(x)
    }
    #[inline(always)]
    pub(super) fn get(self) -> __m512 {
        self.0
    }
}

impl Lanes for F32x16 {
    type T = f32;
    const N: usize = 16;
    const REGISTERS: usize = 32;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller promises the instruction set.
        Self(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe { Self(_mm512_loadu_ps(p)) }
    }
    #[inline(always)]
    unsafe fn load_f32(p: *const f32) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe { Self(_mm512_loadu_ps(p)) }
    }
    #[inline(always)]
    unsafe fn load_f64(p: *const f64) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe {
            let x = p.cast::<[f64; 16]>().read_unaligned().map(f32::narrow);
            Self::load(x.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const f16) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe { Self(_mm512_cvtph_ps(_mm256_loadu_si256(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const bf16) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe {
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(
                _mm256_loadu_si256(p.cast()),
            ))))
        }
    }
    #[inline(always)]
    unsafe fn load_mask(p: *const u8) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe {
            let byte = _mm_loadu_si128(p.cast());
            let hidden = _mm_testn_epi8_mask(byte, byte);
            Self(_mm512_mask_blend_ps(
                hidden,
                _mm512_setzero_ps(),
                _mm512_set1_ps(f32::NEG_INFINITY),
            ))
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller promises `N` writable values.
        unsafe { _mm512_storeu_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn stream(self, p: *mut f32) {
        // SAFETY: the caller promises `N` writable values, aligned.
        unsafe { _mm512_stream_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn drain() {
        // SAFETY: every x86-64 has the instruction.
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    fn prefetch(p: *const u8) {
        // SAFETY: a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm512_fmadd_ps(self.0, b.0, c.0)) }
    }
    #[inline(always)]
    fn fms(self, b: Self, c: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm512_fmsub_ps(self.0, b.0, c.0)) }
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm512_add_ps(self.0, b.0)) }
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm512_sub_ps(self.0, b.0)) }
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm512_mul_ps(self.0, b.0)) }
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm512_max_ps(self.0, b.0)) }
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm512_abs_ps(self.0)) }
    }
    #[inline(always)]
    fn ge_bits(self, b: Self) -> u32 {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { u32::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(self.0, b.0)) }
    }
    #[inline(always)]
    fn any_gt(self, b: Self) -> bool {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, b.0) != 0 }
    }
    #[inline(always)]
    fn all_hidden(self) -> bool {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe {
            let hidden = _mm512_set1_ps(f32::NEG_INFINITY);
            _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, hidden) == 0xffff
        }
    }
    #[inline(always)]
    fn keep(self, from: i32, to: i32) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe {
            let below = |x: i32| (1_u32 << x.clamp(0, 16)) - 1;
            let inside = (below(to) & !below(from)) as __mmask16;
            Self(_mm512_mask_blend_ps(inside, _mm512_set1_ps(f32::NEG_INFINITY), self.0))
        }
    }
    #[inline(always)]
    fn zip(self, b: Self) -> (Self, Self) {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe {
            let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high =
                _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
            (
                Self(_mm512_permutex2var_ps(self.0, low, b.0)),
                Self(_mm512_permutex2var_ps(self.0, high, b.0)),
            )
        }
    }
    #[inline(always)]
    fn swap_pairs(self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm512_permute_ps::<0b1011_0001>(self.0)) }
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { _mm512_reduce_add_ps(self.0) }
    }
    #[inline(always)]
    fn split_exponent(self) -> (Self, Self) {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe {
            let x = _mm512_reduce_ps::<0>(self.0);
            (Self(_mm512_sub_ps(self.0, x)), Self(x))
        }
    }
    #[inline(always)]
    fn ldexp(self, n: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm512_scalef_ps(self.0, n.0)) }
    }
}

/// 8 lanes of `f64`.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct F64x8(__m512d);

impl Lanes for F64x8 {
    type T = f64;
    const N: usize = 8;
    const REGISTERS: usize = 32;
    #[inline(always)]
    unsafe fn splat(x: f64) -> Self {
        // SAFETY: the caller promises the instruction set.
        Self(unsafe { _mm512_set1_pd(x) })
    }
    #[inline(always)]
    unsafe fn load(p: *const f64) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe { Self(_mm512_loadu_pd(p)) }
    }
    #[inline(always)]
    unsafe fn load_f32(p: *const f32) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe { Self(_mm512_cvtps_pd(_mm256_loadu_ps(p))) }
    }
    #[inline(always)]
    unsafe fn load_f64(p: *const f64) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe { Self(_mm512_loadu_pd(p)) }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const f16) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe { Self(_mm512_cvtps_pd(_mm256_cvtph_ps(_mm_loadu_si128(p.cast())))) }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const bf16) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe {
            Self(_mm512_cvtps_pd(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(
                _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast())),
            ))))
        }
    }
    #[inline(always)]
    unsafe fn load_mask(p: *const u8) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe {
            let byte = _mm_loadl_epi64(p.cast());
            let hidden = _mm_testn_epi8_mask(byte, byte) as __mmask8;
            Self(_mm512_mask_blend_pd(
                hidden,
                _mm512_setzero_pd(),
                _mm512_set1_pd(f64::NEG_INFINITY),
            ))
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f64) {
        // SAFETY: the caller promises `N` writable values.
        unsafe { _mm512_storeu_pd(p, self.0) }
    }
    #[inline(always)]
    unsafe fn stream(self, p: *mut f64) {
        // SAFETY: the caller promises `N` writable values, aligned.
        unsafe { _mm512_stream_pd(p, self.0) }
    }
    #[inline(always)]
    unsafe fn drain() {
        // SAFETY: every x86-64 has the instruction.
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    fn prefetch(p: *const u8) {
        // SAFETY: a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm512_fmadd_pd(self.0, b.0, c.0)) }
    }
    #[inline(always)]
    fn fms(self, b: Self, c: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm512_fmsub_pd(self.0, b.0, c.0)) }
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm512_add_pd(self.0, b.0)) }
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm512_sub_pd(self.0, b.0)) }
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm512_mul_pd(self.0, b.0)) }
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm512_max_pd(self.0, b.0)) }
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm512_abs_pd(self.0)) }
    }
    #[inline(always)]
    fn ge_bits(self, b: Self) -> u32 {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { u32::from(_mm512_cmp_pd_mask::<_CMP_GE_OQ>(self.0, b.0)) }
    }
    #[inline(always)]
    fn any_gt(self, b: Self) -> bool {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { _mm512_cmp_pd_mask::<_CMP_GT_OQ>(self.0, b.0) != 0 }
    }
    #[inline(always)]
    fn all_hidden(self) -> bool {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe {
            let hidden = _mm512_set1_pd(f64::NEG_INFINITY);
            _mm512_cmp_pd_mask::<_CMP_EQ_OQ>(self.0, hidden) == 0xff
        }
    }
    #[inline(always)]
    fn keep(self, from: i32, to: i32) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe {
            let below = |x: i32| (1_u32 << x.clamp(0, 8)) - 1;
            let inside = (below(to) & !below(from)) as __mmask8;
            Self(_mm512_mask_blend_pd(inside, _mm512_set1_pd(f64::NEG_INFINITY), self.0))
        }
    }
    #[inline(always)]
    fn zip(self, b: Self) -> (Self, Self) {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe {
            let low = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
            let high = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
            (
                Self(_mm512_permutex2var_pd(self.0, low, b.0)),
                Self(_mm512_permutex2var_pd(self.0, high, b.0)),
            )
        }
    }
    #[inline(always)]
    fn swap_pairs(self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm512_permute_pd::<0b0101_0101>(self.0)) }
    }
    #[inline(always)]
    fn sum(self) -> f64 {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { _mm512_reduce_add_pd(self.0) }
    }
    #[inline(always)]
    fn split_exponent(self) -> (Self, Self) {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe {
            let x = _mm512_reduce_pd::<0>(self.0);
            (Self(_mm512_sub_pd(self.0, x)), Self(x))
        }
    }
    #[inline(always)]
    fn ldexp(self, n: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm512_scalef_pd(self.0, n.0)) }
    }
}
