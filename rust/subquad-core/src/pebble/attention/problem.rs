//! What is to be computed, and the arrays of it.

use std::ops::Range;

use super::fault::Step;
use super::memory::Memory;
use super::slow::Array;
use super::tile::Tile;
use super::visible::{Look, Visible};
use super::words::{Class, Words};

/// Attention of rows to keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Which row sees which key.
    pub visible: Visible,
    /// Width d of rows, keys and values.
    pub width: usize,
    /// Factor of the products of rows and keys.
    pub scale: f64,
}

impl Problem {
    /// Rows of all heads.
    pub(super) fn rows(&self) -> usize {
        self.visible.rows()
    }

    /// Keys.
    pub(super) fn keys(&self) -> usize {
        self.visible.keys
    }

    /// Words of an array of rows.
    pub(super) fn row_words(&self) -> u64 {
        (self.rows() * self.width) as u64
    }

    /// Words of an array of keys.
    pub(super) fn key_words(&self) -> u64 {
        (self.keys() * self.width) as u64
    }

    /// How often words of width d are moved for each of so many rows or keys.
    pub(super) fn wide(&self, rows: u64) -> u64 {
        rows * self.width as u64
    }
}

/// Words moved, by direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Slow to fast memory.
    pub loads: Words,
    /// Fast to slow memory.
    pub stores: Words,
}

impl Traffic {
    /// Words moved, both ways.
    pub fn moved(&self) -> Words {
        self.loads + self.stores
    }
}

impl std::ops::Add for Traffic {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { loads: self.loads + other.loads, stores: self.stores + other.stores }
    }
}

/// A block of rows and keys, and what is seen in it.
#[derive(Clone)]
pub(super) struct Block {
    pub rows: Range<usize>,
    pub keys: Range<usize>,
    pub look: Look,
}

impl Problem {
    #[inline]
    pub(super) fn block(&self, rows: Range<usize>, keys: Range<usize>) -> Block {
        let look = self.visible.look(rows.clone(), keys.clone());
        Block { rows, keys, look }
    }

    /// The blocks of some rows, and a few of these keys after the other, in which something is seen.
    #[inline]
    pub(super) fn along_keys(
        &self,
        rows: &Range<usize>,
        keys: Range<usize>,
        step: usize,
    ) -> impl Iterator<Item = Block> {
        // A plain loop: without data, what is done with a block takes nanoseconds.
        let mut start = keys.start;
        std::iter::from_fn(move || {
            while start < keys.end {
                let block = self.block(rows.clone(), start..keys.end.min(start + step));
                start += step.max(1);
                if block.look.pairs > 0 {
                    return Some(block);
                }
            }
            None
        })
    }

    /// Loads columns of those rows of a block that see some key of it.
    #[inline]
    pub(super) fn load_rows<const DATA: bool>(
        &self,
        memory: &mut Memory<DATA>,
        array: Array,
        block: &Block,
        cols: Range<usize>,
    ) -> Step<Tile> {
        let count = block.look.rows * cols.len() as u64;
        let sees = |row, _| self.visible.look(row..row + 1, block.keys.clone()).pairs > 0;
        memory.load_where(array, block.rows.clone(), cols, count, sees)
    }

    /// Loads columns of those keys of a block that some row of it sees.
    #[inline]
    pub(super) fn load_keys<const DATA: bool>(
        &self,
        memory: &mut Memory<DATA>,
        array: Array,
        block: &Block,
        cols: Range<usize>,
    ) -> Step<Tile> {
        let count = block.look.keys * cols.len() as u64;
        let seen = |key, _| self.visible.look(block.rows.clone(), key..key + 1).pairs > 0;
        memory.load_where(array, block.keys.clone(), cols, count, seen)
    }

    /// Loads what is seen of a block of an array of rows by keys.
    #[inline]
    pub(super) fn load_pairs<const DATA: bool>(
        &self,
        memory: &mut Memory<DATA>,
        array: Array,
        block: &Block,
    ) -> Step<Tile> {
        let (rows, keys) = (block.rows.clone(), block.keys.clone());
        let sees = |row, key| self.visible.sees(row, key);
        memory.load_where(array, rows, keys, block.look.pairs, sees)
    }

    /// Stores what is seen of a block, for the first time or anew.
    #[inline]
    pub(super) fn store_pairs<const DATA: bool>(
        &self,
        memory: &mut Memory<DATA>,
        tile: &Tile,
        array: Array,
        block: &Block,
        new: bool,
    ) -> Step {
        let (row, key, pairs) = (block.rows.start, block.keys.start, block.look.pairs);
        let sees = |row, key| self.visible.sees(row, key);
        memory.store_where(tile, array, (row, key), pairs, sees, new)
    }

    /// Gives up what is seen by some rows of an array of rows by keys.
    pub(super) fn discard_pairs<const DATA: bool>(
        &self,
        memory: &mut Memory<DATA>,
        array: Array,
        rows: Range<usize>,
    ) {
        let pairs = self.visible.look(rows.clone(), 0..self.keys()).pairs;
        memory.discard(array, rows, 0..self.keys(), pairs);
    }

    /// Scratch for scores or weights.
    pub(super) fn pairs_array<const DATA: bool>(
        &self,
        memory: &mut Memory<DATA>,
        name: &'static str,
    ) -> Array {
        memory.scratch(name, (self.rows(), self.keys()), Class::Operand)
    }

    /// Changes each word of a tile by `change(row, key, word)`, where the row sees the key; others become 0.
    pub(super) fn map<const DATA: bool>(
        &self,
        tile: &mut Tile,
        block: &Block,
        mut change: impl FnMut(usize, usize, f64) -> f64,
    ) {
        if DATA {
            let (first, key) = (block.rows.start, block.keys.start);
            for i in 0..tile.rows {
                for j in 0..tile.cols {
                    let word = &mut tile.words[i * tile.cols + j];
                    let sees = self.visible.sees(first + i, key + j);
                    *word = if sees { change(i, j, *word) } else { 0.0 };
                }
            }
        }
    }
}

/// The widest piece, of at most `most` columns, for which `fits`; none if not even 1 does.
pub(super) fn widest(most: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
    if most == 0 || !fits(1) {
        return None;
    }
    let (mut low, mut high) = (1, most);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fits(middle) { low = middle } else { high = middle - 1 }
    }
    Some(low)
}
