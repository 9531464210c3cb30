//! Sums of features over blocks of tokens, each with several weights, and rows that are read from such sums.
//!
//! Whoever wants weights `w(i - j) p(s_ij)` of relative positions takes sums over blocks of keys, combines them
//! as the positions demand, and reads each block of queries from what it gets: all is linear. A token has K
//! weights, numbers of its own, so that a combination may be any sum of K products of such of a query and a key.

use std::ops::Range;

use super::{PART, ROWS, State};
#[cfg(doc)]
use crate::Error;
use crate::Result;
use crate::attention::dense::Report;
use crate::attention::{Compute, Stats, check_distinct};
use crate::mat::{MatCell, Rows};
use crate::par::{Par, Pulse};
use crate::scratch::Pool;
use crate::simd::Isa;

mod abreast;
mod frame;
mod visit;
mod work;

pub use frame::BlockScratch;
use frame::{Frame, Terms};
pub use visit::Visit;
use visit::Wanted;
pub(in crate::attention) use visit::{visit_f32, visit_f64};
use work::Work;

/// Tokens of all heads, with several weights each.
#[derive(Clone, Copy, Debug)]
pub struct Weighed<'a> {
    /// `n x E`
    pub tokens: &'a [Rows<'a>],
    /// `K x n`
    pub weights: &'a [Rows<'a>],
    /// Tokens of a block; the last may have fewer.
    pub block: usize,
}

/// Sums for every head, block and weight, in this order: those of the values, and those of one.
#[derive(Clone, Copy, Debug)]
pub struct BlockSums<'a, M> {
    /// `r x Ev`
    pub sums: &'a [M],
    /// `r x 1`
    pub masses: &'a [M],
}

/// Where the gradients of tokens and weights of all heads are added.
#[derive(Clone, Copy, Debug)]
pub struct TokenGradients<'a, T> {
    /// `n x E`
    pub tokens: Option<&'a [MatCell<'a, T>]>,
    /// `K x n`
    pub weights: Option<&'a [MatCell<'a, T>]>,
}

/// Where the gradients of values, or of sums, are added.
pub type BlockGradients<'a, T> = Option<BlockSums<'a, MatCell<'a, T>>>;

