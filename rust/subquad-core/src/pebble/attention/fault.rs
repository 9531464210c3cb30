//! Why a schedule cannot be executed.

use std::fmt;

/// Why a schedule cannot be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Fast memory is too small.
    Full {
        /// What would be in it.
        needed: u64,
        /// What fits.
        capacity: u64,
    },
    /// A word is loaded that was never stored, or was given up.
    Undefined {
        /// Name of the array.
        array: &'static str,
        /// Where in it.
        row: usize,
        /// See `row`.
        column: usize,
    },
    /// A word of scratch is stored anew while its value is still to be read.
    Overwritten {
        /// Name of the array.
        array: &'static str,
    },
    /// The words that a step moves are not as many as it counts.
    Miscounted {
        /// Name of the array.
        array: &'static str,
        /// What is counted.
        counted: u64,
        /// What is moved.
        moved: u64,
    },
    /// Something is left in fast memory, or in scratch, at the end.
    Left {
        /// Fast and slow words.
        words: u64,
    },
    /// The caller asked to stop.
    Stopped,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { needed, capacity } => {
                write!(f, "fast memory would hold {needed}, and {capacity} fit")
            }
            Self::Undefined { array, row, column } => {
                write!(f, "{array}[{row}, {column}] is loaded, but not defined")
            }
            Self::Overwritten { array } => write!(f, "a word of {array} is overwritten"),
            Self::Miscounted { array, counted, moved } => {
                write!(f, "{counted} words of {array} are counted, and {moved} moved")
            }
            Self::Left { words } => write!(f, "{words} words are left at the end"),
            Self::Stopped => write!(f, "stopped"),
        }
    }
}

impl std::error::Error for Fault {}

/// The outcome of a step.
pub type Step<T = ()> = Result<T, Fault>;
