//! The cheapest plays: exact search for red-blue pebbling, with bounds on both sides at any time.
//!
//! | file | what |
//! |---|---|
//! | `oneshot.rs`, `steps.rs` | the game that computes once, in normal form, and what is forced or pointless in it |
//! | `bound.rs` | what its plays must cost yet |
//! | `astar.rs`, `expand.rs`, `store.rs` | its best-first search |
//! | `beam.rs` | plays for it |
//! | `symmetry.rs` | renamings that change nothing |
//! | `general.rs`, `rules.rs`, `price.rs` | all other games, on small graphs |
//! | `greedy.rs` | a play at once |

mod astar;
mod beam;
mod bound;
mod engine;
mod expand;
mod general;
mod greedy;
mod mask;
mod oneshot;
mod patience;
mod price;
mod replay;
mod rules;
mod steps;
mod store;
mod symmetry;

use std::time::{Duration, Instant};

use super::{Dag, Model, Move};
use crate::{Error, Par, Result};
pub use price::Cost;

/// Where a search stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It may go on.
    Running,
    /// The best play is an optimum.
    Optimal,
    /// It would need more memory.
    MemoryLimit,
    /// There is no play.
    Infeasible,
    /// The graph is too large to be searched.
    TooLarge,
}

impl Status {
    /// As users read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Optimal => "optimal",
            Self::MemoryLimit => "memory limit",
            Self::Infeasible => "infeasible",
            Self::TooLarge => "too large",
        }
    }
}

/// What a search knows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// No play costs less.
    pub lower: Cost,
    /// The cost of the best play so far.
    pub upper: Option<Cost>,
    /// States whose followers have been looked at.
    pub expanded: u64,
    /// States that are kept.
    pub states: u64,
    /// Bytes of the states that are kept, and of the tables over them.
    pub bytes: u64,
    /// Where it stands.
    pub status: Status,
}

/// A search for the cheapest play, which can be continued until it is over. Everything about it but the time it takes
/// is independent of the number of workers, and of when it pauses.
pub struct Search {
    engine: Box<dyn engine::Engine>,
}

impl Search {
    /// A search of the plays of `dag` with `memory` words of fast memory, which uses up to about `max_bytes`.
    ///
    /// # Errors
    ///
    /// [`Error::TooSmall`] if `memory` is less than [`Dag::least_memory`], and [`Error::Domain`] if computing has no
    /// finite cost, or a negative one.
    pub fn new(dag: &Dag, memory: u64, model: Model, max_bytes: u64) -> Result<Self> {
        let found = model.compute_cost;
        if !(found.is_finite() && found >= 0.0) {
            let requires = "finite and not negative";
            return Err(Error::Domain { name: "compute_cost", requires, found });
        }
        let least = dag.least_memory(&model);
        if memory < least {
            return Err(Error::TooSmall { name: "memory", least, found: memory });
        }
        Ok(Self { engine: engine::engine(dag, memory, &model, max_bytes) })
    }

    /// Goes on for about `time`, or until the search is over. A step that has begun by then ends, unless `limit`
    /// has passed too: then it is left, and will begin anew.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`]; the search can still be continued.
    pub fn advance(&mut self, par: Par, time: Duration, limit: Duration) -> Result<Progress> {
        let began = Instant::now();
        let until = began.checked_add(limit);
        loop {
            let stepped = self.engine.step(par, until);
            let (progress, elapsed) = (self.engine.progress(), began.elapsed());
            if progress.status != Status::Running || elapsed >= time.min(limit) {
                return if elapsed >= limit { Ok(progress) } else { stepped.map(|()| progress) };
            }
            stepped?;
        }
    }

    /// What is known.
    pub fn progress(&self) -> Progress {
        self.engine.progress()
    }

    /// The best play so far, if there is one.
    pub fn moves(&self) -> Option<Vec<Move>> {
        self.engine.moves()
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