/// Adds to sums of every block and weight those of its keys: with features phi of a key y, factors
/// `f_m = c_t scale^t t! / a!` and weights w, `f_m sum_j w_j phi_m(y_j) [v_j, 1]`.
///
/// # Errors
///
/// [`Error::Shape`] if the shapes do not fit, [`Error::Domain`] for an empty block, no weight or a degree beyond
/// 64, [`Error::Memory`] if there are too many features, [`Error::Stopped`].
pub fn polynomial_block_sums<T: Compute>(
    keys: Weighed<'_>,
    values: &[Rows<'_>],
    (coefficients, scale): (&[f64], f64),
    to: BlockSums<'_, MatCell<'_, T>>,
    par: Par<'_>,
) -> Result<Stats> {
    let terms = Terms::Powers(coefficients, scale);
    let mut work = Work::new("key", keys, terms);
    work.values = Some(("value", values));
    work.own = Some([("sums", to.sums), ("masses", to.masses)]);
    run(&work, par)
}

/// Adds to rows and to their masses what the sums of their block say of them: with features phi of a query x and
/// weights w, `sum_k w_k sum_m phi_m(x) sums[k][m]`.
///
/// # Errors
///
/// As [`polynomial_block_sums`].
pub fn polynomial_block_rows<T: Compute>(
    queries: Weighed<'_>,
    from: BlockSums<'_, Rows<'_>>,
    degree: usize,
    (rows, masses): (&[MatCell<'_, T>], &[MatCell<'_, T>]),
    par: Par<'_>,
) -> Result<Stats> {
    let mut work = Work::new("query", queries, Terms::Plain(degree));
    work.given = Some([("sums", from.sums), ("masses", from.masses)]);
    (work.rows, work.row_masses) = (Some(("rows", rows)), Some(("row_masses", masses)));
    run(&work, par)
}

/// Adds the vector-Jacobian products of [`polynomial_block_rows`] with the gradients of rows, `L x Ev`, and of
/// their masses, `L x 1`.
///
/// # Errors
///
/// As [`polynomial_block_sums`].
pub fn polynomial_block_rows_grad<T: Compute>(
    (grad_rows, grad_masses): (&[Rows<'_>], &[Rows<'_>]),
    queries: Weighed<'_>,
    from: BlockSums<'_, Rows<'_>>,
    degree: usize,
    (to, to_sums): (TokenGradients<'_, T>, BlockGradients<'_, T>),
    par: Par<'_>,
) -> Result<Stats> {
    let mut work = Work::new("query", queries, Terms::Plain(degree));
    work.values = Some(("grad_rows", grad_rows));
    work.masses = Some(("grad_row_masses", grad_masses));
    work.given = Some([("sums", from.sums), ("masses", from.masses)]);
    work.tokens_to = to.tokens.map(|cells| ("grad_query", cells));
    work.weights_to = to.weights.map(|cells| ("grad_weights", cells));
    work.own = to_sums.map(|to| [("grad_sums", to.sums), ("grad_masses", to.masses)]);
    run(&work, par)
}

/// Adds the vector-Jacobian products of [`polynomial_block_sums`] with the gradients of its sums; those of the
/// values are `S x Ev`.
///
/// # Errors
///
/// As [`polynomial_block_sums`].
pub fn polynomial_block_sums_grad<T: Compute>(
    grad: BlockSums<'_, Rows<'_>>,
    keys: Weighed<'_>,
    values: &[Rows<'_>],
    (coefficients, scale): (&[f64], f64),
    (to, to_values): (TokenGradients<'_, T>, Option<&[MatCell<'_, T>]>),
    par: Par<'_>,
) -> Result<Stats> {
    let terms = Terms::Powers(coefficients, scale);
    let mut work = Work::new("key", keys, terms);
    work.values = Some(("value", values));
    work.given = Some([("grad_sums", grad.sums), ("grad_masses", grad.masses)]);
    work.rows = to_values.map(|cells| ("grad_value", cells));
    work.tokens_to = to.tokens.map(|cells| ("grad_key", cells));
    work.weights_to = to.weights.map(|cells| ("grad_weights", cells));
    run(&work, par)
}

/// What the tasks of a call share.
struct Tasks<'a, T> {
    work: &'a Work<'a, T>,
    frame: Frame<T>,
    isa: Isa,
    scratch: Pool<BlockScratch<T>>,
    states: Pool<State<T>>,
}

/// Some tokens of a head: of one block, or of several whole ones.
type Task = (usize, Range<usize>);

fn run<T: Compute>(work: &Work<'_, T>, par: Par<'_>) -> Result<Stats> {
    let isa = Isa::detect();
    let Some(frame) = work.frame(isa)? else { return Ok(Stats::default()) };
    let (heads, tokens) = (work.tokens.1.len(), work.tokens.1[0].rows());
    let par = par.for_work(work.passes() * frame.flops(heads * tokens));
    // What several tasks add to is merged in their order, as many at a time as are made at a time.
    let merges = work.own.is_some() && work.block.min(tokens) > PART;
    let ranges = cut(tokens, work.block, if work.own.is_some() { PART } else { ROWS });
    let of_head = |h| ranges.iter().map(move |range| (h, range.clone()));
    let all: Vec<Task> = (0..heads).flat_map(of_head).collect();
    let at_a_time = if merges { par.workers() } else { all.len().max(1) };
    let tasks = Tasks { work, frame, isa, scratch: Pool::new(), states: Pool::new() };
    let mut stats = Stats::default();
    for some in all.chunks(at_a_time) {
        let found = par.map(some.len(), |i, pulse| tasks.run(&some[i], merges, pulse))?;
        for ((h, range), (report, state)) in some.iter().zip(&found) {
            stats.take(report);
            if let Some(state) = state {
                // SAFETY: no task runs.
                unsafe { tasks.add(state, *h, range.start / work.block) };
            }
        }
    }
    Ok(stats)
}

