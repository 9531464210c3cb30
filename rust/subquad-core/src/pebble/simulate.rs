//! What an order of computation costs, with values evicted by a rule: for millions of vertices.
//!
//! Values are computed in the given order, each once. Before that, operands that are not in fast memory are
//! loaded, and where there is no room, a rule says what leaves: a value that is not in slow memory is stored
//! first, a value that nobody needs any more is deleted for nothing, and outputs are stored when they are
//! last used. What is counted is a legal play, which [`Schedule::moves`] gives; so the count is an upper bound
//! on the optimum.
//!
//! Even for one order, no rule is optimal when evictions may cost a store (Beckmann et al. 2019); the one that
//! looks furthest ahead is within a factor, and orders matter far more than rules.

mod depth_first;
mod engine;
mod greedy;
mod improve;
mod rules;
mod schedule;

use super::{Count, Dag, Model, Move};
use crate::par::Pulse;
use crate::{Error, Par, Result};
pub use depth_first::{depth_first, natural};
pub use greedy::greedy;
pub use improve::Improver;
pub use schedule::Schedule;

/// What leaves fast memory when there is no room.
///
/// Operands of what is being computed stay, and what is kept although nobody needs it goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// What is used next furthest in the future; of operands of one value, those in slow memory first.
    Belady,
    /// Of the 8 that are used next furthest in the future, the first that is in slow memory and thus needs no store;
    /// if there is none, the furthest.
    BeladyClean,
    /// Whichever of the two costs less.
    BeladyBest,
    /// What has not been used for longest.
    Lru,
    /// What has been there for longest.
    Fifo,
    /// Any, with the same probability.
    Random {
        /// Fixes which.
        seed: u64,
    },
}

/// Counts what an order costs: [`Schedule::new`] and [`Schedule::count`] in one call.
///
/// # Errors
///
/// As those.
pub fn simulate(
    dag: &Dag,
    order: &[u32],
    memory: u64,
    policy: Policy,
    model: Model,
    par: Par,
) -> Result<Count> {
    Schedule::new(dag, order, par)?.count(memory, policy, model, par)
}

/// As [`simulate`], with the moves: [`play`](super::play) counts the same.
///
/// # Errors
///
/// As for [`simulate`].
pub fn simulate_moves(
    dag: &Dag,
    order: &[u32],
    memory: u64,
    policy: Policy,
    model: Model,
    par: Par,
) -> Result<(Count, Vec<Move>)> {
    Schedule::new(dag, order, par)?.moves(memory, policy, model, par)
}

/// One task on the calling thread, which can be stopped.
pub(super) fn on_this_thread<T: Send + Sync>(
    par: Par,
    work: impl FnOnce(&Pulse) -> Result<T> + Send,
) -> Result<T> {
    let work = std::sync::Mutex::new(Some(work));
    let mut done = par.map(1, |_, pulse| {
        let work = work.lock().ok().and_then(|mut work| work.take());
        work.map_or(Err(Error::Stopped), |work| work(pulse))
    })?;
    done.pop().unwrap_or(Err(Error::Stopped))
}

#[cfg(test)]
mod tests;
