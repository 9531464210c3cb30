//! Ways to compute scores: products whose result is an array of rows by keys, a block or a panel of it at a time.
//!
//! One factor comes a column or a few words at a time, and a block of scores stays in fast memory until it is complete.

use std::ops::Range;

use super::fault::Step;
use super::memory::Memory;
use super::planner::Search;
use super::problem::{Block, Problem, Traffic, widest};
use super::slow::Array;
use super::softmax::Online;
use super::tile::Tile;
use super::visible::pieces;
use super::words::{Class, Words};

/// A way to compute the scores of rows, a panel at a time.
pub(super) trait Scores: Copy {
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

    /// The best sizes; `fits` says which fit.
    fn best(search: &Search, fits: impl Fn(Self) -> bool) -> Option<Self>;

    /// Writes the scores of a panel, times the scale, and shows them to `online`.
    fn store<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: (Array, Array),
        rows: Range<usize>,
        stored: Array,
        mut online: Option<&mut Online>,
    ) -> Step {
        self.panel(p, m, arrays, rows, |m, mut tile, block| {
            p.map::<DATA>(&mut tile, block, |_, _, score| score * p.scale);
            p.store_pairs(m, &tile, stored, block, true)?;
            if let Some(online) = online.as_deref_mut() {
                online.take(m, p, block, &mut tile, None)?;
            }
            m.free(tile);
            Ok(())
        })
    }

    /// As [`store`](Self::store), and writes and returns the logarithms of the sums of exponentials.
    fn store_with_lse<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: (Array, Array),
        rows: Range<usize>,
        (stored, lse): (Array, Array),
    ) -> Step<Tile> {
        let mut online = Online::new(m, rows.len())?;
        let first = rows.start;
        self.store(p, m, arrays, rows, stored, Some(&mut online))?;
        let found = online.end(m, None);
        m.store(&found, lse, first, 0)?;
        Ok(found)
    }
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

impl ScoreBlocks {
    /// Square blocks, and a column of all keys of a block at once.
    pub(super) fn square(side: usize) -> Self {
        Self { rows: side, keys: side, stream: side }
    }
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
        for block in p.along_keys(&rows, 0..p.keys(), self.keys) {
            let mut scores = m.alloc(Class::Accumulator, rows.len(), block.keys.len())?;
            let parts: Vec<Block> = p.along_keys(&rows, block.keys.clone(), self.stream).collect();
            for col in 0..p.width {
                let a = p.load_rows(m, of_rows, &block, col..col + 1)?;
                for part in &parts {
                    let b = p.load_keys(m, of_keys, part, col..col + 1)?;
                    let at = part.keys.start - block.keys.start;
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

    fn best(search: &Search, fits: impl Fn(Self) -> bool) -> Option<Self> {
        let found = search.heights().filter_map(|(rows, of_keys)| {
            let at = |keys| Self { rows, keys, stream: 1 };
            let (keys, of_rows) = search.keys(|keys| fits(at(keys)))?;
            Some((of_keys + of_rows, at(keys)))
        });
        let (_, blocks) = found.min_by_key(|&(cost, _)| cost)?;
        let stream = widest(blocks.keys, |stream| fits(Self { stream, ..blocks }))?;
        Some(Self { stream, ..blocks })
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

    fn best(search: &Search, fits: impl Fn(Self) -> bool) -> Option<Self> {
        let (rows, _) = search.rows(|rows| fits(Self { rows, stream: 1 }))?;
        let stream = widest(search.problem.width, |stream| fits(Self { rows, stream }))?;
        Some(Self { rows, stream })
    }
}
