//! A bound on the rounding error of every row of exact attention, for any input.
//!
//! Let `u` be the unit roundoff of the compute type, `A = |scale| |q_i| max_j |k_j|` and `B` the
//! largest finite bias of the row that matters (below), so that `|logit| <= A + B`; let
//! `g(n) = n u / (1 - n u)`. In the kernels:
//!
//! 1. A logit is a chain of `E` fused (or `2 E` separate) operations on `fl(scale q)`, then the bias,
//!    itself rounded to the compute type: its error is at most `g(E + 4) A + 2 u (A + B)`. A scale too
//!    small for the compute type is off by more than `u`; that error is added as it is.
//! 2. The exponent is `fl(fl(logit - reference) log2(e))`. With `|logit - reference| <= 2 (A + B) +
//!    LAG`, its two roundings and that of the constant come to at most `u (6 (A + B) + 3 LAG)`, which
//!    also covers the exponents by which a row is rescaled, for they add up to no more than what the
//!    reference rises; the exponential adds its own error and at most `8 u`.
//! 3. So every weight is wrong by a factor `e^t`, `|t| <= d`, and with `x = e^d - 1` the weighted mean
//!    moves by at most `x / (1 - x) sum_j p_j |v_j - out|`, hence `2 R x / (1 - x)`; never by more than
//!    `2 R`, because both means lie in the convex hull of the values.
//! 4. A sum over a block of `b` terms, then over the `S / b` blocks, with a rescaling for every `LAG`
//!    that the reference rises, but at most one per tile, is wrong by at most `g(n)`,
//!    `n = b + S / b + min(2 (A + B) / LAG, S / 4) + 8`, relative to the sum of the absolute terms; so
//!    are numerator and denominator, which together make `2 g(n) max_j |v_j|`.
//!
//! A key that the row sees and whose bias lies `2 A + 120` below the largest that it sees has weight
//! below `e^-100`, rounding included: it does not count for `B`, and adds `2 R e^-100`. Weights below
//! the smallest normal number may be lost, and add as much.
//!
//! For a bias by lags, the smallest that may count is taken to be the larger of the smallest that the row
//! sees and that limit: finding the true one would take more than `O(L + S)`.
//!
//! `R` is the spread of the values, `max_j |v_j - mean(v)|`, over all keys of the head. Where a value
//! is not finite, or the spread is too large for float64, `R` and the bounds are infinite or NaN, and
//! certify nothing.

use half::slice::HalfFloatSliceExt;

use super::dense::KEYS;
use super::lag_extremes::Extremes;
use super::strip::LAG;
use super::{Compute, Head, Problem, decode};
use crate::mat::{Rows, with_rows};
use crate::par::{Par, Pulse};
use crate::simd::Element;
use crate::{Error, Result};

/// Room for the terms of second order.
const SLACK: f64 = 1.01;

/// Rows whose bounds are one task.
const ROWS: usize = 256;

/// What is known of the error of one head.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds {
    /// Bound on `|out_i - exact_i|` for every row.
    pub rows: Vec<f64>,
    /// `R`, the spread of the head's values; 0 without keys.
    pub spread: f64,
}

/// Bounds the rounding error of [`forward`](super::forward()) in the compute type `T`, head by head.
///
/// Takes `O(L E + S (E + Ev))` operations per head, and `O(L S)` more for a bias that is not one by
/// lags, or has a mask beside it.
///
/// # Errors
///
/// [`Error::Shape`] if heads have factors of the lags, whose largest logits the caller knows better;
/// [`Error::Stopped`] if the caller asked to.
///
/// # Panics
///
/// If rows of a query, key or value are not contiguous.
pub fn bounds<T: Compute>(problem: &Problem<'_>, par: Par<'_>) -> Result<Vec<Bounds>> {
    let heads = &problem.heads;
    let weighted = heads.iter().filter(|head| head.weights.is_some()).count();
    Error::unless_equal("weights", "absence in heads", 0, weighted)?;
    // Groups of heads share a key head, which needs to be looked at only once.
    let first = |h: usize| {
        let same = |g: &usize| {
            heads[*g].key.is_same_view(&heads[h].key)
                && heads[*g].value.is_same_view(&heads[h].value)
        };
        (0..h).rev().take_while(same).last().unwrap_or(h)
    };
    let leaders: Vec<usize> = (0..heads.len()).map(first).collect();
    let keys =
        par.map(heads.len(), |h, pulse| (leaders[h] == h).then(|| KeySide::of(&heads[h], pulse)))?;
    let side = |h: usize| keys[leaders[h]].as_ref().expect("a leader leads itself");
    let extremes = Extremes::new(problem, par)?;
    let rows = heads.first().map_or(0, |head| head.query.rows());
    let blocks = rows.div_ceil(ROWS);
    let bounds = par.map(heads.len() * blocks, |task, pulse| {
        let (h, first) = (task / blocks, task % blocks * ROWS);
        let mut wide = vec![0.0; heads[h].query.cols()];
        let origin = vec![0.0; heads[h].query.cols()];
        let row = |i| {
            let norm = distance(&heads[h].query, i, &origin, &mut wide);
            bound::<T>(problem, h, (norm, side(h)), extremes.of(h), i)
        };
        (first..rows.min(first + ROWS))
            .take_while(|_| !pulse.stopped())
            .map(row)
            .collect::<Vec<_>>()
    })?;
    let of = |h: usize| Bounds {
        rows: bounds[h * blocks..(h + 1) * blocks].concat(),
        spread: side(h).spread,
    };
    Ok((0..heads.len()).map(of).collect())
}

