//! Keys and values, and their gradients, stay in fast memory while rows pass by: the loop that the fused schedules of the
//! backward direction share.
//!
//! A row of queries is loaded whole, for it is used twice: for its scores, and for the gradient of the keys. A row of
//! `grad_out` passes in pieces of `stream` words, for a piece is used for the slopes of weights and for the
//! gradient of values at once.

use std::ops::Range;

use super::fault::Step;
use super::memory::Memory;
use super::problem::{Backward, Block, Problem, Traffic};
use super::slow::Array;
use super::tile::Tile;
use super::visible::pieces;
use super::words::{Class, Words};

/// Panels of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyPanels {
    /// Keys of a panel.
    pub keys: usize,
    /// Words of `grad_out` that are loaded at once.
    pub stream: usize,
}

/// What stays.
struct Stay {
    key: Tile,
    value: Tile,
    grad_key: Tile,
    grad_value: Tile,
}

impl KeyPanels {
    /// Computes the gradients of keys and values. `slopes` gets the slopes of the scores of each row, and the keys.
    pub fn run<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: Backward,
        row_sums: Array,
        mut slopes: impl FnMut(&mut Memory<DATA>, &Tile, &Tile, &Block) -> Step,
    ) -> Step {
        for keys in pieces(p.keys(), self.keys) {
            m.pulse()?;
            let mut stay = Stay {
                key: m.load(arrays.key, keys.clone(), 0..p.width)?,
                value: m.load(arrays.value, keys.clone(), 0..p.width)?,
                grad_key: m.alloc(Class::Accumulator, keys.len(), p.width)?,
                grad_value: m.alloc(Class::Accumulator, keys.len(), p.width)?,
            };
            for row in 0..p.rows() {
                let block = p.block(row..row + 1, keys.clone());
                if block.look.pairs > 0 {
                    let tile = self.row(p, m, arrays, row_sums, &mut stay, &block)?;
                    slopes(m, &tile, &stay.key, &block)?;
                    m.free(tile);
                }
            }
            m.store(&stay.grad_key, arrays.grad_key, keys.start, 0)?;
            m.store(&stay.grad_value, arrays.grad_value, keys.start, 0)?;
            m.free(stay.key);
            m.free(stay.value);
            m.free(stay.grad_key);
            m.free(stay.grad_value);
        }
        Ok(())
    }

    /// One row: returns the slopes of its scores.
    fn row<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: Backward,
        row_sums: Array,
        stay: &mut Stay,
        block: &Block,
    ) -> Step<Tile> {
        let (rows, pairs) = (block.rows.clone(), block.look.pairs);
        let query = m.load(arrays.query, rows.clone(), 0..p.width)?;
        let mut weights = m.alloc(Class::Accumulator, 1, block.keys.len())?;
        m.multiply(&mut weights, 0, query.view(), stay.key.view().t(), p.wide(pairs));
        let lse = m.load(arrays.lse, rows.clone(), 0..1)?;
        p.map::<DATA>(&mut weights, block, |_, _, x| (x * p.scale - lse.words[0]).exp());
        m.free(lse);
        let mut slopes = m.alloc(Class::Accumulator, 1, block.keys.len())?;
        for cols in pieces(p.width, self.stream) {
            let grad = m.load(arrays.grad_out, rows.clone(), cols.clone())?;
            let products = pairs * cols.len() as u64;
            let value = stay.value.columns(cols.clone()).t();
            m.multiply(&mut slopes, 0, grad.view(), value, products);
            m.multiply(&mut stay.grad_value, cols.start, weights.view().t(), grad.view(), products);
            m.free(grad);
        }
        let sum = m.load(row_sums, rows, 0..1)?;
        slope::<DATA>(p, &mut slopes, &weights, &sum, block);
        m.free(sum);
        m.multiply(&mut stay.grad_key, 0, slopes.view().t(), query.view(), p.wide(pairs));
        m.free(weights);
        m.free(query);
        Ok(slopes)
    }

    /// Words moved.
    pub fn traffic(&self, p: &Problem) -> Traffic {
        let (rows, keys) = (p.visible.rows_of_panels(self.keys), p.key_words());
        Traffic {
            loads: Words::operands(2 * keys + 2 * p.wide(rows)) + Words::statistics(2 * rows),
            stores: Words::operands(2 * keys),
        }
    }

    /// What is in fast memory when.
    pub fn moments(&self, p: &Problem) -> [Words; 3] {
        let Self { keys, stream } = *self;
        let stay = Words::new(2 * keys * p.width + p.width, 2 * keys * p.width, 0);
        [
            stay + Words::new(0, keys, 1),
            stay + Words::new(stream, 2 * keys, 0),
            stay + Words::new(0, 2 * keys, 1),
        ]
    }

    /// What stays while `slopes` is called: the slopes, beside keys and values.
    pub fn during(&self, p: &Problem) -> Words {
        Words::new(2 * self.keys * p.width, 2 * self.keys * p.width + self.keys, 0)
    }
}

/// Slopes of weights become slopes of scores: `weights * (slopes - row sum)`, times the scale.
pub(super) fn slope<const DATA: bool>(
    p: &Problem,
    slopes: &mut Tile,
    weights: &Tile,
    sums: &Tile,
    block: &Block,
) {
    p.map::<DATA>(slopes, block, |i, j, x| {
        weights.words[i * weights.cols + j] * (x - sums.words[i]) * p.scale
    });
}

/// Gives up the row sums.
pub(super) fn discard_sums<const DATA: bool>(p: &Problem, m: &mut Memory<DATA>, sums: Array) {
    let rows: Range<usize> = 0..p.rows();
    m.discard(sums, rows, 0..1, p.rows() as u64);
}
