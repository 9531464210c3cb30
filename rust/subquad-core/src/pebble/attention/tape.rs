//! What a machine with a cache accesses when it runs a schedule: line by line, without copies.
//!
//! What is loaded is read where it is; what is computed has buffers, which are used again. A product of matrices takes
//! one row after the other. A step on the words of one tile, as softmax, is taken to happen in registers.

use std::collections::HashMap;

use super::tile::View;

/// The beginnings of accesses to lines, in order.
pub(super) struct Tape {
    line: u64,
    next: u64,
    /// Buffers that nobody uses, by their words; the last that was given up is the first to be used.
    unused: HashMap<u64, Vec<u64>>,
    pub addresses: Vec<u64>,
    pub writes: Vec<bool>,
}

impl Tape {
    pub fn new(line: u64) -> Self {
        let (addresses, writes) = (Vec::new(), Vec::new());
        Self { line, next: 0, unused: HashMap::new(), addresses, writes }
    }

    /// Room for an array.
    pub fn array(&mut self, words: u64) -> u64 {
        let first = self.next;
        self.next += words.next_multiple_of(self.line);
        first
    }

    /// A buffer.
    pub fn take(&mut self, words: u64) -> u64 {
        match self.unused.get_mut(&words).and_then(Vec::pop) {
            Some(first) => first,
            None => self.array(words),
        }
    }

    /// Gives a buffer up.
    pub fn give(&mut self, words: u64, first: u64) {
        self.unused.entry(words).or_default().push(first);
    }

    /// Accesses the lines of some words that follow each other.
    fn run(&mut self, first: u64, words: u64, write: bool) {
        let lines = first / self.line..(first + words).div_ceil(self.line);
        for line in lines {
            self.addresses.push(line * self.line);
            self.writes.push(write);
        }
    }

    /// Accesses all words of a view, in the order of memory.
    pub fn touch(&mut self, view: View<'_>, write: bool) {
        let view = if view.is_transposed() { view.t() } else { view };
        for row in 0..view.rows {
            self.run(view.address(row), view.cols as u64, write);
        }
    }

    /// Accesses what a product of matrices does.
    pub fn multiply(&mut self, into: View<'_>, a: View<'_>, b: View<'_>) {
        for row in 0..a.rows {
            self.touch(a.row(row), false);
            self.touch(b, false);
            self.touch(into.row(row), true);
        }
    }
}
