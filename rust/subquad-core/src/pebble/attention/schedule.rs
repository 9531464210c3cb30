//! All families, what their members cost, and the choice among them.

use super::super::replay::{Cache, Replacement, Trace, replay};
use super::family::Family;
use super::fault::Step;
use super::flash_1::Flash1;
use super::flash_2::Flash2;
use super::four_phase::FourPhase;
use super::grad_rectangular::GradRectangular;
use super::grad_row_resident::GradRowResident;
use super::loss_large_cache::LossLargeCache;
use super::loss_small_cache::LossSmallCache;
use super::memory::{Counts, Memory};
use super::naive::Naive;
use super::one_pass::OnePass;
use super::planner::{Axes, Search};
use super::problem::{Backward, Forward, Loss, Problem, Traffic};
use super::rectangular::Rectangular;
use super::row_resident::RowResident;
use super::square::Square;
use super::stored_slopes::StoredSlopes;
use super::two_pass::TwoPass;
use super::words::{Class, Widths};
use crate::{Error, Par, Result};

/// Which way: outputs, or gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `out = softmax(scale query key^t) value`, and the logarithms of the sums of exponentials.
    Forward,
    /// The gradients of query, key and value.
    Backward,
    /// The gradient of the attention loss of arXiv:2410.09397 with respect to X; see [`LossSmallCache`].
    Loss,
}

impl Direction {
    /// The shapes of what is given: query, key, value; backward also out, lse and `grad_out`; for the loss A1, X, A2, A3, Y
    /// and `grad_out`.
    pub fn inputs(self, p: &Problem) -> Vec<(usize, usize)> {
        let (of_rows, of_keys, d) = ((p.rows(), p.width), (p.keys(), p.width), p.width);
        match self {
            Self::Forward => vec![of_rows, of_keys, of_keys],
            Self::Backward => vec![of_rows, of_keys, of_keys, of_rows, (p.rows(), 1), of_rows],
            Self::Loss => vec![of_rows, (d, d), of_keys, of_keys, (d, d), of_rows],
        }
    }
}

/// The values of arrays, rows one after the other.
pub type Values = Vec<Vec<f64>>;

macro_rules! schedules {
    ($($(#[$doc:meta])* $name:ident($family:ident, $direction:ident, $text:literal),)*) => {
        /// A schedule: a family and the sizes of its blocks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Schedule {
            $($(#[$doc])* $name($family),)*
        }

        impl Schedule {
            /// The name of the family.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$name(_) => $text,)* }
            }

            /// What it computes.
            pub fn direction(&self) -> Direction {
                match self { $(Self::$name(_) => Direction::$direction,)* }
            }

            /// Names of the sizes of blocks, and the sizes.
            pub fn blocks(&self) -> Vec<(&'static str, usize)> {
                match self {
                    $(Self::$name(x) => $family::BLOCKS.iter().copied().zip(x.blocks()).collect(),)*
                }
            }

            /// A member of a family; none if there is no such family, or its blocks have not as many sizes.
            pub fn new(name: &str, direction: Direction, sizes: &[usize]) -> Option<Self> {
                match (name, direction) {
                    $(($text, Direction::$direction) => $family::from_blocks(sizes).map(Self::$name),)*
                    _ => None,
                }
            }

            /// Words moved: closed forms.
            pub fn traffic(&self, p: &Problem) -> Traffic {
                match self { $(Self::$name(x) => x.traffic(p),)* }
            }

            /// The most that is in fast memory at a time.
            pub fn peak(&self, p: &Problem, widths: Widths) -> u64 {
                let moments = match self { $(Self::$name(x) => x.moments(p),)* };
                moments.into_iter().map(|words| widths.size(words)).max().unwrap_or(0)
            }

            /// Multiplications and additions of products of matrices.
            pub fn flops(&self, p: &Problem) -> u64 {
                match self { $(Self::$name(x) => x.flops(p),)* }
            }

            /// The most words of slow memory in use beyond inputs and outputs.
            pub fn workspace(&self, p: &Problem) -> u64 {
                match self { $(Self::$name(x) => x.workspace(p),)* }
            }

            /// For each family of a direction its name, and the member that moves least in this memory, if any fits.
            pub fn families(
                search: &Search,
                direction: Direction,
            ) -> Vec<(&'static str, Option<Self>)> {
                let mut found = Vec::new();
                $(if direction == Direction::$direction {
                    found.push(($text, $family::best(search).map(Self::$name)));
                })*
                found
            }

            /// The least memory in which some schedule of a direction fits.
            pub fn least_memory(p: &Problem, widths: Widths, direction: Direction) -> u64 {
                let mut least = u64::MAX;
                $(if direction == Direction::$direction {
                    least = least.min(Self::$name($family::smallest(p)).peak(p, widths));
                })*
                least
            }

            fn run<const DATA: bool>(
                &self,
                p: &Problem,
                m: &mut Memory<DATA>,
                arrays: &Arrays,
            ) -> Step {
                match self { $(Self::$name(x) => x.execute(p, m, arrays.into()),)* }
            }
        }
    };
}

schedules! {
    /// See [`Flash2`].
    Flash2(Flash2, Forward, "flash-2"),
    /// See [`RowResident`].
    RowResident(RowResident, Forward, "row-resident"),
    /// See [`Rectangular`].
    Rectangular(Rectangular, Forward, "rectangular"),
    /// See [`Square`].
    Square(Square, Forward, "square"),
    /// See [`Flash1`].
    Flash1(Flash1, Forward, "flash-1"),
    /// See [`Naive`].
    Naive(Naive, Forward, "naive"),
    /// See [`TwoPass`].
    TwoPass(TwoPass, Backward, "two-pass"),
    /// See [`OnePass`].
    OnePass(OnePass, Backward, "one-pass"),
    /// See [`StoredSlopes`].
    StoredSlopes(StoredSlopes, Backward, "stored-slopes"),
    /// See [`GradRowResident`].
    GradRowResident(GradRowResident, Backward, "row-resident"),
    /// See [`GradRectangular`].
    GradRectangular(GradRectangular, Backward, "rectangular"),
    /// See [`FourPhase`].
    FourPhase(FourPhase, Backward, "four-phase"),
    /// See [`LossLargeCache`].
    LossLargeCache(LossLargeCache, Loss, "large-cache"),
    /// See [`LossSmallCache`].
    LossSmallCache(LossSmallCache, Loss, "small-cache"),
}

/// The arrays of a direction.
enum Arrays {
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

/// The best member of each family for several sizes of memory.
pub fn plans(
    p: &Problem,
    memories: &[u64],
    widths: Widths,
    direction: Direction,
) -> Vec<Vec<(&'static str, Option<Schedule>)>> {
    let axes = Axes::new(p);
    let search = |&memory| Schedule::families(&Search::new(p, &axes, memory, widths), direction);
    memories.iter().map(search).collect()
}
