//! What every family of schedules has.

use super::fault::Step;
use super::memory::Memory;
use super::operands::Operands;
use super::planner::Search;
use super::problem::{Problem, Traffic};
use super::words::Words;

/// A family of schedules: its members differ in the sizes of blocks alone.
pub(super) trait Family: Sized {
    /// The arrays that it works on.
    type Arrays: Operands;

    /// Products of matrices of which one factor, or the result, is an array of rows by keys.
    const PRODUCTS: u64;

    /// Words moved: a closed form, equal to what [`execute`](Self::execute) counts. With a mask, a sum over panels.
    fn traffic(&self, p: &Problem) -> Traffic;

    /// What is in fast memory at those moments at which most can be. With a mask that nobody sees through at a
    /// largest block, there may be less.
    fn moments(&self, p: &Problem) -> Vec<Words>;

    /// Multiplications and additions of products of matrices, for pairs that are seen.
    fn flops(&self, p: &Problem) -> u64 {
        Self::Arrays::flops(p) + 2 * Self::PRODUCTS * p.wide(p.visible.pairs())
    }

    /// The most words of slow memory in use beyond inputs and outputs.
    fn workspace(&self, p: &Problem) -> u64;

    /// Computes.
    fn execute<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: Self::Arrays,
    ) -> Step;

    /// The member that moves least, of those whose moments fit.
    fn best(search: &Search) -> Option<Self>;
}

/// Defines a family by the sizes of its blocks.
macro_rules! family {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $field:ident,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$doc])* pub $field: usize,)*
        }

        impl $name {
            /// Names of the sizes.
            pub const BLOCKS: &'static [&'static str] = &[$(stringify!($field)),*];

            /// The member that needs least memory.
            pub(super) const SMALLEST: Self = Self { $($field: 1),* };

            /// The sizes, in the order of their names.
            pub fn blocks(&self) -> Vec<usize> {
                vec![$(self.$field),*]
            }

            /// The member with these sizes, in the order of their names; none if they are not as many.
            pub fn from_blocks(sizes: &[usize]) -> Option<Self> {
                match *sizes {
                    [$($field),*] => Some(Self { $($field),* }),
                    _ => None,
                }
            }
        }
    };
}

pub(super) use family;
