//! Blocks of words in fast memory.

use std::ops::Range;

use super::words::Class;

/// A block of words in fast memory. There is no way to copy it, and `free` is the only way to be rid of it.
#[must_use = "a tile stays in fast memory until it is freed"]
pub struct Tile {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) class: Class,
    /// Rows one after the other; empty without `DATA`.
    pub(super) words: Vec<f64>,
}

/// Some rows and columns of a tile, possibly transposed.
#[derive(Clone, Copy)]
pub struct View<'a> {
    words: &'a [f64],
    pub(super) rows: usize,
    pub(super) cols: usize,
    offset: usize,
    row_step: usize,
    col_step: usize,
}

impl Tile {
    /// All of it.
    pub(super) fn view(&self) -> View<'_> {
        self.columns(0..self.cols)
    }

    /// Some of its rows.
    pub(super) fn rows(&self, range: Range<usize>) -> View<'_> {
        View { rows: range.len(), offset: range.start * self.cols, ..self.view() }
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

    pub(super) fn at(&self, row: usize, col: usize) -> f64 {
        self.words[self.offset + row * self.row_step + col * self.col_step]
    }
}