/// What the bounds need of keys and values.
struct KeySide {
    key_norm: f64,
    value_norm: f64,
    spread: f64,
}

impl KeySide {
    fn of(head: &Head<'_>, pulse: &Pulse<'_>) -> Self {
        // NaN must not be passed over, as `f64::max` would.
        let larger = |a: f64, b: f64| if a >= b || a.is_nan() { a } else { b };
        let largest = |rows: &Rows<'_>, centre: &[f64]| {
            let mut wide = vec![0.0; rows.cols()];
            let going = |i: &usize| !i.is_multiple_of(ROWS) || !pulse.stopped();
            let distances = (0..rows.rows()).take_while(going);
            distances.map(|i| distance(rows, i, centre, &mut wide)).fold(0.0, larger)
        };
        let (e, ev) = (head.key.cols(), head.value.cols());
        Self {
            key_norm: largest(&head.key, &vec![0.0; e]),
            value_norm: largest(&head.value, &vec![0.0; ev]),
            spread: largest(&head.value, &mean(&head.value)),
        }
    }
}

/// Evaluates `$body` with `$row` bound to row `$i`, in `$wide` if it has 16-bit entries: they are
/// widened fast only a slice at a time.
macro_rules! with_row {
    ($rows:expr, $i:expr, $wide:expr, $row:ident => $body:expr) => {
        match $rows {
            Rows::F32(view) => {
                let $row = view.row($i);
                $body
            }
            Rows::F64(view) => {
                let $row = view.row($i);
                $body
            }
            Rows::F16(view) => {
                view.row($i).convert_to_f32_slice(&mut $wide[..]);
                let $row = &$wide[..];
                $body
            }
            Rows::Bf16(view) => {
                view.row($i).convert_to_f32_slice(&mut $wide[..]);
                let $row = &$wide[..];
                $body
            }
        }
    };
}

fn mean(rows: &Rows<'_>) -> Vec<f64> {
    // Divided first, so that the sum does not leave the range.
    fn add<E: Element>(sums: &mut [f64], row: &[E], share: f64) {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += x.to_f64() * share;
        }
    }
    let share = 1.0 / rows.rows().max(1) as f64;
    let mut mean = vec![0.0; rows.cols()];
    let mut wide = vec![0.0; rows.cols()];
    for i in 0..rows.rows() {
        with_row!(rows, i, wide, row => add(&mut mean, row, share));
    }
    mean
}

/// Distance of row `i` from a point. `wide` is scratch for a row.
fn distance(rows: &Rows<'_>, i: usize, centre: &[f64], wide: &mut [f32]) -> f64 {
    with_row!(rows, i, wide, row => row_distance(row, centre))
}

fn row_distance<E: Element>(row: &[E], centre: &[f64]) -> f64 {
    let squares = sum_of_squares(row, centre, |x| x);
    // Most rows end here. Where squares overflow or vanish, entries are first divided by the largest.
    if squares > 1e-280 && squares < f64::INFINITY {
        return squares.sqrt();
    }
    if squares.is_nan() {
        return squares;
    }
    let entries = row.iter().zip(centre).map(|(x, c)| (x.to_f64() - c).abs());
    let top = entries.fold(0.0, f64::max);
    if top == 0.0 || !top.is_finite() {
        return top;
    }
    top * sum_of_squares(row, centre, |x| x / top).sqrt()
}

