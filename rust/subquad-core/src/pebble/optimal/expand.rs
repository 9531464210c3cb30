//! From states to what follows them, in parallel.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::bound::Effort;
use super::oneshot::Game;
use super::patience::Patience;
use super::store::{Child, SHARDS, shard};
use super::symmetry::Symmetry;
use crate::{Error, Par, Result};

/// States that one task expands.
const TASK: usize = 8;

/// How far the estimate of a new state looks ahead.
pub const SHALLOW: Effort = Effort { depth: 2, looks: 1_000 };
/// How far it looks ahead before the state is expanded.
const DEEP: Effort = Effort { depth: 8, looks: 10_000 };

/// What expanding needs; it changes nothing.
pub struct Expander<'a, const N: usize> {
    pub game: &'a Game<N>,
    pub symmetry: &'a Symmetry<N>,
    /// When to give up.
    pub until: Option<Instant>,
}

/// What one task did.
pub struct Litter<const N: usize> {
    /// Children by shards, in the order of their parents.
    pub children: [Vec<Child<N>>; SHARDS],
    /// States that were not expanded, with their new estimates.
    pub postponed: Vec<Child<N>>,
}

impl<const N: usize> Expander<'_, N> {
    /// The states after those of `batch`, whose `parent` is their own number, with estimates up to `most`. Those
    /// that are not refined yet are looked at again, and expanded if their estimates stay.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`], by the caller or by the time.
    pub fn expand(&self, par: Par, batch: &[Child<N>], most: u64) -> Result<Vec<Litter<N>>> {
        // Waking a thread costs more than a few states.
        let par = par.for_work(batch.len() as u64 * 100_000);
        let late = AtomicBool::new(false);
        let litters = par.map(batch.len().div_ceil(TASK), |task, pulse| {
            let mut patience = Patience::new(pulse, self.until);
            let mut children: [Vec<Child<N>>; SHARDS] = std::array::from_fn(|_| Vec::new());
            let mut postponed = Vec::new();
            let from = task * TASK;
            for parent in &batch[from..batch.len().min(from + TASK)] {
                if patience.look() {
                    break;
                }
                let estimate = self.refined(parent, most);
                if estimate > parent.estimate {
                    postponed.push(Child { estimate, refined: true, ..*parent });
                } else {
                    let sink = |child: Child<N>| children[shard(&child.state)].push(child);
                    self.follow(parent, most, &mut patience, sink);
                }
            }
            late.fetch_or(patience.is_over(), Ordering::Relaxed);
            Litter { children, postponed }
        })?;
        if late.into_inner() { Err(Error::Stopped) } else { Ok(litters) }
    }

    fn refined(&self, child: &Child<N>, most: u64) -> u64 {
        let Child { state, bound, estimate, refined, .. } = child;
        if *refined {
            return *estimate;
        }
        bound + self.game.lookahead(state, DEEP, estimate - bound, most + 1 - bound)
    }

    /// The states after one.
    fn follow(
        &self,
        parent: &Child<N>,
        most: u64,
        patience: &mut Patience,
        mut found: impl FnMut(Child<N>),
    ) {
        let game = self.game;
        game.steps(&parent.state, most - parent.bound, patience, |step, cost| {
            let state = game.settle(game.play(&parent.state, &step), |_| ());
            let bound = parent.bound + cost;
            let floor = parent.estimate.saturating_sub(bound);
            let estimate = bound + game.lookahead(&state, SHALLOW, floor, most + 1 - bound);
            if estimate <= most {
                let state = self.symmetry.smallest(&state, |_| ());
                found(Child { state, bound, estimate, parent: parent.parent, refined: false });
            }
        });
    }
}
