//! Softmax of rows whose scores come block by block (Milakov and Gimelshein, arXiv:1805.02867).

use super::fault::Step;
use super::memory::Memory;
use super::problem::{Block, Problem};
use super::tile::Tile;
use super::words::Class;

/// For each row of a panel, the largest score so far and the sum of exponentials relative to it.
pub(super) struct Online {
    largest: Tile,
    sum: Tile,
}

impl Online {
    /// No score has been seen.
    pub fn new<const DATA: bool>(memory: &mut Memory<DATA>, rows: usize) -> Step<Self> {
        let largest = memory.filled(Class::Statistic, rows, f64::NEG_INFINITY)?;
        let sum = memory.alloc(Class::Statistic, rows, 1)?;
        Ok(Self { largest, sum })
    }

    /// Takes a block of scores. They become exponentials relative to the largest, and so does what `sums` has.
    /// One word is needed for a moment, to hold a largest score while its row is rescaled.
    pub fn take<const DATA: bool>(
        &mut self,
        memory: &mut Memory<DATA>,
        problem: &Problem,
        block: &Block,
        scores: &mut Tile,
        mut sums: Option<&mut Tile>,
    ) -> Step {
        memory.spare(Class::Statistic)?;
        if !DATA {
            return Ok(());
        }
        let mut tops = self.largest.words.clone();
        problem.map::<DATA>(scores, block, |i, _, score| {
            tops[i] = tops[i].max(score);
            score
        });
        for (i, &top) in tops.iter().enumerate() {
            // Nothing but -inf has been seen, or no score at all: there is nothing to rescale.
            let before = self.largest.words[i];
            let factor = if before == top { 1.0 } else { (before - top).exp() };
            self.sum.words[i] *= factor;
            if let Some(sums) = sums.as_deref_mut() {
                for x in &mut sums.words[i * sums.cols..][..sums.cols] {
                    *x *= factor;
                }
            }
        }
        problem.map::<DATA>(scores, block, |i, _, score| {
            let weight = (score - tops[i]).exp();
            self.sum.words[i] += weight;
            weight
        });
        self.largest.words = tops;
        Ok(())
    }

    /// Divides `sums` by the sums of exponentials, and returns the logarithms of those.
    pub fn end<const DATA: bool>(
        mut self,
        memory: &mut Memory<DATA>,
        sums: Option<&mut Tile>,
    ) -> Tile {
        if let Some(sums) = sums {
            for (row, &total) in sums.words.chunks_exact_mut(sums.cols).zip(&self.sum.words) {
                // A row that sees no key is zero.
                let total = if total == 0.0 { 1.0 } else { total };
                for x in row {
                    *x /= total;
                }
            }
        }
        for (sum, &top) in self.sum.words.iter_mut().zip(&self.largest.words) {
            *sum = if *sum == 0.0 { f64::NEG_INFINITY } else { top + sum.ln() };
        }
        memory.free(self.largest);
        self.sum
    }
}
