//! Square blocks, the order of Saha and Ye (arXiv:2402.07443) for a fast memory of less than d^2 words.
//!
//! Scores are computed in blocks of b by b and written, with the largest score of each row and the sum of its exponentials kept
//! in fast memory; then outputs are computed in blocks of b by b from them. b^2 + 4b words fit, and
//! 3 ceil(n / b) nd + nd + n^2 (1 + ceil(d / b)) + n move, about 4 n^2 d / sqrt(M) + n^2.

use super::family::{Family, family};
use super::fault::Step;
use super::memory::Memory;
use super::naive::best_side;
use super::operands::Forward;
use super::phases::Product;
use super::planner::Search;
use super::problem::{Block, Problem, Traffic};
use super::scores::{ScoreBlocks, Scores};
use super::slow::Array;
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

impl Family for Square {
    type Arrays = Forward;
    const PRODUCTS: u64 = 2;

    fn traffic(&self, p: &Problem) -> Traffic {
        let stores = Words::operands(p.visible.pairs()) + Words::statistics(p.rows() as u64);
        ScoreBlocks::square(self.side).traffic(p)
            + Traffic { loads: Words::default(), stores }
            + Product::square(p, self.side).traffic(p, false)
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
        let scores = ScoreBlocks::square(self.side);
        for rows in pieces(p.rows(), self.side) {
            let (operands, results) = ((arrays.query, arrays.key), (stored, arrays.lse));
            let lse = scores.store_with_lse(p, m, operands, rows.clone(), results)?;
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
            for block in p.along_keys(&rows, 0..p.keys(), 1) {
                let mut weights = p.load_pairs(m, scores, &block)?;
                weigh::<DATA>(p, &mut weights, &block, lse);
                let value = m.load(arrays.value, block.keys.clone(), cols.clone())?;
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
