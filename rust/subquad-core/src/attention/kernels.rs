//! The kernels of a compute type, each compiled for every instruction set.

use super::decode::{self, Partials};
use super::dense::{self, Job, Report};
use super::dense_grad;
use super::polynomial;
use crate::mat::{MatRef, Rows};
use crate::par::Pulse;
use crate::polynomial::State;
use crate::simd::{Float, Isa};

/// `f32` or `f64`: a compute type that attention has kernels for.
pub trait Compute: Float {
    /// Lanes of a vector of this type.
    #[doc(hidden)]
    fn lanes(isa: Isa) -> usize;

    /// The same as rows of any type.
    #[doc(hidden)]
    fn as_rows(rows: MatRef<'_, Self>) -> Rows<'_>;

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

    /// # Safety
    /// State and scratch must be of the job's kit.
    #[doc(hidden)]
    unsafe fn sum(
        isa: Isa,
        job: &polynomial::Sum<'_, Self>,
        state: &mut State<Self>,
        scratch: &mut polynomial::Scratch<Self>,
        pulse: &Pulse<'_>,
    ) -> polynomial::Found;

    /// # Safety
    /// The scratch must be of the job's kit, and no other task may write the job's rows.
    #[doc(hidden)]
    unsafe fn apply(
        isa: Isa,
        job: &polynomial::Apply<'_, Self>,
        scratch: &mut polynomial::Scratch<Self>,
        pulse: &Pulse<'_>,
    ) -> polynomial::Found;

    /// # Safety
    /// State and scratch must be of the job's kit, and no other task may write the job's rows.
    #[doc(hidden)]
    unsafe fn scan(
        isa: Isa,
        job: &polynomial::Scan<'_, Self>,
        state: &mut State<Self>,
        own: Option<&mut State<Self>>,
        scratch: &mut polynomial::Scratch<Self>,
        pulse: &Pulse<'_>,
    ) -> polynomial::Found;

    /// # Safety
    /// State and scratch must be of the job's kit, and no other task may write the job's rows.
    #[doc(hidden)]
    unsafe fn scan_slopes(
        isa: Isa,
        job: &polynomial::ScanSlopes<'_, Self>,
        state: &mut State<Self>,
        own: Option<&mut State<Self>>,
        scratch: &mut polynomial::Scratch<Self>,
        pulse: &Pulse<'_>,
    ) -> polynomial::Found;

    /// # Safety
    /// State and scratch must be of the job's kit, and no other task may write the job's rows.
    #[doc(hidden)]
    unsafe fn back(
        isa: Isa,
        job: &polynomial::Back<'_, Self>,
        state: &mut State<Self>,
        own: Option<&mut State<Self>>,
        scratch: &mut polynomial::Scratch<Self>,
        pulse: &Pulse<'_>,
    ) -> polynomial::Found;

    /// # Safety
    /// State and scratch must be of the job's kit, and no other task may write the job's rows.
    #[doc(hidden)]
    unsafe fn query_slopes(
        isa: Isa,
        job: &polynomial::QuerySlopes<'_, Self>,
        slopes: &mut State<Self>,
        scratch: &mut polynomial::Scratch<Self>,
        pulse: &Pulse<'_>,
    ) -> polynomial::Found;

    /// # Safety
    /// The scratch must be of the job's kit, and no other task may write the job's rows.
    #[doc(hidden)]
    unsafe fn key_slopes(
        isa: Isa,
        job: &polynomial::KeySlopes<'_, Self>,
        scratch: &mut polynomial::Scratch<Self>,
        pulse: &Pulse<'_>,
    ) -> polynomial::Found;

    /// # Safety
    /// State and scratch must be of the job's frame, and no other task may write the job's rows.
    #[doc(hidden)]
    unsafe fn visit(
        isa: Isa,
        job: &polynomial::Visit<'_, Self>,
        own: Option<&mut State<Self>>,
        scratch: &mut polynomial::BlockScratch<Self>,
        pulse: &Pulse<'_>,
    ) -> Report;
}

macro_rules! compute {
    ($t:ident, $forward:ident, $decode:ident, $backward:ident, $sum:ident, $apply:ident, $scan:ident, $queries:ident, $keys:ident, $slopes:ident, $back:ident, $visit:ident) => {
        impl Compute for $t {
            fn lanes(isa: Isa) -> usize {
                isa.register_bytes() / size_of::<$t>()
            }
            fn as_rows(rows: MatRef<'_, Self>) -> Rows<'_> {
                rows.into()
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
            unsafe fn sum(
                isa: Isa,
                job: &polynomial::Sum<'_, Self>,
                state: &mut State<Self>,
                scratch: &mut polynomial::Scratch<Self>,
                pulse: &Pulse<'_>,
            ) -> polynomial::Found {
                // SAFETY: passed on.
                unsafe { polynomial::$sum(isa, job, state, scratch, pulse) }
            }
            unsafe fn apply(
                isa: Isa,
                job: &polynomial::Apply<'_, Self>,
                scratch: &mut polynomial::Scratch<Self>,
                pulse: &Pulse<'_>,
            ) -> polynomial::Found {
                // SAFETY: passed on.
                unsafe { polynomial::$apply(isa, job, scratch, pulse) }
            }
            unsafe fn scan(
                isa: Isa,
                job: &polynomial::Scan<'_, Self>,
                state: &mut State<Self>,
                own: Option<&mut State<Self>>,
                scratch: &mut polynomial::Scratch<Self>,
                pulse: &Pulse<'_>,
            ) -> polynomial::Found {
                // SAFETY: passed on.
                unsafe { polynomial::$scan(isa, job, state, own, scratch, pulse) }
            }
            unsafe fn scan_slopes(
                isa: Isa,
                job: &polynomial::ScanSlopes<'_, Self>,
                state: &mut State<Self>,
                own: Option<&mut State<Self>>,
                scratch: &mut polynomial::Scratch<Self>,
                pulse: &Pulse<'_>,
            ) -> polynomial::Found {
                // SAFETY: passed on.
                unsafe { polynomial::$slopes(isa, job, state, own, scratch, pulse) }
            }
            unsafe fn back(
                isa: Isa,
                job: &polynomial::Back<'_, Self>,
                state: &mut State<Self>,
                own: Option<&mut State<Self>>,
                scratch: &mut polynomial::Scratch<Self>,
                pulse: &Pulse<'_>,
            ) -> polynomial::Found {
                // SAFETY: passed on.
                unsafe { polynomial::$back(isa, job, state, own, scratch, pulse) }
            }
            unsafe fn query_slopes(
                isa: Isa,
                job: &polynomial::QuerySlopes<'_, Self>,
                slopes: &mut State<Self>,
                scratch: &mut polynomial::Scratch<Self>,
                pulse: &Pulse<'_>,
            ) -> polynomial::Found {
                // SAFETY: passed on.
                unsafe { polynomial::$queries(isa, job, slopes, scratch, pulse) }
            }
            unsafe fn key_slopes(
                isa: Isa,
                job: &polynomial::KeySlopes<'_, Self>,
                scratch: &mut polynomial::Scratch<Self>,
                pulse: &Pulse<'_>,
            ) -> polynomial::Found {
                // SAFETY: passed on.
                unsafe { polynomial::$keys(isa, job, scratch, pulse) }
            }
            unsafe fn visit(
                isa: Isa,
                job: &polynomial::Visit<'_, Self>,
                own: Option<&mut State<Self>>,
                scratch: &mut polynomial::BlockScratch<Self>,
                pulse: &Pulse<'_>,
            ) -> Report {
                // SAFETY: passed on.
                unsafe { polynomial::$visit(isa, job, own, scratch, pulse) }
            }
        }
    };
}

compute!(
    f32,
    forward_f32,
    chunk_f32,
    backward_f32,
    sum_f32,
    apply_f32,
    scan_f32,
    queries_f32,
    keys_f32,
    scan_slopes_f32,
    back_f32,
    visit_f32
);
compute!(
    f64,
    forward_f64,
    chunk_f64,
    backward_f64,
    sum_f64,
    apply_f64,
    scan_f64,
    queries_f64,
    keys_f64,
    scan_slopes_f64,
    back_f64,
    visit_f64
);
