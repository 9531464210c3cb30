//! A fast memory of limited size before a slow one, in which schedules are executed.
//!
//! A [`Tile`] is a block of words in fast memory. It is made by [`Memory::load`] or [`Memory::alloc`], which
//! refuse what does not fit, and given up by [`Memory::free`], which takes it: what is not in fast memory cannot be used.
//! Only words that have been stored can be loaded. So a schedule that runs to its end is one, and its
//! counts are its cost.
//!
//! With `DATA` words have values; without, only counts are kept, and a step on a tile costs some
//! nanoseconds whatever the size of the tile.

use std::ops::Range;

use super::fault::{Fault, Step};
use super::slow::{Array, Slow, Use};
use super::tape::Tape;
use super::tile::{Place, Tile, View};
use super::words::{Class, Widths, Words};

/// Both memories, and what has been moved between them.
pub struct Memory<'a, const DATA: bool> {
    capacity: u64,
    widths: Widths,
    used: u64,
    slow: Vec<Slow>,
    scratch: u64,
    counts: Counts,
    stop: &'a dyn Fn() -> bool,
    tape: Option<Tape>,
}

/// What an execution costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Words from slow to fast memory.
    pub loads: Words,
    /// Words from fast to slow memory.
    pub stores: Words,
    /// The most that was in fast memory, in the unit of its size.
    pub peak: u64,
    /// Multiplications and additions of products of matrices.
    pub flops: u64,
    /// The most words of slow memory that were in use beyond inputs and outputs.
    pub workspace: u64,
    /// Steps on tiles.
    pub steps: u64,
}

impl Counts {
    /// Words moved, both ways.
    pub fn moved(&self) -> Words {
        self.loads + self.stores
    }
}

impl<'a, const DATA: bool> Memory<'a, DATA> {
    /// An empty fast memory of `capacity`, in which a word of each class takes what `widths` says. `stop` is asked
    /// now and then.
    pub fn new(capacity: u64, widths: Widths, stop: &'a dyn Fn() -> bool) -> Self {
        let counts = Counts::default();
        Self { capacity, widths, used: 0, slow: Vec::new(), scratch: 0, counts, stop, tape: None }
    }

    /// Records what a machine with a cache would access, in lines of so many words.
    pub(super) fn record(mut self, line: u64) -> Self {
        self.tape = Some(Tape::new(line));
        self
    }

    /// What was recorded, and the addresses of outputs.
    pub(super) fn recorded(self) -> Option<(Tape, Range<u64>)> {
        let outputs = self.slow.iter().filter(|array| array.used_as == Use::Output);
        let first = outputs.clone().map(|array| array.first).min()?;
        let end = outputs.map(|array| array.first + (array.rows * array.cols) as u64).max()?;
        Some((self.tape?, first..end))
    }

    fn add(&mut self, name: &'static str, shape: (usize, usize), used_as: Use) -> usize {
        let words = (shape.0 * shape.1) as u64;
        let first = self.tape.as_mut().map_or(0, |tape| tape.array(words));
        self.slow.push(Slow::new(name, shape, used_as, (DATA, first)));
        self.slow.len() - 1
    }

    /// An array that is in slow memory at the beginning. Without `DATA` its values do not matter.
    pub(super) fn input(
        &mut self,
        name: &'static str,
        shape: (usize, usize),
        class: Class,
        words: &[f64],
    ) -> Array {
        let id = self.add(name, shape, Use::Input);
        if DATA {
            self.slow[id].words.copy_from_slice(words);
            self.slow[id].defined.fill(true);
        }
        Array { id, class }
    }

    /// An array that is to be in slow memory at the end.
    pub(super) fn output(
        &mut self,
        name: &'static str,
        shape: (usize, usize),
        class: Class,
    ) -> Array {
        Array { id: self.add(name, shape, Use::Output), class }
    }

    /// An array that takes slow memory only for words that are stored and still to be read.
    pub(super) fn scratch(
        &mut self,
        name: &'static str,
        shape: (usize, usize),
        class: Class,
    ) -> Array {
        Array { id: self.add(name, shape, Use::Scratch), class }
    }

