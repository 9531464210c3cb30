//! Backward in square blocks and four phases, the order of algorithm 6 of arXiv:2410.09397 for a fast memory of less than d^2 words:
//! weights; slopes; the gradient of values; those of queries and keys.
//!
//! b^2 + 2b words fit, and about 10 n^2 d / sqrt(M) + 3 n^2 move. Weights and slopes are both kept, and statistics of
//! rows are read for every block.

use super::family::{Family, family};
use super::fault::Step;
use super::key_panels::discard_sums;
use super::memory::Memory;
use super::naive::best_side;
use super::operands::Backward;
use super::phases::{Product, row_sums, row_sums_moment, row_sums_traffic};
use super::planner::Search;
use super::problem::{Problem, Traffic};
use super::scores::{ScoreBlocks, Scores};
use super::slow::Array;
use super::visible::pieces;
use super::words::Words;

family! {
    /// Five products in square blocks.
    FourPhase {
        /// Side of the blocks.
        side,
    }
}

impl Family for FourPhase {
    type Arrays = Backward;
    const PRODUCTS: u64 = 5;

    fn traffic(&self, p: &Problem) -> Traffic {
        let (pairs, blocks) = (p.visible.pairs(), p.visible.rows_of_panels(self.side));
        let both = Traffic {
            loads: Words::operands(pairs) + Words::statistics(2 * blocks),
            stores: Words::operands(2 * pairs),
        };
        let (scores, product) =
            (ScoreBlocks::square(self.side).traffic(p), Product::square(p, self.side));
        let products = product.traffic(p, false) + product.traffic(p, true);
        row_sums_traffic(p) + scores + scores + both + products + product.traffic(p, true)
    }

    fn moments(&self, p: &Problem) -> Vec<Words> {
        let (rows, keys) = (self.side.min(p.rows()), self.side.min(p.keys()));
        let columns = self.side.min(p.width);
        let block = Words::new(0, rows * keys, 0);
        vec![
            block + Words::new(rows + keys, 0, 0),
            block + Words::new(keys, 0, rows),
            Words::new(rows + columns, rows * columns, 0),
            Words::new(keys + columns, keys * columns, 0),
            row_sums_moment(),
        ]
    }

    fn workspace(&self, p: &Problem) -> u64 {
        p.rows() as u64 + 2 * p.visible.pairs()
    }

    fn execute<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: Backward,
    ) -> Step {
        let sums = row_sums(p, m, arrays.out, arrays.grad_out)?;
        let weights = self.weights(p, m, arrays)?;
        let slopes = self.slopes(p, m, arrays, weights, sums)?;
        let product = Product::square(p, self.side);
        product.run(p, m, weights, arrays.grad_out, arrays.grad_value, true)?;
        product.run(p, m, slopes, arrays.key, arrays.grad_query, false)?;
        product.run(p, m, slopes, arrays.query, arrays.grad_key, true)?;
        discard_sums(p, m, sums);
        p.discard_pairs(m, weights, 0..p.rows());
        p.discard_pairs(m, slopes, 0..p.rows());
        Ok(())
    }

    fn best(search: &Search) -> Option<Self> {
        best_side(search, |side| Self { side })
    }
}

impl FourPhase {
    fn weights<const DATA: bool>(
        self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: Backward,
    ) -> Step<Array> {
        let stored = p.pairs_array(m, "weights");
        for rows in pieces(p.rows(), self.side) {
            let operands = (arrays.query, arrays.key);
            ScoreBlocks::square(self.side).panel(p, m, operands, rows, |m, mut tile, block| {
                let lse = p.load_rows(m, arrays.lse, block, 0..1)?;
                p.map::<DATA>(&mut tile, block, |i, _, x| (x * p.scale - lse.words[i]).exp());
                m.free(lse);
                p.store_pairs(m, &tile, stored, block, true)?;
                m.free(tile);
                Ok(())
            })?;
        }
        Ok(stored)
    }

    fn slopes<const DATA: bool>(
        self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: Backward,
        weights: Array,
        sums: Array,
    ) -> Step<Array> {
        let stored = p.pairs_array(m, "slopes");
        for rows in pieces(p.rows(), self.side) {
            let operands = (arrays.grad_out, arrays.value);
            ScoreBlocks::square(self.side).panel(p, m, operands, rows, |m, mut tile, block| {
                let sum = p.load_rows(m, sums, block, 0..1)?;
                for (i, row) in block.rows.clone().enumerate() {
                    let one = p.block(row..row + 1, block.keys.clone());
                    if one.look.pairs == 0 {
                        continue;
                    }
                    let of_row = p.load_pairs(m, weights, &one)?;
                    for (j, &weight) in of_row.words.iter().enumerate() {
                        let slope = &mut tile.words[i * tile.cols + j];
                        *slope = weight * (*slope - sum.words[i]) * p.scale;
                    }
                    m.free(of_row);
                }
                m.free(sum);
                p.store_pairs(m, &tile, stored, block, true)?;
                m.free(tile);
                Ok(())
            })?;
        }
        Ok(stored)
    }
}
