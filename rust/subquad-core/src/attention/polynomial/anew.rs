//! One row, key by key in float64.

use super::call::Operands;
use crate::attention::Visible;
use crate::simd::Float;

/// The row of the output and the sum of its weights, if that is certainly positive; else the sum, and what it
/// may be off by.
pub fn row(
    head: &Operands<'_>,
    (scale, visible): (f64, Visible),
    coefficients: &[f64],
    i: usize,
) -> Result<(Vec<f64>, f64), [f64; 2]> {
    let (dim, width) = (head.query.cols(), head.value.cols());
    let keys = visible.keys(i, head.key.rows());
    let query: Vec<f64> = (0..dim).map(|l| head.query.get(i, l)).collect();
    let (mut out, mut sum, mut size) = (vec![0.0; width], 0.0, 0.0);
    let count = keys.len();
    for j in keys {
        let terms = query.iter().enumerate().map(|(l, x)| x * head.key.get(j, l));
        let (s, a) = terms.fold((0.0, 0.0), |(s, a): (f64, f64), x| (s + x, a + x.abs()));
        let horner = |s: f64, c: &dyn Fn(f64) -> f64| {
            coefficients.iter().rev().fold(0.0, |p, &t| p * s + c(t))
        };
        let weight = horner(scale * s, &|c| c);
        size += horner(scale.abs() * a, &f64::abs);
        sum += weight;
        out.iter_mut().enumerate().for_each(|(c, x)| *x += weight * head.value.get(j, c));
    }
    // Products and sums of the logits, of Horner's scheme, and of the row.
    let roundings = coefficients.len() * (dim + 4) + count + 4;
    let doubt = 1.01 * roundings as f64 * f64::UNIT_ROUNDOFF * size
        + (roundings * count.max(1)) as f64 * f64::SMALLEST_NORMAL;
    if sum > doubt && sum.is_finite() {
        for x in &mut out {
            *x /= sum;
        }
        Ok((out, sum))
    } else {
        Err([sum, doubt])
    }
}
