//! Attention whose weights are a polynomial of the logits: `out_i = sum_j p(s_ij) v_j / sum_j p(s_ij)`.
//!
//! A sum over keys is taken once for all queries, feature by feature ([`polynomial`](crate::polynomial)):
//! `O((L + S) r Ev)` for r features, instead of `O(L S (E + Ev))`.
//!
//! The mean of the values is taken off before and added afterwards, which changes nothing but rounding: rows
//! of weights sum to one.
//!
//! # Denominators
//!
//! A polynomial may be negative, so `D_i = sum_j p(s_ij)` need not be positive. With N the absolute sum of
//! everything added to it, `N_i <= S P(|scale| |q_i| max |k_j|)` for `P(s) = sum |c_t| s^t`, and m roundings
//! on the way, D is known to within `gamma_m N_i`: products of a feature take 2 g, a tile and its block one each,
//! and sums as many as there are tokens of a tile, tiles, parts, features of a block and blocks. Each of
//! the 2 g + 4 products behind a term may also underflow, by the smallest number times what it is multiplied
//! with later; a degree t has d^t words of indices at most, so that all of this is below `2 g + 4` smallest
//! numbers times `S Q(d |scale| |q_i| max |k_j|)`, `Q(s) = sum (1 + |c_t|) s^t`, sizes below 1 taken for 1. A
//! row that is
//! not above that is computed anew in float64, key by key; where that does not help, the row has no meaning, and
//! is named.

use std::ops::Range;

use super::{Compute, Head, Output, Problem, Stats, Visible, check_outputs};
use crate::Result;
use crate::par::Par;
use crate::polynomial::{BLOCK, Monomials, State, TILE};
use crate::scratch::Pool;
use crate::simd::Isa;

mod anew;
mod causal;
mod causal_slopes;
mod gradient;
mod kit;
mod load;
mod near;
mod slopes;
mod tasks;

pub use causal::Scan;
pub(in crate::attention) use causal::{scan_f32, scan_f64};
pub use causal_slopes::{Back, ScanSlopes};
pub(in crate::attention) use causal_slopes::{
    back_f32, back_f64, scan_slopes_f32, scan_slopes_f64,
};
pub use gradient::polynomial_backward;
use kit::Kit;
pub use slopes::{KeySlopes, QuerySlopes};
pub(in crate::attention) use slopes::{keys_f32, keys_f64, queries_f32, queries_f64};
pub use tasks::{Apply, Found, Scratch, Sum};
pub(in crate::attention) use tasks::{apply_f32, apply_f64, sum_f32, sum_f64};

/// Tokens whose sums are one part: what is added to a sum in the working precision.
const PART: usize = 170 * TILE;

/// Parts of a sum at most; each has the memory of a state.
const PARTS: usize = 64;

/// Queries in a task.
const ROWS: usize = 16 * TILE;

