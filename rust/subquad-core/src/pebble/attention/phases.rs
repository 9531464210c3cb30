//! What schedules have in common: products whose one factor or result is an array of rows by keys.
//!
//! In each, one factor comes a column or a few words at a time, and a block of the result stays in fast memory
//! until it is complete.

use std::ops::Range;

use super::fault::Step;
use super::memory::Memory;
use super::problem::{Block, Problem, Traffic, widest};
use super::slow::Array;
use super::tile::Tile;
use super::visible::pieces;
use super::words::{Class, Widths, Words};

/// A way to compute the scores of rows, a panel at a time.
pub(super) trait Scores {
    /// Rows of a panel.
    fn rows(&self) -> usize;

    /// The products of `rows` of the first array with the keys of the second, in blocks; `finish` gets every block in
    /// which something is seen.
    fn panel<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: (Array, Array),
        rows: Range<usize>,
        finish: impl FnMut(&mut Memory<DATA>, Tile, &Block) -> Step,
    ) -> Step;

    /// Words loaded, by all panels.
    fn traffic(&self, p: &Problem) -> Traffic;

    /// What is in fast memory while a block is computed.
    fn moment(&self, p: &Problem) -> Words;

    /// What is in fast memory when a block is complete.
    fn finished(&self, p: &Problem) -> Words;
}

/// Scores of a panel of rows, block by block: `rows` by `keys` words of them are in fast memory, with one column
/// of the rows, and `stream` words of the keys at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScoreBlocks {
    /// Rows of a block.
    pub rows: usize,
    /// Keys of a block.
    pub keys: usize,
    /// Keys of which a column is loaded at once.
    pub stream: usize,
}

impl Scores for ScoreBlocks {
    fn rows(&self) -> usize {
        self.rows
    }

    fn panel<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        (of_rows, of_keys): (Array, Array),
        rows: Range<usize>,
        mut finish: impl FnMut(&mut Memory<DATA>, Tile, &Block) -> Step,
    ) -> Step {
        for keys in pieces(p.keys(), self.keys) {
            let block = p.block(rows.clone(), keys.clone());
            if block.look.pairs == 0 {
                continue;
            }
            let mut scores = m.alloc(Class::Accumulator, rows.len(), keys.len())?;
            let parts: Vec<Block> = pieces(keys.len(), self.stream)
                .map(|s| p.block(rows.clone(), keys.start + s.start..keys.start + s.end))
                .filter(|part| part.look.pairs > 0)
                .collect();
            for col in 0..p.width {
                let a = p.load_rows(m, of_rows, &block, col..col + 1)?;
                for part in &parts {
                    let b = p.load_keys(m, of_keys, part, col..col + 1)?;
                    let at = part.keys.start - keys.start;
                    m.multiply(&mut scores, at, a.view(), b.view().t(), part.look.pairs);
                    m.free(b);
                }
                m.free(a);
            }
            finish(m, scores, &block)?;
        }
        Ok(())
    }

    fn traffic(&self, p: &Problem) -> Traffic {
        let rows = p.visible.rows_of_panels(self.keys) + p.visible.keys_of_panels(self.rows);
        Traffic { loads: Words::operands(p.wide(rows)), stores: Words::default() }
    }

    fn moment(&self, _: &Problem) -> Words {
        Words::new(self.rows + self.stream, self.rows * self.keys, 0)
    }

    fn finished(&self, _: &Problem) -> Words {
        Words::new(0, self.rows * self.keys, 0)
    }
}

/// Scores of a panel of rows that stay in fast memory, key by key, of which `stream` words come at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResidentRows {
    /// Rows of a panel.
    pub rows: usize,
    /// Words of a key that are loaded at once.
    pub stream: usize,
}

impl Scores for ResidentRows {
    fn rows(&self) -> usize {
        self.rows
    }

    fn panel<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        (of_rows, of_keys): (Array, Array),
        rows: Range<usize>,
        mut finish: impl FnMut(&mut Memory<DATA>, Tile, &Block) -> Step,
    ) -> Step {
        let resident = m.load(of_rows, rows.clone(), 0..p.width)?;
        for key in 0..p.keys() {
            let block = p.block(rows.clone(), key..key + 1);
            if block.look.pairs == 0 {
                continue;
            }
            let mut scores = m.alloc(Class::Accumulator, rows.len(), 1)?;
            for cols in pieces(p.width, self.stream) {
                let b = m.load(of_keys, key..key + 1, cols.clone())?;
                let products = block.look.pairs * cols.len() as u64;
                m.multiply(&mut scores, 0, resident.columns(cols), b.view().t(), products);
                m.free(b);
            }
            finish(m, scores, &block)?;
        }
        m.free(resident);
        Ok(())
    }

    fn traffic(&self, p: &Problem) -> Traffic {
        let keys = p.wide(p.visible.keys_of_panels(self.rows));
        Traffic { loads: Words::operands(p.row_words() + keys), stores: Words::default() }
    }

    fn moment(&self, p: &Problem) -> Words {
        Words::new(self.rows * p.width + self.stream, self.rows, 0)
    }

    fn finished(&self, p: &Problem) -> Words {
        Words::new(self.rows * p.width, self.rows, 0)
    }
}

