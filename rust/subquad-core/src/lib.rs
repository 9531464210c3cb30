//! Attention with an error budget: kernels and data structures, free of Python.
//!
//! Everything takes views of memory that the caller owns ([`mat`]), parallelism as an argument
//! ([`Par`]) instead of global state, and picks its instruction set at run time ([`simd`]).
//!
//! | module | answers | entry point |
//! |---|---|---|
//! | [`attention`] | what is `softmax(scale Q K^T + bias) V`, and what are its gradients? | [`attention::forward`] |
//! | [`halfspace`] | which keys have a score `q . k` of at least b? | [`halfspace::Index`] |
//! | [`polynomial`] | what are the features of a polynomial of inner products? | [`polynomial::features`] |
//! | [`toeplitz`] | what is a product with a matrix of lags? | [`toeplitz::product`] |
//! | [`rope`] | what are rows turned by their positions? | [`rope::rotate`] |
//! | [`pebble`] | how many words must move between a small memory and a large one? | [`pebble::play`] |
//! | [`linalg`] | dense products, and transforms | [`linalg::gemm`] |

pub mod attention;
mod error;
pub mod halfspace;
pub mod limits;
pub mod linalg;
pub mod mat;
pub mod par;
pub mod pebble;
pub mod polynomial;
pub mod rope;
mod scratch;
pub mod simd;
pub mod toeplitz;

pub use error::{Error, Result};
pub use par::Par;
