//! The first stage for one query: the interval of every score, from codes.

use std::ops::Range;

use super::coarse::Coarse;
use super::planes::{BLOCK, Planes, Shape};
use super::predicate::SURE;
use crate::simd::Lanes;
use crate::simd::ints::{Ints, Unit, multiversion_ints};

/// What a stage leaves.
#[derive(Default)]
pub(super) struct Found {
    /// Candidates, ascending; [`SURE`] marks those that are in.
    pub slots: Vec<u32>,
    /// For codes of 4 bits and less, until the second stage goes on from there: the lower end of each
    /// candidate's score, without what the codes leave out.
    pub least: Vec<f32>,
    /// The upper end.
    pub most: Vec<f32>,
}

impl Found {
    /// Room behind the candidates for all keys of some blocks. That suffices for whole vectors: before the
    /// last is written, no more candidates are listed than there are keys in the vectors before it.
    fn reserve(&mut self, blocks: usize, with_ends: bool) {
        // At first for two groups: most find few, so that no group but the first takes memory.
        let groups = if self.slots.capacity() == 0 { 2 } else { 1 };
        let room = groups * blocks * BLOCK;
        self.slots.reserve(room);
        if with_ends {
            self.least.reserve(room);
            self.most.reserve(room);
        }
    }
}

/// What the kernels read, and the blocks that they go through.
struct Job<'a> {
    coarse: &'a Coarse,
    shape: Shape,
    blocks: *const u8,
    first: usize,
    count: usize,
}

/// Where kernels list candidates.
struct Lists {
    slots: *mut u32,
    least: *mut f32,
    most: *mut f32,
}

/// Blocks for whose candidates there is room at a time.
const ROOM: usize = 64;

/// Adds the candidates of some blocks.
pub(super) fn scan(
    unit: Unit,
    coarse: &Coarse,
    planes: &Planes,
    blocks: Range<usize>,
    found: &mut Found,
) {
    let shape = planes.shape();
    assert!(blocks.end <= planes.len().div_ceil(BLOCK));
    assert_eq!(coarse.words.len(), 2 * shape.wide + 2 * shape.nibbles + 4 * shape.crumbs);
    for first in blocks.clone().step_by(ROOM) {
        let count = (blocks.end - first).min(ROOM);
        let blocks = planes.ptr().wrapping_add(first * shape.block());
        let job = Job { coarse, shape, blocks, first, count };
        // SAFETY: the blocks exist, and the words are those of their lines.
        unsafe { scan_group(unit, &job, found) };
    }
}

/// # Safety
///
/// The blocks of the job must be readable and of the shape that it says, with its words.
unsafe fn scan_group(unit: Unit, job: &Job<'_>, found: &mut Found) {
    let (wide, old) = (job.shape.wide > 0, found.slots.len());
    assert!(wide || found.least.len() == old && found.most.len() == old);
    found.reserve(job.count, !wide);
    // SAFETY: the caller's promises; there is room for all keys of the blocks. The kernels write as
    // many values as they say.
    unsafe {
        let lists = Lists {
            slots: found.slots.as_mut_ptr().add(old),
            least: found.least.as_mut_ptr().wrapping_add(old),
            most: found.most.as_mut_ptr().wrapping_add(old),
        };
        let count = match (wide, job.shape.scaled) {
            (true, _) => scan_wide(unit, job, &lists),
            (false, true) => scan_nibbles(unit, job, &lists),
            (false, false) => scan_mixed(unit, job, &lists),
        };
        found.slots.set_len(old + count);
        if !wide {
            found.least.set_len(old + count);
            found.most.set_len(old + count);
        }
    }
}

/// Codes of 8 bits with scales.
const WIDE: u8 = 0;
/// Codes of 4 bits with scales.
const NIBBLES: u8 = 1;
/// Codes of 4 and 2 bits without.
const MIXED: u8 = 2;

macro_rules! instances {
    ($name:ident, $kind:ident) => {
        multiversion_ints! {
            unsafe fn $name(job: &Job<'_>, lists: &Lists) -> usize = scan_body {
                vnni512: [vnni512::I32x16, 2, $kind],
                vnni256: [vnni256::Vnni8, 4, $kind],
                avx2: [avx2::I32x8, 4, $kind],
                portable: [portable::I32x4, 8, $kind],
            }
        }
    };
}

instances!(scan_wide, WIDE);
instances!(scan_nibbles, NIBBLES);
instances!(scan_mixed, MIXED);

