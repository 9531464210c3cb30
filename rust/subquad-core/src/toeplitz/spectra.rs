//! Spectra of weights: as many weights at a time as a vector has lanes.

use super::{Extent, Transform};
use crate::linalg::fft::{From, Job, Plan, Taken, To, at};
use crate::mat::MatRef;
use crate::scratch::Buffer;
use crate::simd::{Float, Isa, Level};

/// Zeros and a workspace for [`spectra`].
pub(super) struct Room<T> {
    isa: Isa,
    rows: Buffer<T>,
    work: Buffer<T>,
}

impl<T: Transform> Room<T> {
    /// For at most so many rows of weights at a time. Short vectors are enough for few.
    pub fn new(plan: &Plan<T>, isa: Isa, most: usize) -> Self {
        let narrow = Isa(isa.0.min(Level::V3));
        let isa = if most <= T::lanes(narrow) { narrow } else { isa };
        let rows = Buffer::new(plan.n * T::lanes(isa));
        Self { isa, rows, work: Buffer::new(plan.workspace(isa)) }
    }
}

/// The spectra of rows of weights, at most as many as the room is for and as there are lanes: 2 n numbers each, in the order of the
/// transform and with its factor 1 / n; of the transposed matrices if asked for.
pub(super) fn spectra<T: Transform>(
    plan: &Plan<T>,
    extent: Extent,
    weights: &MatRef<'_, T>,
    transpose: bool,
    room: &mut Room<T>,
) -> Vec<Vec<T>> {
    let (n, isa, count) = (plan.n, room.isa, weights.rows());
    let lanes = T::lanes(isa);
    assert!(count <= lanes && weights.cols() == extent.lags() && n >= extent.lags());
    let rows = room.rows.slice(n * lanes);
    rows.fill(T::ZERO);
    for index in 0..weights.cols() {
        let place = extent.place(n, index);
        let place = if transpose { (n - place) % n } else { place };
        for lane in 0..count {
            rows[place * lanes + lane] = weights.get(lane, index);
        }
    }
    let zeros = [T::ZERO; 16];
    let from = [
        Taken { ptr: rows.as_ptr(), stride: lanes as isize },
        Taken { ptr: zeros.as_ptr(), stride: 0 },
    ];
    let job =
        Job { from: From::Rows(from), rows: n, spectrum: &[], to: To::Frequencies, wanted: 0 };
    let work = room.work.ptr();
    // SAFETY: there are `n` rows, and a workspace for this plan.
    unsafe { T::run(isa, plan, &job, work) };
    let factor = T::ONE / T::from_f64(n as f64);
    let mut out = vec![vec![T::ZERO; 2 * n]; count];
    for k in 0..n {
        let from = work.wrapping_add(at(n, k) * 2 * lanes);
        for (lane, out) in out.iter_mut().enumerate() {
            // SAFETY: the row is one of the workspace.
            let (re, im) = unsafe { (*from.add(lane), *from.add(lanes + lane)) };
            (out[2 * k], out[2 * k + 1]) = (re * factor, im * factor);
        }
    }
    out
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
