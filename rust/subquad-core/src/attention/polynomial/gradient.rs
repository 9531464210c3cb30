//! The gradient: from a problem to tasks.

use std::ops::Range;

use super::call::Call;
use super::key_slopes::KeySlopes;
use super::kit;
use super::slopes::{QuerySlopes, Upstream};
use super::tasks::Scratch;
use super::{Extent, Polynomial, ROWS, State, SumsGradients, parts};
use crate::attention::{Compute, HeadGradients, Problem, Stats};
use crate::mat::Rows;
use crate::par::Par;
use crate::{Error, Result};

/// Adds the gradients of [`polynomial_forward`](super::polynomial_forward) to those of every head, and to
/// those of the coefficients: what the loss changes by if they do.
///
/// Takes five passes over the features where the forward direction takes two.
///
/// # Errors
///
/// As [`polynomial_forward`](super::polynomial_forward).
pub fn polynomial_backward<T: Compute>(
    problem: &Problem<'_>,
    coefficients: &[f64],
    grad_out: &[Rows<'_>],
    gradients: &[HeadGradients<'_, T>],
    of_coefficients: Option<&mut [f64]>,
    par: Par<'_>,
) -> Result<Stats> {
    check(problem, grad_out, gradients)?;
    if let Some(to) = &of_coefficients {
        Error::unless_equal("grad_coefficients", "terms", coefficients.len(), to.len())?;
    }
    let call = Call::new(problem, None, Polynomial::Univariate(coefficients), par, 3)?;
    let upstream: Vec<_> = grad_out.iter().map(|&rows| Upstream { rows, sums: None }).collect();
    let gradients: Vec<_> = gradients
        .iter()
        .map(|to| SumsGradients { query: to.query, key: to.key, value: to.value, masses: None })
        .collect();
    call.backward(&upstream, &gradients, of_coefficients)
}

impl<T: Compute> Call<'_, T> {
    /// Adds the gradients of every head, and of the coefficients if wanted.
    pub fn backward(
        &self,
        upstream: &[Upstream<'_>],
        gradients: &[SumsGradients<'_, T>],
        mut of_coefficients: Option<&mut [f64]>,
    ) -> Result<Stats> {
        let mut stats = Stats::default();
        // What is one array to the keys may be two to their gradients.
        let alike = |a: usize, b: usize| {
            self.heads[a].has_keys_of(&self.heads[b])
                && gradients[a].places_of_keys() == gradients[b].places_of_keys()
        };
        let terms = of_coefficients.as_ref().map_or(0, |to| to.len());
        for heads in kit::groups(self.heads.len(), alike) {
            let first = &self.heads[heads.start];
            if first.key.rows() == 0 || first.query.rows() == 0 {
                continue;
            }
            let sums = if self.sees_all() {
                self.slopes(heads, (upstream, gradients), terms, &mut stats)?
            } else {
                self.causal_slopes(heads, (upstream, gradients), terms, &mut stats)?
            };
            add_terms(of_coefficients.as_deref_mut().unwrap_or_default(), &sums);
        }
        Ok(stats)
    }

    /// Adds the gradients of heads that have the same keys, each of which sees all of them, and gives the
    /// derivatives by so many coefficients.
    fn slopes(
        &self,
        heads: Range<usize>,
        (upstream, gradients): (&[Upstream<'_>], &[SumsGradients<'_, T>]),
        terms: usize,
        stats: &mut Stats,
    ) -> Result<Vec<f64>> {
        let Self { kit, isa, pool, par, .. } = self;
        let first = &self.heads[heads.start];
        let (state, extent) = self.sum(first, stats)?;
        let mut slopes = kit.state();
        let mut sums = vec![0.0; terms];
        // One head after the other: they may share the gradient of their queries.
        for h in heads.clone() {
            let head = &self.heads[h];
            let ranges = parts(head.query.rows());
            let found = par.map(ranges.len(), |i, pulse| {
                let job = QuerySlopes {
                    kit,
                    head,
                    rows: ranges[i].clone(),
                    state: &state,
                    extent: &extent,
                    upstream: upstream[h],
                    query: gradients[h].query,
                    terms: terms > 0,
                };
                let mut slopes = kit.state();
                // SAFETY: tasks have rows of their own, and nobody else has them during the call.
                let found = pool.with(
                    || Scratch::new(kit),
                    |scratch| unsafe { T::query_slopes(*isa, &job, &mut slopes, scratch, pulse) },
                );
                (slopes, found)
            })?;
            for (part, found) in &found {
                slopes.add(part);
                found.accept(h, stats)?;
                add_terms(&mut sums, &found.terms);
            }
        }
        let (h, keys) = (heads.start, first.key.rows());
        self.key_slopes((h, keys), &slopes, &extent, gradients[h], stats)?;
        Ok(sums)
    }

    /// Adds what the first keys of a head get from the slopes of its sums.
    pub(super) fn key_slopes(
        &self,
        (h, keys): (usize, usize),
        slopes: &State<T>,
        extent: &Extent<T>,
        to: SumsGradients<'_, T>,
        stats: &mut Stats,
    ) -> Result<()> {
        let Self { kit, isa, pool, par, .. } = self;
        if !to.wants_keys() {
            return Ok(());
        }
        let found = par.map(keys.div_ceil(ROWS), |i, pulse| {
            let keys = i * ROWS..keys.min((i + 1) * ROWS);
            let job = KeySlopes { kit, head: &self.heads[h], keys, slopes, extent, to };
            // SAFETY: as above.
            pool.with(|| Scratch::new(kit), |s| unsafe { T::key_slopes(*isa, &job, s, pulse) })
        })?;
        found.iter().try_for_each(|found| found.accept(h, stats))
    }
}

pub(super) fn add_terms(to: &mut [f64], terms: &[f64]) {
    to.iter_mut().zip(terms).for_each(|(to, x)| *to += x);
}

fn check<T>(
    problem: &Problem<'_>,
    grad_out: &[Rows<'_>],
    gradients: &[HeadGradients<'_, T>],
) -> Result<()> {
    let agree = Error::unless_equal;
    agree("grad_out", "heads", problem.heads.len(), grad_out.len())?;
    agree("gradients", "heads", problem.heads.len(), gradients.len())?;
    for ((head, up), to) in problem.heads.iter().zip(grad_out).zip(gradients) {
        agree("grad_out", "L", head.query.rows(), up.rows())?;
        agree("grad_out", "Ev", head.value.cols(), up.cols())?;
        for (name, cell, like) in [
            ("grad_query", &to.query, &head.query),
            ("grad_key", &to.key, &head.key),
            ("grad_value", &to.value, &head.value),
        ] {
            if let Some(cell) = cell {
                agree(name, "rows", like.rows(), cell.rows())?;
                agree(name, "columns", like.cols(), cell.cols())?;
            }
        }
    }
    Ok(())
}
