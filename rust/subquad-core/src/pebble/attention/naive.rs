//! Three kernels, each in square blocks: scores; softmax of every row in place; weights times values.
//!
//! b^2 + 2b words fit: 3 ceil(n / b) nd words of operands, nd of outputs, and n^2 (2 + ceil(d / b)) for writing scores and
//! reading weights, and reading and writing in softmax, which reads twice where a row does not fit.

use super::family::{Family, family};
use super::fault::Step;
use super::memory::Memory;
use super::operands::Forward;
use super::phases::Product;
use super::planner::Search;
use super::problem::{Block, Problem, Traffic, widest};
use super::scores::{ScoreBlocks, Scores};
use super::slow::Array;
use super::tile::Tile;
use super::visible::pieces;
use super::words::{Class, Words};

family! {
    /// Three kernels.
    Naive {
        /// Side of the blocks.
        side,
        /// Scores of a row that fit for softmax: all keys, or 1.
        softmax,
    }
}

impl Naive {
    fn is_whole(&self, p: &Problem) -> bool {
        self.softmax >= p.keys()
    }
}

impl Family for Naive {
    type Arrays = Forward;
    const PRODUCTS: u64 = 2;

    fn traffic(&self, p: &Problem) -> Traffic {
        let (reads, pairs) = (if self.is_whole(p) { 1 } else { 2 }, p.visible.pairs());
        let softmax = Traffic {
            loads: Words::operands(reads * pairs),
            // Scores are written before.
            stores: Words::operands(2 * pairs),
        };
        ScoreBlocks::square(self.side).traffic(p)
            + softmax
            + Product::square(p, self.side).traffic(p, false)
    }

    fn moments(&self, p: &Problem) -> Vec<Words> {
        let blocks = p.rows().min(self.side) * p.keys().min(self.side);
        let scores = Words::new(p.rows().min(self.side) + p.keys().min(self.side), blocks, 0);
        let rows = Product::square(p, self.side);
        let rows = Product { rows: rows.rows.min(p.rows()), ..rows };
        vec![scores, Words::new(0, blocks, 0), Words::new(self.softmax, 0, 2), rows.moment()]
    }

    fn workspace(&self, p: &Problem) -> u64 {
        p.visible.pairs()
    }

    fn execute<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: Forward,
    ) -> Step {
        let weights = p.pairs_array(m, "weights");
        let scores = ScoreBlocks::square(self.side);
        for rows in pieces(p.rows(), self.side) {
            let operands = (arrays.query, arrays.key);
            scores.store(p, m, operands, rows, weights, None)?;
        }
        for row in 0..p.rows() {
            self.softmax(p, m, weights, row)?;
        }
        Product::square(p, self.side).run(p, m, weights, arrays.value, arrays.out, false)?;
        p.discard_pairs(m, weights, 0..p.rows());
        Ok(())
    }

    fn best(search: &Search) -> Option<Self> {
        let p = search.problem;
        let whole = search.fits(&[Words::new(p.keys(), 0, 2)]);
        let softmax = if whole { p.keys() } else { 1 };
        best_side(search, |side| Self { side, softmax })
    }
}

impl Naive {
    fn softmax<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        weights: Array,
        row: usize,
    ) -> Step {
        let all = p.block(row..row + 1, 0..p.keys());
        if all.look.pairs == 0 {
            return Ok(());
        }
        let mut top = m.filled(Class::Statistic, 1, f64::NEG_INFINITY)?;
        let mut sum = m.alloc(Class::Statistic, 1, 1)?;
        let passes = if self.is_whole(p) { 1 } else { 2 };
        for pass in 0..passes {
            for block in p.along_keys(&all.rows, 0..p.keys(), self.softmax) {
                let mut tile = p.load_pairs(m, weights, &block)?;
                if pass == 0 {
                    add::<DATA>(p, &tile, &block, &mut top, &mut sum);
                }
                if pass + 1 == passes {
                    p.map::<DATA>(&mut tile, &block, |_, _, score| {
                        (score - top.words[0]).exp() / sum.words[0]
                    });
                    p.store_pairs(m, &tile, weights, &block, false)?;
                }
                m.free(tile);
            }
        }
        m.free(top);
        m.free(sum);
        Ok(())
    }
}

/// Adds the exponentials of scores of a row, relative to the largest.
fn add<const DATA: bool>(p: &Problem, tile: &Tile, block: &Block, top: &mut Tile, sum: &mut Tile) {
    if DATA {
        for (j, &score) in tile.words.iter().enumerate() {
            if p.visible.sees(block.rows.start, block.keys.start + j) {
                let largest = top.words[0].max(score);
                let before = sum.words[0] * (top.words[0] - largest).exp();
                sum.words[0] = before + (score - largest).exp();
                top.words[0] = largest;
            }
        }
    }
}

/// The best side of square blocks, by trying all.
pub(super) fn best_side<F: Family>(search: &Search, member: impl Fn(usize) -> F) -> Option<F> {
    let p = search.problem;
    let longest = p.rows().max(p.keys()).max(p.width);
    let fits = |side| search.fits(&member(side).moments(p));
    let largest = widest(longest, fits)?;
    let cost = |&side: &usize| (search.cost(member(side).traffic(p).moved()), side);
    (1..=largest).min_by_key(cost).map(member)
}
