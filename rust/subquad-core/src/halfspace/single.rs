//! One query: which engine, and how its stages follow each other.

use std::ops::Range;

use super::Info;
use super::basis::{self, cost, spread};
use super::coarse::Coarse;
use super::index::Parts;
use super::planes::{BLOCK, Planes};
use super::predicate::{Plane, SURE};
use super::residual::{Fine, Residuals};
use super::scan::{Found, scan};
use crate::simd::ints::Unit;
use crate::{Par, Result};

/// Keys in a task. Fixed, so that the number of threads changes nothing.
const TASK: usize = 16 * 1024;

/// Blocks looked at to choose an engine: at most so many, and one of so many.
const PROBES: usize = 64;
const EVERY: usize = 256;

/// The slots inside, ascending.
pub(super) fn slots(
    parts: &Parts,
    plane: &Plane,
    par: Par<'_>,
    info: &mut Info,
) -> Result<Vec<u32>> {
    let n = parts.keys.len();
    if let Some(all) = parts.plainly(plane) {
        let found: Vec<u32> = if all { parts.alive(0..n).collect() } else { Vec::new() };
        if info.engine.is_empty() {
            info.engine = "none";
        }
        info.reported += found.len() as u64;
        return Ok(found);
    }
    if let Some(found) = through_tree(parts, plane, info) {
        return Ok(found);
    }
    let engine = Engine::choose(parts, plane, info);
    info.engine = engine.name();
    let work = n as u64 * parts.keys.dim() as u64;
    let found = par.for_work(work).map(n.div_ceil(TASK), |i, _| {
        let slots = i * TASK..((i + 1) * TASK).min(n);
        let mut info = Info::default();
        let found = engine.run(parts, plane, slots, &mut info);
        (found, info)
    })?;
    for (_, counts) in &found {
        info.add(counts);
    }
    let all = join(found.into_iter().map(|(slots, _)| slots));
    info.reported += all.len() as u64;
    Ok(all)
}

/// The slots inside, from boxes, if there are any; unless there are codes, too, and they are faster.
fn through_tree(parts: &Parts, plane: &Plane, info: &mut Info) -> Option<Vec<u32>> {
    /// On one thread, one of so many keys can be looked at in the time that codes take for all.
    const SHARE: usize = 8;
    let forest = parts.forest.as_ref()?;
    let most = if parts.coded(plane).is_some() { parts.keys.len() / SHARE } else { usize::MAX };
    let (mut found, mut tried) = (Vec::new(), Info::default());
    if !forest.report(most, plane, &parts.keys, &parts.dead, &mut found, &mut tried) {
        // Codes will count all keys; but this was read, too.
        info.bytes_read += tried.bytes_read;
        return None;
    }
    info.add(&tried);
    info.engine = "tree";
    info.reported += found.len() as u64;
    Some(found)
}

/// What every engine that could answer finds, with its name.
#[cfg(test)]
pub(super) fn every_way(parts: &Parts, plane: &Plane) -> Vec<(&'static str, Vec<u32>)> {
    let run =
        |engine: &Engine<'_>| engine.run(parts, plane, 0..parts.keys.len(), &mut Info::default());
    let plain = parts.plainly(plane).is_some();
    let engines = if plain { Vec::new() } else { Engine::all(parts, plane) };
    let mut found: Vec<_> = engines.iter().map(|engine| (engine.name(), run(engine))).collect();
    if let Some(forest) = &parts.forest {
        let mut slots = Vec::new();
        forest.report(
            usize::MAX,
            plane,
            &parts.keys,
            &parts.dead,
            &mut slots,
            &mut Info::default(),
        );
        found.push(("tree", slots));
    }
    found
}

/// One list of several.
fn join(mut lists: impl Iterator<Item = Vec<u32>>) -> Vec<u32> {
    let mut all = lists.next().unwrap_or_default();
    lists.for_each(|list| all.extend_from_slice(&list));
    all
}

/// A way to an answer, prepared for one query.
enum Engine<'a> {
    /// Every key.
    Scan,
    /// Codes of 8 bits, then keys.
    Int8(&'a Planes, Coarse),
    /// Codes of 4 bits and fewer, then those of the rest, then keys.
    Int4(&'a Planes, Coarse, &'a Residuals, Fine),
    /// The same, in a learnt basis.
    Rotated(&'a Planes, Coarse, &'a Residuals, Fine),
}

