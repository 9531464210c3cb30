//! The index: keys, the engines over them, and what may happen to them.

use std::ops::Range;
use std::sync::Arc;

use super::basis::{self, Basis};
use super::coarse::is_tame;
use super::ids::Ids;
use super::keys::{Dead, Keys};
use super::predicate::{self, Plane};
use super::quantized::Quantized;
use super::rotated::Rotated;
use super::tree::Forest;
use super::{
    Batch, Info, KeyType, LARGEST_DIM, LARGEST_TREE, Method, Report, Stats, batch, single, topk,
};
use crate::mat::{MatRef, Rows};
use crate::simd::ints::Unit;
use crate::simd::{Isa, default_float_mode};
use crate::{Error, Par, Result};

mod persist;

/// Keys, and engines that report which of them lie in a half-space.
#[derive(Clone)]
pub struct Index {
    method: Method,
    ids: Ids,
    parts: Parts,
}

/// What answers are found in. Everything counts keys by slots.
#[derive(Clone)]
pub(super) struct Parts {
    pub keys: Keys,
    pub dead: Dead,
    pub quantized: Option<Quantized>,
    /// Not without `quantized`.
    pub rotated: Option<Rotated>,
    pub forest: Option<Forest>,
    /// Queries to learn from, row by row.
    typical: Option<Arc<[f32]>>,
    /// Number of keys that the engines were chosen for.
    chosen_for: usize,
    pub isa: Isa,
    pub unit: Unit,
}

/// Keys up to which codes are not worth building.
const SMALL: usize = 256;

/// Numbers in keys from which codes of 8 bits leave the caches, and fewer bits read faster.
const FAR: usize = 2 << 20;

/// Largest dimension in which boxes are tried unasked, and keys from which they pay.
const LOW: usize = 8;
const BUSHY: usize = 2048;

/// How much a learnt basis must save.
const WORTH: f64 = 1.15;

/// Rows of typical queries in float32, a sample if there are many.
fn typical_queries(rows: &Rows<'_>, dim: usize) -> Result<Arc<[f32]>> {
    Error::unless_equal("queries", "d", dim, rows.cols())?;
    let step = rows.rows().div_ceil(basis::QUERIES).max(1);
    let mut out = Vec::with_capacity(rows.rows().min(basis::QUERIES) * dim);
    for row in 0..rows.rows() {
        for column in 0..dim {
            let x = rows.get(row, column);
            if !x.is_finite() {
                return Err(Error::NonFinite { name: "queries", row, column });
            }
            if row % step == 0 {
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
        let plane = |i: usize| self.plane_of(i, queries.row(i), thresholds[i], strict);
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
            self.plane(queries.row(i), 0.0, false)?;
            let best = || topk::topk(&self.parts, queries.row(i), k, par, &mut Info::default());
            let best = default_float_mode(best)?;
            ids.extend(self.ids.of(&best));
        }
        Ok(ids)
    }

    /// The scores of some keys, each the float32 nearest to the real number.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`], [`Error::UnknownId`].
    pub fn scores(&self, query: &[f32], ids: &[i64]) -> Result<Vec<f32>> {
        Error::unless_equal("query", "d", self.dim(), query.len())?;
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
        for slot in slots {
            self.parts.bury(slot)?;
        }
        Ok(())
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
            mapped: self.parts.keys.is_mapped(),
            next_id: self.ids.next(),
        }
    }
}

impl Parts {
    /// Keys, and no engine.
    pub fn new(keys: Keys) -> Self {
        let isa = Isa::detect();
        let (dead, unit) = (Dead::none(), Unit::of(isa));
        Self {
            keys,
            dead,
            quantized: None,
            rotated: None,
            forest: None,
            typical: None,
            chosen_for: 0,
            isa,
            unit,
        }
    }

    /// Builds the engines that suit the method and the keys. `basis` is used if there is one and none
    /// can be learnt from typical queries.
    fn build(&mut self, method: Method, basis: Option<&Basis>, par: Par<'_>) -> Result<()> {
        let (n, dim) = (self.keys.len(), self.keys.dim());
        self.chosen_for = n;
        let (codes, tree) = match method {
            Method::Scan => (false, false),
            Method::Tree => (false, true),
            Method::Quantized | Method::Rotated => (true, false),
            Method::Auto => (n >= SMALL, n >= BUSHY && dim <= LOW),
        };
        default_float_mode(|| {
            let mut forest = tree.then(|| Forest::new(dim));
            forest.iter_mut().try_for_each(|forest| forest.extend(&self.keys, n, par))?;
            self.forest = forest;
            if !codes {
                return Ok(());
            }
            let far = n * dim >= FAR || method == Method::Quantized;
            let turns = method == Method::Rotated || (method == Method::Auto && n * dim >= FAR / 4);
            let basis = match basis.filter(|_| self.typical.is_none()) {
                Some(basis) => Some(basis.clone()),
                None if turns => Basis::learn(&self.keys, self.typical.as_deref())
                    .filter(|basis| method == Method::Rotated || basis.saves > WORTH),
                None => None,
            };
            let mut quantized = Quantized::new(dim, far && basis.is_none());
            quantized.extend(self.isa, &self.keys, par)?;
            let turned = basis.map(|basis| {
                let mut rotated = Rotated::new(basis);
                rotated.extend(self.isa, &self.keys, par).map(|()| rotated)
            });
            (self.rotated, self.quantized) = (turned.transpose()?, Some(quantized));
            for slot in (0..n).filter(|&slot| self.dead.contains(slot)) {
                self.quantized.iter_mut().for_each(|codes| codes.bury(slot));
                self.rotated.iter_mut().for_each(|codes| codes.planes.bury(slot));
            }
            Ok(())
        })
    }

