//! Arrays in slow memory.

use std::ops::Range;

use super::fault::{Fault, Step};
use super::words::Class;

/// An array in slow memory.
#[derive(Clone, Copy, Debug)]
pub struct Array {
    pub(super) id: usize,
    pub(super) class: Class,
}

impl Array {
    /// The same words in another precision: sums that are not complete.
    pub(super) fn of(self, class: Class) -> Self {
        Self { class, ..self }
    }
}

/// What an array in slow memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Input,
    Output,
    Scratch,
}

pub(super) struct Slow {
    pub name: &'static str,
    pub rows: usize,
    pub cols: usize,
    pub used_as: Use,
    /// Its first address, on a tape.
    pub first: u64,
    /// One value for each word, and whether it has one; empty without `DATA`.
    pub words: Vec<f64>,
    pub defined: Vec<bool>,
}

impl Slow {
    /// Words of no value.
    pub fn new(
        name: &'static str,
        (rows, cols): (usize, usize),
        used_as: Use,
        (with_data, first): (bool, u64),
    ) -> Self {
        let len = if with_data { rows * cols } else { 0 };
        let (words, defined) = (vec![0.0; len], vec![false; len]);
        Self { name, rows, cols, used_as, first, words, defined }
    }

    /// A word that is not defined.
    pub fn undefined(&self, word: usize) -> Fault {
        Fault::Undefined { array: self.name, row: word / self.cols, column: word % self.cols }
    }

    /// Visits the wanted words of a block: where in the block, and where in the array.
    pub fn each(
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
