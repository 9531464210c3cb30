//! Fast Fourier transforms of many columns at once, and the convolutions that they are for.
//!
//! A lane of a vector is a column, or two: as weights are real, a column in the real parts and another in the
//! imaginary parts do not mix when both are convolved. So a *pack* is `2 N` real columns, its rows `N` real
//! parts followed by `N` imaginary parts, and no step of a transform moves numbers between lanes. The transform
//! of a pack leaves frequencies in the order in which decimation makes them, which its inverse undoes: nothing
//! is ever put in order.
//!
//! A convolution is one recursion: pass forward, convolve the four parts, pass backward. A part that fits into
//! a cache is loaded into it once. The first pass reads its rows from where they are and the last pass hands
//! them on, see `ends.rs`; both know how many rows there are, and the rest is zeros that nobody reads.
//!
//! Lengths are 2^a, 3 * 2^a and 5 * 2^a. Rounding errors are bounded in `theory/toeplitz.py`.

mod base;
mod ends;
mod kernel;
mod passes;
mod plan;
mod sequence;
#[cfg(test)]
mod tests;

pub(crate) use ends::{Given, Part, Scaled, Sum, Taken};
pub use kernel::Transform;
pub(crate) use kernel::{From, Job, To};
pub use plan::embedding_length;
pub(crate) use plan::{Plan, span};
pub(crate) use sequence::Sequence;
