//! Keys and values, and their gradients, stay in fast memory while rows pass by: the loop that the fused schedules of the
//! backward direction share.
//!
//! A row of queries is loaded whole, for it is used twice: for its scores, and for the gradient of the keys. There are
//! two ways to go on. Its scores with all keys of the panel are computed at once, and `grad_out` passes in pieces
//! of `stream` words, for a piece is used for the slopes of weights and for the gradient of values at once: 2c + d + 1
//! words beside the panels. Or the row of `grad_out` is loaded whole too, and scores with `tile` keys are
//! computed at a time: 2d + 4 words for one key, which is less for large panels.

use std::ops::Range;

use super::fault::Step;
use super::memory::Memory;
use super::operands::Backward;
use super::planner::Search;
use super::problem::{Block, Problem, Traffic, widest};
use super::slow::Array;
use super::tile::Tile;
use super::visible::pieces;
use super::words::{Class, Words};

/// Panels of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyPanels {
    /// Keys of a panel.
    pub keys: usize,
    /// Keys with which scores are computed at once: all, or fewer.
    pub tile: usize,
    /// Words of `grad_out` that are loaded at once, if all.
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
            let mut stay = Stay {
                key: m.load(arrays.key, keys.clone(), 0..p.width)?,
                value: m.load(arrays.value, keys.clone(), 0..p.width)?,
                grad_key: m.alloc(Class::Accumulator, keys.len(), p.width)?,
                grad_value: m.alloc(Class::Accumulator, keys.len(), p.width)?,
            };
            for row in 0..p.rows() {
                let block = p.block(row..row + 1, keys.clone());
                if block.look.pairs == 0 {
                    continue;
                }
                if self.tile < self.keys {
                    let operands = (arrays, row_sums);
                    self.tiles(p, m, operands, &mut stay, &block, &mut slopes)?;
                } else {
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

    /// One row, some keys at a time.
    fn tiles<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        (arrays, row_sums): (Backward, Array),
        stay: &mut Stay,
        panel: &Block,
        slopes_of: &mut impl FnMut(&mut Memory<DATA>, &Tile, &Tile, &Block) -> Step,
    ) -> Step {
        let (rows, first) = (panel.rows.clone(), panel.keys.start);
        let query = m.load(arrays.query, rows.clone(), 0..p.width)?;
        let grad = m.load(arrays.grad_out, rows.clone(), 0..p.width)?;
        let lse = m.load(arrays.lse, rows.clone(), 0..1)?;
        let sum = m.load(row_sums, rows.clone(), 0..1)?;
        for keys in pieces(panel.keys.len(), self.tile) {
            let block = p.block(rows.clone(), first + keys.start..first + keys.end);
            let products = p.wide(block.look.pairs);
            if products == 0 {
                continue;
            }
            let mut weights = m.alloc(Class::Accumulator, 1, keys.len())?;
            m.multiply(&mut weights, 0, query.view(), stay.key.rows(keys.clone()).t(), products);
            p.map::<DATA>(&mut weights, &block, |_, _, x| (x * p.scale - lse.words[0]).exp());
            let mut slopes = m.alloc(Class::Accumulator, 1, keys.len())?;
            m.multiply(&mut slopes, 0, grad.view(), stay.value.rows(keys.clone()).t(), products);
            let at = (keys.start, 0);
            m.multiply_at(&mut stay.grad_value, at, weights.view().t(), grad.view(), products);
            slope::<DATA>(p, &mut slopes, &weights, &sum, &block);
            m.multiply_at(&mut stay.grad_key, at, slopes.view().t(), query.view(), products);
            slopes_of(m, &slopes, &stay.key, &block)?;
            m.free(weights);
            m.free(slopes);
        }
        for tile in [query, grad, lse, sum] {
            m.free(tile);
        }
        Ok(())
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
    pub fn moments(&self, p: &Problem) -> Vec<Words> {
        let Self { keys, tile, stream } = *self;
        let stay = Words::new(2 * keys * p.width + p.width, 2 * keys * p.width, 0);
        if tile < keys {
            return vec![stay + Words::new(p.width, 2 * tile, 2)];
        }
        vec![
            stay + Words::new(0, keys, 1),
            stay + Words::new(stream, 2 * keys, 0),
            stay + Words::new(0, 2 * keys, 1),
        ]
    }

    /// The best, either way.
    pub fn best(search: &Search) -> Option<Self> {
        let p = search.problem;
        let fits = |panels: Self| search.fits(&panels.moments(p));
        let whole = |keys| Self { keys, tile: keys, stream: 1 };
        let parts = |keys| Self { keys, tile: 1, stream: p.width };
        let at_once = search.keys(|keys| fits(whole(keys)));
        let in_parts = search.keys(|keys| fits(parts(keys)));
        match (at_once, in_parts) {
            (Some((_, rows)), Some((keys, fewer))) if fewer < rows => {
                let tile = widest(keys - 1, |tile| fits(Self { tile, ..parts(keys) }));
                Some(Self { tile: tile.unwrap_or(1), ..parts(keys) })
            }
            (Some((keys, _)), _) => {
                let stream = widest(p.width, |stream| fits(Self { stream, ..whole(keys) }))?;
                Some(Self { stream, ..whole(keys) })
            }
            (None, Some((keys, _))) => Some(parts(keys)),
            (None, None) => None,
        }
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