/// Loops over arrays, not `map` or `from_fn`: their closures are functions of their own, which lose the
/// instruction set where they are not inlined.
///
/// # Safety
///
/// `G` vectors must hold a block's 32 lanes; the blocks of the job must be readable and of the kind and
/// shape that it says, with its words; the lists must have room for all their keys; the
/// instruction set must be enabled.
#[inline(always)]
unsafe fn scan_body<V: Ints, const G: usize, const KIND: u8>(
    job: &Job<'_>,
    lists: &Lists,
) -> usize {
    let Job { coarse, shape, .. } = *job;
    let numbers = 4 * BLOCK * shape.lines();
    let mut listed = 0;
    // SAFETY: the caller enabled the instruction set; lines and numbers lie within their block.
    unsafe {
        let splat = |x: f32| <V::F as Lanes>::splat(x);
        let [least, most] = [splat(coarse.shifts[0]), splat(coarse.shifts[1])];
        let (gamma, low, high) = (splat(coarse.gamma), splat(coarse.low), splat(coarse.high));
        for i in 0..job.count {
            let block = job.blocks.add(i * shape.block());
            let number = |which: usize, g: usize| {
                let at = numbers + 2 * (which * BLOCK + g * V::N);
                <V::F as Lanes>::load_bf16(block.add(at).cast())
            };
            let sums = Sums::<V, G>::of::<KIND>(coarse, shape, block);
            let (mut candidates, mut any) = ([0_u32; G], 0);
            let mut ends = [[most; 2]; G];
            for g in 0..G {
                ends[g][1] = sums.end::<KIND>(coarse, g, most);
                if KIND != MIXED {
                    ends[g][1] = ends[g][1].mul(number(0, g));
                }
                let rest = number(usize::from(KIND != MIXED), g);
                candidates[g] = rest.fma(gamma, ends[g][1]).ge_bits(low);
                any |= candidates[g];
            }
            if any == 0 {
                continue;
            }
            let mut marks = Marks { candidates, sure: [0; G] };
            for g in 0..G {
                ends[g][0] = sums.end::<KIND>(coarse, g, least);
                if KIND != MIXED {
                    ends[g][0] = ends[g][0].mul(number(0, g));
                }
                let rest = number(usize::from(KIND != MIXED), g);
                marks.sure[g] = ends[g][0].sub(rest.mul(gamma)).ge_bits(high);
            }
            let first = ((job.first + i) * BLOCK) as u32;
            listed = list::<V, G, KIND>(first, &marks, &ends, lists, listed);
        }
    }
    listed
}

/// What a block's intervals say, a bit for every key of a vector.
struct Marks<const G: usize> {
    candidates: [u32; G],
    sure: [u32; G],
}