/// The product of weights, an array of rows by keys, and an array of keys; or, transposed, of rows. A block of the
/// result, `rows` by `columns`, is in fast memory with one column of weights and `stream` words of the factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Rows of a block of the result: rows, or if transposed keys.
    pub rows: usize,
    /// Columns of a block of the result.
    pub columns: usize,
    /// Words of the factor that are loaded at once.
    pub stream: usize,
}

impl Product {
    /// `result = weights factor`, or `weights^t factor`.
    pub(super) fn run<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        weights: Array,
        factor: Array,
        result: Array,
        transposed: bool,
    ) -> Step {
        let (rows, keys) = (p.rows(), p.keys());
        let (height, depth) = if transposed { (keys, rows) } else { (rows, keys) };
        for panel in pieces(height, self.rows) {
            for cols in pieces(p.width, self.columns) {
                let mut sums = m.alloc(Class::Accumulator, panel.len(), cols.len())?;
                for k in 0..depth {
                    let one = k..k + 1;
                    let block = if transposed {
                        p.block(one.clone(), panel.clone())
                    } else {
                        p.block(panel.clone(), one.clone())
                    };
                    if block.look.pairs == 0 {
                        continue;
                    }
                    let w = p.load_pairs(m, weights, &block)?;
                    let w_view = if transposed { w.view().t() } else { w.view() };
                    for part in pieces(cols.len(), self.stream) {
                        let words = cols.start + part.start..cols.start + part.end;
                        let products = block.look.pairs * words.len() as u64;
                        let f = m.load(factor, one.clone(), words)?;
                        m.multiply(&mut sums, part.start, w_view, f.view(), products);
                        m.free(f);
                    }
                    m.free(w);
                }
                m.store(&sums, result, panel.start, cols.start)?;
                m.free(sums);
            }
        }
        Ok(())
    }

    /// Words moved.
    pub(super) fn traffic(&self, p: &Problem, transposed: bool) -> Traffic {
        let (of_factor, of_result) = if transposed {
            (p.visible.rows_of_panels(self.rows), p.key_words())
        } else {
            (p.visible.keys_of_panels(self.rows), p.row_words())
        };
        let passes = p.width.div_ceil(self.columns) as u64;
        let loads = passes * p.visible.pairs() + p.wide(of_factor);
        Traffic { loads: Words::operands(loads), stores: Words::operands(of_result) }
    }

    /// What is in fast memory.
    pub(super) fn moment(&self) -> Words {
        Words::new(self.rows + self.stream, self.rows * self.columns, 0)
    }

    /// The same with as much of the factor at once as fits.
    pub(super) fn widened(self, fits: impl Fn(Self) -> bool) -> Self {
        let stream = widest(self.columns, |stream| fits(Self { stream, ..self }));
        Self { stream: stream.unwrap_or(1), ..self }
    }
}

/// The sums of `out * grad_out` over the width, one for each row, which the gradient of softmax needs.
pub(super) fn row_sums<const DATA: bool>(
    p: &Problem,
    m: &mut Memory<DATA>,
    out: Array,
    grad_out: Array,
) -> Step<Array> {
    let sums = m.scratch("row sums", (p.rows(), 1), Class::Statistic);
    for row in 0..p.rows() {
        let mut sum = m.alloc(Class::Statistic, 1, 1)?;
        for col in 0..p.width {
            let a = m.load(out, row..row + 1, col..col + 1)?;
            let b = m.load(grad_out, row..row + 1, col..col + 1)?;
            m.multiply(&mut sum, 0, a.view(), b.view(), 1);
            m.free(a);
            m.free(b);
        }
        m.store(&sum, sums, row, 0)?;
        m.free(sum);
    }
    Ok(sums)
}

/// Words moved by [`row_sums`].
pub(super) fn row_sums_traffic(p: &Problem) -> Traffic {
    let loads = Words::operands(2 * p.row_words());
    Traffic { loads, stores: Words::statistics(p.rows() as u64) }
}

/// What is in fast memory during [`row_sums`].
pub(super) fn row_sums_moment() -> Words {
    Words::new(2, 0, 1)
}

/// Whether all moments fit.
pub(super) fn fit(moments: &[Words], widths: Widths, memory: u64) -> bool {
    moments.iter().all(|&words| widths.size(words) <= memory)
}
