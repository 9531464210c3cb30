//! All families, what their members cost, and the choice among them.

use super::family::Family;
use super::fault::Step;
use super::flash_1::Flash1;
use super::flash_2::Flash2;
use super::four_phase::FourPhase;
use super::grad_rectangular::GradRectangular;
use super::grad_row_resident::GradRowResident;
use super::loss_large_cache::LossLargeCache;
use super::loss_small_cache::LossSmallCache;
use super::memory::Memory;
use super::naive::Naive;
use super::one_pass::OnePass;
use super::planner::{Axes, Search};
use super::problem::{Problem, Traffic};
use super::rectangular::Rectangular;
use super::row_resident::RowResident;
use super::run::Arrays;
use super::square::Square;
use super::stored_slopes::StoredSlopes;
use super::two_pass::TwoPass;
use super::words::Widths;

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
                    least = least.min(Self::$name($family::SMALLEST).peak(p, widths));
                })*
                least
            }

            pub(super) fn run<const DATA: bool>(
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
