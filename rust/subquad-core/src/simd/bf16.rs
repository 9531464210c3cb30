//! Products of numbers rounded to bf16.
//!
//! The instruction that adds two of them to a lane of 32 bits is younger than AVX-512, so kernels that want it
//! ask for [`Bf16`] besides the `Isa`. A lane holds a pair; `f32` carries it, and nothing else looks at its bits.

use super::{Isa, Level};

#[cfg(target_arch = "x86_64")]
pub(crate) use pairs::{Pairs, interleave, narrow};

/// What multiplies pairs of bf16: `AVX512_BF16`, which this machine has. Only [`Bf16::detect`] makes one.
#[derive(Clone, Copy, Debug)]
pub struct Bf16(());

impl Bf16 {
    /// That of this machine, if `SUBQUAD_ISA` allows for AVX-512.
    pub fn detect() -> Option<Self> {
        (Isa::detect().0 == Level::V4 && has_bf16()).then_some(Self(()))
    }
}

#[cfg(target_arch = "x86_64")]
fn has_bf16() -> bool {
    is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_bf16() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
mod pairs {
    use std::arch::x86_64::{
        __m512, __m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_permutexvar_epi16,
    };
    use std::mem::transmute;

    use crate::linalg::tile::Product;
    use crate::simd::avx512::F32x16;

    /// Products of two pairs, exact, and their sum in float32: denormals are taken for zero, on both ends.
    pub(crate) struct Pairs;

    impl Product<F32x16> for Pairs {
        #[inline(always)]
        unsafe fn add_to(sum: F32x16, a: F32x16, b: F32x16) -> F32x16 {
            // SAFETY: the caller promises the instruction set, and a vector may hold any bits.
            unsafe {
                let [a, b] = [a, b].map(|x| transmute::<__m512, __m512bh>(x.get()));
                F32x16::of(_mm512_dpbf16_ps(sum.get(), a, b))
            }
        }
    }

    /// 32 numbers, each rounded to the nearest bf16, in their order.
    ///
    /// # Safety
    ///
    /// `AVX512_BF16` must be enabled.
    #[inline(always)]
    pub(crate) unsafe fn narrow(first: F32x16, second: F32x16) -> F32x16 {
        // SAFETY: as above.
        unsafe {
            let both = _mm512_cvtne2ps_pbh(second.get(), first.get());
            F32x16::of(transmute::<__m512bh, __m512>(both))
        }
    }

    /// Where a number of a pair stands after [`narrow`].
    const TURN: [u16; 32] = {
        let mut from = [0; 32];
        let mut l = 0;
        while l < 32 {
            from[l] = l as u16 / 2 + l as u16 % 2 * 16;
            l += 1;
        }
        from
    };

    /// The pairs of a number of one vector with one of another, rounded.
    ///
    /// # Safety
    ///
    /// `AVX512_BF16` must be enabled.
    #[inline(always)]
    pub(crate) unsafe fn interleave(low: F32x16, high: F32x16) -> F32x16 {
        // SAFETY: as above.
        unsafe {
            let turn = transmute::<[u16; 32], __m512i>(TURN);
            let both = transmute::<__m512, __m512i>(narrow(low, high).get());
            F32x16::of(transmute::<__m512i, __m512>(_mm512_permutexvar_epi16(turn, both)))
        }
    }
}
