//! Sums whose products are of numbers rounded to bf16, on machines that multiply those twice as fast.

use super::call::Call;
use super::sums::{RowSums, outcomes};
use super::tasks::{Apply, Found, Scratch, Sum, apply_single, sum_single};
use super::{Polynomial, State};
use crate::attention::{Problem, Stats};
use crate::mat::Rows;
use crate::par::{Par, Pulse};
use crate::simd::{Bf16, Isa};
use crate::{Error, Result};

/// As [`polynomial_sums`](super::polynomial_sums) in float32 with `coefficients` of the powers of the logit, by
/// products of bf16 for features of degree 2 and more.
///
/// Features of keys, values, sums and features of queries are each rounded once, to 8 bits: `rows` are off by
/// at most `(1 + 2^-8)^4 - 1` of the absolute sum of all terms of these degrees, besides the rounding of float32;
/// numbers below `2^-126` are taken for zero. What `masses` add up to is not rounded.
///
/// # Errors
///
/// As [`polynomial_sums`](super::polynomial_sums); [`Error::Domain`] where queries do not see every key.
pub fn polynomial_sums_half(
    problem: &Problem<'_>,
    masses: &[Rows<'_>],
    coefficients: &[f64],
    outputs: &[RowSums<'_, f32>],
    bf16: Bf16,
    par: Par<'_>,
) -> Result<Stats> {
    let outcomes = outcomes(problem, masses, outputs)?;
    let polynomial = Polynomial::Univariate(coefficients).trimmed();
    let mut call = Call::new(problem, Some(masses), polynomial, par, 1)?;
    if !call.sees_all() {
        let requires = "left out where queries do not see every key";
        return Err(Error::Domain { name: "half", requires, found: 1.0 });
    }
    call.kit.half = Some(bf16);
    call.forward(&outcomes)
}

/// Defines `$name` as `$single`, or `$body` by products of bf16 if the job's kit says so.
macro_rules! or_half {
    (unsafe fn $name:ident($job:ident: $of:ty, $($arg:ident: $ty:ty),*) = $single:ident, $body:ident) => {
        /// # Safety
        ///
        /// As the kernel of the working precision.
        pub(in crate::attention) unsafe fn $name(isa: Isa, $job: $of, $($arg: $ty),*) -> Found {
            #[cfg(target_arch = "x86_64")]
            if $job.kit.half.is_some() {
                use super::tasks::$body;
                use crate::polynomial::Half;
                use crate::simd::avx512::F32x16;

                #[target_feature(
                    enable = "avx512bf16,avx512f,avx512vl,avx512bw,avx512dq,avx512cd,avx2,fma,f16c"
                )]
                unsafe fn half($job: $of, $($arg: $ty),*) -> Found {
                    // SAFETY: passed on; vectors and products are those of the enabled features.
                    unsafe { $body::<F32x16, Half<6, 4>>($job, $($arg),*) }
                }

                // SAFETY: whoever made the `Bf16` checked that this machine has all of these.
                return unsafe { half($job, $($arg),*) };
            }
            // SAFETY: passed on.
            unsafe { $single(isa, $job, $($arg),*) }
        }
    };
}

or_half! {
    unsafe fn sum_f32(job: &Sum<'_, f32>, state: &mut State<f32>, scratch: &mut Scratch<f32>, pulse: &Pulse<'_>) = sum_single, sum_body
}

or_half! {
    unsafe fn apply_f32(job: &Apply<'_, f32>, scratch: &mut Scratch<f32>, pulse: &Pulse<'_>) = apply_single, apply_body
}

#[cfg(test)]
mod tests;
