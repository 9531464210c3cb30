//! The gradient of the attention loss with rows that stay: the large-cache schedule of arXiv:2410.09397; the loss is that
//! of [`LossSmallCache`](super::LossSmallCache).
//!
//! For a panel of rows of `A1 X` and of `grad_out`, keys `A2` and values `A3 Y` pass by twice: for softmax and the sums of
//! its slopes, and for the rows of `slopes A2`. About 12 n^2 d^2 / M words.

use super::family::{Family, family};
use super::fault::Step;
use super::key_panels::slope;
use super::loss_small_cache::dense;
use super::memory::Memory;
use super::operands::Loss;
use super::planner::Search;
use super::problem::{Block, Problem, Traffic, widest};
use super::slow::Array;
use super::tile::Tile;
use super::visible::pieces;
use super::words::{Class, Words};

family! {
    /// Rows stay, keys and values pass by twice.
    LossLargeCache {
        /// Rows of a panel.
        rows,
        /// Side of the blocks of products with d by d matrices.
        side,
    }
}

/// A panel of rows.
struct Panel<'a> {
    p: &'a Problem,
    projected: Tile,
    grad_out: Tile,
}

impl Panel<'_> {
    /// Scores and slopes of weights for one key, and the key.
    fn meet<const DATA: bool>(
        &self,
        m: &mut Memory<DATA>,
        (keys, values): (Array, Array),
        block: &Block,
    ) -> Step<(Tile, Tile, Tile)> {
        let (p, rows) = (self.p, block.rows.len());
        let products = p.wide(block.look.pairs);
        let value = m.load(values, block.keys.clone(), 0..p.width)?;
        let mut slopes = m.alloc(Class::Accumulator, rows, 1)?;
        m.multiply(&mut slopes, 0, self.grad_out.view(), value.view().t(), products);
        m.free(value);
        let key = m.load(keys, block.keys.clone(), 0..p.width)?;
        let mut scores = m.alloc(Class::Accumulator, rows, 1)?;
        m.multiply(&mut scores, 0, self.projected.view(), key.view().t(), products);
        p.map::<DATA>(&mut scores, block, |_, _, score| score * p.scale);
        Ok((scores, slopes, key))
    }

    /// The rows of `slopes A2` of a panel.
    fn run<const DATA: bool>(
        &self,
        m: &mut Memory<DATA>,
        operands: (Array, Array),
        block: &Block,
    ) -> Step<Tile> {
        let (p, rows) = (self.p, block.rows.clone());
        let blocks = (0..p.keys())
            .map(|key| p.block(rows.clone(), key..key + 1))
            .filter(|block| block.look.pairs > 0);
        let top = m.filled(Class::Statistic, rows.len(), f64::NEG_INFINITY)?;
        let sum = m.alloc(Class::Statistic, rows.len(), 1)?;
        let mut found = [top, sum, m.alloc(Class::Statistic, rows.len(), 1)?];
        for block in blocks.clone() {
            let (scores, slopes, key) = self.meet(m, operands, &block)?;
            add::<DATA>(p, &block, &scores, &slopes, &mut found);
            for tile in [scores, slopes, key] {
                m.free(tile);
            }
        }
        let [mut lse, sum, mut sums] = found;
        for (i, &total) in sum.words.iter().enumerate() {
            lse.words[i] += total.ln();
            sums.words[i] /= total;
        }
        m.free(sum);
        let mut result = m.alloc(Class::Accumulator, rows.len(), p.width)?;
        for block in blocks {
            let (mut weights, mut slopes, key) = self.meet(m, operands, &block)?;
            p.map::<DATA>(&mut weights, &block, |i, _, score| (score - lse.words[i]).exp());
            slope::<DATA>(p, &mut slopes, &weights, &sums, &block);
            m.multiply(&mut result, 0, slopes.view(), key.view(), p.wide(block.look.pairs));
            for tile in [weights, slopes, key] {
                m.free(tile);
            }
        }
        m.free(lse);
        m.free(sums);
        Ok(result)
    }
}

