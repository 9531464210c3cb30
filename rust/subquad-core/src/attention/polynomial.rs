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
//! and sums as many as there are tokens of a tile, tiles, parts, features of a block, blocks and degrees; or, for
//! the last three, d for each of g factors, where a gradient sums up over one factor after the other. Each of
//! the 2 g + 4 products behind a term may also underflow, by the smallest number times what it is multiplied
//! with later; a degree t has d^t words of indices at most, so that all of this is below `2 g + 4` smallest
//! numbers times `S Q(d |scale| |q_i| max |k_j|)`, `Q(s) = sum (1 + |c_t|) s^t`, sizes below 1 taken for 1. A
//! row that is
//! not above that is computed anew in float64, key by key; where that does not help, the row has no meaning, and
//! is named.

use std::ops::Range;

use super::{Compute, Output, Problem, Stats, check_outputs};
use crate::Result;
use crate::par::Par;
use crate::polynomial::{BLOCK, Monomials, State, TILE};

mod anew;
mod blocks;
mod call;
mod causal;
mod causal_gradient;
mod causal_slopes;
mod gradient;
mod half;
mod key_slopes;
mod kit;
mod load;
mod near;
mod slopes;
mod strand;
mod sums;
mod tasks;
mod weight;

use call::Call;
use strand::Before;

pub use blocks::{
    BlockGradients, BlockScratch, BlockSums, TokenGradients, Visit, Weighed, polynomial_block_rows,
    polynomial_block_rows_grad, polynomial_block_sums, polynomial_block_sums_grad,
};
pub(in crate::attention) use blocks::{visit_f32, visit_f64};
pub use causal::Scan;
pub(in crate::attention) use causal::{scan_f32, scan_f64};
pub use causal_slopes::{Back, ScanSlopes};
pub(in crate::attention) use causal_slopes::{
    back_f32, back_f64, scan_slopes_f32, scan_slopes_f64,
};
pub use gradient::polynomial_backward;
pub use half::polynomial_sums_half;
pub(in crate::attention) use half::{apply_f32, sum_f32};
pub use key_slopes::KeySlopes;
pub(in crate::attention) use key_slopes::{keys_f32, keys_f64};
pub use slopes::QuerySlopes;
pub(in crate::attention) use slopes::{queries_f32, queries_f64};
pub use sums::{RowSums, SumsGradients, polynomial_sums, polynomial_sums_grad};
pub use tasks::{Apply, Found, Outcome, Scratch, Sum};
pub(in crate::attention) use tasks::{apply_f64, sum_f64};
pub use weight::Polynomial;

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
    let outcomes: Vec<_> = outputs.iter().map(|output| Outcome::Quotient(output.out)).collect();
    let polynomial = Polynomial::Univariate(coefficients).trimmed();
    Call::new(problem, None, polynomial, par, 1)?.forward(&outcomes)
}

impl<T: Compute> Call<'_, T> {
    /// Rows of every head.
    fn forward(&self, outcomes: &[Outcome<'_, T>]) -> Result<Stats> {
        let mut stats = Stats::default();
        let heads = &self.heads;
        let groups = kit::groups(heads.len(), |a, b| heads[a].has_keys_of(&heads[b]));
        if !self.sees_all() && self.prefers_strands(&groups) {
            self.scan(0..heads.len(), None, outcomes, &mut stats)?;
            return Ok(stats);
        }
        for group in groups {
            if self.sees_all() {
                self.apply(group, outcomes, &mut stats)?;
            } else {
                let parts = self.before(&heads[group.start], &mut stats)?;
                self.scan(group, Some(&parts), outcomes, &mut stats)?;
            }
        }
        Ok(stats)
    }

    /// Rows of heads that have the same keys, each of which sees all of them.
    fn apply(
        &self,
        heads: Range<usize>,
        outcomes: &[Outcome<'_, T>],
        stats: &mut Stats,
    ) -> Result<()> {
        let Self { kit, isa, pool, par, .. } = self;
        let (state, extent) = self.sum(&self.heads[heads.start], stats)?;
        let rows = self.heads[heads.start].query.rows();
        let blocks = rows.div_ceil(ROWS);
        let found = par.map(heads.len() * blocks, |i, pulse| {
            let (h, start) = (heads.start + i / blocks, i % blocks * ROWS);
            let job = Apply {
                kit,
                head: &self.heads[h],
                rows: start..rows.min(start + ROWS),
                state: &state,
                extent: &extent,
                outcome: outcomes[h],
            };
            // SAFETY: tasks have rows of their own, and nobody else has the outputs during the call.
            pool.with(|| Scratch::new(kit), |s| unsafe { T::apply(*isa, &job, s, pulse) })
        })?;
        let mut found = found.iter().enumerate();
        found.try_for_each(|(i, found)| found.accept(heads.start + i / blocks, stats))
    }

    /// Rows of heads whose queries see the keys up to a place of their own; with parts, the keys are the same.
    fn scan(
        &self,
        heads: Range<usize>,
        parts: Option<&[Before<T>]>,
        outcomes: &[Outcome<'_, T>],
        stats: &mut Stats,
    ) -> Result<()> {
        let Self { kit, isa, pool, .. } = self;
        let found = self.scans(heads.clone(), parts, stats, |h, before, own, pulse| {
            let job = Scan { kit, head: &self.heads[h], before, outcome: outcomes[h] };
            let mut state = kit.state();
            // SAFETY: as above.
            pool.with(
                || Scratch::new(kit),
                |scratch| unsafe { T::scan(*isa, &job, &mut state, own, scratch, pulse) },
            )
        })?;
        let mut found = heads.zip(&found);
        found.try_for_each(|(h, parts)| parts.iter().try_for_each(|found| found.accept(h, stats)))
    }
}

/// What the rows of a sum have in common.
pub struct Extent<T> {
    /// Mean of the values.
    mean: Vec<T>,
    /// Largest norm of a key.
    longest: f64,
}

/// Tokens cut into parts, by their number alone.
fn parts(tokens: usize) -> Vec<Range<usize>> {
    let size = PART.max(tokens.div_ceil(PARTS).next_multiple_of(TILE));
    (0..tokens).step_by(size).map(|start| start..tokens.min(start + size)).collect()
}

#[cfg(test)]
mod tests;
