//! The gradient of the attention loss in square blocks: algorithm 6 of arXiv:2410.09397, for a fast memory of less than
//! d^2 words.
//!
//! The loss is half the squared error of `out = softmax(scale A1 X A2^t) A3 Y`, whose slope is `grad_out`, and the gradient is with
//! respect to X, d by d. 1. `S = A1 X`; scores `S A2^t`, with the logarithms of sums. 2. `h = A3 Y`; slopes of the
//! weights `q = grad_out h^t`. 3. Slopes of scores, a row at a time, with two reads of its scores and of q.
//! 4. `T = slopes A2`; `A1^t T`.

use super::dense_product::DenseProduct;
use super::family::{Family, family};
use super::fault::Step;
use super::memory::Memory;
use super::naive::best_side;
use super::operands::Loss;
use super::phases::Product;
use super::planner::Search;
use super::problem::{Problem, Traffic};
use super::scores::{ScoreBlocks, Scores};
use super::slow::Array;
use super::visible::pieces;
use super::words::{Class, Words};

family! {
    /// Four phases in square blocks.
    LossSmallCache {
        /// Side of the blocks.
        side,
    }
}

/// Products of d columns: of rows, of keys, and that which sums over rows.
pub(super) fn dense(p: &Problem, side: usize) -> [DenseProduct; 3] {
    let d = p.width;
    let of = |rows, inner| DenseProduct { side, rows, inner, cols: d };
    [of(p.rows(), d), of(p.keys(), d), of(d, p.rows())]
}

impl LossSmallCache {
    /// Scores, and for each row the logarithm of the sum of their exponentials.
    fn weigh<const DATA: bool>(
        self,
        p: &Problem,
        m: &mut Memory<DATA>,
        operands: (Array, Array),
    ) -> Step<(Array, Array)> {
        let stored = p.pairs_array(m, "scores");
        let lse = m.scratch("lse", (p.rows(), 1), Class::Statistic);
        let scores = ScoreBlocks::square(self.side);
        for rows in pieces(p.rows(), self.side) {
            let found = scores.store_with_lse(p, m, operands, rows, (stored, lse))?;
            m.free(found);
        }
        Ok((stored, lse))
    }

    /// Slopes of weights.
    fn slopes<const DATA: bool>(
        self,
        p: &Problem,
        m: &mut Memory<DATA>,
        operands: (Array, Array),
    ) -> Step<Array> {
        let stored = p.pairs_array(m, "slopes");
        let scores = ScoreBlocks::square(self.side);
        for rows in pieces(p.rows(), self.side) {
            scores.panel(p, m, operands, rows, |m, tile, block| {
                p.store_pairs(m, &tile, stored, block, true)?;
                m.free(tile);
                Ok(())
            })?;
        }
        Ok(stored)
    }
}

/// Slopes of weights become slopes of scores, a row at a time.
fn rows<const DATA: bool>(
    p: &Problem,
    m: &mut Memory<DATA>,
    scores: Array,
    lse: Array,
    slopes: Array,
) -> Step {
    for row in 0..p.rows() {
        let total = m.load(lse, row..row + 1, 0..1)?;
        let mut sum = m.alloc(Class::Statistic, 1, 1)?;
        for pass in 0..2 {
            for block in p.along_keys(&(row..row + 1), 0..p.keys(), 1) {
                let score = p.load_pairs(m, scores, &block)?;
                let mut slope = p.load_pairs(m, slopes, &block)?;
                if DATA {
                    let weight = (score.words[0] - total.words[0]).exp();
                    if pass == 0 {
                        sum.words[0] += weight * slope.words[0];
                    } else {
                        slope.words[0] = weight * (slope.words[0] - sum.words[0]) * p.scale;
                    }
                }
                if pass == 1 {
                    p.store_pairs(m, &slope, slopes, &block, false)?;
                }
                m.free(score);
                m.free(slope);
            }
        }
        m.free(total);
        m.free(sum);
    }
    Ok(())
}

impl Family for LossSmallCache {
    type Arrays = Loss;
    const PRODUCTS: u64 = 3;

    fn traffic(&self, p: &Problem) -> Traffic {
        let (pairs, n) = (p.visible.pairs(), p.rows() as u64);
        let [of_rows, of_keys, last] = dense(p, self.side);
        let between = Traffic {
            loads: Words::operands(4 * pairs) + Words::statistics(n),
            stores: Words::operands(3 * pairs) + Words::statistics(n),
        };
        let scores = ScoreBlocks::square(self.side).traffic(p);
        of_rows.traffic()
            + of_keys.traffic()
            + scores
            + scores
            + between
            + Product::square(p, self.side).traffic(p, false)
            + last.traffic()
    }

    fn moments(&self, p: &Problem) -> Vec<Words> {
        let (rows, keys) = (self.side.min(p.rows()), self.side.min(p.keys()));
        let columns = self.side.min(p.width);
        let [of_rows, of_keys, last] = dense(p, self.side).map(|product| product.moment());
        vec![
            Words::new(rows + keys, rows * keys, 2 * rows),
            Words::new(0, rows * keys, 2 * rows + 1),
            Words::new(rows + columns, rows * columns, 0),
            Words::new(2, 0, 2),
            of_rows,
            of_keys,
            last,
        ]
    }

    fn workspace(&self, p: &Problem) -> u64 {
        let (pairs, n) = (p.visible.pairs(), p.rows() as u64);
        let first = p.row_words() + pairs + n;
        first.max(2 * pairs + n + p.key_words()).max(pairs + p.row_words())
    }

    fn execute<const DATA: bool>(&self, p: &Problem, m: &mut Memory<DATA>, arrays: Loss) -> Step {
        let (n, d) = (p.rows(), p.width);
        let [of_rows, of_keys, last] = dense(p, self.side);
        let projected = m.scratch("A1 X", (n, d), Class::Operand);
        of_rows.run(m, arrays.a1, arrays.x, projected, false)?;
        let (scores, lse) = self.weigh(p, m, (projected, arrays.a2))?;
        m.discard(projected, 0..n, 0..d, p.row_words());
        let values = m.scratch("A3 Y", (p.keys(), d), Class::Operand);
        of_keys.run(m, arrays.a3, arrays.y, values, false)?;
        let slopes = self.slopes(p, m, (arrays.grad_out, values))?;
        m.discard(values, 0..p.keys(), 0..d, p.key_words());
        rows(p, m, scores, lse, slopes)?;
        p.discard_pairs(m, scores, 0..n);
        m.discard(lse, 0..n, 0..1, n as u64);
        let products = m.scratch("slopes A2", (n, d), Class::Operand);
        Product::square(p, self.side).run(p, m, slopes, arrays.a2, products, false)?;
        p.discard_pairs(m, slopes, 0..n);
        last.run(m, arrays.a1, products, arrays.grad_x, true)?;
        m.discard(products, 0..n, 0..d, p.row_words());
        Ok(())
    }

    fn best(search: &Search) -> Option<Self> {
        best_side(search, |side| Self { side })
    }
}
