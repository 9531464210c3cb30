//! A better order, by small changes.
//!
//! A change (`changes.rs`) is kept if it costs no more, and sometimes if it does, ever more rarely (simulated
//! annealing). Every order on the way is legal, and the best one is kept. A search without guarantee: what it finds is
//! an upper bound.

mod changes;

use std::sync::Arc;

use super::super::random::Random;
use super::super::{Count, Dag, Model};
use super::engine::Engine;
use super::on_this_thread;
use super::rules::Belady;
use super::schedule::{Numbers, Schedule};
use crate::par::Pulse;
use crate::{Error, Par, Result};

/// A search that can be interrupted: [`advance`](Self::advance) goes on with it.
pub struct Improver {
    dag: Arc<Dag>,
    memory: u64,
    model: Model,
    random: Random,
    /// Orders to look at, in all, and looked at so far.
    budget: u64,
    evaluations: u64,
    /// The order, and where in it a vertex is.
    numbers: Numbers,
    cost: u64,
    best: (Vec<u32>, Count),
}

impl Improver {
    /// A search from an order, for [`Policy::Belady`](super::Policy::Belady), that looks at `budget` others; what it
    /// finds depends on nothing but the arguments.
    ///
    /// # Errors
    ///
    /// As for [`Schedule::new`] and [`Schedule::count`].
    pub fn new(
        dag: Arc<Dag>,
        order: &[u32],
        memory: u64,
        model: Model,
        budget: u64,
        seed: u64,
    ) -> Result<Self> {
        let (numbers, count) = {
            let schedule = Schedule::new(&dag, order, Par::seq())?;
            let count = schedule.count(memory, super::Policy::Belady, model, Par::seq())?;
            (schedule.numbers(), count)
        };
        let (random, cost) = (Random::new(seed), count.loads + count.stores);
        let best = (numbers.order().to_vec(), count);
        Ok(Self { dag, memory, model, random, budget, evaluations: 0, numbers, cost, best })
    }

    /// Looks at up to `evaluations` more orders; is there any of the budget left?
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`]; what has been found stays.
    pub fn advance(&mut self, evaluations: u64, par: Par) -> Result<bool> {
        on_this_thread(par, |pulse| {
            for _ in 0..evaluations.min(self.budget - self.evaluations) {
                self.evaluations += 1;
                self.attempt(pulse)?;
            }
            Ok(self.evaluations < self.budget)
        })
    }

    /// The best order so far, and what it costs.
    pub fn best(&self) -> (&[u32], Count) {
        (&self.best.0, self.best.1)
    }

    /// Orders looked at.
    pub fn evaluations(&self) -> u64 {
        self.evaluations
    }

    fn attempt(&mut self, pulse: &Pulse) -> Result<()> {
        let Some(undo) = self.numbers.change(&self.dag, &mut self.random) else { return Ok(()) };
        // What the order may cost to be kept.
        let leeway = -self.temperature() * self.random.unit().max(f64::MIN_POSITIVE).ln();
        let limit = self.cost + leeway as u64;
        match self.count(limit, pulse) {
            Ok(count) if count.loads + count.stores <= limit => {
                self.cost = count.loads + count.stores;
                if self.cost < self.best.1.loads + self.best.1.stores {
                    self.best = (self.numbers.order().to_vec(), count);
                }
                Ok(())
            }
            Err(Error::Stopped) => Err(Error::Stopped),
            // A memory may be too small for one order and enough for another, where pebbles are recoloured.
            Ok(_) | Err(_) => {
                self.numbers.restore(&undo);
                Ok(())
            }
        }
    }

    /// What the order costs, or something above the limit.
    fn count(&self, limit: u64, pulse: &Pulse) -> Result<Count> {
        let schedule = Schedule::link(&self.dag, self.numbers.clone(), pulse)?;
        let rule = Belady::<1>::new(schedule.next.len());
        let engine = Engine::new((&schedule, self.memory, self.model), rule, ());
        Ok(engine.run_until(limit, pulse)?.0)
    }

    /// From half a word to a tenth: with more, large graphs lose what they have.
    fn temperature(&self) -> f64 {
        0.1 + 0.4 * (1.0 - self.evaluations as f64 / self.budget as f64)
    }
}
