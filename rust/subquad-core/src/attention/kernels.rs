//! The kernels of a compute type, each compiled for every instruction set.

use super::decode::{self, Partials};
use super::dense::{self, Job, Report};
use super::dense_grad;
use crate::par::Pulse;
use crate::simd::{Float, Isa};

/// `f32` or `f64`: a compute type that attention has kernels for.
pub trait Compute: Float {
    /// Lanes of a vector of this type.
    #[doc(hidden)]
    fn lanes(isa: Isa) -> usize;

    /// # Safety
    /// The scratch must have been made for heads of the same shape, and no other task may write the
    /// job's rows.
    #[doc(hidden)]
    unsafe fn forward(
        isa: Isa,
        job: &Job<'_, Self>,
        scratch: &mut dense::Scratch<Self>,
        pulse: &Pulse<'_>,
    ) -> Report;

    /// # Safety
    /// The scratch must have been made for heads of the same shape.
    #[doc(hidden)]
    unsafe fn decode(
        isa: Isa,
        job: &decode::Job<'_, Self>,
        scratch: &mut decode::Scratch<Self>,
        pulse: &Pulse<'_>,
    ) -> (Partials<Self>, Report);

    /// # Safety
    /// The scratch must have been made for heads of the same shape, and no other task may touch the
    /// job's gradients.
    #[doc(hidden)]
    unsafe fn backward(
        isa: Isa,
        job: &dense_grad::Job<'_, Self>,
        scratch: &mut dense_grad::Scratch<Self>,
        pulse: &Pulse<'_>,
    ) -> Report;
}

macro_rules! compute {
    ($t:ident, $forward:ident, $decode:ident, $backward:ident) => {
        impl Compute for $t {
            fn lanes(isa: Isa) -> usize {
                isa.register_bytes() / size_of::<$t>()
            }
            unsafe fn forward(
                isa: Isa,
                job: &Job<'_, Self>,
                scratch: &mut dense::Scratch<Self>,
                pulse: &Pulse<'_>,
            ) -> Report {
                // SAFETY: passed on.
                unsafe { dense::$forward(isa, job, scratch, pulse) }
            }
            unsafe fn decode(
                isa: Isa,
                job: &decode::Job<'_, Self>,
                scratch: &mut decode::Scratch<Self>,
                pulse: &Pulse<'_>,
            ) -> (Partials<Self>, Report) {
                // SAFETY: passed on.
                unsafe { decode::$decode(isa, job, scratch, pulse) }
            }
            unsafe fn backward(
                isa: Isa,
                job: &dense_grad::Job<'_, Self>,
                scratch: &mut dense_grad::Scratch<Self>,
                pulse: &Pulse<'_>,
            ) -> Report {
                // SAFETY: passed on.
                unsafe { dense_grad::$backward(isa, job, scratch, pulse) }
            }
        }
    };
}

compute!(f32, forward_f32, chunk_f32, backward_f32);
compute!(f64, forward_f64, chunk_f64, backward_f64);
