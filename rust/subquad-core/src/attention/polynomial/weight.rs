//! The polynomial that makes a weight of a logit, or of the two parts of one.

use crate::attention::Visible;
use crate::mat::MatRef;
use crate::polynomial::Monomials;
use crate::{Error, Result};

/// The weight of a pair of tokens, whose logit is `s = scale q . k`.
#[derive(Clone, Copy, Debug)]
pub enum Polynomial<'a> {
    /// `sum_t c_t s^t`
    Univariate(&'a [f64]),
    /// `sum table[u][k] v^k w^u` over `k + 2 u <= g`, `u <= h`: v is the part of s that the first `lead`
    /// coordinates make, w that of the others.
    Bivariate {
        /// How many coordinates lead.
        lead: usize,
        /// `(h + 1) x (g + 1)`, zero beyond `k + 2 u <= g`.
        table: MatRef<'a, f64>,
    },
}

impl<'a> Polynomial<'a> {
    /// Without terms that are zero at the end, which have no part in the result.
    pub(super) fn trimmed(self) -> Self {
        match self {
            Self::Univariate(terms) => {
                let degree = terms.iter().rposition(|&c| c != 0.0).unwrap_or(0);
                Self::Univariate(&terms[..=degree])
            }
            Self::Bivariate { .. } => self,
        }
    }

    /// The coefficients of the powers of the logit; none of a bivariate polynomial.
    pub(super) fn of_logit(&self) -> &'a [f64] {
        match *self {
            Self::Univariate(terms) => terms,
            Self::Bivariate { .. } => &[],
        }
    }

    /// What features of k leading and u trailing factors are multiplied with.
    pub(super) fn factor(&self, k: usize, u: usize) -> f64 {
        match *self {
            // A derivative by a coefficient wants the sums all the same.
            Self::Univariate(terms) => {
                if terms[k] == 0.0 {
                    1.0
                } else {
                    terms[k]
                }
            }
            Self::Bivariate { table, .. } => table.get(u, k),
        }
    }

    /// The features, for so many coordinates; any number if there are no tokens.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] if there are too many, [`Error::Domain`] beyond what [`Monomials`] takes, for a
    /// table that is not zero where it should be, and for one where queries do not see every key.
    ///
    /// # Panics
    ///
    /// If there are no coefficients.
    pub(super) fn monomials(&self, dim: Option<usize>, visible: Visible) -> Result<Monomials> {
        match *self {
            Self::Univariate(terms) => {
                assert!(!terms.is_empty());
                Monomials::new(dim.unwrap_or(1), terms.len() - 1)
            }
            Self::Bivariate { lead, table } => {
                assert!(table.rows() > 0 && table.cols() > 0);
                let refuse = |name, requires, found| Err(Error::Domain { name, requires, found });
                // What a causal scan takes key by key is a polynomial of the logit.
                if visible != Visible::ALL {
                    let requires = "left out where queries do not see every key";
                    return refuse("lead", requires, lead as f64);
                }
                for (u, k) in (0..table.rows()).flat_map(|u| (0..table.cols()).map(move |k| (u, k)))
                {
                    let c = table.get(u, k);
                    if k + 2 * u >= table.cols() && c != 0.0 {
                        return refuse("coefficients", "zero beyond k + 2 u <= g", c);
                    }
                }
                let dim = dim.unwrap_or(lead);
                Monomials::two_blocks(dim, lead, table.cols() - 1, table.rows() - 1)
            }
        }
    }
}
