//! The first stage for one query: the interval of every score, from codes.

use std::ops::Range;

use super::coarse::Coarse;
use super::planes::{BLOCK, Planes, Shape};
use super::predicate::SURE;
use crate::simd::ints::{Ints, Unit, multiversion_ints};
use crate::simd::{Lanes, touch};

/// What the first stage leaves.
#[derive(Default)]
pub(super) struct Found {
    /// Candidates, ascending; [`SURE`] marks those that are in.
    pub slots: Vec<u32>,
    /// For codes of 4 bits and less: the lower and upper end of each candidate's score, without what
    /// the codes leave out. The second stage goes on from there.
    pub ends: Vec<[f32; 2]>,
}

/// What the kernels read.
struct Job<'a> {
    coarse: &'a Coarse,
    shape: Shape,
    blocks: *const u8,
    first: usize,
    count: usize,
    next: Rows,
}

/// The rows that the next stage reads. Candidates' are asked for as soon as they are found: while the scan
/// goes on, they arrive.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub first: *const u8,
    pub stride: usize,
}

impl Rows {
    #[inline(always)]
    pub fn touch(self, slot: usize) {
        touch(self.first.wrapping_add(slot * self.stride), self.stride);
    }
}

/// Adds the candidates of some blocks.
pub(super) fn scan(
    unit: Unit,
    coarse: &Coarse,
    planes: &Planes,
    blocks: Range<usize>,
    next: Rows,
    found: &mut Found,
) {
    let shape = planes.shape();
    assert!(blocks.end <= planes.len().div_ceil(BLOCK));
    assert_eq!(coarse.words.len(), 2 * shape.wide + 2 * shape.nibbles + 4 * shape.crumbs);
    let at = planes.ptr().wrapping_add(blocks.start * shape.block());
    let job = Job { coarse, shape, blocks: at, first: blocks.start, count: blocks.len(), next };
    // SAFETY: the blocks exist, and the words are those of their lines.
    unsafe {
        match (shape.wide > 0, shape.scaled) {
            (true, _) => scan_wide(unit, &job, found),
            (false, true) => scan_nibbles(unit, &job, found),
            (false, false) => scan_mixed(unit, &job, found),
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
            unsafe fn $name(job: &Job<'_>, found: &mut Found) = scan_body {
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
/// shape that it says, with its words; the instruction set must be enabled.
#[inline(always)]
unsafe fn scan_body<V: Ints, const G: usize, const KIND: u8>(job: &Job<'_>, found: &mut Found) {
    let Job { coarse, shape, .. } = *job;
    let numbers = 4 * BLOCK * shape.lines();
    // SAFETY: the caller enabled the instruction set; lines and numbers lie within their block.
    unsafe {
        let splat = |x: f32| <V::F as Lanes>::splat(x);
        let (beta, gamma) = (splat(coarse.beta), splat(coarse.gamma));
        let (low, high) = (splat(coarse.low), splat(coarse.high));
        for i in 0..job.count {
            let block = job.blocks.add(i * shape.block());
            let scores = match KIND {
                WIDE => wide::<V, G>(coarse, shape, block),
                NIBBLES => nibbles::<V, G>(coarse, shape, block),
                _ => mixed::<V, G>(coarse, shape, block),
            };
            let (mut candidates, mut sure) = (0_u32, 0_u32);
            let mut ends = [[splat(0.0); 2]; G];
            for g in 0..G {
                let number = |which: usize| {
                    let at = numbers + 2 * (which * BLOCK + g * V::N);
                    <V::F as Lanes>::load_bf16(block.add(at).cast())
                };
                let (mut least, mut most) = (scores[g].sub(beta), scores[g].add(beta));
                if KIND != MIXED {
                    let scale = number(0);
                    (least, most) = (least.mul(scale), most.mul(scale));
                }
                let rest = number(usize::from(KIND != MIXED));
                candidates |= rest.fma(gamma, most).ge_bits(low) << (g * V::N);
                sure |= least.sub(rest.mul(gamma)).ge_bits(high) << (g * V::N);
                ends[g] = [least, most];
            }
            if candidates != 0 {
                collect::<V, G, KIND>(
                    (job.first + i) * BLOCK,
                    candidates,
                    sure,
                    &ends,
                    job.next,
                    found,
                );
            }
        }
    }
}

/// Lists the candidates of one block.
#[inline(always)]
fn collect<V: Ints, const G: usize, const KIND: u8>(
    first: usize,
    mut candidates: u32,
    sure: u32,
    ends: &[[V::F; 2]; G],
    next: Rows,
    found: &mut Found,
) {
    let mut stored = [[0.0_f32; BLOCK]; 2];
    if KIND != WIDE {
        for g in 0..G {
            for end in 0..2 {
                // SAFETY: `G` vectors of `N` lanes are a block.
                unsafe { ends[g][end].store(stored[end].as_mut_ptr().add(g * V::N)) };
            }
        }
    }
    while candidates != 0 {
        let lane = candidates.trailing_zeros();
        candidates &= candidates - 1;
        // What is gone is never a candidate, though it may seem to be sure.
        let mark = if sure >> lane & 1 == 1 { SURE } else { 0 };
        if mark == 0 {
            next.touch(first + lane as usize);
        }
        found.slots.push((first as u32 + lane) | mark);
        if KIND != WIDE {
            found.ends.push([stored[0][lane as usize], stored[1][lane as usize]]);
        }
    }
}

/// # Safety
///
/// As [`scan_body`], for one block.
#[inline(always)]
unsafe fn wide<V: Ints, const G: usize>(
    coarse: &Coarse,
    shape: Shape,
    block: *const u8,
) -> [V::F; G] {
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
        let alpha = <V::F as Lanes>::splat(coarse.alpha[0]);
        let offset = V::splat(coarse.offset);
        let mut scores = [alpha; G];
        for g in 0..G {
            scores[g] = V::join(sums[g]).add(offset).to_float().mul(alpha);
        }
        scores
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

/// # Safety
///
/// As [`scan_body`], for one block.
#[inline(always)]
unsafe fn nibbles<V: Ints, const G: usize>(
    coarse: &Coarse,
    shape: Shape,
    block: *const u8,
) -> [V::F; G] {
    // SAFETY: the caller's promises.
    unsafe {
        let words = coarse.words.as_ptr().add(2 * shape.wide);
        let sums = parts::<V, G, 2>(block.add(4 * BLOCK * shape.wide), words, shape.nibbles);
        let shift = <V::F as Lanes>::splat(coarse.shift);
        let alpha = <V::F as Lanes>::splat(coarse.alpha[1]);
        let mut scores = [alpha; G];
        for g in 0..G {
            scores[g] = sums[g].to_float().fma(alpha, shift);
        }
        scores
    }
}

/// # Safety
///
/// As [`scan_body`], for one block.
#[inline(always)]
unsafe fn mixed<V: Ints, const G: usize>(
    coarse: &Coarse,
    shape: Shape,
    block: *const u8,
) -> [V::F; G] {
    // SAFETY: the caller's promises.
    unsafe {
        let mut scores = nibbles::<V, G>(coarse, shape, block);
        let before = shape.wide + shape.nibbles;
        let words = coarse.words.as_ptr().add(2 * before);
        let sums = parts::<V, G, 4>(block.add(4 * BLOCK * before), words, shape.crumbs);
        let alpha = <V::F as Lanes>::splat(coarse.alpha[2]);
        for g in 0..G {
            scores[g] = sums[g].to_float().fma(alpha, scores[g]);
        }
        scores
    }
}
