//! x86-64-v3: AVX2, FMA and F16C.

#[allow(clippy::wildcard_imports)] // half of this file is their names
use std::arch::x86_64::*;

use half::{bf16, f16};

use super::{Float, Lanes};

/// 8 lanes of `f32`.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct F32x8(__m256);

impl F32x8 {
    #[inline(always)]
    pub(super) fn of(x: __m256) -> Self {
        Self(x)
    }
    #[inline(always)]
    pub(super) fn get(self) -> __m256 {
        self.0
    }
}

impl Lanes for F32x8 {
    type T = f32;
    const N: usize = 8;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller promises the instruction set.
        Self(unsafe { _mm256_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe { Self(_mm256_loadu_ps(p)) }
    }
    #[inline(always)]
    unsafe fn load_f32(p: *const f32) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe { Self(_mm256_loadu_ps(p)) }
    }
    #[inline(always)]
    unsafe fn load_f64(p: *const f64) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe {
            let x = p.cast::<[f64; 8]>().read_unaligned().map(f32::narrow);
            Self::load(x.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const f16) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe { Self(_mm256_cvtph_ps(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const bf16) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe {
            Self(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(
                _mm_loadu_si128(p.cast()),
            ))))
        }
    }
    #[inline(always)]
    unsafe fn load_mask(p: *const u8) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe {
            let byte = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()));
            let hidden = _mm256_cmpeq_epi32(byte, _mm256_setzero_si256());
            Self(_mm256_and_ps(_mm256_castsi256_ps(hidden), _mm256_set1_ps(f32::NEG_INFINITY)))
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller promises `N` writable values.
        unsafe { _mm256_storeu_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn stream(self, p: *mut f32) {
        // SAFETY: the caller promises `N` writable values, aligned.
        unsafe { _mm256_stream_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn drain() {
        // SAFETY: every x86-64 has the instruction.
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm256_fmadd_ps(self.0, b.0, c.0)) }
    }
    #[inline(always)]
    fn fms(self, b: Self, c: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm256_fmsub_ps(self.0, b.0, c.0)) }
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm256_add_ps(self.0, b.0)) }
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm256_sub_ps(self.0, b.0)) }
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm256_mul_ps(self.0, b.0)) }
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm256_max_ps(self.0, b.0)) }
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0)) }
    }
    #[inline(always)]
    fn ge_bits(self, b: Self) -> u32 {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(self.0, b.0)) as u32 }
    }
    #[inline(always)]
    fn any_gt(self, b: Self) -> bool {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(self.0, b.0)) != 0 }
    }
    #[inline(always)]
    fn all_hidden(self) -> bool {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe {
            let hidden = _mm256_set1_ps(f32::NEG_INFINITY);
            _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_EQ_OQ>(self.0, hidden)) == 0xff
        }
    }
    #[inline(always)]
    fn keep(self, from: i32, to: i32) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe {
            let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let low = _mm256_cmpgt_epi32(_mm256_set1_epi32(from), lane);
            let inside = _mm256_andnot_si256(low, _mm256_cmpgt_epi32(_mm256_set1_epi32(to), lane));
            let hidden = _mm256_set1_ps(f32::NEG_INFINITY);
            Self(_mm256_blendv_ps(hidden, self.0, _mm256_castsi256_ps(inside)))
        }
    }
    #[inline(always)]
    fn zip(self, b: Self) -> (Self, Self) {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe {
            let (low, high) = (_mm256_unpacklo_ps(self.0, b.0), _mm256_unpackhi_ps(self.0, b.0));
            (
                Self(_mm256_permute2f128_ps::<0x20>(low, high)),
                Self(_mm256_permute2f128_ps::<0x31>(low, high)),
            )
        }
    }
    #[inline(always)]
    fn swap_pairs(self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm256_permute_ps::<0b1011_0001>(self.0)) }
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe {
            let half =
                _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
        }
    }
    #[inline(always)]
    fn split_exponent(self) -> (Self, Self) {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe {
            // x + magic rounds x to an integer and leaves the biased exponent in the low bits.
            let magic = _mm256_set1_ps(12_582_912.0 + 127.0);
            // This operand order keeps NaN.
            let x = _mm256_max_ps(_mm256_set1_ps(-127.0), self.0);
            let n = _mm256_add_ps(x, magic);
            (Self(n), Self(_mm256_sub_ps(x, _mm256_sub_ps(n, magic))))
        }
    }
    #[inline(always)]
    fn ldexp(self, n: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe {
            let power = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(n.0)));
            Self(_mm256_mul_ps(self.0, power))
        }
    }
}

/// 4 lanes of `f64`.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct F64x4(__m256d);

