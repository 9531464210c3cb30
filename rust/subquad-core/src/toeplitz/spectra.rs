//! Spectra of weights.

use super::{Extent, Transform};
use crate::linalg::fft::{Plan, Sequence};
use crate::mat::MatRef;
use crate::simd::{Float, Isa};

/// Room for the spectra of weights, one after the other.
pub(super) struct Room<T>(Sequence<T>);

impl<T: Transform> Room<T> {
    pub fn new(plan: &Plan<T>, isa: Isa) -> Self {
        Self(Sequence::new(plan, isa))
    }

    /// The spectrum of a row of weights: 2 n numbers, in the order of the transform and with its factor 1 / n; of the
    /// transposed matrix if asked for.
    pub fn spectrum(
        &mut self,
        extent: Extent,
        (weights, row): (&MatRef<'_, T>, usize),
        transpose: bool,
    ) -> Vec<T> {
        let numbers = self.0.numbers();
        let n = numbers.len();
        assert!(weights.cols() == extent.lags() && n >= extent.lags());
        numbers.fill(T::ZERO);
        // Lag 0 first, negative lags at the end; the other way round if transposed.
        let zero = extent.columns - 1;
        for (lag, to) in numbers[..weights.cols() - zero].iter_mut().enumerate() {
            *to = weights.get(row, zero + lag);
        }
        for index in 0..zero {
            numbers[n - zero + index] = weights.get(row, index);
        }
        if transpose {
            numbers[1..].reverse();
        }
        self.0.transform(T::ONE / T::from_f64(n as f64))
    }
}

/// The spectrum that changes nothing: it has the factor 1 / n.
pub(super) fn unit<T: Transform>(plan: &Plan<T>) -> Vec<T> {
    let factor = T::ONE / T::from_f64(plan.n as f64);
    (0..2 * plan.n).map(|i| if i % 2 == 0 { factor } else { T::ZERO }).collect()
}

/// That of the transposed matrix.
pub(super) fn conjugate<T: Float>(spectrum: &[T]) -> Vec<T> {
    let turn = |(i, &x): (usize, &T)| if i % 2 == 0 { x } else { -x };
    spectrum.iter().enumerate().map(turn).collect()
}
