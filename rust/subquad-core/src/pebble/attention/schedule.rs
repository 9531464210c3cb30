//! All families, what their members cost, and the choice among them.

use super::family::Family;
use super::flash_1::Flash1;
use super::flash_2::Flash2;
use super::four_phase::FourPhase;
use super::grad_rectangular::GradRectangular;
use super::grad_row_resident::GradRowResident;
use super::memory::{Counts, Memory, Step};
use super::naive::Naive;
use super::one_pass::OnePass;
use super::planner::{Axes, Search};
use super::problem::{Backward, Forward, Problem, Traffic};
use super::rectangular::Rectangular;
use super::row_resident::RowResident;
use super::square::Square;
use super::stored_slopes::StoredSlopes;
use super::two_pass::TwoPass;
use super::words::{Class, Widths};

/// Which way: outputs, or gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `out = softmax(scale query key^t) value`, and the logarithms of the sums of exponentials.
    Forward,
    /// The gradients of query, key and value.
    Backward,
}

impl Direction {
    /// What is given, by name, each with its columns of `width`.
    pub fn inputs(self) -> &'static [&'static str] {
        match self {
            Self::Forward => &["query", "key", "value"],
            Self::Backward => &["query", "key", "value", "out", "lse", "grad_out"],
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
}

/// The arrays of a direction.
enum Arrays {
    Forward(Forward),
    Backward(Backward),
}

impl From<&Arrays> for Forward {
    fn from(arrays: &Arrays) -> Self {
        match arrays {
            Arrays::Forward(arrays) => *arrays,
            Arrays::Backward(_) => unreachable!("arrays are made for the direction"),
        }
    }
}

impl From<&Arrays> for Backward {
    fn from(arrays: &Arrays) -> Self {
        match arrays {
            Arrays::Backward(arrays) => *arrays,
            Arrays::Forward(_) => unreachable!("arrays are made for the direction"),
        }
    }
}

impl Schedule {
    /// Executes without data, and counts. `stop` is asked now and then.
    ///
    /// # Errors
    ///
    /// [`Fault::Full`](super::Fault::Full) if `memory` is less than its peak; [`Fault::Stopped`](super::Fault::Stopped).
    pub fn count(
        &self,
        p: &Problem,
        memory: u64,
        widths: Widths,
        stop: &dyn Fn() -> bool,
    ) -> Step<Counts> {
        let mut memory = Memory::<false>::new(memory, widths, stop);
        let arrays = self.arrays(p, &mut memory, &[]);
        self.run(p, &mut memory, &arrays)?;
        memory.end()
    }

    /// Executes on the arrays of [`Direction::inputs`], and returns `out` and `lse`, which is none where a schedule
    /// does not make it; or the gradients of query, key and value.
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
        inputs: &[Vec<f64>],
        stop: &dyn Fn() -> bool,
    ) -> Step<(Counts, Values)> {
        let mut memory = Memory::<true>::new(memory, widths, stop);
        let arrays = self.arrays(p, &mut memory, inputs);
        self.run(p, &mut memory, &arrays)?;
        let outputs = match arrays {
            Arrays::Forward(a) => vec![a.out, a.lse],
            Arrays::Backward(a) => vec![a.grad_query, a.grad_key, a.grad_value],
        };
        let without_lse = matches!(self, Self::Naive(_) | Self::Flash1(_));
        let outputs = outputs.into_iter().enumerate().map(|(i, array)| {
            if i == 1 && without_lse { Ok(Vec::new()) } else { memory.values(array).map(<[f64]>::to_vec) }
        });
        let outputs = outputs.collect::<Step<Values>>()?;
        Ok((memory.end()?, outputs))
    }

    fn arrays<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        inputs: &[Vec<f64>],
    ) -> Arrays {
        let (of_rows, of_keys) = ((p.rows(), p.width), (p.keys(), p.width));
        let given = |i: usize| inputs.get(i).map_or(&[][..], Vec::as_slice);
        let operand = Class::Operand;
        let query = m.input("query", of_rows, operand, given(0));
        let key = m.input("key", of_keys, operand, given(1));
        let value = m.input("value", of_keys, operand, given(2));
        let of_row = (p.rows(), 1);
        match self.direction() {
            Direction::Forward => {
                let out = m.output("out", of_rows, operand);
                let lse = m.output("lse", of_row, Class::Statistic);
                Arrays::Forward(Forward { query, key, value, out, lse })
            }
            Direction::Backward => Arrays::Backward(Backward {
                query,
                key,
                value,
                out: m.input("out", of_rows, operand, given(3)),
                lse: m.input("lse", of_row, Class::Statistic, given(4)),
                grad_out: m.input("grad_out", of_rows, operand, given(5)),
                grad_query: m.output("grad_query", of_rows, operand),
                grad_key: m.output("grad_key", of_keys, operand),
                grad_value: m.output("grad_value", of_keys, operand),
            }),
        }
    }
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
