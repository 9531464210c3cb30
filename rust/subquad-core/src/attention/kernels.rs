//! The kernels of a compute type, each compiled for every instruction set.

use super::dense::{self, Job, Report};
use crate::par::Pulse;
use crate::simd::{Float, Isa};

/// `f32` or `f64`: a compute type that attention has kernels for.
pub trait Compute: Float {
    /// Lanes of a vector of this type.
    #[doc(hidden)]
    fn lanes(isa: Isa) -> usize;

    /// # Safety
    /// No other task may write the job's rows.
    #[doc(hidden)]
    unsafe fn forward(
        isa: Isa,
        job: &Job<'_, Self>,
        scratch: &mut dense::Scratch<Self>,
        pulse: &Pulse<'_>,
    ) -> Report;
}

macro_rules! compute {
    ($t:ident, $forward:ident) => {
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
        }
    };
}

compute!(f32, forward_f32);
compute!(f64, forward_f64);