impl<'a> Engine<'a> {
    fn name(&self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Int8(..) => "int8",
            Self::Int4(..) => "int4",
            Self::Rotated(..) => "rotated",
        }
    }

    fn choose(parts: &'a Parts, plane: &Plane, info: &mut Info) -> Self {
        let Some(quantized) = parts.coded(plane) else { return Self::Scan };
        let most = cost(quantized.int8.shape(), 0.0, 0.0);
        // Codes in a basis are few, and lie in a cache more often than others. From memory, a candidate takes
        // 20 ns, in which 600 bytes are streamed.
        let rotated = || Self::rotated(parts, plane).map(|few| (few, basis::CANDIDATE));
        let int4 = || Self::int4(parts, plane).map(|few| (few, 600.0));
        let ways: [&dyn Fn() -> Option<(Self, f64)>; 2] = [&rotated, &int4];
        for (few, each) in ways.into_iter().filter_map(|way| way()) {
            if let Self::Rotated(planes, coarse, ..) | Self::Int4(planes, coarse, ..) = &few
                && cost(planes.shape(), probe(parts.unit, planes, coarse, info), each) < most
            {
                return few;
            }
        }
        Self::int8(parts, plane).unwrap_or(Self::Scan)
    }

    /// Codes of 8 bits, if there are any and the query suits them.
    fn int8(parts: &'a Parts, plane: &Plane) -> Option<Self> {
        let quantized = parts.coded(plane)?;
        let planes = &quantized.int8;
        let coarse = Coarse::plain(parts.unit, planes.shape(), planes.norms(), plane);
        Some(Self::Int8(planes, coarse))
    }

    fn int4(parts: &'a Parts, plane: &Plane) -> Option<Self> {
        let (planes, rest) = parts.coded(plane)?.int4.as_ref()?;
        let coarse = Coarse::plain(parts.unit, planes.shape(), planes.norms(), plane);
        let query: Vec<f64> = plane.query().iter().map(|&x| f64::from(x)).collect();
        let fine = rest.fine(&query, plane.norm, plane.threshold);
        Some(Self::Int4(planes, coarse, rest, fine))
    }

    fn rotated(parts: &'a Parts, plane: &Plane) -> Option<Self> {
        parts.coded(plane)?;
        let rotated = parts.rotated.as_ref()?;
        let (coarse, fine) = rotated.query(plane)?;
        Some(Self::Rotated(&rotated.planes, coarse, &rotated.rest, fine))
    }

    /// Every engine that could answer.
    #[cfg(test)]
    fn all(parts: &'a Parts, plane: &Plane) -> Vec<Self> {
        let codes = [Self::int8, Self::int4, Self::rotated];
        codes.into_iter().filter_map(|of| of(parts, plane)).chain([Self::Scan]).collect()
    }

    /// The slots of a range that are inside.
    fn run(&self, parts: &Parts, plane: &Plane, slots: Range<usize>, info: &mut Info) -> Vec<u32> {
        info.scanned += slots.len() as u64;
        match self {
            Self::Scan => {
                let mut found: Vec<u32> = parts.alive(slots).collect();
                info.candidates += found.len() as u64;
                settle(parts, plane, &mut found, info);
                found
            }
            Self::Int8(planes, coarse) => {
                let stages = Stages { parts, plane, planes, coarse, second: None };
                stages.run(slots, info)
            }
            Self::Int4(planes, coarse, rest, fine) | Self::Rotated(planes, coarse, rest, fine) => {
                let stages = Stages { parts, plane, planes, coarse, second: Some((rest, fine)) };
                stages.run(slots, info)
            }
        }
    }
}

/// Share of candidates among the keys of some blocks spread evenly.
fn probe(unit: Unit, planes: &Planes, coarse: &Coarse, info: &mut Info) -> f64 {
    let blocks = planes.len() / BLOCK;
    let mut found = Found::default();
    let probes = (blocks / EVERY).clamp(16, PROBES).min(blocks);
    for i in 0..probes {
        let block = spread(i, probes, blocks);
        scan(unit, coarse, planes, block..block + 1, &mut found);
    }
    info.bytes_read += (probes * planes.shape().block()) as u64;
    found.slots.len() as f64 / (probes * BLOCK).max(1) as f64
}

/// The stages of an engine with codes.
struct Stages<'a> {
    parts: &'a Parts,
    plane: &'a Plane,
    planes: &'a Planes,
    coarse: &'a Coarse,
    second: Option<(&'a Residuals, &'a Fine)>,
}

impl Stages<'_> {
    /// Runs over a range of slots, one stage after the other: memory serves a stream and rows here and
    /// there best when each comes in long runs.
    fn run(&self, slots: Range<usize>, info: &mut Info) -> Vec<u32> {
        let unit = self.parts.unit;
        let blocks = slots.start / BLOCK..slots.end.div_ceil(BLOCK);
        info.bytes_read += (blocks.len() * self.planes.shape().block()) as u64;
        let mut found = Found::default();
        scan(unit, self.coarse, self.planes, blocks, &mut found);
        let open = tally(&found, info);
        if let Some((rest, fine)) = self.second {
            info.residual += open;
            info.bytes_read += open * rest.stride() as u64;
            rest.narrow(unit, fine, &mut found);
        }
        settle(self.parts, self.plane, &mut found.slots, info);
        // Without the room for all that might have been found.
        found.slots.as_slice().into()
    }
}

/// Counts candidates, and gives the number of those that are open.
fn tally(found: &Found, info: &mut Info) -> u64 {
    let sure = found.slots.iter().filter(|&slot| slot & SURE != 0).count() as u64;
    info.candidates += found.slots.len() as u64;
    info.sure += sure;
    found.slots.len() as u64 - sure
}

/// The last stage: the keys themselves.
fn settle(parts: &Parts, plane: &Plane, slots: &mut Vec<u32>, info: &mut Info) {
    let before = info.f32 + info.f64 + info.exact;
    let kept = plane.keep(&parts.keys, parts.longest(), slots, info);
    let read = info.f32 + info.f64 + info.exact - before;
    info.bytes_read += read * parts.keys.stride() as u64;
    slots.truncate(kept);
}
