//! A query as the kernels need it. The proofs are at the top of [`tree`](super).

use super::layout::{FAN, MAX_DIM};
use super::node::{LARGEST_REACH, Scale, above, below};
use crate::halfspace::predicate::Plane;

/// A query whose norm lies between 1/2 and 1, and what its scores are compared with.
pub struct Query {
    pub dim: usize,
    pub q: [f32; MAX_DIM],
    /// Numbers from the beginning of a pack to the row with the corner of each box that lies farthest in
    /// the direction of the query, and to the opposite one.
    pub far: [usize; MAX_DIM],
    pub near: [usize; MAX_DIM],
    /// What is not above this is out, up to the error of the score.
    pub out: f32,
    /// What is not below this is in, up to the error of the score.
    pub inside: f32,
    /// Errors of scores, relative to the longest vector of the box.
    pub epsilon: f32,
    /// The query and its threshold before rounding.
    exact: [f64; MAX_DIM],
    threshold: f64,
}

impl Query {
    /// None for the zero query.
    pub fn new(plane: &Plane) -> Option<Self> {
        if plane.norm == 0.0 {
            return None;
        }
        let dim = plane.query().len();
        let scale = inverse_power(plane.norm);
        let mut exact = [0.0; MAX_DIM];
        for (to, &x) in exact.iter_mut().zip(plane.query()) {
            *to = f64::from(x) * scale;
        }
        let (mut far, mut near) = ([0; MAX_DIM], [0; MAX_DIM]);
        for j in 0..dim {
            let (high, low) = (2 * j * FAN, (2 * j + 1) * FAN);
            (far[j], near[j]) = if exact[j] >= 0.0 { (high, low) } else { (low, high) };
        }
        let threshold = plane.threshold * scale;
        let underflow = (dim + 4) as f64 * 2_f64.powi(-148);
        Some(Self {
            dim,
            q: exact.map(|x| x as f32),
            far,
            near,
            out: below(threshold - underflow).next_down(),
            inside: above(threshold + underflow).next_up(),
            epsilon: 1.01 * (dim + 9) as f32 * 2_f32.powi(-24),
            exact,
            threshold,
        })
    }
}

/// `2^-k` with `2^(k-1) <= x < 2^k`, for a positive normal number.
fn inverse_power(x: f64) -> f64 {
    let exponent = x.to_bits() >> 52;
    f64::from_bits((2045 - exponent) << 52)
}

/// The ball that holds what lies beyond the plane, as seen from the centre of a tree.
///
/// Coordinates are signed so that the query's are positive, see [`Query::far`].
pub struct Cap {
    /// Does the ball hold what is inside? Else the centre is inside, and it holds what is out.
    pub holds_inside: bool,
    pub weight: [f32; MAX_DIM],
    pub foot: [f32; MAX_DIM],
    /// A node of squared radius R^2 whose box is at a distance D from the foot does not meet the ball if
    /// `alpha D^2 - R^2` reaches this.
    pub limit: f32,
}

/// See [`Cap::limit`].
pub const ALPHA: f32 = 1.0 - 1.0 / (1 << 19) as f32;

/// Feet are not farther from the centre, or from the origin: 2^50.
const FARTHEST: f64 = 1_125_899_906_842_624.0;

impl Cap {
    /// In place of one that is not used.
    pub const NONE: Self = Self {
        holds_inside: true,
        weight: [0.0; MAX_DIM],
        foot: [0.0; MAX_DIM],
        limit: f32::INFINITY,
    };

    /// For a tree of squared radius `reach`; none where there is no such ball, or no number for it.
    pub fn new(query: &Query, scale: &Scale, reach: f64) -> Option<Self> {
        let dim = query.dim;
        let (mut offset, mut size, mut norm2) = (0.0, query.threshold.abs(), 0.0);
        let mut q = [0.0; MAX_DIM];
        for j in 0..dim {
            let part = query.exact[j] * f64::from(scale.centre[j]);
            (offset, size) = (offset + part, size + part.abs());
            q[j] = query.exact[j] / f64::from(scale.weight[j]);
            norm2 += q[j] * q[j];
        }
        let gap = query.threshold - offset;
        let depth = gap.abs() - (dim + 2) as f64 * 2_f64.powi(-52) * size;
        let lambda = gap / norm2;
        if !(depth > 0.0 && lambda.is_finite()) {
            return None;
        }
        let (mut weight, mut foot) = ([0.0; MAX_DIM], [0.0; MAX_DIM]);
        let (mut square, mut error, mut farthest) = (0.0, 0.0, 0.0_f64);
        for j in 0..dim {
            let (step, w) = (lambda * q[j], f64::from(scale.weight[j]));
            let centre = w * f64::from(scale.centre[j]);
            let p = (centre + step) as f32;
            let from_centre = f64::from(p) - centre;
            square += from_centre * from_centre;
            error +=
                (from_centre - step).abs() + 2_f64.powi(-50) * (f64::from(p).abs() + step.abs());
            farthest = farthest.max(from_centre.abs()).max(f64::from(p).abs());
            let sign = if query.exact[j] >= 0.0 { 1.0 } else { -1.0 };
            (weight[j], foot[j]) = (sign * scale.weight[j], sign * p);
        }
        let (chord, error) = (2.0 * lambda.abs() * depth, 2.0 * error * reach.sqrt());
        let limit = square - chord + error + 1e-12 * (square + chord + error);
        let limit = limit + 2_f64.powi(-22) * (limit.abs() + reach) + 2_f64.powi(-80);
        (limit.abs() < LARGEST_REACH && farthest < FARTHEST).then(|| Self {
            holds_inside: gap > 0.0,
            weight,
            foot,
            limit: above(limit).next_up(),
        })
    }
}