    /// Adds keys, or nothing if that fails.
    fn extend(
        &mut self,
        name: &'static str,
        rows: &Rows<'_>,
        method: Method,
        par: Par<'_>,
    ) -> Result<()> {
        let old = self.keys.len();
        self.keys.extend(name, rows)?;
        // Engines for few keys do not suit many; choosing anew whenever keys have doubled costs each
        // of them a constant.
        let outgrown = method == Method::Auto && self.keys.len() >= SMALL.max(2 * self.chosen_for);
        let coded = default_float_mode(|| {
            if outgrown {
                let basis = self.rotated.as_ref().map(|rotated| rotated.basis.clone());
                return self.build(method, basis.as_ref(), par);
            }
            if let Some(quantized) = &mut self.quantized {
                quantized.extend(self.isa, &self.keys, par)?;
            }
            if let Some(rotated) = &mut self.rotated {
                rotated.extend(self.isa, &self.keys, par)?;
            }
            if let Some(forest) = &mut self.forest {
                forest.extend(&self.keys, self.keys.len(), par)?;
            }
            Ok(())
        });
        if coded.is_err() {
            self.keys.truncate(old);
            if let Some(quantized) = &mut self.quantized {
                quantized.truncate(old);
            }
            if let Some(rotated) = &mut self.rotated {
                rotated.truncate(old);
            }
        }
        coded
    }

    /// Takes a key out of every answer.
    fn bury(&mut self, slot: usize) -> Result<()> {
        self.dead.insert(slot)?;
        if let Some(quantized) = &mut self.quantized {
            quantized.bury(slot);
        }
        if let Some(rotated) = &mut self.rotated {
            rotated.planes.bury(slot);
        }
        Ok(())
    }

    /// The same without what is gone, and with the engines that suit what is left.
    fn compacted(&self, method: Method, par: Par<'_>) -> Result<Self> {
        let n = self.keys.len();
        let mut parts = Self::new(self.keys.gather(self.alive(0..n))?);
        parts.typical.clone_from(&self.typical);
        parts.build(method, self.rotated.as_ref().map(|rotated| &rotated.basis), par)?;
        Ok(parts)
    }

    fn engines(&self) -> Vec<&'static str> {
        let mut engines = vec!["scan"];
        if let Some(quantized) = &self.quantized {
            engines.push("int8");
            engines.extend(quantized.int4.as_ref().map(|_| "int4"));
        }
        engines.extend(self.rotated.as_ref().map(|_| "rotated"));
        engines.extend(self.forest.as_ref().map(|_| "tree"));
        engines
    }

    /// Bytes of the engines.
    fn bytes(&self) -> u64 {
        self.quantized.as_ref().map_or(0, Quantized::bytes)
            + self.rotated.as_ref().map_or(0, Rotated::bytes)
            + self.forest.as_ref().map_or(0, Forest::bytes)
    }

    /// The slots of a range whose keys are there.
    pub fn alive(&self, slots: Range<usize>) -> impl Iterator<Item = u32> {
        slots.filter(|&slot| !self.dead.contains(slot)).map(|slot| slot as u32)
    }

    /// The codes, if there are any and float32 holds the query and the keys.
    pub fn coded(&self, plane: &Plane) -> Option<&Quantized> {
        let tame = |quantized: &&Quantized| is_tame(plane.norm) && is_tame(quantized.longest);
        self.quantized.as_ref().filter(tame)
    }

    /// Not below the norm of any key.
    pub fn longest(&self) -> f64 {
        self.quantized.as_ref().map_or(f64::INFINITY, |quantized| quantized.longest)
    }

    /// Everything or nothing, where the threshold alone says so.
    pub fn plainly(&self, plane: &Plane) -> Option<bool> {
        // Infinity times zero is NaN, with which nothing compares.
        let reach = plane.norm * self.longest() * (1.0 + 1e-9);
        if plane.threshold == f64::NEG_INFINITY || plane.threshold < -reach {
            return Some(true);
        }
        (plane.threshold == f64::INFINITY || plane.threshold > reach).then_some(false)
    }

    /// Scores in float32 of at most `count` keys, spread evenly.
    pub fn sample(&self, query: &[f32], count: usize) -> Vec<f32> {
        let step = self.keys.len().div_ceil(count).max(1);
        let slots = (0..self.keys.len()).step_by(step).filter(|&slot| !self.dead.contains(slot));
        slots.map(|slot| predicate::nearly(query, &self.keys, slot).0 as f32).collect()
    }
}