/// For each row the largest score, the sum of exponentials, and that of exponentials times slopes.
fn add<const DATA: bool>(
    p: &Problem,
    block: &Block,
    scores: &Tile,
    slopes: &Tile,
    to: &mut [Tile; 3],
) {
    if !DATA {
        return;
    }
    for (i, &score) in scores.words.iter().enumerate() {
        if p.visible.sees(block.rows.start + i, block.keys.start) {
            let [top, sum, product] = to;
            let largest = top.words[i].max(score);
            let (factor, weight) = ((top.words[i] - largest).exp(), (score - largest).exp());
            top.words[i] = largest;
            sum.words[i] = sum.words[i] * factor + weight;
            product.words[i] = product.words[i] * factor + weight * slopes.words[i];
        }
    }
}

impl Family for LossLargeCache {
    type Arrays = Loss;
    const PRODUCTS: u64 = 5;

    fn traffic(&self, p: &Problem) -> Traffic {
        let [of_rows, of_keys, last] = dense(p, self.side);
        let keys = p.wide(p.visible.keys_of_panels(self.rows));
        let passes = Traffic {
            loads: Words::operands(2 * p.row_words() + 4 * keys),
            stores: Words::operands(p.row_words()),
        };
        of_rows.traffic() + of_keys.traffic() + passes + last.traffic()
    }

    fn moments(&self, p: &Problem) -> Vec<Words> {
        let (r, d) = (self.rows, p.width);
        let mut moments = dense(p, self.side).map(|product| product.moment()).to_vec();
        moments.push(Words::new(2 * r * d + d, 2 * r, 3 * r));
        moments.push(Words::new(2 * r * d + d, r * d + 2 * r, 2 * r));
        moments
    }

    fn workspace(&self, p: &Problem) -> u64 {
        p.row_words() + p.key_words() + p.wide(self.rows.min(p.rows()) as u64)
    }

    fn execute<const DATA: bool>(&self, p: &Problem, m: &mut Memory<DATA>, arrays: Loss) -> Step {
        let (n, d) = (p.rows(), p.width);
        let [of_rows, of_keys, last] = dense(p, self.side);
        let projected = m.scratch("A1 X", (n, d), Class::Operand);
        of_rows.run(m, arrays.a1, arrays.x, projected, false)?;
        let values = m.scratch("A3 Y", (p.keys(), d), Class::Operand);
        of_keys.run(m, arrays.a3, arrays.y, values, false)?;
        let products = m.scratch("slopes A2", (n, d), Class::Operand);
        for rows in pieces(n, self.rows) {
            let panel = Panel {
                p,
                projected: m.load(projected, rows.clone(), 0..d)?,
                grad_out: m.load(arrays.grad_out, rows.clone(), 0..d)?,
            };
            let result = panel.run(m, (arrays.a2, values), &p.block(rows.clone(), 0..p.keys()))?;
            m.store(&result, products, rows.start, 0)?;
            m.discard(projected, rows.clone(), 0..d, p.wide(rows.len() as u64));
            for tile in [panel.projected, panel.grad_out, result] {
                m.free(tile);
            }
        }
        m.discard(values, 0..p.keys(), 0..d, p.key_words());
        last.run(m, arrays.a1, products, arrays.grad_x, true)?;
        m.discard(products, 0..n, 0..d, p.row_words());
        Ok(())
    }

    fn best(search: &Search) -> Option<Self> {
        let p = search.problem;
        let fits = |rows, side| search.fits(&Self { rows, side }.moments(p));
        let (rows, _) = search.rows(|rows| fits(rows, 1))?;
        let side = widest(p.rows().max(p.keys()).max(p.width), |side| fits(rows, side))?;
        let cost = |&side: &usize| {
            let products = dense(p, side).map(|product| search.cost(product.traffic().moved()));
            (products.iter().sum::<u64>(), side)
        };
        let side = (1..=side).min_by_key(cost)?;
        Some(Self { rows, side })
    }
}
