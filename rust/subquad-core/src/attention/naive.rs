//! Attention straight from the definition: the oracle of the fast kernels, and the way out for rows
//! that they cannot do.

use super::{Head, Visible};
use crate::simd::Float;

/// Computes row `i` of a head from its logits in the compute type, everything else in float64.
/// Returns the log-sum-exp.
///
/// Takes `O(S (E + Ev))` operations and keeps the logits of the row.
pub(super) fn row<T: Float>(
    head: &Head<'_>,
    visible: &Visible,
    scale: T,
    i: usize,
    out: &mut [T],
) -> T {
    let logits = logits(head, visible, scale, i);
    let top = logits.iter().fold(f64::NEG_INFINITY, |top, &(_, x)| top.max(x));
    let mut sums = vec![0.0; out.len()];
    let mut mass = 0.0;
    for (j, x) in logits {
        let p = if top == f64::NEG_INFINITY { 0.0 } else { (x - top).exp() };
        mass += p;
        for (c, sum) in sums.iter_mut().enumerate() {
            *sum += p * head.value.get(j, c);
        }
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = T::from_f64(if mass > 0.0 { sum / mass } else { 0.0 });
    }
    T::from_f64(top + mass.ln())
}

/// The keys that row `i` sees by position and mask, with their logits.
fn logits<T: Float>(
    head: &Head<'_>,
    visible: &Visible,
    scale: T,
    i: usize,
) -> Vec<(usize, f64)> {
    let logit = |j: usize| {
        let dot: f64 =
            (0..head.query.cols()).map(|x| head.query.get(i, x) * head.key.get(j, x)).sum();
        let x = T::from_f64(scale.to_f64() * dot);
        head.bias.map_or(x, |bias| x + T::from_f64(bias.get(i, j))).to_f64()
    };
    visible
        .keys(i, head.key.rows())
        .filter(|&j| head.mask.is_none_or(|mask| mask.get(i, j) != 0))
        .map(|j| (j, logit(j)))
        .collect()
}