    /// The values of an array, if all are defined.
    pub(super) fn values(&self, array: Array) -> Step<&[f64]> {
        let slow = &self.slow[array.id];
        match slow.defined.iter().position(|&defined| !defined) {
            None => Ok(&slow.words),
            Some(at) => Err(slow.undefined(at)),
        }
    }

    /// What has been counted; everything must have been given up.
    pub(super) fn end(&self) -> Step<Counts> {
        match self.used + self.scratch {
            0 => Ok(self.counts),
            words => Err(Fault::Left { words }),
        }
    }

    /// Asks whether to go on.
    fn pulse(&self) -> Step {
        if (self.stop)() { Err(Fault::Stopped) } else { Ok(()) }
    }

    #[inline]
    fn take(&mut self, class: Class, words: u64) -> Step {
        let needed = self.used + words * self.widths.of(class);
        if needed > self.capacity {
            return Err(Fault::Full { needed, capacity: self.capacity });
        }
        self.used = needed;
        self.counts.peak = self.counts.peak.max(needed);
        self.counts.steps += 1;
        let between_questions = if DATA { 1 << 8 } else { 1 << 20 };
        if self.counts.steps.is_multiple_of(between_questions) { self.pulse() } else { Ok(()) }
    }

    /// Room for words that are computed.
    #[inline]
    pub(super) fn alloc(&mut self, class: Class, rows: usize, cols: usize) -> Step<Tile> {
        self.take(class, (rows * cols) as u64)?;
        let place = match &mut self.tape {
            None => Place::default(),
            Some(tape) => {
                let first = tape.take((rows * cols) as u64);
                Place { first, step: cols as u64, is_buffer: true }
            }
        };
        Ok(Self::tile(class, rows, cols, place))
    }

    #[inline]
    fn tile(class: Class, rows: usize, cols: usize, place: Place) -> Tile {
        let words = if DATA { vec![0.0; rows * cols] } else { Vec::new() };
        Tile { rows, cols, class, place, words }
    }

    /// As [`alloc`](Self::alloc), with a value for all words.
    pub(super) fn filled(&mut self, class: Class, rows: usize, value: f64) -> Step<Tile> {
        let mut tile = self.alloc(class, rows, 1)?;
        tile.words.fill(value);
        Ok(tile)
    }

    /// One word for the length of a step.
    #[inline]
    pub(super) fn spare(&mut self, class: Class) -> Step {
        self.take(class, 1)?;
        self.used -= self.widths.of(class);
        Ok(())
    }

    /// Loads a block.
    #[inline]
    pub(super) fn load(
        &mut self,
        array: Array,
        rows: Range<usize>,
        cols: Range<usize>,
    ) -> Step<Tile> {
        let words = (rows.len() * cols.len()) as u64;
        self.load_where(array, rows, cols, words, |_, _| true)
    }

    /// Loads those `count` words of a block that are `wanted`; the others are zero, and take room too.
    #[inline]
    pub(super) fn load_where(
        &mut self,
        array: Array,
        rows: Range<usize>,
        cols: Range<usize>,
        count: u64,
        wanted: impl Fn(usize, usize) -> bool,
    ) -> Step<Tile> {
        self.take(array.class, (rows.len() * cols.len()) as u64)?;
        let slow = &self.slow[array.id];
        let first = slow.first + (rows.start * slow.cols + cols.start) as u64;
        let place = Place { first, step: slow.cols as u64, is_buffer: false };
        let mut tile = Self::tile(array.class, rows.len(), cols.len(), place);
        self.counts.loads.add(array.class, count);
        if DATA {
            let slow = &self.slow[array.id];
            slow.each(&rows, &cols, count, wanted, |at, word| {
                tile.words[at] = slow.words[word];
                if slow.defined[word] { Ok(()) } else { Err(slow.undefined(word)) }
            })?;
        }
        Ok(tile)
    }

