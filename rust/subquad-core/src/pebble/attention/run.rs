//! Executing schedules: without data, with data, and on a machine with a cache.

use super::super::replay::{Cache, Replacement, Trace, replay};
use super::fault::Step;
use super::memory::{Counts, Memory};
use super::operands::{Backward, Forward, Loss};
use super::problem::{Problem, Traffic};
use super::schedule::{Direction, Schedule};
use super::words::{Class, Widths};
use crate::{Error, Par, Result};

/// The values of arrays, rows one after the other.
pub type Values = Vec<Vec<f64>>;

/// The arrays of a direction.
pub(super) enum Arrays {
    Forward(Forward),
    Backward(Backward),
    Loss(Loss),
}

macro_rules! arrays_of {
    ($($direction:ident)*) => {
        $(impl From<&Arrays> for $direction {
            fn from(arrays: &Arrays) -> Self {
                match arrays {
                    Arrays::$direction(arrays) => *arrays,
                    _ => unreachable!("arrays are made for the direction"),
                }
            }
        })*
    };
}

arrays_of!(Forward Backward Loss);

impl Schedule {
    /// What an execution counts, by closed forms; steps are not counted.
    pub fn predict(&self, p: &Problem, widths: Widths) -> Counts {
        let Traffic { loads, stores } = self.traffic(p);
        let (flops, workspace) = (self.flops(p), self.workspace(p));
        Counts { loads, stores, peak: self.peak(p, widths), flops, workspace, steps: 0 }
    }

    /// Executes without data, and counts.
    ///
    /// The inner result is a [`Fault`](super::Fault) if `memory` is less than its peak.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    pub fn count(
        &self,
        p: &Problem,
        memory: u64,
        widths: Widths,
        par: Par,
    ) -> Result<Step<Counts>> {
        alone(par, |stop| {
            let mut memory = Memory::<false>::new(memory, widths, stop);
            let arrays = self.arrays(p, &mut memory, &[]);
            self.run(p, &mut memory, &arrays)?;
            memory.end()
        })
    }

    /// Executes on the arrays of [`Direction::inputs`], and returns `out` and `lse`, which is none where a schedule
    /// does not make it; or the gradients of query, key and value; or the gradient of X.
    ///
    /// # Errors
    ///
    /// As [`count`](Self::count).
    ///
    /// # Panics
    ///
    /// If an array has not as many words as it should.
    pub fn execute(
        &self,
        p: &Problem,
        memory: u64,
        widths: Widths,
        inputs: &[&[f64]],
        par: Par,
    ) -> Result<Step<(Counts, Values)>> {
        alone(par, |stop| {
            let mut memory = Memory::<true>::new(memory, widths, stop);
            let arrays = self.arrays(p, &mut memory, inputs);
            self.run(p, &mut memory, &arrays)?;
            let outputs = match arrays {
                Arrays::Forward(a) => match self {
                    Self::Naive(_) | Self::Flash1(_) => vec![a.out],
                    _ => vec![a.out, a.lse],
                },
                Arrays::Backward(a) => vec![a.grad_query, a.grad_key, a.grad_value],
                Arrays::Loss(a) => vec![a.grad_x],
            };
            let values = outputs.into_iter().map(|array| memory.values(array).map(<[f64]>::to_vec));
            let values = values.collect::<Step<Values>>()?;
            Ok((memory.end()?, values))
        })
    }

    /// Words that a cache of least recently used lines moves when the schedule runs on a machine that has such a cache
    /// instead of a fast memory of its own.
    ///
    /// # Errors
    ///
    /// [`Error::TooSmall`] for a cache of less than a line, [`Error::Domain`] for a line that is no power of two,
    /// [`Error::Stopped`].
    pub fn replay(&self, p: &Problem, words: u64, line: u64, ways: usize, par: Par) -> Result<u64> {
        let recorded = alone(par, |stop| {
            let mut memory = Memory::<false>::new(u64::MAX, Widths::WORDS, stop).record(line);
            let arrays = self.arrays(p, &mut memory, &[]);
            self.run(p, &mut memory, &arrays)?;
            memory.end()?;
            Ok(memory.recorded())
        })?;
        let (tape, outputs) = recorded.ok().flatten().ok_or(Error::Stopped)?;
        let trace = Trace::new(&tape.addresses, Some(&tape.writes))?;
        let replacement = Replacement::SetAssociative { ways };
        let cache = Cache { line, live_out: Some(outputs), replacement, ..Cache::lru(words) };
        Ok(replay(&trace, &cache, par)?.words())
    }

    fn arrays<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        inputs: &[&[f64]],
    ) -> Arrays {
        let direction = self.direction();
        let shapes = direction.inputs(p);
        let input = |m: &mut Memory<DATA>, name, i: usize| {
            let class = if name == "lse" { Class::Statistic } else { Class::Operand };
            m.input(name, shapes[i], class, inputs.get(i).copied().unwrap_or_default())
        };
        let (of_rows, of_keys) = ((p.rows(), p.width), (p.keys(), p.width));
        match direction {
            Direction::Forward => Arrays::Forward(Forward {
                query: input(m, "query", 0),
                key: input(m, "key", 1),
                value: input(m, "value", 2),
                out: m.output("out", of_rows, Class::Operand),
                lse: m.output("lse", (p.rows(), 1), Class::Statistic),
            }),
            Direction::Backward => Arrays::Backward(Backward {
                query: input(m, "query", 0),
                key: input(m, "key", 1),
                value: input(m, "value", 2),
                out: input(m, "out", 3),
                lse: input(m, "lse", 4),
                grad_out: input(m, "grad_out", 5),
                grad_query: m.output("grad_query", of_rows, Class::Operand),
                grad_key: m.output("grad_key", of_keys, Class::Operand),
                grad_value: m.output("grad_value", of_keys, Class::Operand),
            }),
            Direction::Loss => Arrays::Loss(Loss {
                a1: input(m, "A1", 0),
                x: input(m, "X", 1),
                a2: input(m, "A2", 2),
                a3: input(m, "A3", 3),
                y: input(m, "Y", 4),
                grad_out: input(m, "grad_out", 5),
                grad_x: m.output("grad_x", (p.width, p.width), Class::Operand),
            }),
        }
    }
}

/// Runs what cannot be cut into parts, and lets the caller stop it.
fn alone<T: Send + Sync>(
    par: Par,
    work: impl Fn(&dyn Fn() -> bool) -> Step<T> + Sync,
) -> Result<Step<T>> {
    let mut done = par.map(1, |_, pulse| work(&|| pulse.stopped()))?;
    done.pop().ok_or(Error::Stopped)
}
