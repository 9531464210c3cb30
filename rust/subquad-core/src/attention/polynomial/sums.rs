//! Sums with polynomial weights that nothing divides: linear in the values, and in a mass of every key.
//!
//! What is made of several polynomials, or of a division later on, begins with these. Nothing is taken off the
//! values, and no row is in doubt: each sum is within its rounding error.

use std::ops::Range;

use super::call::Call;
use super::slopes::Upstream;
use super::tasks::{Outcome, Scratch};
use super::{Polynomial, TILE};
use crate::attention::{Compute, Problem, Stats, check_distinct};
use crate::mat::{MatCell, Rows};
use crate::par::Par;
use crate::simd::Float;
use crate::{Error, Result};

/// Where the sums of a head go, `rows_i = sum_j p(s_ij) value_j` and `sums_i = sum_j p(s_ij) mass_j`.
#[derive(Clone, Copy, Debug)]
pub struct RowSums<'a, T> {
    /// `L x Ev`
    pub rows: MatCell<'a, T>,
    /// `L x 1`
    pub sums: MatCell<'a, T>,
}

impl<T: Float> RowSums<'_, T> {
    /// Copies a tile of rows of `columns` numbers, and their sums.
    ///
    /// # Safety
    ///
    /// No other task may write the rows.
    pub(super) unsafe fn store(
        &self,
        rows: Range<usize>,
        columns: usize,
        scratch: &mut Scratch<T>,
    ) {
        for (t, i) in rows.enumerate() {
            // SAFETY: the caller's promise.
            let (to, sum) = unsafe { (self.rows.row_mut(i), self.sums.row_mut(i)) };
            let row = &scratch.rows.slice(TILE * columns)[t * columns..];
            to.copy_from_slice(&row[..to.len()]);
            sum[0] = scratch.masses.slice(TILE)[t];
        }
    }
}

/// Where the gradients of the sums of a head are added.
#[derive(Clone, Copy, Debug)]
pub struct SumsGradients<'a, T> {
    /// `L x E`
    pub query: Option<MatCell<'a, T>>,
    /// `S x E`
    pub key: Option<MatCell<'a, T>>,
    /// `S x Ev`
    pub value: Option<MatCell<'a, T>>,
    /// `S x 1`
    pub masses: Option<MatCell<'a, T>>,
}

impl<T> SumsGradients<'_, T> {
    /// Is anything wanted that belongs to keys?
    pub(super) fn wants_keys(&self) -> bool {
        self.key.is_some() || self.value.is_some() || self.masses.is_some()
    }

    /// Where all of that is.
    pub(super) fn places_of_keys(&self) -> [Option<*mut T>; 3] {
        [&self.key, &self.value, &self.masses].map(|cell| cell.as_ref().map(|cell| cell.at(0, 0)))
    }
}

/// Computes `sum_j p(s_ij) value_j` and `sum_j p(s_ij) mass_j` over the keys that a query sees, for a polynomial
/// p and `s_ij = scale q_i . k_j`. `masses` are `S x 1` for every head.
///
/// # Errors
///
/// [`Error::Shape`] if the shapes do not fit, [`Error::Memory`] if there are too many features,
/// [`Error::Domain`] for a bivariate polynomial of too many leading coordinates, with terms that it does not
/// have, or where queries do not see every key; [`Error::Stopped`].
pub fn polynomial_sums<T: Compute>(
    problem: &Problem<'_>,
    masses: &[Rows<'_>],
    polynomial: Polynomial<'_>,
    outputs: &[RowSums<'_, T>],
    par: Par<'_>,
) -> Result<Stats> {
    let outcomes = outcomes(problem, masses, outputs)?;
    Call::new(problem, Some(masses), polynomial.trimmed(), par, 1)?.forward(&outcomes)
}

/// Where the sums go, if everything fits.
pub(super) fn outcomes<'a, T: Compute>(
    problem: &Problem<'_>,
    masses: &[Rows<'_>],
    outputs: &[RowSums<'a, T>],
) -> Result<Vec<Outcome<'a, T>>> {
    check_masses(problem, masses)?;
    Error::unless_equal("rows", "heads", problem.heads.len(), outputs.len())?;
    for (head, to) in problem.heads.iter().zip(outputs) {
        let l = head.query.rows();
        check("rows", (l, head.value.cols()), (to.rows.rows(), to.rows.cols()))?;
        check("sums", (l, 1), (to.sums.rows(), to.sums.cols()))?;
    }
    check_distinct("rows", outputs.iter().map(|to| &to.rows))?;
    check_distinct("sums", outputs.iter().map(|to| &to.sums))?;
    Ok(outputs.iter().map(|&to| Outcome::Sums(to)).collect())
}

/// Adds the gradients of [`polynomial_sums`] to those of every head: its exact vector-Jacobian product with
/// `grad_rows`, `L x Ev`, and `grad_sums`, `L x 1`.
///
/// Takes five passes over the features where [`polynomial_sums`] takes two.
///
/// # Errors
///
/// As [`polynomial_sums`].
pub fn polynomial_sums_grad<T: Compute>(
    problem: &Problem<'_>,
    masses: &[Rows<'_>],
    polynomial: Polynomial<'_>,
    (grad_rows, grad_sums): (&[Rows<'_>], &[Rows<'_>]),
    gradients: &[SumsGradients<'_, T>],
    par: Par<'_>,
) -> Result<Stats> {
    check_masses(problem, masses)?;
    let count = problem.heads.len();
    Error::unless_equal("grad_rows", "heads", count, grad_rows.len())?;
    Error::unless_equal("grad_sums", "heads", count, grad_sums.len())?;
    Error::unless_equal("gradients", "heads", count, gradients.len())?;
    for (h, head) in problem.heads.iter().enumerate() {
        let (l, s, to) = (head.query.rows(), head.key.rows(), &gradients[h]);
        let (e, ev) = (head.query.cols(), head.value.cols());
        check("grad_rows", (l, ev), (grad_rows[h].rows(), grad_rows[h].cols()))?;
        check("grad_sums", (l, 1), (grad_sums[h].rows(), grad_sums[h].cols()))?;
        for (name, cell, shape) in [
            ("grad_query", &to.query, (l, e)),
            ("grad_key", &to.key, (s, e)),
            ("grad_value", &to.value, (s, ev)),
            ("grad_masses", &to.masses, (s, 1)),
        ] {
            cell.as_ref().map_or(Ok(()), |cell| check(name, shape, (cell.rows(), cell.cols())))?;
        }
    }
    let pairs = grad_rows.iter().zip(grad_sums);
    let upstream: Vec<_> =
        pairs.map(|(&rows, &sums)| Upstream { rows, sums: Some(sums) }).collect();
    Call::new(problem, Some(masses), polynomial.trimmed(), par, 3)?
        .backward(&upstream, gradients, None)
}

fn check_masses(problem: &Problem<'_>, masses: &[Rows<'_>]) -> Result<()> {
    Error::unless_equal("masses", "heads", problem.heads.len(), masses.len())?;
    let mut pairs = problem.heads.iter().zip(masses);
    pairs.try_for_each(|(head, masses)| {
        check("masses", (head.key.rows(), 1), (masses.rows(), masses.cols()))
    })
}

fn check(name: &'static str, expected: (usize, usize), found: (usize, usize)) -> Result<()> {
    Error::unless_equal(name, "rows", expected.0, found.0)?;
    Error::unless_equal(name, "columns", expected.1, found.1)
}

#[cfg(test)]
mod tests;
