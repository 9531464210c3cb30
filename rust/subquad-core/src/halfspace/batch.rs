//! Several queries at once: the codes are read once for all of them.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::index::Parts;
use super::planes::BLOCK;
use super::predicate::{Plane, SURE, sure_if};
use super::quantized::Quantized;
use super::tile::{LISTED, Masks, Narrow, Tiles};
use super::{Info, single};
use crate::{Par, Result};

/// Blocks in a task. Fixed, so that the number of threads changes nothing.
const TASK: usize = 128;

/// Queries that go through the blocks together: their integers stay in the first cache.
const TOGETHER: usize = 96;

/// Open candidates for each key, over all queries, from which on most keys are somebody's: then all are
/// read ahead while the multipliers are busy.
const CROWD: f64 = 0.5;

/// Fewer queries than this go one by one.
const FEW: usize = 3;

/// The slots inside each half-space, ascending.
pub(super) fn slots(
    parts: &Parts,
    planes: &[Plane],
    par: Par<'_>,
    info: &mut Info,
) -> Result<Vec<Vec<u32>>> {
    if parts.forest.is_some() {
        return one_by_one(parts, planes, par, info);
    }
    // Queries whose answer is plain, or that codes do not serve, go one by one.
    let suits = |plane: &&Plane| parts.plainly(plane).is_none() && parts.coded(plane).is_some();
    let together = planes.iter().filter(suits).count();
    let quantized = parts.quantized.as_ref().filter(|_| together >= FEW);
    let mut answers: Vec<Vec<u32>> = planes.iter().map(|_| Vec::new()).collect();
    let Some(quantized) = quantized else {
        for (answer, plane) in answers.iter_mut().zip(planes) {
            *answer = single::slots(parts, plane, par, info)?;
        }
        return Ok(answers);
    };
    let (mut chosen, mut places) = (Vec::new(), Vec::new());
    for (i, plane) in planes.iter().enumerate() {
        if suits(&plane) {
            chosen.push(plane);
            places.push(i);
        } else {
            answers[i] = single::slots(parts, plane, par, info)?;
        }
    }
    info.engine = "int8";
    for (chosen, places) in chosen.chunks(TOGETHER).zip(places.chunks(TOGETHER)) {
        let found = Together::new(parts, quantized, chosen).slots(par, info)?;
        for (&place, found) in places.iter().zip(found) {
            info.reported += found.len() as u64;
            answers[place] = found;
        }
    }
    Ok(answers)
}

/// The slots inside each half-space, each query in a way of its own: boxes serve one at a time.
fn one_by_one(
    parts: &Parts,
    planes: &[Plane],
    par: Par<'_>,
    info: &mut Info,
) -> Result<Vec<Vec<u32>>> {
    /// Queries in a task.
    const TASK: usize = 16;
    let tasks = par.map(planes.len().div_ceil(TASK), |i, pulse| {
        let mut info = Info::default();
        let mut answer = |plane: &Plane| {
            if pulse.stopped() {
                return Ok(Vec::new());
            }
            single::slots(parts, plane, Par::seq(), &mut info)
        };
        let planes = &planes[i * TASK..((i + 1) * TASK).min(planes.len())];
        let found: Result<Vec<_>> = planes.iter().map(&mut answer).collect();
        (found, info)
    })?;
    info.engine = "none";
    let mut answers = Vec::with_capacity(planes.len());
    for (found, counts) in tasks {
        answers.extend(found?);
        info.add(&counts);
        // Queries may differ: the last that had to look at keys speaks for them.
        if counts.engine != "none" {
            info.engine = counts.engine;
        }
    }
    Ok(answers)
}

/// Queries that go through the codes side by side.
struct Together<'a> {
    parts: &'a Parts,
    quantized: &'a Quantized,
    planes: &'a [&'a Plane],
    tiles: Tiles,
    /// Were most keys looked at lately? Changes when they are read, not what comes of it.
    crowded: AtomicBool,
}

