//! Sums of features over blocks of tokens, each with several weights, and rows that are read from such sums.
//!
//! Whoever wants weights `w(i - j) p(s_ij)` of relative positions takes sums over blocks of keys, combines them
//! as the positions demand, and reads each block of queries from what it gets: all is linear. A token has K
//! weights, numbers of its own, so that a combination may be any sum of K products of such of a query and a key.

use crate::Result;
use crate::attention::{Compute, Stats};
use crate::mat::{MatCell, Rows};
use crate::par::Par;

mod abreast;
mod frame;
mod tasks;
mod visit;
mod work;

pub use frame::BlockScratch;
use frame::Terms;
use tasks::run;
pub use visit::Visit;
pub(in crate::attention) use visit::{visit_f32, visit_f64};
use work::Work;

/// Tokens of all heads, with several weights each.
#[derive(Clone, Copy, Debug)]
pub struct Weighed<'a> {
    /// `n x E`
    pub tokens: &'a [Rows<'a>],
    /// `K x n`
    pub weights: &'a [Rows<'a>],
    /// Tokens of a block; the last may have fewer.
    pub block: usize,
}

/// Sums for every head, block and weight, in this order: those of the values, and those of one.
#[derive(Clone, Copy, Debug)]
pub struct BlockSums<'a, M> {
    /// `r x Ev`
    pub sums: &'a [M],
    /// `r x 1`
    pub masses: &'a [M],
}

/// Where the gradients of tokens and weights of all heads are added.
#[derive(Clone, Copy, Debug)]
pub struct TokenGradients<'a, T> {
    /// `n x E`
    pub tokens: Option<&'a [MatCell<'a, T>]>,
    /// `K x n`
    pub weights: Option<&'a [MatCell<'a, T>]>,
}

/// Where the gradients of sums are added, if they are wanted.
pub type BlockGradients<'a, T> = Option<BlockSums<'a, MatCell<'a, T>>>;

/// Adds to sums of every block and weight those of its keys: with features phi of a key y, factors
/// `f_m = c_t scale^t t! / a!` and weights w, `f_m sum_j w_j phi_m(y_j) [v_j, 1]`.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape) if the shapes do not fit, [`Error::Domain`](crate::Error::Domain) for a
/// block of no tokens, tokens of no weight, outputs that are not contiguous along their last axis and degrees
/// beyond 64, [`Error::Memory`](crate::Error::Memory) if there are too many features,
/// [`Error::Stopped`](crate::Error::Stopped).
pub fn polynomial_block_sums<T: Compute>(
    keys: Weighed<'_>,
    values: &[Rows<'_>],
    (coefficients, scale): (&[f64], f64),
    to: BlockSums<'_, MatCell<'_, T>>,
    par: Par<'_>,
) -> Result<Stats> {
    let terms = Terms::Powers(coefficients, scale);
    let mut work = Work::new("key", keys, terms);
    work.values = Some(("value", values));
    work.own = Some([("sums", to.sums), ("masses", to.masses)]);
    run(&work, par)
}

/// Adds to rows and to their masses what the sums of their block say of them: with features phi of a query x and
/// weights w, `sum_k w_k sum_m phi_m(x) sums[k][m]`.
///
/// # Errors
///
/// As [`polynomial_block_sums`].
pub fn polynomial_block_rows<T: Compute>(
    queries: Weighed<'_>,
    from: BlockSums<'_, Rows<'_>>,
    degree: usize,
    (rows, masses): (&[MatCell<'_, T>], &[MatCell<'_, T>]),
    par: Par<'_>,
) -> Result<Stats> {
    let mut work = Work::new("query", queries, Terms::Plain(degree));
    work.given = Some([("sums", from.sums), ("masses", from.masses)]);
    (work.rows, work.row_masses) = (Some(("rows", rows)), Some(("row_masses", masses)));
    run(&work, par)
}

/// Adds the vector-Jacobian products of [`polynomial_block_rows`] with the gradients of rows, `L x Ev`, and of
/// their masses, `L x 1`.
///
/// # Errors
///
/// As [`polynomial_block_sums`].
pub fn polynomial_block_rows_grad<T: Compute>(
    (grad_rows, grad_masses): (&[Rows<'_>], &[Rows<'_>]),
    queries: Weighed<'_>,
    from: BlockSums<'_, Rows<'_>>,
    degree: usize,
    (to, to_sums): (TokenGradients<'_, T>, BlockGradients<'_, T>),
    par: Par<'_>,
) -> Result<Stats> {
    let mut work = Work::new("query", queries, Terms::Plain(degree));
    work.values = Some(("grad_rows", grad_rows));
    work.masses = Some(("grad_row_masses", grad_masses));
    work.given = Some([("sums", from.sums), ("masses", from.masses)]);
    work.tokens_to = to.tokens.map(|cells| ("grad_query", cells));
    work.weights_to = to.weights.map(|cells| ("grad_weights", cells));
    work.own = to_sums.map(|to| [("grad_sums", to.sums), ("grad_masses", to.masses)]);
    run(&work, par)
}

/// Adds the vector-Jacobian products of [`polynomial_block_sums`] with the gradients of its sums; those of the
/// values are `S x Ev`.
///
/// # Errors
///
/// As [`polynomial_block_sums`].
pub fn polynomial_block_sums_grad<T: Compute>(
    grad: BlockSums<'_, Rows<'_>>,
    keys: Weighed<'_>,
    values: &[Rows<'_>],
    (coefficients, scale): (&[f64], f64),
    (to, to_values): (TokenGradients<'_, T>, Option<&[MatCell<'_, T>]>),
    par: Par<'_>,
) -> Result<Stats> {
    let terms = Terms::Powers(coefficients, scale);
    let mut work = Work::new("key", keys, terms);
    work.values = Some(("value", values));
    work.given = Some([("grad_sums", grad.sums), ("grad_masses", grad.masses)]);
    work.rows = to_values.map(|cells| ("grad_value", cells));
    work.tokens_to = to.tokens.map(|cells| ("grad_key", cells));
    work.weights_to = to.weights.map(|cells| ("grad_weights", cells));
    run(&work, par)
}

#[cfg(test)]
mod tests;
