//! Blocks of words in fast memory.

use std::ops::Range;

use super::words::Class;

/// A block of words in fast memory. There is no way to copy it, and `free` is the only way to be rid of it.
#[must_use = "a tile stays in fast memory until it is freed"]
pub struct Tile {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) class: Class,
    pub(super) place: Place,
    /// Rows one after the other; empty without `DATA`.
    pub(super) words: Vec<f64>,
}

/// Where the words of a tile are for a machine without a fast memory of its own: in an array, or in a buffer.
#[derive(Clone, Copy, Default)]
pub(super) struct Place {
    pub first: u64,
    /// From row to row.
    pub step: u64,
    pub is_buffer: bool,
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
    place: Place,
    /// Columns of the tile.
    across: usize,
}

impl Tile {
    /// All of it.
    pub(super) fn view(&self) -> View<'_> {
        self.columns(0..self.cols)
    }

    /// A block of it.
    pub(super) fn part(
        &self,
        (row, col): (usize, usize),
        (rows, cols): (usize, usize),
    ) -> View<'_> {
        View { rows, cols, offset: row * self.cols + col, ..self.view() }
    }

    /// All of it, if it were elsewhere.
    pub(super) fn view_at(&self, place: Place) -> View<'_> {
        View { place, ..self.view() }
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
            place: self.place,
            across: self.cols,
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

    /// One of its rows.
    pub(super) fn row(self, row: usize) -> Self {
        Self { rows: 1, offset: self.offset + row * self.row_step, ..self }
    }

    /// Do words of a column, not of a row, follow each other in memory?
    pub(super) fn is_transposed(&self) -> bool {
        self.col_step != 1
    }

    /// Where the first word of a row is.
    pub(super) fn address(&self, row: usize) -> u64 {
        let at = self.offset + row * self.row_step;
        self.place.first + (at / self.across) as u64 * self.place.step + (at % self.across) as u64
    }

    pub(super) fn at(&self, row: usize, col: usize) -> f64 {
        self.words[self.offset + row * self.row_step + col * self.col_step]
    }
}
