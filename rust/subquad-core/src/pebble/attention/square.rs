//! Square blocks, the order of Saha and Ye (arXiv:2402.07443) for a fast memory of less than d^2 words.
//!
//! Scores are computed in blocks of b by b and written, with the largest score of each row and the sum of its exponentials kept
//! in fast memory; then outputs are computed in blocks of b by b from them. b^2 + 4b words fit, and
//! 3 ceil(n / b) nd + nd + n^2 (1 + ceil(d / b)) + n move, about 4 n^2 d / sqrt(M) + n^2.

use super::family::{Family, family};
use super::fault::Step;
use super::memory::Memory;
use super::naive::best_side;
use super::phases::{Product, ScoreBlocks, Scores};
use super::planner::Search;
use super::problem::{Block, Forward, Problem, Traffic};
use super::slow::Array;
use super::softmax::Online;
use super::tile::Tile;
use super::unfused::weigh;
use super::visible::pieces;
use super::words::{Class, Words};

family! {
    /// Square blocks of scores, then square blocks of outputs.
    Square {
        /// Side of the blocks.
        side,
    }
}

impl Square {
    fn scores(self) -> ScoreBlocks {
        ScoreBlocks { rows: self.side, keys: self.side, stream: self.side }
    }

    fn product(self, p: &Problem) -> Product {
        let columns = self.side.min(p.width);
        Product { rows: self.side, columns, stream: columns }
    }
}

impl Family for Square {
    type Arrays = Forward;

    fn traffic(&self, p: &Problem) -> Traffic {
        let stores = Words::operands(p.visible.pairs()) + Words::statistics(p.rows() as u64);
        self.scores().traffic(p)
            + Traffic { loads: Words::default(), stores }
            + self.product(p).traffic(p, false)
    }

    fn moments(&self, p: &Problem) -> Vec<Words> {
        let (rows, keys) = (self.side.min(p.rows()), self.side.min(p.keys()));
        let columns = self.side.min(p.width);
        vec![
            Words::new(rows + keys, rows * keys, 2 * rows),
            Words::new(0, rows * keys, 2 * rows + 1),
            Words::new(rows + columns, rows * columns, rows),
        ]
    }

    fn flops(&self, p: &Problem) -> u64 {
        4 * p.wide(p.visible.pairs())
    }

    fn workspace(&self, p: &Problem) -> u64 {
        let pairs = |rows| p.visible.look(rows, 0..p.keys()).pairs;
        pieces(p.rows(), self.side).map(pairs).max().unwrap_or(0)
    }

    fn execute<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: Forward,
    ) -> Step {
        let stored = p.pairs_array(m, "scores");
        for rows in pieces(p.rows(), self.side) {
            let mut online = Online::new(m, rows.len())?;
            let operands = (arrays.query, arrays.key);
            self.scores().panel(p, m, operands, rows.clone(), |m, mut tile, block| {
                p.map::<DATA>(&mut tile, block, |_, _, score| score * p.scale);
                p.store_pairs(m, &tile, stored, block, true)?;
                online.take(m, p, block, &mut tile, None)?;
                m.free(tile);
                Ok(())
            })?;
            let lse = online.end(m, None);
            m.store(&lse, arrays.lse, rows.start, 0)?;
            let panel = p.block(rows.clone(), 0..p.keys());
            self.outputs(p, m, arrays, stored, &panel, &lse)?;
            m.free(lse);
            p.discard_pairs(m, stored, rows);
        }
        Ok(())
    }

    fn best(search: &Search) -> Option<Self> {
        best_side(search, |side| Self { side })
    }

    fn smallest(_: &Problem) -> Self {
        Self { side: 1 }
    }
}

impl Square {
    /// The outputs of a panel.
    fn outputs<const DATA: bool>(
        self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: Forward,
        scores: Array,
        panel: &Block,
        lse: &Tile,
    ) -> Step {
        let rows = panel.rows.clone();
        for cols in pieces(p.width, self.side) {
            let mut out = m.alloc(Class::Accumulator, rows.len(), cols.len())?;
            for key in 0..p.keys() {
                let block = p.block(rows.clone(), key..key + 1);
                if block.look.pairs == 0 {
                    continue;
                }
                let mut weights = p.load_pairs(m, scores, &block)?;
                weigh::<DATA>(p, &mut weights, &block, lse);
                let value = m.load(arrays.value, key..key + 1, cols.clone())?;
                let products = block.look.pairs * cols.len() as u64;
                m.multiply(&mut out, 0, weights.view(), value.view(), products);
                m.free(weights);
                m.free(value);
            }
            m.store(&out, arrays.out, rows.start, cols.start)?;
            m.free(out);
        }
        Ok(())
    }
}
