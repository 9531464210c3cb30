//! Codes of the keys' own coordinates: 8 bits each, and 4 bits with 4 more for the rest.
//!
//! Memory per key of d coordinates, besides the key: d + 4 bytes, and with the codes of 4 bits d + 8
//! more.

use std::ops::Range;

use super::coder::{self, Bits, Summary, TOGETHER, pack4, pack8, wide16};
use super::keys::Keys;
use super::planes::{BLOCK, Coded, Open, Planes, Shape};
use super::residual::{self, Residuals};
use super::store::{Reader, Writer, damaged};
use crate::mat::MatCell;
use crate::simd::Isa;
use crate::{Par, Result};

/// The codes.
#[derive(Clone)]
pub(super) struct Quantized {
    pub int8: Planes,
    pub int4: Option<(Planes, Residuals)>,
    /// Not below the norm of any key.
    pub longest: f64,
    /// Not below the norm of the centred codes of 8 bits of any key, over the coordinates that share a
    /// sum in 16 bits.
    pub pair: f64,
}

/// Keys coded in one task.
const TASK: usize = 128 * BLOCK;

pub(super) fn wide(dim: usize) -> Shape {
    Shape { wide: dim.div_ceil(4), nibbles: 0, crumbs: 0, scaled: true }
}

pub(super) fn narrow(dim: usize) -> Shape {
    Shape { wide: 0, nibbles: dim.div_ceil(8), crumbs: 0, scaled: true }
}

/// Where tasks put what they make of the keys.
struct Target<'a> {
    int8: Open<'a>,
    int4: Option<(Open<'a>, MatCell<'a, u8>)>,
}

/// The largest norms that a task has met: of centred codes of 8 bits, of 4 bits, of 4 bits of the rest,
/// of keys, and squared, of codes of 8 bits over the coordinates that share a sum in 16 bits.
type Norms = [f64; 5];

/// Workspace for [`TOGETHER`] keys, row after row.
struct Scratch {
    dim: usize,
    padded: usize,
    keys: Vec<f32>,
    left: Vec<f32>,
    bits: Vec<f32>,
    codes: Vec<u8>,
    words: Vec<u32>,
    coded: [Summary; TOGETHER],
}

impl Scratch {
    fn new(dim: usize) -> Self {
        let padded = Residuals::padded(dim);
        Self {
            dim,
            padded,
            keys: vec![0.0; TOGETHER * padded],
            left: vec![0.0; TOGETHER * padded],
            bits: vec![0.0; TOGETHER * padded],
            codes: vec![0; TOGETHER * padded],
            words: vec![0; padded / 4],
            coded: [Summary::default(); TOGETHER],
        }
    }

    /// Takes these keys.
    fn load(&mut self, keys: &Keys, slots: Range<usize>) {
        for (row, slot) in self.keys.chunks_exact_mut(self.padded).zip(slots) {
            keys.widen(slot, &mut row[..self.dim]);
        }
    }

    /// Codes so many keys anew, or what is left of them.
    fn code(&mut self, isa: Isa, bits: Bits, count: usize, anew: bool) {
        let all = ..count * self.padded;
        if anew {
            self.left[all].copy_from_slice(&self.keys[all]);
        }
        let (left, bits_of) = (&mut self.left[all], &mut self.bits[all]);
        let (codes, coded) = (&mut self.codes[all], &mut self.coded[..count]);
        coder::code(isa, bits, self.dim, left, bits_of, codes, coded);
    }

    fn codes(&self, key: usize) -> &[u8] {
        &self.codes[key * self.padded..(key + 1) * self.padded]
    }

    /// The words of a key that was coded, by `pack`.
    fn packed(&mut self, key: usize, lines: usize, pack: fn(&[u8], &mut [u32])) -> Coded<'_> {
        let codes = &self.codes[key * self.padded..(key + 1) * self.padded];
        let words = &mut self.words[..lines];
        pack(codes, words);
        Coded { words, scale: self.coded[key].scale, rest: self.coded[key].rest }
    }
}

impl Quantized {
    /// No codes yet; those of 4 bits only if asked for.
    pub fn new(dim: usize, with_int4: bool) -> Self {
        let int4 = with_int4.then(|| (Planes::new(narrow(dim)), Residuals::new(dim)));
        Self { int8: Planes::new(wide(dim)), int4, longest: 0.0, pair: 0.0 }
    }

    /// Codes the keys that are new.
    pub fn extend(&mut self, isa: Isa, keys: &Keys, par: Par<'_>) -> Result<()> {
        let (old, new) = (self.int8.len(), keys.len());
        let mut int4 = self.int4.as_mut();
        let target = Target {
            int8: self.int8.grow(new)?,
            int4: match &mut int4 {
                Some((planes, rest)) => Some((planes.grow(new)?, rest.grow(new)?)),
                None => None,
            },
        };
        let first = old / TASK;
        let tasks = new.div_ceil(TASK) - first;
        let par = par.for_work(64 * (new - old) as u64 * keys.dim() as u64);
        let norms = par.map(tasks, |i, _| {
            let slots = (first + i) * TASK..((first + i + 1) * TASK).min(new);
            // SAFETY: tasks begin and end with a block, and each has its own.
            unsafe { fill(isa, keys, &target, slots.start.max(old)..slots.end) }
        })?;
        for [eight, four, rest, key, pair] in norms {
            self.longest = self.longest.max(key);
            self.pair = self.pair.max(pair.sqrt() * (1.0 + 1e-12));
            self.int8.note([eight, 0.0, 0.0]);
            if let Some((planes, residuals)) = &mut self.int4 {
                planes.note([0.0, four, 0.0]);
                residuals.note(rest);
            }
        }
        Ok(())
    }

