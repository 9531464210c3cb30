//! From states to what follows them, in parallel.

use super::oneshot::Game;
use super::store::{Child, SHARDS, shard};
use super::symmetry::Symmetry;
use crate::{Par, Result};

/// States that one task expands.
const TASK: usize = 8;

/// What expanding needs; it changes nothing.
pub struct Expander<'a, const N: usize> {
    pub game: &'a Game<N>,
    pub symmetry: &'a Symmetry<N>,
}

/// Children of one task by shards, in the order of their parents.
pub type Litter<const N: usize> = [Vec<Child<N>>; SHARDS];

impl<const N: usize> Expander<'_, N> {
    /// The states after those of `batch`, whose `parent` is their own number, with estimates up to `most`.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`](crate::Error::Stopped).
    pub fn expand(&self, par: Par, batch: &[Child<N>], most: u64) -> Result<Vec<Litter<N>>> {
        // Waking a thread costs more than a few states.
        let par = par.for_work(batch.len() as u64 * 100_000);
        par.map(batch.len().div_ceil(TASK), |task, _| {
            let mut litter: Litter<N> = std::array::from_fn(|_| Vec::new());
            let from = task * TASK;
            for parent in &batch[from..batch.len().min(from + TASK)] {
                self.follow(parent, most, |child| litter[shard(&child.state)].push(child));
            }
            litter
        })
    }

    /// The states after one.
    fn follow(&self, parent: &Child<N>, most: u64, mut found: impl FnMut(Child<N>)) {
        let game = self.game;
        game.steps(&parent.state, most - parent.bound, |step, cost| {
            let state = game.settle(game.play(&parent.state, &step), |_| ());
            let bound = parent.bound + cost;
            let estimate = parent.estimate.max(bound + game.lookahead(&state));
            if estimate <= most {
                let state = self.symmetry.smallest(&state, |_| ());
                found(Child { state, bound, estimate, parent: parent.parent });
            }
        });
    }
}
