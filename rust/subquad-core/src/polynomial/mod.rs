//! Polynomials of inner products as inner products of features.
//!
//! `p(x . y)` is a sum over [`Monomials`] of x times the same of y; so sums over tokens are taken once,
//! feature by feature, in time and memory linear in the number of tokens.

mod derive;
mod features;
#[cfg(target_arch = "x86_64")]
mod half;
mod monomials;
mod passes;
mod products;
mod state;
mod words;
mod workspace;

pub(crate) use derive::{derive, derive_apart};
pub(crate) use features::{BLOCK, TILE};
#[cfg(target_arch = "x86_64")]
pub(crate) use half::Half;
pub use monomials::{Monomials, features};
pub(crate) use passes::{Passes, Single};
pub(crate) use products::over_columns;
pub(crate) use state::{ROWS as SPARE, State, absorb, absorb_twice, read};
pub(crate) use workspace::Workspace;
