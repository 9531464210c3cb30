//! Polynomials of inner products as inner products of features.
//!
//! `p(x . y)` is a sum over [`Monomials`] of x times the same of y; so sums over tokens are taken once,
//! feature by feature, in time and memory linear in the number of tokens.

mod derive;
mod features;
mod monomials;
mod state;
mod words;

pub(crate) use derive::{derive, derive_apart};
pub(crate) use features::{BLOCK, TILE};
pub use monomials::{Monomials, features};
pub(crate) use state::{ROWS as SPARE, State, Workspace, absorb, absorb_twice, over_columns, read};
