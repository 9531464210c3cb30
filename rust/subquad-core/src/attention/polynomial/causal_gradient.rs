//! The gradient of causal attention: from a head to tasks.

use std::ops::Range;

use super::call::{Call, Operands, tiles};
use super::causal_slopes::{Back, ScanSlopes};
use super::gradient::add_terms;
use super::slopes::Upstream;
use super::strand::Before;
use super::tasks::{Found, Scratch};
use super::{Extent, RowSums, State, SumsGradients, parts};
use crate::Result;
use crate::attention::{Compute, Stats};
use crate::mat::MatCell;
use crate::par::Pulse;

impl<T: Compute> Call<'_, T> {
    /// As [`slopes`](Self::slopes), where each sees those up to a place of its own.
    pub(super) fn causal_slopes(
        &self,
        heads: Range<usize>,
        (upstream, gradients): (&[Upstream<'_>], &[SumsGradients<'_, T>]),
        terms: usize,
        stats: &mut Stats,
    ) -> Result<Vec<f64>> {
        let strand = self.prefers_a_strand(&heads);
        let first = &self.heads[heads.start];
        let parts = if strand { None } else { Some(self.before(first, stats)?) };
        let mut sums = vec![0.0; terms];
        for h in heads {
            self.causal_head((h, parts.as_deref()), upstream[h], gradients[h], &mut sums, stats)?;
        }
        Ok(sums)
    }

    /// Adds the gradients of a head, and of the coefficients.
    fn causal_head(
        &self,
        (h, before): (usize, Option<&[Before<T>]>),
        upstream: Upstream<'_>,
        to: SumsGradients<'_, T>,
        sums_of_terms: &mut [f64],
        stats: &mut Stats,
    ) -> Result<()> {
        let Self { kit, isa, pool, .. } = self;
        let head = &self.heads[h];
        let (l, columns) = (head.query.rows(), kit.columns);
        let (mut rows, mut sums) = (vec![T::ZERO; l * columns], vec![T::ZERO; l]);
        let kept = RowSums {
            rows: MatCell::from_slice(&mut rows, l, columns),
            sums: MatCell::from_slice(&mut sums, l, 1),
        };
        let terms = !sums_of_terms.is_empty();
        let found = self.scans(h..h + 1, before, stats, |_, before, own, pulse| {
            let job = ScanSlopes { kit, head, before, upstream, to, kept, terms };
            let mut state = kit.state();
            // SAFETY: parts have rows of their own, and so have the keys behind their tiles; nobody else has
            // the gradients during the call.
            pool.with(
                || Scratch::new(kit),
                |scratch| unsafe { T::scan_slopes(*isa, &job, &mut state, own, scratch, pulse) },
            )
        })?;
        for found in found.iter().flatten() {
            found.accept(h, stats)?;
            add_terms(sums_of_terms, &found.terms);
        }
        if !to.wants_keys() {
            return Ok(());
        }
        let all = self.back(h, (kept, to), before.is_none(), stats)?;
        let keys = kit.visible.keys(0, head.key.rows()).end;
        let extent = Extent { mean: kit.zeros.clone(), longest: 0.0 };
        self.key_slopes((h, keys), &all, &extent, to, stats)
    }

    /// Adds what keys get from the queries behind them, part by part from the last one; gives the slopes of what is
    /// ahead of all queries. As forwards, parts may be a strand, or begin with sums that other tasks have taken:
    /// the additions are the same.
    fn back(
        &self,
        h: usize,
        (kept, to): (RowSums<'_, T>, SumsGradients<'_, T>),
        strand: bool,
        stats: &mut Stats,
    ) -> Result<State<T>> {
        let Self { kit, isa, pool, par, .. } = self;
        let head = &self.heads[h];
        let rows = parts(head.query.rows());
        // Of the first part they are for keys ahead of it alone.
        let first = usize::from(kit.visible.keys(0, head.key.rows()).end == 0);
        let run = |i: usize, behind: &State<T>, own: Option<&mut State<T>>, pulse: &Pulse<'_>| {
            let job = Back { kit, head, rows: rows[i].clone(), behind, to, kept };
            let mut state = kit.state();
            // SAFETY: parts have keys of their own, and nobody else has the gradients during the call.
            pool.with(
                || Scratch::new(kit),
                |scratch| unsafe { T::back(*isa, &job, &mut state, own, scratch, pulse) },
            )
        };
        if strand {
            let mut strands = par.map(1, |_, pulse| {
                let (mut all, mut own) = (kit.state(), kit.state());
                let part = |i| {
                    own.clear();
                    let found = run(i, &all, (i >= first).then_some(&mut own), pulse);
                    all.add(&own);
                    found
                };
                let found: Vec<_> = (0..rows.len()).rev().map(part).collect();
                (found, all)
            })?;
            let (found, all) = strands.remove(0);
            found.iter().try_for_each(|found| found.accept(h, stats))?;
            return Ok(all);
        }
        let sums = self.sums_of_queries(head, &rows[first.min(rows.len())..], kept)?;
        let mut all = kit.state();
        let mut behind = Vec::with_capacity(rows.len());
        let mut sums = sums.iter().rev();
        for _ in 0..rows.len() {
            let mut state = kit.state();
            state.add(&all);
            behind.push(state);
            if let Some((sums, found)) = sums.next() {
                all.add(sums);
                found.accept(h, stats)?;
            }
        }
        behind.reverse();
        let found = par.map(rows.len(), |i, pulse| run(i, &behind[i], None, pulse))?;
        found.iter().try_for_each(|found| found.accept(h, stats))?;
        Ok(all)
    }

    /// Slopes of the sums from some parts of the queries, whose tiles are taken as on the way back.
    fn sums_of_queries(
        &self,
        head: &Operands<'_>,
        parts: &[Range<usize>],
        kept: RowSums<'_, T>,
    ) -> Result<Vec<(State<T>, Found)>> {
        // SAFETY: nobody writes what has been kept.
        let (rows, sums) = unsafe { (kept.rows.as_ref(), kept.sums.as_ref()) };
        let queries = Operands {
            query: head.query,
            key: head.query,
            value: T::as_rows(rows),
            masses: Some(T::as_rows(sums)),
        };
        let reversed = |rows: &Range<usize>| tiles(rows.clone()).into_iter().rev().collect();
        let pieces: Vec<_> = parts.iter().map(reversed).collect();
        let mut sums = self.sums(&queries, &pieces, &self.kit.zeros)?;
        // Queries have been looked at before; what is kept may overflow where they are finite.
        for (_, found) in &mut sums {
            found.counts.suspicious = false;
        }
        Ok(sums)
    }
}