    /// Stores a tile as a block that begins there.
    #[inline]
    pub(super) fn store(&mut self, tile: &Tile, array: Array, row: usize, col: usize) -> Step {
        let words = (tile.rows * tile.cols) as u64;
        self.store_where(tile, array, (row, col), words, |_, _| true, true)
    }

    /// Stores those `count` words of a tile that are `wanted`; if not `new`, they are words of scratch that have been
    /// stored before.
    #[inline]
    pub(super) fn store_where(
        &mut self,
        tile: &Tile,
        array: Array,
        (row, col): (usize, usize),
        count: u64,
        wanted: impl Fn(usize, usize) -> bool,
        new: bool,
    ) -> Step {
        self.counts.stores.add(array.class, count);
        self.counts.steps += 1;
        if let Some(tape) = &mut self.tape {
            let slow = &self.slow[array.id];
            let first = slow.first + (row * slow.cols + col) as u64;
            let place = Place { first, step: slow.cols as u64, is_buffer: false };
            tape.touch(tile.view(), false);
            tape.touch(tile.view_at(place), true);
        }
        if new && self.slow[array.id].used_as == Use::Scratch {
            self.scratch += count;
            self.counts.workspace = self.counts.workspace.max(self.scratch);
        }
        if DATA {
            let mut slow = std::mem::take(&mut self.slow[array.id].words);
            let mut defined = std::mem::take(&mut self.slow[array.id].defined);
            let target = &self.slow[array.id];
            let fresh = new && target.used_as == Use::Scratch;
            let (rows, cols) = (row..row + tile.rows, col..col + tile.cols);
            target.each(&rows, &cols, count, wanted, |at, word| {
                let before = std::mem::replace(&mut defined[word], true);
                slow[word] = tile.words[at];
                let name = target.name;
                if fresh && before { Err(Fault::Overwritten { array: name }) } else { Ok(()) }
            })?;
            self.slow[array.id].words = slow;
            self.slow[array.id].defined = defined;
        }
        Ok(())
    }

    /// Gives up `count` words of scratch, and in them the block.
    pub(super) fn discard(
        &mut self,
        array: Array,
        rows: Range<usize>,
        cols: Range<usize>,
        count: u64,
    ) {
        self.scratch -= count;
        if DATA {
            let slow = &mut self.slow[array.id];
            for row in rows {
                slow.defined[row * slow.cols..][cols.clone()].fill(false);
            }
        }
    }

    /// Gives up a tile.
    #[inline]
    #[allow(clippy::needless_pass_by_value)] // that it is taken is the point
    pub(super) fn free(&mut self, tile: Tile) {
        let words = (tile.rows * tile.cols) as u64;
        self.used -= words * self.widths.of(tile.class);
        if let Some(tape) = &mut self.tape
            && tile.place.is_buffer
        {
            tape.give(words, tile.place.first);
        }
    }

    /// As [`multiply_at`](Self::multiply_at), from the first row on.
    #[inline]
    pub(super) fn multiply(
        &mut self,
        into: &mut Tile,
        col: usize,
        a: View<'_>,
        b: View<'_>,
        products: u64,
    ) {
        self.multiply_at(into, (0, col), a, b, products);
    }

    /// `into[row.., col..] += a b`, of whose products of numbers `products` are not with a zero that is known.
    #[inline]
    pub(super) fn multiply_at(
        &mut self,
        into: &mut Tile,
        (row, col): (usize, usize),
        a: View<'_>,
        b: View<'_>,
        products: u64,
    ) {
        self.counts.flops += 2 * products;
        self.counts.steps += 1;
        if let Some(tape) = &mut self.tape {
            tape.multiply(into.part((row, col), (a.rows, b.cols)), a, b);
        }
        if DATA {
            for i in 0..a.rows {
                for j in 0..b.cols {
                    let sum: f64 = (0..a.cols).map(|k| a.at(i, k) * b.at(k, j)).sum();
                    into.words[(row + i) * into.cols + col + j] += sum;
                }
            }
        }
    }
}