impl<T: Compute> Tasks<'_, T> {
    /// Also gives the sums of its tokens, if others have those of the same block.
    fn run(&self, task: &Task, merges: bool, pulse: &Pulse<'_>) -> (Report, Option<State<T>>) {
        let mut kept = merges.then(|| self.frame.state());
        let report = self.scratch.with(
            || BlockScratch::new(&self.frame),
            |scratch| match (&mut kept, &self.work.own) {
                (Some(state), _) => self.visit(task, Some((state, false)), scratch, pulse),
                (None, Some(_)) => self.states.with(
                    || self.frame.state(),
                    |state| self.visit(task, Some((state, true)), scratch, pulse),
                ),
                (None, None) => self.visit(task, None, scratch, pulse),
            },
        );
        (report, kept)
    }

    /// Visits a task's blocks one by one; with a state for the sums of each, which are added at once if nobody
    /// else has any of that block.
    fn visit(
        &self,
        (h, range): &Task,
        mut own: Option<(&mut State<T>, bool)>,
        scratch: &mut BlockScratch<T>,
        pulse: &Pulse<'_>,
    ) -> Report {
        let (work, frame) = (self.work, &self.frame);
        let mut report = Report::default();
        for b in range.start / work.block..range.end.div_ceil(work.block) {
            let (start, end) = (b * work.block, (b + 1).saturating_mul(work.block));
            let some = self.sums(*h, b);
            let visit = Visit {
                frame,
                tokens: work.tokens.1[*h],
                weights: work.weights.1[*h],
                values: work.values.map(|(_, rows)| rows[*h]),
                masses: work.masses.map(|(_, rows)| rows[*h]),
                given: work
                    .given
                    .map(|[(_, sums), (_, masses)]| (&sums[some.clone()], &masses[some.clone()])),
                range: start.max(range.start)..end.min(range.end),
                to: work.wanted(*h),
            };
            if let Some((state, _)) = &mut own {
                state.clear();
            }
            let state = own.as_mut().map(|(state, _)| &mut **state);
            // SAFETY: state and scratch are of this frame, the shapes have been checked, and tasks have rows of
            // their own.
            report.add(&unsafe { T::visit(self.isa, &visit, state, scratch, pulse) });
            if let Some((state, true)) = &own {
                // SAFETY: no other task has tokens of this block.
                unsafe { self.add(state, *h, b) };
            }
        }
        report
    }

    /// Where the sums of a block are among all.
    fn sums(&self, h: usize, b: usize) -> Range<usize> {
        let (tokens, weights) = (self.work.tokens.1[h].rows(), self.frame.abreast.weights);
        let at = (h * tokens.div_ceil(self.work.block) + b) * weights;
        at..at + weights
    }

    /// Adds a state to the sums of a block.
    ///
    /// # Safety
    ///
    /// No other task may write these.
    unsafe fn add(&self, state: &State<T>, h: usize, b: usize) {
        let Some([(_, sums), (_, masses)]) = self.work.own else { return };
        let (some, features) = (self.sums(h, b), self.frame.monomials.len());
        let to = (&sums[some.clone()], &masses[some]);
        // SAFETY: the caller's promise.
        unsafe { self.frame.abreast.add(state, features, to) };
    }
}

/// Tokens in tasks, of at most so many of one block, or of several small blocks.
fn cut(tokens: usize, block: usize, most: usize) -> Vec<Range<usize>> {
    let together = block.max(ROWS / block * block);
    let blocks = (0..tokens).step_by(together);
    let parts = |start: usize| {
        let end = tokens.min(start.saturating_add(together));
        (start..end).step_by(most).map(move |at| at..end.min(at + most))
    };
    blocks.flat_map(parts).collect()
}

#[cfg(test)]
mod tests;