/// Lists the candidates of one block behind `listed` others, and gives the number of all.
///
/// # Safety
///
/// As [`scan_body`], for one block.
#[inline(always)]
unsafe fn list<V: Ints, const G: usize, const KIND: u8>(
    first: u32,
    marks: &Marks<G>,
    ends: &[[V::F; 2]; G],
    lists: &Lists,
    mut listed: usize,
) -> usize {
    static LANES: [u32; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    // SAFETY: vectors have at most 16 lanes; those before this one have listed at most their keys, so there
    // is room for it.
    unsafe {
        let lanes = V::load(LANES.as_ptr().cast());
        for g in 0..G {
            let candidates = marks.candidates[g];
            if candidates == 0 {
                continue;
            }
            let slots = lanes.add(V::splat((first + (g * V::N) as u32) as i32));
            slots.pack(candidates, lists.slots.add(listed).cast());
            if KIND != WIDE {
                V::of_bits(ends[g][0]).pack(candidates, lists.least.add(listed).cast());
                V::of_bits(ends[g][1]).pack(candidates, lists.most.add(listed).cast());
            }
            // What is gone is never a candidate, though it may seem to be sure.
            let mut sure = marks.sure[g] & candidates;
            while sure != 0 {
                let before = candidates & (sure.wrapping_sub(1) & !sure);
                *lists.slots.add(listed + before.count_ones() as usize) |= SURE;
                sure &= sure - 1;
            }
            listed += candidates.count_ones() as usize;
        }
    }
    listed
}

/// Sums of products of one block.
struct Sums<V: Ints, const G: usize> {
    /// Of the widest codes.
    first: [V::F; G],
    /// Of codes of 2 bits behind those of 4, if there are any.
    crumbs: Option<[V::F; G]>,
}

impl<V: Ints, const G: usize> Sums<V, G> {
    /// # Safety
    ///
    /// As [`scan_body`], for one block.
    #[inline(always)]
    unsafe fn of<const KIND: u8>(coarse: &Coarse, shape: Shape, block: *const u8) -> Self {
        let words = coarse.words.as_ptr();
        // SAFETY: the caller's promises: words are in the order of the lines.
        unsafe {
            let sums = match KIND {
                WIDE => wide::<V, G>(coarse, shape, block),
                _ => parts::<V, G, 2>(block, words, shape.nibbles),
            };
            let mut first = [<V::F as Lanes>::splat(0.0); G];
            for g in 0..G {
                first[g] = sums[g].to_float();
            }
            if KIND != MIXED || shape.crumbs == 0 {
                return Self { first, crumbs: None };
            }
            let (block, words) =
                (block.add(4 * BLOCK * shape.nibbles), words.add(2 * shape.nibbles));
            let sums = parts::<V, G, 4>(block, words, shape.crumbs);
            let mut crumbs = [<V::F as Lanes>::splat(0.0); G];
            for g in 0..G {
                crumbs[g] = sums[g].to_float();
            }
            Self { first, crumbs: Some(crumbs) }
        }
    }

    /// An end of the scores of a vector of keys, but for their scales.
    ///
    /// # Safety
    ///
    /// The instruction set must be enabled.
    #[inline(always)]
    unsafe fn end<const KIND: u8>(&self, coarse: &Coarse, g: usize, shift: V::F) -> V::F {
        // SAFETY: the caller enabled the instruction set.
        unsafe {
            let alpha = |which: usize| <V::F as Lanes>::splat(coarse.alpha[which]);
            let end = self.first[g].fma(alpha(usize::from(KIND != WIDE)), shift);
            match &self.crumbs {
                Some(crumbs) if KIND == MIXED => crumbs[g].fma(alpha(2), end),
                _ => end,
            }
        }
    }
}

/// Sums over lines of 8 bits.
///
/// # Safety
///
/// As [`scan_body`], for one block.
#[inline(always)]
unsafe fn wide<V: Ints, const G: usize>(coarse: &Coarse, shape: Shape, block: *const u8) -> [V; G] {
    // SAFETY: the caller's promises.
    unsafe {
        let zero = V::splat(0);
        let mut sums = [[zero; 2]; G];
        for j in 0..shape.wide {
            let word = |i: usize| V::splat(*coarse.words.as_ptr().add(2 * j + i));
            let words = [word(0), word(1)];
            for g in 0..G {
                let codes = V::load(block.add(4 * (BLOCK * j + g * V::N)));
                sums[g] = V::fine(sums[g], codes, words);
            }
        }
        let mut all = [V::splat(coarse.offset); G];
        for g in 0..G {
            all[g] = V::join(sums[g]).add(all[g]);
        }
        all
    }
}

/// Lines whose products are added in 16 bits where pairs of them are: codes of 4 bits make at most
/// 2 * 2 * 15 * 127 of a line.
const FLUSH: usize = 4;

/// Sums of products over lines whose bytes hold `W` codes each.
///
/// # Safety
///
/// `lines` lines must be readable at `block`, and as many times `W` words at `words`; the instruction
/// set must be enabled.
#[inline(always)]
unsafe fn parts<V: Ints, const G: usize, const W: usize>(
    block: *const u8,
    words: *const i32,
    lines: usize,
) -> [V; G] {
    // SAFETY: the caller's promises.
    unsafe {
        let mask = V::splat(if W == 2 { 0x0f0f_0f0f } else { 0x0303_0303 });
        let part = |codes: V, which: usize| match (W, which) {
            (_, 0) => codes.bits::<0>(mask),
            (2, _) | (_, 2) => codes.bits::<4>(mask),
            (_, 1) => codes.bits::<2>(mask),
            _ => codes.bits::<6>(mask),
        };
        let load = |j: usize, g: usize| V::load(block.add(4 * (BLOCK * j + g * V::N)));
        let word = |j: usize, which: usize| V::splat(*words.add(W * j + which));
        if V::NARROW {
            let mut sums = [V::splat(0); G];
            for first in (0..lines).step_by(FLUSH) {
                let mut narrow = [V::splat(0); G];
                for j in first..lines.min(first + FLUSH) {
                    let mut words = [V::splat(0); W];
                    for which in 0..W {
                        words[which] = word(j, which);
                    }
                    for g in 0..G {
                        let codes = load(j, g);
                        for which in 0..W {
                            narrow[g] = narrow[g].pairs(part(codes, which), words[which]);
                        }
                    }
                }
                for g in 0..G {
                    sums[g] = sums[g].add(narrow[g].widen());
                }
            }
            return sums;
        }
        // Two sums for each register, for an instruction takes longer than it keeps its port.
        let mut sums = [[V::splat(0); 2]; G];
        for j in 0..lines {
            let mut words = [V::splat(0); W];
            for which in 0..W {
                words[which] = word(j, which);
            }
            for g in 0..G {
                let codes = load(j, g);
                for which in 0..W {
                    let sum = &mut sums[g][which % 2];
                    *sum = sum.dot(part(codes, which), words[which]);
                }
            }
        }
        let mut all = [V::splat(0); G];
        for g in 0..G {
            all[g] = sums[g][0].add(sums[g][1]);
        }
        all
    }
}
