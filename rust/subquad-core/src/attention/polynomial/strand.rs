//! The parts of a causal scan: side by side, or one after the other as a strand.
//!
//! Side by side, all keys are summed up first, as a part begins with the sums over those before it. In a strand,
//! each part leaves its own sums to the next: a pass less, but a single task.
//!
//! Both add the same tiles in the same order: a part's own sums from zero, then to those before it. So which of
//! the two it is may depend on the number of workers: no bit of a result does.

use std::ops::Range;

use super::call::{Call, Operands, tiles};
use super::causal::Place;
use super::tasks::Found;
use super::{Extent, State, parts};
use crate::Result;
use crate::attention::{Compute, Stats};
use crate::par::Pulse;
use crate::simd::Float;

/// A part of the queries, and the sums over the keys that the first of them sees.
pub struct Before<T> {
    pub rows: Range<usize>,
    pub state: State<T>,
    pub extent: Extent<T>,
}

impl<T: Float> Before<T> {
    /// Takes in sums of the keys behind those, and what was found with them.
    fn take(&mut self, sums: &State<T>, found: &Found) {
        self.state.add(sums);
        self.extent.longest = self.extent.longest.max(found.longest);
    }

    /// The same for other queries.
    fn at(&self, rows: Range<usize>, mut state: State<T>) -> Self {
        state.add(&self.state);
        let extent = Extent { mean: self.extent.mean.clone(), longest: self.extent.longest };
        Self { rows, state, extent }
    }
}

impl<T: Compute> Call<'_, T> {
    /// Where the parts of a scan begin.
    pub fn before(&self, head: &Operands<'_>, stats: &mut Stats) -> Result<Vec<Before<T>>> {
        let rows = parts(head.query.rows());
        let mut pieces = self.ahead(head);
        // How many of them are before a part.
        let mut ends = vec![pieces.len()];
        for rows in rows.iter().take(rows.len().saturating_sub(1)) {
            let places = Place::of(&self.kit, rows.clone(), head.key.rows());
            pieces.push(places.map(|place| place.keys).filter(|keys| !keys.is_empty()).collect());
            ends.push(pieces.len());
        }
        let sums = self.sums(head, &pieces, &self.kit.zeros)?;
        let (mut all, mut next) = (self.nothing(), sums.iter());
        let mut taken = 0;
        let parts = rows.into_iter().zip(ends).map(|(rows, end)| {
            for (state, found) in next.by_ref().take(end - taken) {
                all.take(state, found);
                stats.take(&found.counts);
            }
            taken = end;
            all.at(rows, self.kit.state())
        });
        Ok(parts.collect())
    }

    /// What `scan` gives for every part of some heads, given also what is before it. Where that is not known, parts
    /// come one after the other and `scan` adds the keys of all but the last to a state.
    pub fn scans(
        &self,
        heads: Range<usize>,
        before: Option<&[Before<T>]>,
        stats: &mut Stats,
        scan: impl Fn(usize, &Before<T>, Option<&mut State<T>>, &Pulse<'_>) -> Found + Sync,
    ) -> Result<Vec<Vec<Found>>> {
        let Some(before) = before else {
            let strands = self.par.map(heads.len(), |i, pulse| {
                let h = heads.start + i;
                self.strand(h, |before, own| scan(h, before, own, pulse), pulse)
            })?;
            let found = strands.into_iter().map(|[ahead, found]| {
                for ahead in ahead {
                    stats.take(&ahead.counts);
                }
                found
            });
            return Ok(found.collect());
        };
        let parts = before.len();
        let found = self.par.map(heads.len() * parts, |i, pulse| {
            scan(heads.start + i / parts, &before[i % parts], None, pulse)
        })?;
        let mut found = found.into_iter();
        Ok(heads.map(|_| found.by_ref().take(parts).collect()).collect())
    }

    /// The parts of a head one after the other, and what was found ahead of them.
    fn strand(
        &self,
        h: usize,
        scan: impl Fn(&Before<T>, Option<&mut State<T>>) -> Found,
        pulse: &Pulse<'_>,
    ) -> [Vec<Found>; 2] {
        let (head, zeros) = (&self.heads[h], &self.kit.zeros);
        let (mut before, mut own) = (self.nothing(), self.kit.state());
        let ahead = self.ahead(head).into_iter().map(|tiles| {
            own.clear();
            let found = self.add_sums(head, &tiles, zeros, &mut own, pulse);
            before.take(&own, &found);
            found
        });
        let ahead = ahead.collect();
        let rows = parts(head.query.rows());
        let last = rows.len().saturating_sub(1);
        let found = rows.into_iter().enumerate().map(|(i, rows)| {
            own.clear();
            before.rows = rows;
            let found = scan(&before, (i < last).then_some(&mut own));
            before.take(&own, &found);
            found
        });
        [ahead, found.collect()]
    }

    /// No queries, and no keys before them.
    fn nothing(&self) -> Before<T> {
        let extent = Extent { mean: self.kit.zeros.clone(), longest: 0.0 };
        Before { rows: 0..0, state: self.kit.state(), extent }
    }

    /// The keys that all queries see: tiles in pieces of a part, as they may be many.
    fn ahead(&self, head: &Operands<'_>) -> Vec<Vec<Range<usize>>> {
        let keys = self.kit.visible.keys(0, head.key.rows()).end;
        parts(keys).into_iter().map(tiles).collect()
    }

    /// Is a forward scan faster if all heads are strands, than if those of a group, which have the same keys, are
    /// parts side by side and groups one after the other?
    pub fn prefers_strands(&self, groups: &[Range<usize>]) -> bool {
        let Some(head) = self.heads.first() else { return true };
        let rounds = self.heads.len().div_ceil(self.par.workers());
        let costs = Costs::of(self, head, 2);
        let side_by_side =
            groups.iter().map(|group| costs.before + costs.side_by_side(group.len()));
        rounds * costs.strand <= side_by_side.sum()
    }

    /// The same for the forward scan of a gradient, whose heads come one after the other.
    pub fn prefers_a_strand(&self, heads: &Range<usize>) -> bool {
        let costs = Costs::of(self, &self.heads[heads.start], 3);
        heads.len() * costs.strand <= costs.before + heads.len() * costs.side_by_side(1)
    }
}

/// Tokens in a pass over the features that the busiest worker has.
struct Costs {
    workers: usize,
    parts: usize,
    /// Passes over the rows of a head, and over keys ahead of them.
    rows: usize,
    strand: usize,
    /// Summing up what is before parts.
    before: usize,
}

impl Costs {
    fn of<T: Compute>(call: &Call<'_, T>, head: &Operands<'_>, passes: usize) -> Self {
        let (rows, keys) = (head.query.rows(), head.key.rows());
        let ranges = parts(rows);
        let (workers, last) = (call.par.workers(), ranges.last().map_or(0, |last| last.start));
        let seen = |row| call.kit.visible.keys(row, keys).end;
        let pieces = parts(seen(0)).len() + ranges.len().saturating_sub(1);
        Self {
            workers,
            parts: ranges.len(),
            rows: passes * rows,
            strand: seen(0) + passes * rows,
            before: seen(last).div_ceil(workers.min(pieces).max(1)),
        }
    }

    /// Scans of so many heads.
    fn side_by_side(&self, heads: usize) -> usize {
        (heads * self.rows).div_ceil(self.workers.min(heads * self.parts).max(1))
    }
}

#[cfg(test)]
mod tests;
