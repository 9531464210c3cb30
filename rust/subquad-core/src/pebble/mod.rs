//! Red-blue pebbling: how many words must move between a small fast memory and a large slow one?
//!
//! A [`Dag`] is a computation: a vertex is a value, and its predecessors are what it is computed from.
//! A red pebble says that a value is in fast memory, which holds M words, a blue one that it is in slow
//! memory, which has no limit. Sources begin blue, outputs must end blue, and the cost of a play is the words loaded and
//! stored (Hong and Kung 1981). Variants of the game have different optima; so every number comes with its [`Model`].
//!
//! | question | entry point |
//! |---|---|
//! | is this play legal, and what does it cost? | [`play`] |
//! | what does the best play cost? | [`Search`] |
//! | which computation, in which order? | [`Family`], [`Order`] |
//! | what does an order cost? | [`simulate`] |
//! | what does attention move, by which schedule? | [`attention`] |
//! | what does a cache move? | [`replay`] |

pub mod attention;
mod bits;
mod dag;
mod game;
mod generators;
mod model;
mod moves;
mod optimal;
mod random;
pub mod replay;
pub mod simulate;

pub use dag::Dag;
pub use game::{Count, Illegal, Rule, Verdict, play};
pub use generators::{Family, Form, Order, Softmax};
pub use model::{Model, Outputs, Sources};
pub use moves::{Move, Op};
pub use optimal::{Cost, Progress, Search, Status};
