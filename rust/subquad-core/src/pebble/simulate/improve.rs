//! A better order, by small changes.
//!
//! A vertex, or a block of neighbours in the order, moves to another place that its operands and users allow; the
//! change is kept if it costs no more, and sometimes if it does, ever more rarely (simulated annealing). Every
//! order on the way is legal, and the best one is kept. A search without guarantee: what it finds is an upper bound.

use std::sync::Arc;

use super::super::random::Random;
use super::super::{Count, Dag, Model};
use super::engine::Engine;
use super::on_this_thread;
use super::rules::Belady;
use super::schedule::{Numbers, Schedule};
use crate::par::Pulse;
use crate::{Par, Result};

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
    /// [`Error::Stopped`](crate::Error::Stopped); what has been found stays.
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
        let Some((first, length, to)) = self.draw() else { return Ok(()) };
        self.shift(first, length, to);
        let count = self.count(pulse);
        let accepted = count.as_ref().is_ok_and(|count| {
            let cost = count.loads + count.stores;
            let worse = cost as f64 - self.cost as f64;
            worse <= 0.0 || self.random.unit() < (-worse / self.temperature()).exp()
        });
        if !accepted {
            self.shift(to, length, first);
            // No memory is too small for one order and enough for another but where pebbles are recoloured.
            return match count {
                Err(crate::Error::Stopped) => Err(crate::Error::Stopped),
                _ => Ok(()),
            };
        }
        let count = count?;
        self.cost = count.loads + count.stores;
        if self.cost < self.best.1.loads + self.best.1.stores {
            self.best = (self.numbers.order().to_vec(), count);
        }
        Ok(())
    }

    fn count(&self, pulse: &Pulse) -> Result<Count> {
        let schedule = Schedule::link(&self.dag, self.numbers.clone(), pulse)?;
        let rule = Belady::<1>::new(schedule.next.len());
        Ok(Engine::new((&schedule, self.memory, self.model), rule, ()).run(pulse)?.0)
    }

    /// From 2 words to nearly none.
    fn temperature(&self) -> f64 {
        0.05 + 2.0 * (1.0 - self.evaluations as f64 / self.budget as f64)
    }

    /// A block of the order, and where it may go: half of them one vertex, the others up to a quarter of all.
    fn draw(&mut self) -> Option<(usize, usize, usize)> {
        let steps = self.numbers.order().len();
        let first = self.random.below(steps);
        let length = if self.random.below(2) == 0 {
            1
        } else {
            // Short ones are as frequent as long ones.
            let most = (steps / 4).max(2).ilog2() + 1;
            let scale = self.random.below(most as usize);
            self.random.below(2 << scale) + 1
        };
        let last = (first + length).min(steps);
        let (lowest, highest) = self.window(first, last);
        let length = last - first;
        let places = highest - length - lowest;
        if places == 0 {
            return None;
        }
        let drawn = lowest + self.random.below(places);
        Some((first, length, drawn + usize::from(drawn >= first)))
    }

    /// The places between the last operand of a block and its first user.
    fn window(&self, first: usize, last: usize) -> (usize, usize) {
        let (mut lowest, mut highest) = (0, self.numbers.order().len());
        for &v in &self.numbers.order()[first..last] {
            for &u in self.dag.preds(v) {
                let place = self.numbers.values[u as usize] as usize;
                if place < first {
                    lowest = lowest.max(place + 1);
                }
            }
            for &w in self.dag.succs(v) {
                let place = self.numbers.values[w as usize] as usize;
                if place >= last {
                    highest = highest.min(place);
                }
            }
        }
        (lowest, highest)
    }

    /// Moves a block, so that it begins at `to`.
    fn shift(&mut self, first: usize, length: usize, to: usize) {
        let changed = first.min(to)..(first.max(to) + length);
        let Numbers { values, vertices, .. } = &mut self.numbers;
        if to < first {
            vertices[changed.clone()].rotate_right(length);
        } else {
            vertices[changed.clone()].rotate_left(length);
        }
        for place in changed {
            values[vertices[place] as usize] = place as u32;
        }
    }
}