/// Sum of the squares of `scaled(x - c)`, in eight partial sums that fill vectors.
#[inline(always)]
fn sum_of_squares<E: Element>(row: &[E], centre: &[f64], scaled: impl Fn(f64) -> f64) -> f64 {
    let mut sums = [0.0; 8];
    let (row, row_rest) = row.as_chunks::<8>();
    let (centre, centre_rest) = centre.as_chunks::<8>();
    for (x, c) in row.iter().zip(centre) {
        for (sum, (x, c)) in sums.iter_mut().zip(x.iter().zip(c)) {
            let x = scaled(x.to_f64() - c);
            *sum += x * x;
        }
    }
    for (x, c) in row_rest.iter().zip(centre_rest) {
        let x = scaled(x.to_f64() - c);
        sums[0] += x * x;
    }
    sums.iter().sum()
}

/// The bound of row `i` of head `h`, whose query has norm `query_norm`.
fn bound<T: Compute>(
    problem: &Problem<'_>,
    h: usize,
    (query_norm, side): (f64, &KeySide),
    extremes: Option<&[[f64; 2]]>,
    i: usize,
) -> f64 {
    let (head, scale) = (&problem.heads[h], problem.scale.abs());
    let (u, tiny) = (T::UNIT_ROUNDOFF, T::SMALLEST);
    let gamma = |n: f64| if n * u < 0.5 { n * u / (1.0 - n * u) } else { f64::INFINITY };
    let (e, ev, keys) =
        (head.query.cols() as f64, head.value.cols() as f64, head.key.rows() as f64);
    let used_scale = T::from_f64(scale).to_f64();
    let wrong_scale = (used_scale - scale).abs() * query_norm * side.key_norm;
    let dot = used_scale.max(scale) * query_norm * side.key_norm * SLACK;
    let bias = match extremes {
        Some(extremes) => relevant_lags(extremes[i], dot),
        None => relevant_bias(problem, head, i, dot),
    };
    let largest = dot + bias;
    let underflow = tiny * (e + 4.0) * (1.0 + side.key_norm) + SLACK * wrong_scale;
    let logit = gamma(e + 4.0) * dot + 2.0 * u * largest + underflow;
    let exponential = u * (6.0 * largest + 3.0 * LAG) + T::EXP2_ERROR + 8.0 * u;
    let wrong = (SLACK * (logit + exponential)).exp_m1();
    let lost_weights = keys * ((-100_f64).exp() + 2.0 * T::SMALLEST_NORMAL);
    let moved = if wrong < 0.5 { wrong / (1.0 - wrong) + lost_weights } else { 1.0 };
    let blocks = [KEYS, decode::BLOCK].map(|b| keys.min(b as f64) + (keys / b as f64).ceil());
    let rescalings = (2.0 * largest / LAG).min(keys / 4.0);
    let terms = blocks[0].max(blocks[1]) + rescalings + 8.0;
    let sums = 2.0 * SLACK * gamma(terms).min(1.0) * side.value_norm;
    let lost = 4.0 * keys * tiny * ev.sqrt();
    // Norms in float64 are off by less than this.
    (1.0 + 1e-9) * (2.0 * side.spread * moved.min(1.0) + sums + lost)
}

/// Largest absolute bias of a row, of the keys that it sees and that are not out of reach, from the
/// smallest and the largest that it sees; see the module's text.
fn relevant_lags([least, most]: [f64; 2], dot: f64) -> f64 {
    if most == f64::NEG_INFINITY {
        return 0.0;
    }
    most.abs().max(least.max(most - out_of_reach(dot)).abs())
}

/// As [`relevant_lags`], of row `i`, for any bias.
fn relevant_bias(problem: &Problem<'_>, head: &Head<'_>, i: usize, dot: f64) -> f64 {
    let seen = problem.visible.keys(i, head.key.rows());
    let is_seen = |j: &usize| head.mask.is_none_or(|mask| mask.get(i, *j) != 0);
    match (&head.bias, &head.lags) {
        (None, None) => 0.0,
        (Some(bias), None) => with_rows!(bias, view => {
            largest_near(|| seen.clone().filter(is_seen).map(|j| view.get(i, j).to_f64()), dot)
        }),
        _ => largest_near(|| seen.clone().filter(is_seen).map(|j| head.added(i, j)), dot),
    }
}

/// Largest absolute number of those that are finite and not out of reach of the largest.
fn largest_near<I: Iterator<Item = f64>>(biases: impl Fn() -> I, dot: f64) -> f64 {
    let finite = || biases().filter(|x| x.is_finite());
    let top = finite().fold(f64::NEG_INFINITY, f64::max);
    finite().filter(|&x| x >= top - out_of_reach(dot)).fold(0.0, |most, x| x.abs().max(most))
}

/// How far below the largest a bias has no weight, for products of at most `dot`.
fn out_of_reach(dot: f64) -> f64 {
    2.0 * dot + 120.0
}
