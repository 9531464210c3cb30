//! Backward through weights and slopes that are written, with fused passes wherever two products share what passes by.
//!
//! 1. Rows of queries stay, with the logarithms of their sums; keys pass by; weights are written.
//! 2. Panels of values and of their gradients stay; `grad_out` and weights pass by, for both the slopes of the weights
//!    and the gradient of the values; slopes of scores are written over the weights.
//! 3. The gradient of queries stays; keys and slopes pass by. 4. The same for the gradient of keys.
//!
//! With M words, panels of M / d rows in 1, 3 and 4 and of M / 2d in 2: about 5 n^2 d^2 / M + 5 n^2 words. To keep
//! the products of 2 apart would read the weights once more. The least of the schedules for M between about d^2 / 4 and d^2.

use super::family::{Family, family};
use super::fault::Step;
use super::key_panels::{discard_sums, slope};
use super::memory::Memory;
use super::operands::Backward;
use super::phases::{Product, row_sums, row_sums_moment, row_sums_traffic};
use super::planner::Search;
use super::problem::{Problem, Traffic, widest};
use super::scores::{ResidentRows, Scores};
use super::slow::Array;
use super::stored_weights::{Gradients, store_weights, weights_moments, weights_traffic};
use super::visible::pieces;
use super::words::{Class, Words};

family! {
    /// One array stays at a time, two where `grad_out` passes by.
    GradRowResident {
        /// Rows of a panel of weights.
        rows,
        /// Words of a key that are loaded at once.
        stream,
        /// Keys of a panel of values and their gradients.
        keys,
        /// Words of `grad_out` that are loaded at once.
        grad_stream,
        /// Rows of a block of the gradient of queries.
        query_rows,
        /// Columns of such a block.
        query_columns,
        /// Words of a key that are loaded at once for it.
        query_stream,
        /// Keys of a block of their gradient.
        key_rows,
        /// Columns of such a block.
        key_columns,
        /// Words of a query that are loaded at once for it.
        key_stream,
    }
}

/// The second phase.
#[derive(Clone, Copy)]
struct Values {
    keys: usize,
    stream: usize,
}

impl GradRowResident {
    fn scores(&self) -> ResidentRows {
        ResidentRows { rows: self.rows, stream: self.stream }
    }

    fn values(&self) -> Values {
        Values { keys: self.keys, stream: self.grad_stream }
    }

    fn gradients(&self) -> Gradients {
        let (rows, columns) = (self.query_rows, self.query_columns);
        let query = Product { rows, columns, stream: self.query_stream };
        let (rows, columns) = (self.key_rows, self.key_columns);
        Gradients { query, key: Product { rows, columns, stream: self.key_stream } }
    }
}

impl Values {
    fn moments(self, p: &Problem) -> [Words; 2] {
        let stay = Words::new(self.keys * p.width + self.keys, self.keys * p.width + self.keys, 0);
        [stay + Words::new(self.stream, 0, 0), stay + Words::new(0, 0, 1)]
    }

    fn traffic(self, p: &Problem) -> Traffic {
        let (rows, pairs) = (p.visible.rows_of_panels(self.keys), p.visible.pairs());
        let loads = Words::operands(p.key_words() + p.wide(rows) + pairs);
        Traffic {
            loads: loads + Words::statistics(rows),
            stores: Words::operands(p.key_words() + pairs),
        }
    }

    /// Weights become slopes, and the gradient of values is computed.
    fn run<const DATA: bool>(
        self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: Backward,
        sums: Array,
        stored: Array,
    ) -> Step {
        for keys in pieces(p.keys(), self.keys) {
            let value = m.load(arrays.value, keys.clone(), 0..p.width)?;
            let mut grad_value = m.alloc(Class::Accumulator, keys.len(), p.width)?;
            for row in 0..p.rows() {
                let block = p.block(row..row + 1, keys.clone());
                if block.look.pairs == 0 {
                    continue;
                }
                let weights = p.load_pairs(m, stored, &block)?;
                let mut slopes = m.alloc(Class::Accumulator, 1, keys.len())?;
                for cols in pieces(p.width, self.stream) {
                    let grad = m.load(arrays.grad_out, row..row + 1, cols.clone())?;
                    let products = block.look.pairs * cols.len() as u64;
                    let columns = value.columns(cols.clone()).t();
                    m.multiply(&mut slopes, 0, grad.view(), columns, products);
                    let weights = weights.view().t();
                    m.multiply(&mut grad_value, cols.start, weights, grad.view(), products);
                    m.free(grad);
                }
                let sum = m.load(sums, row..row + 1, 0..1)?;
                slope::<DATA>(p, &mut slopes, &weights, &sum, &block);
                p.store_pairs(m, &slopes, stored, &block, false)?;
                for tile in [sum, slopes, weights] {
                    m.free(tile);
                }
            }
            m.store(&grad_value, arrays.grad_value, keys.start, 0)?;
            m.free(value);
            m.free(grad_value);
        }
        Ok(())
    }
}

impl Family for GradRowResident {
    type Arrays = Backward;
    const PRODUCTS: u64 = 5;

    fn traffic(&self, p: &Problem) -> Traffic {
        row_sums_traffic(p)
            + weights_traffic(p, &self.scores())
            + self.values().traffic(p)
            + self.gradients().traffic(p)
    }

    fn moments(&self, p: &Problem) -> Vec<Words> {
        let mut moments = weights_moments(p, &self.scores()).to_vec();
        moments.extend(self.values().moments(p));
        moments.extend(self.gradients().moments());
        moments.push(row_sums_moment());
        moments
    }

    fn workspace(&self, p: &Problem) -> u64 {
        p.rows() as u64 + p.visible.pairs()
    }

    fn execute<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: Backward,
    ) -> Step {
        let sums = row_sums(p, m, arrays.out, arrays.grad_out)?;
        let stored = store_weights(p, m, arrays, &self.scores())?;
        self.values().run(p, m, arrays, sums, stored)?;
        discard_sums(p, m, sums);
        self.gradients().run(p, m, arrays, stored)
    }

    fn best(search: &Search) -> Option<Self> {
        let p = search.problem;
        let scores =
            ResidentRows::best(search, |scores| search.fits(&weights_moments(p, &scores)))?;
        let fits = |keys, stream| search.fits(&Values { keys, stream }.moments(p));
        let (keys, _) = search.keys(|keys| fits(keys, 1))?;
        let grad_stream = widest(p.width, |stream| fits(keys, stream))?;
        let Gradients { query, key } = Gradients::best(search)?;
        search.fits(&[row_sums_moment()]).then_some(Self {
            rows: scores.rows,
            stream: scores.stream,
            keys,
            grad_stream,
            query_rows: query.rows,
            query_columns: query.columns,
            query_stream: query.stream,
            key_rows: key.rows,
            key_columns: key.columns,
            key_stream: key.stream,
        })
    }
}
