//! Two passes: over panels of keys for the gradients of keys and values, over panels of rows for the gradient of queries.
//!
//! Scores and slopes are computed twice, seven products instead of five, and no gradient is read again:
//! about 14 n^2 d^2 / M words, 8 for the first pass, where four arrays stay and two pass by, and 6 for the second,
//! where three stay. No two tasks write to the same words.

use super::family::{Family, family};
use super::fault::Step;
use super::key_panels::{KeyPanels, discard_sums, slope};
use super::memory::Memory;
use super::phases::{row_sums, row_sums_moment, row_sums_traffic};
use super::planner::Search;
use super::problem::{Backward, Problem, Traffic, widest};
use super::slow::Array;
use super::visible::pieces;
use super::words::{Class, Words};

family! {
    /// Keys stay for their gradients, then rows for theirs.
    TwoPass {
        /// Keys of a panel.
        keys,
        /// Words of `grad_out` that are loaded at once.
        stream,
        /// Rows of a panel.
        rows,
        /// Words of a value that are loaded at once.
        value_stream,
    }
}

impl TwoPass {
    fn panels(self) -> KeyPanels {
        KeyPanels { keys: self.keys, stream: self.stream }
    }

    fn row_moments(self, p: &Problem) -> [Words; 2] {
        let Self { rows, value_stream, .. } = self;
        let stay = Words::new(2 * rows * p.width, rows * p.width, 2 * rows);
        [stay + Words::new(value_stream, rows, 0), stay + Words::new(p.width, 2 * rows, 0)]
    }

    /// The gradient of a panel of queries at a time.
    fn row_pass<const DATA: bool>(
        self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: Backward,
        row_sums: Array,
    ) -> Step {
        for rows in pieces(p.rows(), self.rows) {
            m.pulse()?;
            let query = m.load(arrays.query, rows.clone(), 0..p.width)?;
            let grad_out = m.load(arrays.grad_out, rows.clone(), 0..p.width)?;
            let lse = m.load(arrays.lse, rows.clone(), 0..1)?;
            let sums = m.load(row_sums, rows.clone(), 0..1)?;
            let mut grad = m.alloc(Class::Accumulator, rows.len(), p.width)?;
            for row in 0..p.keys() {
                let block = p.block(rows.clone(), row..row + 1);
                let pairs = block.look.pairs;
                if pairs == 0 {
                    continue;
                }
                let mut slopes = m.alloc(Class::Accumulator, rows.len(), 1)?;
                for cols in pieces(p.width, self.value_stream) {
                    let value = m.load(arrays.value, row..row + 1, cols.clone())?;
                    let products = pairs * cols.len() as u64;
                    let of_rows = grad_out.columns(cols);
                    m.multiply(&mut slopes, 0, of_rows, value.view().t(), products);
                    m.free(value);
                }
                let key = m.load(arrays.key, row..row + 1, 0..p.width)?;
                let mut weights = m.alloc(Class::Accumulator, rows.len(), 1)?;
                m.multiply(&mut weights, 0, query.view(), key.view().t(), p.wide(pairs));
                p.map::<DATA>(&mut weights, &block, |i, _, x| (x * p.scale - lse.words[i]).exp());
                slope::<DATA>(p, &mut slopes, &weights, &sums, &block);
                m.free(weights);
                m.multiply(&mut grad, 0, slopes.view(), key.view(), p.wide(pairs));
                m.free(key);
                m.free(slopes);
            }
            m.store(&grad, arrays.grad_query, rows.start, 0)?;
            for tile in [query, grad_out, lse, sums, grad] {
                m.free(tile);
            }
        }
        Ok(())
    }
}

impl Family for TwoPass {
    type Arrays = Backward;

    fn traffic(&self, p: &Problem) -> Traffic {
        let (rows, keys) = (p.row_words(), p.wide(p.visible.keys_of_panels(self.rows)));
        let statistics = Words::statistics(2 * p.rows() as u64);
        let second = Traffic {
            loads: Words::operands(2 * rows + 2 * keys) + statistics,
            stores: Words::operands(rows),
        };
        row_sums_traffic(p) + self.panels().traffic(p) + second
    }

    fn moments(&self, p: &Problem) -> Vec<Words> {
        let mut moments = self.panels().moments(p).to_vec();
        moments.extend(self.row_moments(p));
        moments.push(row_sums_moment());
        moments
    }

    fn flops(&self, p: &Problem) -> u64 {
        2 * p.row_words() + 14 * p.wide(p.visible.pairs())
    }

    fn workspace(&self, p: &Problem) -> u64 {
        p.rows() as u64
    }

    fn execute<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: Backward,
    ) -> Step {
        let sums = row_sums(p, m, arrays.out, arrays.grad_out)?;
        self.panels().run(p, m, arrays, sums, |_, _, _, _| Ok(()))?;
        self.row_pass(p, m, arrays, sums)?;
        discard_sums(p, m, sums);
        Ok(())
    }

    fn best(search: &Search) -> Option<Self> {
        let p = search.problem;
        let first = best_panels(search)?;
        let at = |rows, value_stream| Self {
            keys: first.keys,
            stream: first.stream,
            rows,
            value_stream,
        };
        let fits = |rows, stream| search.fits(&at(rows, stream).row_moments(p));
        let (rows, _) = search.rows(|rows| fits(rows, 1))?;
        let value_stream = widest(p.width, |stream| fits(rows, stream))?;
        Some(at(rows, value_stream))
    }

    fn smallest(_: &Problem) -> Self {
        Self { keys: 1, stream: 1, rows: 1, value_stream: 1 }
    }
}

/// The best panels of keys for the gradients of keys and values.
pub(super) fn best_panels(search: &Search) -> Option<KeyPanels> {
    let p = search.problem;
    let fits = |keys, stream| search.fits(&KeyPanels { keys, stream }.moments(p));
    let (keys, _) = search.keys(|keys| fits(keys, 1))?;
    let stream = widest(p.width, |stream| fits(keys, stream))?;
    search.fits(&[row_sums_moment()]).then_some(KeyPanels { keys, stream })
}
