//! A fast memory of limited size before a slow one, in which schedules are executed.
//!
//! A [`Tile`] is a block of words in fast memory. It is made by [`Memory::load`] or [`Memory::alloc`], which
//! refuse what does not fit, and given up by [`Memory::free`], which takes it: what is not in fast memory cannot be used.
//! Only words that have been stored can be loaded. So a schedule that runs to its end is one, and its
//! counts are its cost.
//!
//! With `DATA` words have values; without, only counts are kept, and a step on a tile costs some
//! nanoseconds whatever the size of the tile.

use std::fmt;
use std::ops::Range;

use super::words::{Class, Widths, Words};

/// Why a schedule cannot be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Fast memory is too small.
    Full {
        /// What would be in it.
        needed: u64,
        /// What fits.
        capacity: u64,
    },
    /// A word is loaded that was never stored, or was given up.
    Undefined {
        /// Name of the array.
        array: &'static str,
        /// Where in it.
        row: usize,
        /// See `row`.
        column: usize,
    },
    /// A word of scratch is stored anew while its value is still to be read.
    Overwritten {
        /// Name of the array.
        array: &'static str,
    },
    /// The words that a step moves are not as many as it counts.
    Miscounted {
        /// Name of the array.
        array: &'static str,
        /// What is counted.
        counted: u64,
        /// What is moved.
        moved: u64,
    },
    /// Something is left in fast memory, or in scratch, at the end.
    Left {
        /// Fast and slow words.
        words: u64,
    },
    /// The caller asked to stop.
    Stopped,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { needed, capacity } => {
                write!(f, "fast memory would hold {needed}, and {capacity} fit")
            }
            Self::Undefined { array, row, column } => {
                write!(f, "{array}[{row}, {column}] is loaded, but not defined")
            }
            Self::Overwritten { array } => write!(f, "a word of {array} is overwritten"),
            Self::Miscounted { array, counted, moved } => {
                write!(f, "{counted} words of {array} are counted, and {moved} moved")
            }
            Self::Left { words } => write!(f, "{words} words are left at the end"),
            Self::Stopped => write!(f, "stopped"),
        }
    }
}

impl std::error::Error for Fault {}

/// The outcome of a step.
pub type Step<T = ()> = Result<T, Fault>;

/// An array in slow memory.
#[derive(Clone, Copy, Debug)]
pub struct Array {
    id: usize,
    class: Class,
}

impl Array {
    /// The same words in another precision: sums that are not complete.
    pub(super) fn of(self, class: Class) -> Self {
        Self { class, ..self }
    }
}

/// What an array in slow memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Input,
    Output,
    Scratch,
}

struct Slow {
    name: &'static str,
    rows: usize,
    cols: usize,
    used_as: Use,
    /// One value for each word, and whether it has one; empty without `DATA`.
    words: Vec<f64>,
    defined: Vec<bool>,
}

/// A block of words in fast memory. There is no way to copy it, and `free` is the only way to be rid of it.
#[must_use = "a tile stays in fast memory until it is freed"]
pub struct Tile {
    pub(super) rows: usize,
    pub(super) cols: usize,
    class: Class,
    /// Rows one after the other; empty without `DATA`.
    pub(super) words: Vec<f64>,
}

/// Some rows and columns of a tile, possibly transposed.
#[derive(Clone, Copy)]
pub struct View<'a> {
    words: &'a [f64],
    rows: usize,
    cols: usize,
    offset: usize,
    row_step: usize,
    col_step: usize,
}

impl Tile {
    /// All of it.
    pub(super) fn view(&self) -> View<'_> {
        self.columns(0..self.cols)
    }

    /// Some of its columns.
    pub(super) fn columns(&self, range: Range<usize>) -> View<'_> {
        View {
            words: &self.words,
            rows: self.rows,
            cols: range.len(),
            offset: range.start,
            row_step: self.cols,
            col_step: 1,
        }
    }
}

