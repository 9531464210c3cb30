//! How many words does attention move between a fast memory and a slow one?
//!
//! A [`Schedule`] is a loop nest with sizes of blocks. It is executed against a [`Memory`] that refuses what does not fit, with data or
//! without; what it moves is also a closed form of the sizes, and [`plans`] finds the sizes that move least.
//!
//! n rows, n keys, width d, M words; to leading order in n^2:
//!
//! | forward | words / n^2 | | backward | words / n^2 |
//! |---|---|---|---|---|
//! | [`Flash2`] | 4 d^2 / M | | [`TwoPass`] | 14 d^2 / M |
//! | [`Flash1`] | 6 d^2 / M | | [`OnePass`] | 16 d^2 / M |
//! | [`RowResident`] | 2 d^2 / M + 2 | | [`StoredSlopes`] | 9 d^2 / M + 2 |
//! | | | | [`GradRowResident`] | 5 d^2 / M + 5 |
//! | [`Rectangular`], [`Square`] | 4 d / sqrt(M) + 1 | | [`GradRectangular`], [`FourPhase`] | 10 d / sqrt(M) + 3 |
//! | [`Naive`] | 3 d / sqrt(M) + 3 to 5 | | | |
//!
//! What decides is how often an array passes by. A pass in which k arrays share the memory, so that a panel is M / kd rows high,
//! and l arrays pass by, moves k l n^2 d^2 / M words; every array of rows by keys that is written or read adds n^2.

mod dense_product;
mod family;
mod fault;
mod flash_1;
mod flash_2;
mod four_phase;
mod grad_rectangular;
mod grad_row_resident;
mod key_panels;
mod loss_large_cache;
mod loss_small_cache;
mod memory;
mod naive;
mod one_pass;
mod operands;
mod phases;
mod planner;
mod problem;
mod rectangular;
mod row_resident;
mod run;
mod schedule;
mod scores;
mod slow;
mod softmax;
mod square;
mod stored_slopes;
mod stored_weights;
mod tape;
mod tile;
mod two_pass;
mod unfused;
mod visible;
mod visit;
mod words;

#[cfg(test)]
mod tests;

pub use fault::Fault;
pub use flash_1::Flash1;
pub use flash_2::Flash2;
pub use four_phase::FourPhase;
pub use grad_rectangular::GradRectangular;
pub use grad_row_resident::GradRowResident;
pub use loss_large_cache::LossLargeCache;
pub use loss_small_cache::LossSmallCache;
pub use memory::{Counts, Memory};
pub use naive::Naive;
pub use one_pass::OnePass;
pub use phases::Product;
pub use planner::{Axes, Search};
pub use problem::{Problem, Traffic};
pub use rectangular::Rectangular;
pub use row_resident::RowResident;
pub use run::Values;
pub use schedule::{Direction, Schedule, plans};
pub use scores::{ResidentRows, ScoreBlocks};
pub use square::Square;
pub use stored_slopes::StoredSlopes;
pub use tile::Tile;
pub use two_pass::TwoPass;
pub use visible::{Look, Mask, Visible};
pub use words::{Class, Widths, Words};
