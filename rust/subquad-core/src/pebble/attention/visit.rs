//! Rows whose sums stay in slow memory while panels of keys go by.
//!
//! A panel reads the sums of a row, adds to them, and writes them; nothing is read where no earlier panel has keys
//! that the row sees, and what is written is complete where no later one has.

use std::ops::Range;

use super::fault::Step;
use super::memory::Memory;
use super::problem::{Block, Problem};
use super::slow::Array;
use super::tile::Tile;
use super::words::Class;

/// Rows whose sums are read, added to and written, for a panel of keys: which have been before, which will be again.
pub(super) struct Visit<'a> {
    p: &'a Problem,
    block: &'a Block,
    /// Rows that see a key of this panel and one before it; one after it.
    before: u64,
    after: u64,
}

impl<'a> Visit<'a> {
    pub fn new(p: &'a Problem, block: &'a Block) -> Self {
        let rows = |keys| p.visible.look(block.rows.clone(), keys).rows;
        let (start, end) = (block.keys.start, block.keys.end);
        let here = block.look.rows;
        let before = here + rows(0..start) - rows(0..end);
        let after = here + rows(end..p.keys()) - rows(start..p.keys());
        Self { p, block, before, after }
    }

    fn sees(&self, row: usize, keys: Range<usize>) -> bool {
        self.p.visible.look(row..row + 1, keys).pairs > 0
    }

    fn is_here(&self, row: usize) -> bool {
        self.sees(row, self.block.keys.clone())
    }

    /// Loads what earlier panels have left; zeros for rows that are new.
    pub fn load<const DATA: bool>(
        &self,
        m: &mut Memory<DATA>,
        array: Array,
        cols: usize,
    ) -> Step<Tile> {
        self.load_columns(m, array, 0..cols)
    }

    /// As [`load`](Self::load), some columns.
    pub fn load_columns<const DATA: bool>(
        &self,
        m: &mut Memory<DATA>,
        array: Array,
        cols: Range<usize>,
    ) -> Step<Tile> {
        let known = |row, _| self.is_here(row) && self.sees(row, 0..self.block.keys.start);
        let words = self.before * cols.len() as u64;
        m.load_where(array, self.block.rows.clone(), cols, words, known)
    }

    /// Stores statistics: rows that are new take room.
    pub fn store<const DATA: bool>(&self, m: &mut Memory<DATA>, tile: &Tile, array: Array) -> Step {
        let (row, new) = (self.block.rows.start, self.block.look.rows - self.before);
        let known = |row: usize| self.sees(row, 0..self.block.keys.start);
        let before = |r, _| self.is_here(r) && known(r);
        m.store_where(tile, array, (row, 0), self.before, before, false)?;
        m.store_where(tile, array, (row, 0), new, |r, _| self.is_here(r) && !known(r), true)
    }

    /// Stores outputs: complete for rows that see no later key.
    pub fn store_out<const DATA: bool>(
        &self,
        m: &mut Memory<DATA>,
        tile: &Tile,
        array: Array,
    ) -> Step {
        self.store_columns(m, tile, array, 0)
    }

    /// As [`store_out`](Self::store_out), for columns from there on.
    pub fn store_columns<const DATA: bool>(
        &self,
        m: &mut Memory<DATA>,
        tile: &Tile,
        array: Array,
        col: usize,
    ) -> Step {
        let (row, width) = (self.block.rows.start, tile.cols as u64);
        let later = |row: usize| self.sees(row, self.block.keys.end..self.p.keys());
        let partial = array.of(Class::Accumulator);
        let complete = (self.block.look.rows - self.after) * width;
        let (at, again) = ((row, col), self.after * width);
        m.store_where(tile, partial, at, again, |r, _| self.is_here(r) && later(r), true)?;
        m.store_where(tile, array, at, complete, |r, _| self.is_here(r) && !later(r), true)
    }

    /// One step of softmax; outputs are kept divided by the sums so far.
    pub fn rescale<const DATA: bool>(
        &self,
        scores: &mut Tile,
        out: &mut Tile,
        top: &mut Tile,
        total: &mut Tile,
    ) {
        if !DATA {
            return;
        }
        let first = self.block.rows.start;
        for i in (0..scores.rows).filter(|&i| self.is_here(first + i)) {
            let is_new = !self.sees(first + i, 0..self.block.keys.start);
            let seen = |j: usize| self.p.visible.sees(first + i, self.block.keys.start + j);
            let before = if is_new { f64::NEG_INFINITY } else { top.words[i] };
            let row = &mut scores.words[i * scores.cols..][..scores.cols];
            let visible = row.iter().enumerate().filter(|&(j, _)| seen(j)).map(|(_, &s)| s);
            let largest = visible.fold(before, f64::max);
            let mut sum = total.words[i] * (before - largest).exp();
            let kept = sum;
            for (j, score) in row.iter_mut().enumerate() {
                *score = if seen(j) { (*score - largest).exp() } else { 0.0 };
                sum += *score;
            }
            for weight in row.iter_mut() {
                *weight /= sum;
            }
            for x in &mut out.words[i * out.cols..][..out.cols] {
                *x *= kept / sum;
            }
            (top.words[i], total.words[i]) = (largest, sum);
        }
    }
}

/// Stores zeros for rows that see no key.
pub(super) fn zero_unseeing<const DATA: bool>(
    p: &Problem,
    m: &mut Memory<DATA>,
    array: Array,
) -> Step {
    if p.visible.seeing() == p.rows() as u64 {
        return Ok(());
    }
    for row in 0..p.rows() {
        if p.visible.look(row..row + 1, 0..p.keys()).pairs == 0 {
            for col in 0..p.width {
                let zero = m.alloc(Class::Operand, 1, 1)?;
                m.store(&zero, array, row, col)?;
                m.free(zero);
            }
        }
    }
    Ok(())
}
