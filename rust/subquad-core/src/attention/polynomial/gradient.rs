//! The gradient: from a problem to tasks.

use super::causal_slopes::{Back, ScanSlopes, Upstream};
use super::kit::{self, Kit};
use super::slopes::{KeySlopes, QuerySlopes};
use super::tasks::Scratch;
use super::{Before, Extent, ROWS, parts, sum};
use crate::attention::{Compute, Head, HeadGradients, Problem, Stats, Visible};
use crate::mat::{MatCell, Rows};
use crate::par::Par;
use crate::scratch::Pool;
use crate::simd::Isa;
use crate::{Error, Result};

/// Adds the gradients of [`polynomial_forward`](super::polynomial_forward) to those of every head, and to
/// those of the coefficients: what the loss changes by if they do.
///
/// Takes six passes over the features where the forward direction takes two.
///
/// # Errors
///
/// As [`polynomial_forward`](super::polynomial_forward).
pub fn polynomial_backward<T: Compute>(
    problem: &Problem<'_>,
    coefficients: &[f64],
    grad_out: &[Rows<'_>],
    gradients: &[HeadGradients<'_, T>],
    mut of_coefficients: Option<&mut [f64]>,
    par: Par<'_>,
) -> Result<Stats> {
    check(problem, grad_out, gradients)?;
    if let Some(to) = &of_coefficients {
        Error::unless_equal("grad_coefficients", "terms", coefficients.len(), to.len())?;
    }
    let isa = Isa::detect();
    let kit = Kit::<T>::new(problem, coefficients, isa)?;
    let par = par.for_work(3 * kit.work(problem));
    let pool = Pool::new();
    let mut stats = Stats::default();
    // What is one array to the keys may be two to their gradients.
    let place = |cell: &Option<MatCell<'_, T>>| cell.as_ref().map(|cell| cell.at(0, 0));
    let alike = |a: usize, b: usize| {
        let (x, y) = (&gradients[a], &gradients[b]);
        kit::same(&problem.heads[a], &problem.heads[b])
            && place(&x.key) == place(&y.key)
            && place(&x.value) == place(&y.value)
    };
    for heads in kit::groups(problem.heads.len(), alike) {
        let first = &problem.heads[heads.start];
        if first.key.rows() == 0 || first.query.rows() == 0 {
            continue;
        }
        if problem.visible != Visible::ALL {
            let call = Causal { kit: &kit, isa, pool: &pool, par };
            let before = Before::new(&kit, first, isa, &pool, par, &mut stats)?;
            for h in heads {
                let head = &problem.heads[h];
                let terms = call.head(
                    head,
                    &before,
                    &grad_out[h],
                    gradients[h],
                    &mut stats,
                    (h, of_coefficients.is_some()),
                )?;
                add_terms(of_coefficients.as_deref_mut(), &terms);
            }
            continue;
        }
        let (state, extent) = sum(&kit, first, isa, &pool, par, &mut stats)?;
        let mut slopes = kit.state();
        // One head after the other: they may share the gradient of their queries.
        for h in heads.clone() {
            let head = &problem.heads[h];
            let ranges = parts(head.query.rows());
            let found = par.map(ranges.len(), |i, pulse| {
                let job = QuerySlopes {
                    kit: &kit,
                    head,
                    rows: ranges[i].clone(),
                    state: &state,
                    extent: &extent,
                    grad_out: &grad_out[h],
                    query: gradients[h].query,
                    terms: of_coefficients.is_some(),
                };
                let mut slopes = kit.state();
                // SAFETY: tasks have rows of their own, and nobody else has them during the call.
                let found = pool.with(
                    || Scratch::new(&kit),
                    |scratch| unsafe { T::query_slopes(isa, &job, &mut slopes, scratch, pulse) },
                );
                (slopes, found)
            })?;
            for (part, found) in &found {
                slopes.add(part);
                found.accept(h, &mut stats)?;
                add_terms(of_coefficients.as_deref_mut(), &found.terms);
            }
        }
        let to = &gradients[heads.start];
        if to.key.is_none() && to.value.is_none() {
            continue;
        }
        let keys = first.key.rows();
        let found = par.map(keys.div_ceil(ROWS), |i, pulse| {
            let keys = i * ROWS..keys.min((i + 1) * ROWS);
            let (slopes, extent) = (&slopes, &extent);
            let (key, value) = (to.key, to.value);
            let job = KeySlopes { kit: &kit, head: first, keys, slopes, extent, key, value };
            // SAFETY: as above.
            pool.with(|| Scratch::new(&kit), |s| unsafe { T::key_slopes(isa, &job, s, pulse) })
        })?;
        found.iter().try_for_each(|found| found.accept(heads.start, &mut stats))?;
    }
    Ok(stats)
}

fn add_terms(to: Option<&mut [f64]>, terms: &[f64]) {
    for (to, x) in to.into_iter().flatten().zip(terms) {
        *to += x;
    }
}

/// What the tasks of causal heads share.
struct Causal<'a, T> {
    kit: &'a Kit<T>,
    isa: Isa,
    pool: &'a Pool<Scratch<T>>,
    par: Par<'a>,
}

impl<T: Compute> Causal<'_, T> {
    /// Adds the gradients of a head, and gives the derivatives by the coefficients if wanted.
    fn head(
        &self,
        head: &Head<'_>,
        before: &Before<T>,
        grad_out: &Rows<'_>,
        to: HeadGradients<'_, T>,
        stats: &mut Stats,
        (h, wants_terms): (usize, bool),
    ) -> Result<Vec<f64>> {
        let Self { kit, isa, pool, par } = *self;
        let (l, columns, count) = (head.query.rows(), kit.columns, before.parts.len());
        let (mut rows, mut masses) = (vec![T::ZERO; l * columns], vec![T::ZERO; l]);
        let upstream = Upstream {
            rows: MatCell::from_slice(&mut rows, l, columns),
            masses: MatCell::from_slice(&mut masses, l, 1),
        };
        let found = par.map(count, |i, pulse| {
            let (rows, before, extent) = &before.parts[i];
            let (rows, terms) = (rows.clone(), wants_terms);
            let job = ScanSlopes { kit, head, rows, before, extent, grad_out, to, upstream, terms };
            let (mut state, mut slopes) = (kit.state(), kit.state());
            // SAFETY: parts have rows of their own, and so have the keys behind their tiles; nobody else has
            // the gradients during the call.
            let found = pool.with(
                || Scratch::new(kit),
                |scratch| unsafe {
                    T::scan_slopes(isa, &job, [&mut state, &mut slopes], scratch, pulse)
                },
            );
            (slopes, found)
        })?;
        let mut terms = vec![0.0; if wants_terms { kit.coefficients.len() } else { 0 }];
        for (_, found) in &found {
            found.accept(h, stats)?;
            add_terms(Some(&mut terms), &found.terms);
        }
        if to.key.is_none() && to.value.is_none() {
            return Ok(terms);
        }
        // Behind every part; at last, behind the keys that all queries see.
        let mut behind = Vec::with_capacity(count);
        let mut all = kit.state();
        for (slopes, _) in found.iter().rev() {
            let mut state = kit.state();
            state.add(&all);
            behind.push(state);
            all.add(slopes);
        }
        behind.reverse();
        let back = par.map(count, |i, pulse| {
            let rows = before.parts[i].0.clone();
            let job = Back { kit, head, rows, behind: &behind[i], to, upstream };
            let mut state = kit.state();
            // SAFETY: as above.
            pool.with(
                || Scratch::new(kit),
                |scratch| unsafe { T::back(isa, &job, &mut state, scratch, pulse) },
            )
        })?;
        back.iter().try_for_each(|found| found.accept(h, stats))?;
        let keys = kit.visible.keys(0, head.key.rows()).end;
        let extent = Extent { mean: kit.zeros.clone(), longest: 0.0 };
        let found = par.map(keys.div_ceil(ROWS), |i, pulse| {
            let keys = i * ROWS..keys.min((i + 1) * ROWS);
            let (key, value) = (to.key, to.value);
            let job = KeySlopes { kit, head, keys, slopes: &all, extent: &extent, key, value };
            // SAFETY: as above.
            pool.with(|| Scratch::new(kit), |s| unsafe { T::key_slopes(isa, &job, s, pulse) })
        })?;
        found.iter().try_for_each(|found| found.accept(h, stats))?;
        Ok(terms)
    }
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
