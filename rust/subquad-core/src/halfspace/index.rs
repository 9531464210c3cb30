//! The index: keys, the engines over them, and what may happen to them.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::basis;
use super::ids::Ids;
use super::keys::Keys;
use super::predicate::{self, Plane};
use super::{
    Batch, Info, KeyType, LARGEST_DIM, LARGEST_TREE, Method, Report, Stats, batch, single, topk,
};
use crate::mat::{MatRef, Rows};
use crate::simd::default_float_mode;
use crate::{Error, Par, Result};

mod parts;
mod persist;

pub(super) use parts::Parts;

/// Keys, and engines that report which of them lie in a half-space.
#[derive(Clone)]
pub struct Index {
    method: Method,
    ids: Ids,
    parts: Parts,
}

/// A query among several.
fn row<'a>(queries: &MatRef<'a, f32>, i: usize) -> Cow<'a, [f32]> {
    if queries.has_contiguous_rows() {
        Cow::Borrowed(queries.row(i))
    } else {
        Cow::Owned((0..queries.cols()).map(|j| queries.get(i, j)).collect())
    }
}

/// Rows of typical queries in float32, a sample if there are many.
fn typical_queries(rows: &Rows<'_>, dim: usize) -> Result<Arc<[f32]>> {
    Error::unless_equal("queries", "d", dim, rows.cols())?;
    let count = rows.rows().min(basis::QUERIES);
    let mut out = Vec::with_capacity(count * dim);
    for row in 0..rows.rows() {
        let chosen = row == basis::spread(out.len() / dim, count, rows.rows());
        for column in 0..dim {
            let x = rows.get(row, column);
            if !x.is_finite() {
                return Err(Error::NonFinite { name: "queries", row, column });
            }
            if chosen {
                out.push(x as f32);
            }
        }
    }
    Ok(out.into())
}

impl Index {
    /// An index of a copy of `keys` (n x d), which get the ids 0 to n - 1. `typical` queries (m x d)
    /// tell which directions matter; they change speed only.
    ///
    /// # Errors
    ///
    /// [`Error::NonFinite`]; [`Error::Type`] for float64; [`Error::Domain`] unless 1 <= d <= 4096, or
    /// d <= 12 for [`Method::Tree`]; [`Error::Stopped`].
    pub fn new(
        keys: Rows<'_>,
        typical: Option<Rows<'_>>,
        method: Method,
        par: Par<'_>,
    ) -> Result<Self> {
        let dim = keys.cols();
        if !(1..=LARGEST_DIM).contains(&dim) {
            let (name, requires) = ("keys", "of 1 to 4096 columns");
            return Err(Error::Domain { name, requires, found: dim as f64 });
        }
        if method == Method::Tree && dim > LARGEST_TREE {
            let (name, requires) = ("keys", "of at most 12 columns for the method \"tree\"");
            return Err(Error::Domain { name, requires, found: dim as f64 });
        }
        let Some(kind) = KeyType::of(&keys) else {
            let (name, requires) = ("keys", "float32, float16 or bfloat16");
            return Err(Error::Type { name, requires, found: "float64" });
        };
        let mut store = Keys::new(kind, dim);
        store.extend("keys", &keys)?;
        let mut ids = Ids::new();
        ids.extend(keys.rows())?;
        let typical = typical.map(|rows| typical_queries(&rows, dim)).transpose()?;
        let mut parts = Parts::new(store);
        parts.typical = typical;
        parts.build(method, None, par)?;
        Ok(Self { method, ids, parts })
    }

    /// Number of keys that can be reported.
    pub fn len(&self) -> usize {
        self.parts.keys.len() - self.parts.dead.count()
    }

    /// Is there no key?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers in a key.
    pub fn dim(&self) -> usize {
        self.parts.keys.dim()
    }

    /// Their type.
    pub fn key_type(&self) -> KeyType {
        self.parts.keys.kind()
    }

    /// How answers are found.
    pub fn method(&self) -> Method {
        self.method
    }

    #[cfg(test)]
    pub(super) fn parts(&self) -> &Parts {
        &self.parts
    }

    fn plane(&self, query: &[f32], threshold: f64, strict: bool) -> Result<Plane> {
        self.plane_of(0, query, threshold, strict)
    }

    /// Row `row` of several queries.
    fn plane_of(&self, row: usize, query: &[f32], threshold: f64, strict: bool) -> Result<Plane> {
        Error::unless_equal("query", "d", self.dim(), query.len())?;
        if let Some(column) = query.iter().position(|x| !x.is_finite()) {
            return Err(Error::NonFinite { name: "query", row, column });
        }
        if threshold.is_nan() {
            let (name, requires) = ("threshold", "a number");
            return Err(Error::Domain { name, requires, found: threshold });
        }
        Ok(Plane::new(query, threshold, strict, self.parts.isa))
    }

    /// The ids of the keys with `q . k >= threshold`, or `>` if `strict`, ascending.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`], [`Error::NonFinite`], [`Error::Domain`] for a NaN threshold,
    /// [`Error::Stopped`].
    pub fn report(
        &self,
        query: &[f32],
        threshold: f64,
        strict: bool,
        par: Par<'_>,
    ) -> Result<Report> {
        default_float_mode(|| {
            let plane = self.plane(query, threshold, strict)?;
            let mut info = Info::default();
            let slots = single::slots(&self.parts, &plane, par, &mut info)?;
            Ok(Report { ids: self.ids.of(&slots), info })
        })
    }

