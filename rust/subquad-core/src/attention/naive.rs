//! Attention and its gradients straight from the definition: the oracle of the fast kernels.

use super::{Head, Visible};
use crate::mat::Rows;
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
fn logits<T: Float>(head: &Head<'_>, visible: &Visible, scale: T, i: usize) -> Vec<(usize, f64)> {
    let logit = |j: usize| {
        let dot: f64 = (0..head.query.cols()).map(|c| head.product(i, j, c)).sum();
        let x = T::from_f64(scale.to_f64() * dot);
        (x + T::from_f64(head.added(i, j))).to_f64()
    };
    visible
        .keys(i, head.key.rows())
        .filter(|&j| head.mask.is_none_or(|mask| mask.get(i, j) != 0))
        .map(|j| (j, logit(j)))
        .collect()
}

/// Gradients of a head, row after row: query, key, value, bias, weights.
pub(super) fn gradients(
    head: &Head<'_>,
    visible: &Visible,
    scale: f64,
    grad_out: &Rows<'_>,
) -> [Vec<f64>; 5] {
    let (l, s) = (head.query.rows(), head.key.rows());
    let (e, ev) = (head.query.cols(), head.value.cols());
    let lags = (l + s).saturating_sub(1);
    let mut grads = [l * e, s * e, s * ev, l * s, e * lags].map(|len| vec![0.0; len]);
    for i in 0..l {
        let mut out = vec![0.0; ev];
        let lse = row(head, visible, scale, i, &mut out);
        let dot: f64 = (0..ev).map(|c| grad_out.get(i, c) * out[c]).sum();
        for (j, x) in logits(head, visible, scale, i) {
            let p = if x == f64::NEG_INFINITY { 0.0 } else { (x - lse).exp() };
            let upstream: f64 = (0..ev).map(|c| grad_out.get(i, c) * head.value.get(j, c)).sum();
            let grad = p * (upstream - dot);
            for c in 0..e {
                let (q, k) = (head.query.get(i, c), head.key.get(j, c));
                let m = i + s - 1 - j;
                let weight = head.weights.map_or(1.0, |weights| weights.get(c, m));
                grads[0][i * e + c] += scale * grad * weight * k;
                grads[1][j * e + c] += scale * grad * weight * q;
                grads[4][c * lags + m] += scale * grad * q * k;
            }
            for c in 0..ev {
                grads[2][j * ev + c] += p * grad_out.get(i, c);
            }
            grads[3][i * s + j] += grad;
        }
    }
    grads
}