/// Computes attention with weights `sum_t coefficients[t] (scale q . k)^t`.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape) if the outputs do not fit, [`Error::Memory`](crate::Error::Memory) if
/// there are too many features, [`Error::Weights`](crate::Error::Weights) for the first row whose weights have
/// no positive sum, [`Error::Stopped`](crate::Error::Stopped).
pub fn polynomial_forward<T: Compute>(
    problem: &Problem<'_>,
    coefficients: &[f64],
    outputs: &[Output<'_, T>],
    par: Par<'_>,
) -> Result<Stats> {
    check_outputs(problem, outputs)?;
    let isa = Isa::detect();
    // Terms that are zero at the end have no part in the result.
    let degree = coefficients.iter().rposition(|&c| c != 0.0).unwrap_or(0);
    let kit = Kit::<T>::new(problem, &coefficients[..=degree], isa)?;
    let par = par.for_work(kit.work(problem));
    let pool = Pool::new();
    let mut stats = Stats::default();
    let heads = &problem.heads;
    for heads in kit::groups(heads.len(), |a, b| kit::same(&heads[a], &heads[b])) {
        if problem.visible != Visible::ALL {
            let first = &problem.heads[heads.start];
            let before = Before::new(&kit, first, isa, &pool, par, &mut stats)?;
            let parts = &before.parts;
            let found = par.map(heads.len() * parts.len(), |i, pulse| {
                let (h, part) = (heads.start + i / parts.len(), i % parts.len());
                let (rows, before, extent) = &parts[part];
                let rows = rows.clone();
                let (head, output) = (&problem.heads[h], &outputs[h]);
                let job = Scan { kit: &kit, head, rows, before, extent, output };
                let mut state = kit.state();
                // SAFETY: as below.
                pool.with(
                    || Scratch::new(&kit),
                    |scratch| unsafe { T::scan(isa, &job, &mut state, scratch, pulse) },
                )
            })?;
            for (i, found) in found.iter().enumerate() {
                found.accept(heads.start + i / parts.len(), &mut stats)?;
            }
            continue;
        }
        let (state, extent) = sum(&kit, &problem.heads[heads.start], isa, &pool, par, &mut stats)?;
        let rows = problem.heads[heads.start].query.rows();
        let blocks = rows.div_ceil(ROWS);
        let found = par.map(heads.len() * blocks, |i, pulse| {
            let (h, start) = (heads.start + i / blocks, i % blocks * ROWS);
            let job = Apply {
                kit: &kit,
                head: &problem.heads[h],
                rows: start..rows.min(start + ROWS),
                state: &state,
                extent: &extent,
                output: &outputs[h],
            };
            // SAFETY: tasks have rows of their own, and nobody else has the outputs during the call.
            pool.with(|| Scratch::new(&kit), |s| unsafe { T::apply(isa, &job, s, pulse) })
        })?;
        for (i, found) in found.iter().enumerate() {
            found.accept(heads.start + i / blocks, &mut stats)?;
        }
    }
    Ok(stats)
}

/// What the rows of a sum have in common.
pub struct Extent<T> {
    /// Mean of the values.
    mean: Vec<T>,
    /// Largest norm of a key.
    longest: f64,
}

/// The sums over the keys of a head.
fn sum<T: Compute>(
    kit: &Kit<T>,
    head: &Head<'_>,
    isa: Isa,
    pool: &Pool<Scratch<T>>,
    par: Par<'_>,
    stats: &mut Stats,
) -> Result<(State<T>, Extent<T>)> {
    let keys = head.key.rows();
    let mean = load::mean::<T>(&head.value);
    let ranges = parts(keys);
    let sums = par.map(ranges.len(), |i, pulse| {
        let job = Sum { kit, head, keys: ranges[i].clone(), mean: &mean };
        let mut state = kit.state();
        // SAFETY: the state is one of this kit's features.
        let report = pool.with(
            || Scratch::new(kit),
            |scratch| unsafe { T::sum(isa, &job, &mut state, scratch, pulse) },
        );
        (state, report)
    })?;
    let mut all = kit.state();
    let mut longest: f64 = 0.0;
    for (state, report) in &sums {
        all.add(state);
        longest = longest.max(report.longest);
        stats.take(&report.counts);
    }
    Ok((all, Extent { mean, longest }))
}

/// For parts of the queries: their rows, and the sums over the keys that the first of them sees.
struct Before<T> {
    parts: Vec<(Range<usize>, State<T>, Extent<T>)>,
}

impl<T: Compute> Before<T> {
    fn new(
        kit: &Kit<T>,
        head: &Head<'_>,
        isa: Isa,
        pool: &Pool<Scratch<T>>,
        par: Par<'_>,
        stats: &mut Stats,
    ) -> Result<Self> {
        let keys = head.key.rows();
        let rows = parts(head.query.rows());
        let mut start = 0;
        let between: Vec<Range<usize>> = rows
            .iter()
            .map(|rows| {
                let end = kit.visible.keys(rows.start, keys).end;
                std::mem::replace(&mut start, end)..end
            })
            .collect();
        // Pieces of what lies between two parts, as it may be long.
        let pieces: Vec<(usize, Range<usize>)> = between
            .iter()
            .enumerate()
            .flat_map(|(i, between)| {
                let moved = move |piece: Range<usize>| {
                    (i, between.start + piece.start..between.start + piece.end)
                };
                parts(between.len()).into_iter().map(moved)
            })
            .collect();
        let sums = par.map(pieces.len(), |i, pulse| {
            let keys = pieces[i].1.clone();
            let job = Sum { kit, head, keys, mean: &kit.zeros };
            let mut state = kit.state();
            // SAFETY: the state is one of this kit's features.
            let found = pool.with(
                || Scratch::new(kit),
                |scratch| unsafe { T::sum(isa, &job, &mut state, scratch, pulse) },
            );
            (state, found)
        })?;
        let (mut all, mut longest) = (kit.state(), 0.0_f64);
        let mut next = pieces.iter().zip(&sums).peekable();
        let mut found = Vec::with_capacity(rows.len());
        for (i, rows) in rows.into_iter().enumerate() {
            while let Some((_, (state, report))) = next.next_if(|((part, _), _)| *part == i) {
                all.add(state);
                longest = longest.max(report.longest);
                stats.take(&report.counts);
            }
            let mut state = kit.state();
            state.add(&all);
            found.push((rows, state, Extent { mean: kit.zeros.clone(), longest }));
        }
        Ok(Self { parts: found })
    }
}

/// Tokens cut into parts, by their number alone.
fn parts(tokens: usize) -> Vec<Range<usize>> {
    let size = PART.max(tokens.div_ceil(PARTS).next_multiple_of(TILE));
    (0..tokens).step_by(size).map(|start| start..tokens.min(start + size)).collect()
}

#[cfg(test)]
mod tests;