impl View<'_> {
    /// Rows and columns exchanged.
    pub(super) fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_step: self.col_step,
            col_step: self.row_step,
            ..self
        }
    }

    fn at(&self, row: usize, col: usize) -> f64 {
        self.words[self.offset + row * self.row_step + col * self.col_step]
    }
}

/// Both memories, and what has been moved between them.
pub struct Memory<'a, const DATA: bool> {
    capacity: u64,
    widths: Widths,
    used: u64,
    slow: Vec<Slow>,
    scratch: u64,
    counts: Counts,
    stop: &'a dyn Fn() -> bool,
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
        Self { capacity, widths, used: 0, slow: Vec::new(), scratch: 0, counts, stop }
    }

    fn add(&mut self, name: &'static str, (rows, cols): (usize, usize), used_as: Use) -> usize {
        let len = if DATA { rows * cols } else { 0 };
        let (words, defined) = (vec![0.0; len], vec![false; len]);
        self.slow.push(Slow { name, rows, cols, used_as, words, defined });
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

    /// Asks whether to go on; for outer loops.
    pub(super) fn pulse(&self) -> Step {
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
        Ok(())
    }

    /// Room for words that are computed.
    #[inline]
    pub(super) fn alloc(&mut self, class: Class, rows: usize, cols: usize) -> Step<Tile> {
        self.take(class, (rows * cols) as u64)?;
        let words = if DATA { vec![0.0; rows * cols] } else { Vec::new() };
        Ok(Tile { rows, cols, class, words })
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
        let mut tile = self.alloc(array.class, rows.len(), cols.len())?;
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
        self.store_where(tile, array, row, col, words, |_, _| true)
    }

    /// Stores those `count` words of a tile that are `wanted`.
    #[inline]
    pub(super) fn store_where(
        &mut self,
        tile: &Tile,
        array: Array,
        row: usize,
        col: usize,
        count: u64,
        wanted: impl Fn(usize, usize) -> bool,
    ) -> Step {
        self.write(tile, array, (row, col), count, wanted, true)
    }

    /// As [`store_where`](Self::store_where), for words of scratch that have been stored before.
    #[inline]
    pub(super) fn update_where(
        &mut self,
        tile: &Tile,
        array: Array,
        row: usize,
        col: usize,
        count: u64,
        wanted: impl Fn(usize, usize) -> bool,
    ) -> Step {
        self.write(tile, array, (row, col), count, wanted, false)
    }

    #[inline]
    fn write(
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
        self.used -= (tile.rows * tile.cols) as u64 * self.widths.of(tile.class);
    }

    /// `into[row.., col..] += a b`, of whose products of numbers `products` are not with a zero that is known.
    #[inline]
    pub(super) fn multiply(
        &mut self,
        into: &mut Tile,
        col: usize,
        a: View<'_>,
        b: View<'_>,
        products: u64,
    ) {
        self.counts.flops += 2 * products;
        self.counts.steps += 1;
        if DATA {
            for i in 0..a.rows {
                for j in 0..b.cols {
                    let sum: f64 = (0..a.cols).map(|k| a.at(i, k) * b.at(k, j)).sum();
                    into.words[i * into.cols + col + j] += sum;
                }
            }
        }
    }
}

impl Slow {
    fn undefined(&self, word: usize) -> Fault {
        Fault::Undefined { array: self.name, row: word / self.cols, column: word % self.cols }
    }

    /// Visits the wanted words of a block: where in the block, and where in the array.
    fn each(
        &self,
        rows: &Range<usize>,
        cols: &Range<usize>,
        counted: u64,
        wanted: impl Fn(usize, usize) -> bool,
        mut visit: impl FnMut(usize, usize) -> Step,
    ) -> Step {
        debug_assert!(rows.end <= self.rows && cols.end <= self.cols);
        let mut moved = 0;
        for row in rows.clone() {
            for col in cols.clone() {
                if wanted(row, col) {
                    moved += 1;
                    let at = (row - rows.start) * cols.len() + col - cols.start;
                    visit(at, row * self.cols + col)?;
                }
            }
        }
        if moved == counted {
            Ok(())
        } else {
            Err(Fault::Miscounted { array: self.name, counted, moved })
        }
    }
}
