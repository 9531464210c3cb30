//! Products of arrays whose sizes are not those of rows and keys, in square blocks.

use super::fault::Step;
use super::memory::Memory;
use super::problem::Traffic;
use super::slow::Array;
use super::visible::pieces;
use super::words::{Class, Words};

/// A block of the result, b by b, is in fast memory with a column of one factor and a row of the other.
#[derive(Clone, Copy)]
pub(super) struct DenseProduct {
    pub side: usize,
    pub rows: usize,
    pub inner: usize,
    pub cols: usize,
}

impl DenseProduct {
    /// `result = a b`, or `a^t b`.
    pub fn run<const DATA: bool>(
        &self,
        m: &mut Memory<DATA>,
        a: Array,
        b: Array,
        result: Array,
        transposed: bool,
    ) -> Step {
        for rows in pieces(self.rows, self.side) {
            for cols in pieces(self.cols, self.side) {
                let mut sums = m.alloc(Class::Accumulator, rows.len(), cols.len())?;
                for k in 0..self.inner {
                    let one = k..k + 1;
                    let left = if transposed {
                        m.load(a, one.clone(), rows.clone())?
                    } else {
                        m.load(a, rows.clone(), one.clone())?
                    };
                    let view = if transposed { left.view().t() } else { left.view() };
                    let right = m.load(b, one, cols.clone())?;
                    let products = (rows.len() * cols.len()) as u64;
                    m.multiply(&mut sums, 0, view, right.view(), products);
                    m.free(left);
                    m.free(right);
                }
                m.store(&sums, result, rows.start, cols.start)?;
                m.free(sums);
            }
        }
        Ok(())
    }

    /// Words moved.
    pub fn traffic(&self) -> Traffic {
        let (down, across) = (self.rows.div_ceil(self.side), self.cols.div_ceil(self.side));
        let loads = across * self.rows * self.inner + down * self.inner * self.cols;
        Traffic {
            loads: Words::operands(loads as u64),
            stores: Words::operands((self.rows * self.cols) as u64),
        }
    }

    /// What is in fast memory.
    pub fn moment(&self) -> Words {
        let (rows, cols) = (self.side.min(self.rows), self.side.min(self.cols));
        Words::new(rows + cols, rows * cols, 0)
    }
}
