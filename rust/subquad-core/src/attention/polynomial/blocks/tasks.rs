//! From a call to tasks: which tokens each has, and who adds the sums of a block.

use std::ops::Range;

use super::super::{PART, ROWS, State};
use super::frame::{BlockScratch, Frame};
use super::visit::Visit;
use super::work::Work;
use crate::Result;
use crate::attention::dense::Report;
use crate::attention::{Compute, Stats};
use crate::par::{Par, Pulse};
use crate::scratch::Pool;
use crate::simd::Isa;

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

/// Does what a call is asked for.
///
/// # Errors
///
/// As [`Work::frame`]; [`Error::Stopped`](crate::Error::Stopped).
pub fn run<T: Compute>(work: &Work<'_, T>, par: Par<'_>) -> Result<Stats> {
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
pub fn cut(tokens: usize, block: usize, most: usize) -> Vec<Range<usize>> {
    let together = block.max(ROWS / block * block);
    let blocks = (0..tokens).step_by(together);
    let parts = |start: usize| {
        let end = tokens.min(start.saturating_add(together));
        (start..end).step_by(most).map(move |at| at..end.min(at + most))
    };
    blocks.flat_map(parts).collect()
}