impl<'a> Together<'a> {
    fn new(parts: &'a Parts, quantized: &'a Quantized, planes: &'a [&'a Plane]) -> Self {
        let shape = quantized.int8.shape();
        let narrow = |plane: &&Plane| {
            let query = plane.query().iter().map(|&x| f64::from(x));
            let query: Vec<f64> =
                query.chain(std::iter::repeat(0.0)).take(4 * shape.wide).collect();
            let norms = quantized.int8.norms();
            Narrow::new(parts.unit, &query, norms, quantized.pair, plane.norm, plane.threshold)
        };
        let queries: Vec<Narrow> = planes.iter().map(narrow).collect();
        let tiles = Tiles::new(parts.unit, shape, &queries);
        Self { parts, quantized, planes, tiles, crowded: AtomicBool::new(false) }
    }

    fn slots(&self, par: Par<'_>, info: &mut Info) -> Result<Vec<Vec<u32>>> {
        let blocks = self.quantized.int8.len().div_ceil(BLOCK);
        let work = (blocks * BLOCK * self.parts.keys.dim() * self.planes.len()) as u64;
        let tasks = par.for_work(work).map(blocks.div_ceil(TASK), |i, pulse| {
            let (mut found, mut info) = (Lists::new(self.planes.len()), Info::default());
            let blocks = i * TASK..((i + 1) * TASK).min(blocks);
            for first in blocks.clone().step_by(LISTED) {
                if pulse.stopped() {
                    break;
                }
                self.part(first..(first + LISTED).min(blocks.end), &mut found, &mut info);
            }
            (found, info)
        })?;
        let mut answers = Vec::with_capacity(self.planes.len());
        for q in 0..self.planes.len() {
            let len = tasks.iter().map(|(found, _)| found.of(q).len()).sum();
            let mut all = Vec::with_capacity(len);
            for (found, _) in &tasks {
                all.extend_from_slice(found.of(q));
            }
            answers.push(all);
        }
        for (_, counts) in &tasks {
            info.add(counts);
        }
        Ok(answers)
    }

    /// The slots of some blocks that are inside each half-space.
    fn part(&self, blocks: Range<usize>, lists: &mut Lists, info: &mut Info) {
        let (codes, keys) = (&self.quantized.int8, &self.parts.keys);
        let Lists { found, masks, open } = lists;
        let rows = self.crowded.load(Ordering::Relaxed).then_some(keys);
        self.tiles.scan(self.parts.unit, codes, blocks.clone(), rows, masks);
        info.bytes_read += (blocks.len() * codes.shape().block()) as u64;
        let mut looked_at = 0;
        for (q, plane) in self.planes.iter().enumerate() {
            open.clear();
            list(blocks.start * BLOCK, masks.of(q, 2 * blocks.len()), open);
            let certain = open.iter().filter(|&slot| slot & SURE != 0).count();
            info.scanned += (blocks.len() * BLOCK) as u64;
            info.candidates += open.len() as u64;
            info.sure += certain as u64;
            info.bytes_read += ((open.len() - certain) * keys.stride()) as u64;
            let kept = plane.keep(keys, self.quantized.longest, open, info);
            found[q].extend_from_slice(&open[..kept]);
            looked_at += open.len() - certain;
        }
        let crowded = looked_at as f64 >= CROWD * (blocks.len() * BLOCK) as f64;
        self.crowded.store(crowded, Ordering::Relaxed);
    }
}

/// Candidates as slots from `first` on.
fn list(first: usize, masks: impl Iterator<Item = (u64, u64)>, out: &mut Vec<u32>) {
    for (i, (candidates, sure)) in masks.enumerate() {
        let mut left = candidates;
        while left != 0 {
            let bit = left.trailing_zeros();
            left &= left - 1;
            let slot = (first + i * 64) as u32 + bit;
            out.push(slot | sure_if(sure >> bit & 1 == 1));
        }
    }
}

/// What a task finds, and its workspace.
struct Lists {
    found: Vec<Vec<u32>>,
    masks: Masks,
    open: Vec<u32>,
}

impl Lists {
    fn new(queries: usize) -> Self {
        let found = (0..queries).map(|_| Vec::new()).collect();
        Self { found, masks: Masks::default(), open: Vec::new() }
    }

    fn of(&self, query: usize) -> &[u32] {
        &self.found[query]
    }
}
