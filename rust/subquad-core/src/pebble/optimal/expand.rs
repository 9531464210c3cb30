//! From states to what follows them, in parallel.

use super::oneshot::Game;
use super::store::{Child, SHARDS, shard};
use super::symmetry::Symmetry;
use crate::{Par, Result};

/// States that one task expands.
const TASK: usize = 8;

/// Values that the estimate of a new state looks ahead.
pub const SHALLOW: usize = 2;
/// Values that it looks ahead before the state is expanded.
const DEEP: usize = 6;

/// What expanding needs; it changes nothing.
pub struct Expander<'a, const N: usize> {
    pub game: &'a Game<N>,
    pub symmetry: &'a Symmetry<N>,
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
    /// [`Error::Stopped`](crate::Error::Stopped).
    pub fn expand(&self, par: Par, batch: &[Child<N>], most: u64) -> Result<Vec<Litter<N>>> {
        // Waking a thread costs more than a few states.
        let par = par.for_work(batch.len() as u64 * 100_000);
        par.map(batch.len().div_ceil(TASK), |task, _| {
            let mut children: [Vec<Child<N>>; SHARDS] = std::array::from_fn(|_| Vec::new());
            let mut postponed = Vec::new();
            let from = task * TASK;
            for parent in &batch[from..batch.len().min(from + TASK)] {
                let estimate = self.refined(parent, most);
                if estimate > parent.estimate {
                    postponed.push(Child { estimate, refined: true, ..*parent });
                } else {
                    self.follow(parent, most, |child| children[shard(&child.state)].push(child));
                }
            }
            Litter { children, postponed }
        })
    }

    fn refined(&self, child: &Child<N>, most: u64) -> u64 {
        let Child { state, bound, estimate, refined, .. } = child;
        if *refined {
            return *estimate;
        }
        bound + self.game.lookahead(state, DEEP, estimate - bound, most + 1 - bound)
    }

    /// The states after one.
    fn follow(&self, parent: &Child<N>, most: u64, mut found: impl FnMut(Child<N>)) {
        let game = self.game;
        game.steps(&parent.state, most - parent.bound, |step, cost| {
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