    /// Forgets the keys from slot `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.int8.truncate(len);
        if let Some((planes, rest)) = &mut self.int4 {
            planes.truncate(len);
            rest.truncate(len);
        }
    }

    /// Takes the codes into memory of their own, so that [`bury`](Self::bury) cannot fail.
    pub fn reserve(&mut self) -> Result<()> {
        self.int8.reserve()?;
        self.int4.iter_mut().try_for_each(|(planes, _)| planes.reserve())
    }

    /// Is a slot never a candidate?
    pub fn is_buried(&self, slot: usize) -> bool {
        let int4 = self.int4.as_ref();
        self.int8.is_buried(slot) && int4.is_none_or(|(planes, _)| planes.is_buried(slot))
    }

    /// Keeps a slot from ever being a candidate.
    pub fn bury(&mut self, slot: usize) {
        self.int8.bury(slot);
        if let Some((planes, _)) = &mut self.int4 {
            planes.bury(slot);
        }
    }

    pub fn bytes(&self) -> u64 {
        let int4 = self.int4.as_ref().map_or(0, |(planes, rest)| planes.bytes() + rest.bytes());
        self.int8.bytes() + int4
    }
}

/// Codes some keys.
///
/// # Safety
///
/// Nobody else may have a block or a row of these slots.
unsafe fn fill(isa: Isa, keys: &Keys, target: &Target<'_>, slots: Range<usize>) -> Norms {
    let mut scratch = Scratch::new(keys.dim());
    let mut norms = [0.0_f64; 5];
    for first in slots.clone().step_by(TOGETHER) {
        let some = first..slots.end.min(first + TOGETHER);
        // SAFETY: the caller's promise.
        unsafe { fill_some(isa, keys, target, some, &mut scratch, &mut norms) };
    }
    norms
}

/// As [`fill`], for at most [`TOGETHER`] keys.
///
/// # Safety
///
/// As [`fill`].
unsafe fn fill_some(
    isa: Isa,
    keys: &Keys,
    target: &Target<'_>,
    slots: Range<usize>,
    scratch: &mut Scratch,
    norms: &mut Norms,
) {
    let (dim, count) = (keys.dim(), slots.len());
    let mut note = |which: usize, norm: f64| norms[which] = norms[which].max(norm);
    scratch.load(keys, slots.clone());
    scratch.code(isa, Bits::Eight, count, true);
    for (key, slot) in slots.clone().enumerate() {
        let coded = scratch.coded[key];
        let [scale, rest] = [coded.scale, coded.rest].map(|x| f64::from(wide16(x)));
        note(0, coded.norm);
        note(3, (scale * coded.norm + rest) * (1.0 + 1e-9));
        note(4, coder::pair_square(scratch.codes(key)));
        let packed = scratch.packed(key, dim.div_ceil(4), pack8);
        // SAFETY: the caller's promise.
        unsafe { target.int8.block(slot / BLOCK) }.put(slot % BLOCK, &packed);
    }

    let Some((planes, rows)) = &target.int4 else { return };
    scratch.code(isa, Bits::Four, count, true);
    let first = scratch.coded;
    for (key, slot) in slots.clone().enumerate() {
        note(1, first[key].norm);
        let packed = scratch.packed(key, dim.div_ceil(8), pack4);
        // SAFETY: the caller's promise.
        unsafe { planes.block(slot / BLOCK) }.put(slot % BLOCK, &packed);
    }
    scratch.code(isa, Bits::Four, count, false);
    for (key, slot) in slots.enumerate() {
        let mut rest = scratch.coded[key];
        note(2, rest.norm);
        rest.rest = coder::rest_of_rounded(rest.rest, first[key].rest);
        // SAFETY: the caller's promise.
        residual::put(unsafe { rows.row_mut(slot) }, scratch.codes(key), rest);
    }
}

impl Quantized {
    pub fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.put_copy("longest", &[self.longest, self.pair]);
        self.int8.write("8", to);
        if let Some((planes, rest)) = &self.int4 {
            planes.write("4", to);
            rest.write("4", to);
        }
    }

    /// The codes of `len` keys.
    pub fn read(from: &Reader<'_>, dim: usize, len: usize) -> Result<Self> {
        let [longest, pair]: [f64; 2] = from.array("longest")?;
        let int8 = Planes::read("8", from, wide(dim), len)?;
        let int4 = if from.has("4rest") {
            let planes = Planes::read("4", from, narrow(dim), len)?;
            Some((planes, Residuals::read("4", from, dim, len)?))
        } else {
            None
        };
        // Keys beyond the range of bfloat16 have no finite bound.
        if longest.is_nan() || pair.is_nan() {
            return Err(damaged("keys without a bound"));
        }
        Ok(Self { int8, int4, longest, pair })
    }
}