impl Lanes for F64x4 {
    type T = f64;
    const N: usize = 4;
    #[inline(always)]
    unsafe fn splat(x: f64) -> Self {
        // SAFETY: the caller promises the instruction set.
        Self(unsafe { _mm256_set1_pd(x) })
    }
    #[inline(always)]
    unsafe fn load(p: *const f64) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe { Self(_mm256_loadu_pd(p)) }
    }
    #[inline(always)]
    unsafe fn load_f32(p: *const f32) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe { Self(_mm256_cvtps_pd(_mm_loadu_ps(p))) }
    }
    #[inline(always)]
    unsafe fn load_f64(p: *const f64) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe { Self(_mm256_loadu_pd(p)) }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const f16) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe { Self(_mm256_cvtps_pd(_mm_cvtph_ps(_mm_loadl_epi64(p.cast())))) }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const bf16) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe {
            Self(_mm256_cvtps_pd(_mm_castsi128_ps(_mm_slli_epi32::<16>(_mm_cvtepu16_epi32(
                _mm_loadl_epi64(p.cast()),
            )))))
        }
    }
    #[inline(always)]
    unsafe fn load_mask(p: *const u8) -> Self {
        // SAFETY: the caller promises the instruction set and the readable values.
        unsafe {
            let byte = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(p.cast::<i32>().read_unaligned()));
            let hidden = _mm256_cmpeq_epi64(byte, _mm256_setzero_si256());
            Self(_mm256_and_pd(_mm256_castsi256_pd(hidden), _mm256_set1_pd(f64::NEG_INFINITY)))
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f64) {
        // SAFETY: the caller promises `N` writable values.
        unsafe { _mm256_storeu_pd(p, self.0) }
    }
    #[inline(always)]
    unsafe fn stream(self, p: *mut f64) {
        // SAFETY: the caller promises `N` writable values, aligned.
        unsafe { _mm256_stream_pd(p, self.0) }
    }
    #[inline(always)]
    unsafe fn drain() {
        // SAFETY: every x86-64 has the instruction.
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm256_fmadd_pd(self.0, b.0, c.0)) }
    }
    #[inline(always)]
    fn fms(self, b: Self, c: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm256_fmsub_pd(self.0, b.0, c.0)) }
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm256_add_pd(self.0, b.0)) }
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm256_sub_pd(self.0, b.0)) }
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm256_mul_pd(self.0, b.0)) }
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm256_max_pd(self.0, b.0)) }
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm256_andnot_pd(_mm256_set1_pd(-0.0), self.0)) }
    }
    #[inline(always)]
    fn ge_bits(self, b: Self) -> u32 {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { _mm256_movemask_pd(_mm256_cmp_pd::<_CMP_GE_OQ>(self.0, b.0)) as u32 }
    }
    #[inline(always)]
    fn any_gt(self, b: Self) -> bool {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { _mm256_movemask_pd(_mm256_cmp_pd::<_CMP_GT_OQ>(self.0, b.0)) != 0 }
    }
    #[inline(always)]
    fn all_hidden(self) -> bool {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe {
            let hidden = _mm256_set1_pd(f64::NEG_INFINITY);
            _mm256_movemask_pd(_mm256_cmp_pd::<_CMP_EQ_OQ>(self.0, hidden)) == 0xf
        }
    }
    #[inline(always)]
    fn keep(self, from: i32, to: i32) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe {
            let lane = _mm256_setr_epi64x(0, 1, 2, 3);
            let low = _mm256_cmpgt_epi64(_mm256_set1_epi64x(from.into()), lane);
            let inside =
                _mm256_andnot_si256(low, _mm256_cmpgt_epi64(_mm256_set1_epi64x(to.into()), lane));
            let hidden = _mm256_set1_pd(f64::NEG_INFINITY);
            Self(_mm256_blendv_pd(hidden, self.0, _mm256_castsi256_pd(inside)))
        }
    }
    #[inline(always)]
    fn zip(self, b: Self) -> (Self, Self) {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe {
            let (low, high) = (_mm256_unpacklo_pd(self.0, b.0), _mm256_unpackhi_pd(self.0, b.0));
            (
                Self(_mm256_permute2f128_pd::<0x20>(low, high)),
                Self(_mm256_permute2f128_pd::<0x31>(low, high)),
            )
        }
    }
    #[inline(always)]
    fn swap_pairs(self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe { Self(_mm256_permute_pd::<0b0101>(self.0)) }
    }
    #[inline(always)]
    fn sum(self) -> f64 {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe {
            let half =
                _mm_add_pd(_mm256_castpd256_pd128(self.0), _mm256_extractf128_pd::<1>(self.0));
            _mm_cvtsd_f64(_mm_add_sd(half, _mm_unpackhi_pd(half, half)))
        }
    }
    #[inline(always)]
    fn split_exponent(self) -> (Self, Self) {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe {
            // x + magic rounds x to an integer and leaves the biased exponent in the low bits.
            let magic = _mm256_set1_pd(6_755_399_441_055_744.0 + 1023.0);
            // This operand order keeps NaN.
            let x = _mm256_max_pd(_mm256_set1_pd(-1023.0), self.0);
            let n = _mm256_add_pd(x, magic);
            (Self(n), Self(_mm256_sub_pd(x, _mm256_sub_pd(n, magic))))
        }
    }
    #[inline(always)]
    fn ldexp(self, n: Self) -> Self {
        // SAFETY: a value exists, so the instruction set is enabled.
        unsafe {
            let power = _mm256_castsi256_pd(_mm256_slli_epi64::<52>(_mm256_castpd_si256(n.0)));
            Self(_mm256_mul_pd(self.0, power))
        }
    }
}