    /// As [`report`](Self::report), for every row of `queries` and its threshold.
    ///
    /// # Errors
    ///
    /// As [`report`](Self::report).
    pub fn report_batch(
        &self,
        queries: MatRef<'_, f32>,
        thresholds: &[f64],
        strict: bool,
        par: Par<'_>,
    ) -> Result<Batch> {
        Error::unless_equal("thresholds", "m", queries.rows(), thresholds.len())?;
        let plane = |i: usize| self.plane_of(i, &row(&queries, i), thresholds[i], strict);
        let mut info = Info::default();
        let found = default_float_mode(|| {
            let planes = (0..queries.rows()).map(plane).collect::<Result<Vec<_>>>()?;
            batch::slots(&self.parts, &planes, par, &mut info)
        })?;
        let mut lims = vec![0];
        lims.extend(found.iter().scan(0, |sum, slots| {
            *sum += slots.len() as i64;
            Some(*sum)
        }));
        let ids = found.iter().flat_map(|slots| self.ids.of(slots)).collect();
        Ok(Batch { lims, ids, info })
    }

    /// How many keys [`report`](Self::report) would name.
    ///
    /// # Errors
    ///
    /// As [`report`](Self::report).
    pub fn count(&self, query: &[f32], threshold: f64, strict: bool, par: Par<'_>) -> Result<u64> {
        Ok(self.report(query, threshold, strict, par)?.ids.len() as u64)
    }

    /// The ids of the k keys with the largest scores, for every row of `queries`: best first, ties to
    /// the lowest id.
    ///
    /// # Errors
    ///
    /// As [`report`](Self::report), and [`Error::Domain`] if there are fewer than `k` keys.
    pub fn topk(&self, queries: MatRef<'_, f32>, k: usize, par: Par<'_>) -> Result<Vec<i64>> {
        if k > self.len() {
            let (name, requires) = ("k", "at most the number of keys");
            return Err(Error::Domain { name, requires, found: k as f64 });
        }
        let mut ids = Vec::with_capacity(queries.rows() * k);
        for i in 0..queries.rows() {
            let query = row(&queries, i);
            self.plane_of(i, &query, 0.0, false)?;
            let best = || topk::topk(&self.parts, &query, k, par, &mut Info::default());
            let best = default_float_mode(best)?;
            ids.extend(self.ids.of(&best));
        }
        Ok(ids)
    }

    /// The scores of some keys, each the float32 nearest to the real number.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`], [`Error::NonFinite`], [`Error::UnknownId`].
    pub fn scores(&self, query: &[f32], ids: &[i64]) -> Result<Vec<f32>> {
        self.plane(query, 0.0, false)?;
        let score = |&id| Ok(predicate::score(query, &self.parts.keys, self.slot(id)?));
        default_float_mode(|| ids.iter().map(score).collect())
    }

    fn slot(&self, id: i64) -> Result<usize> {
        let slot = self.ids.slot(id).filter(|&slot| !self.parts.dead.contains(slot));
        slot.ok_or(Error::UnknownId { id })
    }

    /// Adds copies of `keys` (m x d), of the type of those that are there, and gives their ids.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); nothing is added then.
    pub fn add(&mut self, keys: Rows<'_>, par: Par<'_>) -> Result<Range<i64>> {
        self.insert("keys", &keys, par)
    }

    fn insert(&mut self, name: &'static str, rows: &Rows<'_>, par: Par<'_>) -> Result<Range<i64>> {
        self.ids.reserve(rows.rows())?;
        self.parts.extend(name, rows, self.method, par)?;
        self.ids.extend(rows.rows())
    }

    /// Removes keys: all of them, or none if one is not there or named twice.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownId`], [`Error::RepeatedId`].
    pub fn remove(&mut self, ids: &[i64]) -> Result<()> {
        let mut slots = ids.iter().map(|&id| self.slot(id)).collect::<Result<Vec<_>>>()?;
        slots.sort_unstable();
        if let Some(pair) = slots.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::RepeatedId { id: self.ids.of(&[pair[0] as u32])[0] });
        }
        self.parts.bury(&slots)
    }

    /// Frees what removed keys still occupy, and adapts the engines to the keys that are left. Ids stay.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`], [`Error::Memory`]; the index is as it was then.
    pub fn compact(&mut self, par: Par<'_>) -> Result<()> {
        let parts = self.parts.compacted(self.method, par)?;
        if !self.parts.dead.is_empty() {
            self.ids = self.ids.gather(self.parts.alive(0..self.parts.keys.len()))?;
        }
        self.parts = parts;
        Ok(())
    }

    /// What the index consists of.
    pub fn stats(&self) -> Stats {
        Stats {
            keys: self.len() as u64,
            removed: self.parts.dead.count() as u64,
            dim: self.dim(),
            key_type: self.key_type(),
            method: self.method,
            engines: self.parts.engines(),
            bytes_keys: self.parts.keys.bytes(),
            bytes_codes: self.parts.bytes(),
            bytes_other: self.ids.bytes() + self.parts.dead.bytes(),
            mapped: self.parts.is_mapped(),
            next_id: self.ids.next(),
        }
    }
}
