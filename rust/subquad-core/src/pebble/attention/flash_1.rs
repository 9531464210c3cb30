//! The order of flash attention (Dao, Fu, Ermon, Rudra, Re, arXiv:2205.14135, algorithm 1): a panel of keys and values
//! stays in fast memory, rows pass by, and their output is read, corrected and written for every panel.
//!
//! c keys and values, r rows: 2nd + n d ceil(n / c) for the rows, and (2 ceil(n / c) - 1) n (d + 2) for outputs and
//! statistics, about 6 n^2 d^2 / M words with r = 1. The paper's rule, c = ceil(M / 4d) and r = min(c, d), does not
//! fit: 2cd words of keys and values are M / 2, and the output, the rows and the scores of r = d rows together
//! another M / 2 where c = d; statistics come on top.

use super::family::{Family, family};
use super::fault::Step;
use super::memory::Memory;
use super::operands::Forward;
use super::planner::Search;
use super::problem::{Problem, Traffic};
use super::visible::pieces;
use super::visit::{Visit, zero_unseeing};
use super::words::{Class, Words};

family! {
    /// Keys stay, rows pass by.
    Flash1 {
        /// Keys of a panel.
        keys,
        /// Rows of a block.
        rows,
    }
}

impl Flash1 {
    /// The paper's rule, which takes more than M words.
    pub fn rule(p: &Problem, memory: usize) -> Self {
        let keys = memory.div_ceil(4 * p.width);
        Self { keys: keys.min(p.keys()), rows: keys.min(p.width).min(p.rows()) }
    }
}

impl Family for Flash1 {
    type Arrays = Forward;
    const PRODUCTS: u64 = 2;

    fn traffic(&self, p: &Problem) -> Traffic {
        let visits = p.visible.rows_of_panels(self.keys);
        let (seeing, rows) = (p.visible.seeing(), p.rows() as u64);
        let again = visits - seeing;
        let width = p.width as u64;
        let loads = Words::operands(2 * p.key_words() + visits * width)
            + Words([0, again * width, 2 * again]);
        // What is stored last is complete.
        let stores = Words([rows * width, again * width, 2 * visits]);
        Traffic { loads, stores }
    }

    fn moments(&self, p: &Problem) -> Vec<Words> {
        let Self { keys, rows } = *self;
        let stays = Words::new(2 * keys * p.width, rows * keys, 0);
        vec![
            stays + Words::new(rows * p.width, 0, 0),
            stays + Words::new(0, rows * p.width, 2 * rows + 1),
        ]
    }

    fn workspace(&self, p: &Problem) -> u64 {
        2 * p.visible.seeing()
    }

    fn execute<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: Forward,
    ) -> Step {
        let largest = m.scratch("largest scores", (p.rows(), 1), Class::Statistic);
        let sum = m.scratch("sums of exponentials", (p.rows(), 1), Class::Statistic);
        for keys in pieces(p.keys(), self.keys) {
            let key = m.load(arrays.key, keys.clone(), 0..p.width)?;
            let value = m.load(arrays.value, keys.clone(), 0..p.width)?;
            for rows in pieces(p.rows(), self.rows) {
                let block = p.block(rows.clone(), keys.clone());
                if block.look.pairs == 0 {
                    continue;
                }
                let query = p.load_rows(m, arrays.query, &block, 0..p.width)?;
                let mut scores = m.alloc(Class::Accumulator, rows.len(), keys.len())?;
                let products = p.wide(block.look.pairs);
                m.multiply(&mut scores, 0, query.view(), key.view().t(), products);
                m.free(query);
                p.map::<DATA>(&mut scores, &block, |_, _, score| score * p.scale);
                let visit = Visit::new(p, &block);
                let partial = arrays.out.of(Class::Accumulator);
                let mut out = visit.load(m, partial, p.width)?;
                let (mut top, mut total) = (visit.load(m, largest, 1)?, visit.load(m, sum, 1)?);
                m.spare(Class::Statistic)?;
                visit.rescale::<DATA>(&mut scores, &mut out, &mut top, &mut total);
                m.multiply(&mut out, 0, scores.view(), value.view(), products);
                visit.store_out(m, &out, arrays.out)?;
                visit.store(m, &top, largest)?;
                visit.store(m, &total, sum)?;
                m.free(scores);
                m.free(out);
                m.free(top);
                m.free(total);
            }
            m.free(key);
            m.free(value);
        }
        zero_unseeing(p, m, arrays.out)?;
        let seeing = p.visible.seeing();
        m.discard(largest, 0..p.rows(), 0..1, seeing);
        m.discard(sum, 0..p.rows(), 0..1, seeing);
        Ok(())
    }

    fn best(search: &Search) -> Option<Self> {
        let p = search.problem;
        let (keys, _) = search.keys(|keys| search.fits(&Self { keys, rows: 1 }.moments(p)))?;
        Some(Self { keys, rows: 1 })
    }
}
