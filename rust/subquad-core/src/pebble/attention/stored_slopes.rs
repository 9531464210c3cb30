//! One pass over panels of keys that writes the slopes of the scores, and a product for the gradient of queries.
//!
//! About 9 n^2 d^2 / M + 2 n^2 words: 8 for the pass, where four arrays stay and two pass by, 1 for the product, and
//! the slopes written and read. Five products, and no gradient is read again. The least of the schedules for M
//! between d^2 and 5/2 d^2: with less, [`GradRowResident`](super::GradRowResident) moves 5 n^2 d^2 / M + 5 n^2, and with more,
//! [`TwoPass`](super::TwoPass) 14 n^2 d^2 / M.

use super::family::{Family, family};
use super::fault::Step;
use super::key_panels::{KeyPanels, discard_sums};
use super::memory::Memory;
use super::phases::{Product, row_sums, row_sums_moment, row_sums_traffic};
use super::planner::Search;
use super::problem::{Backward, Problem, Traffic};
use super::words::Words;

family! {
    /// Keys stay and slopes are written, then gradients of rows stay and slopes are read.
    StoredSlopes {
        /// Keys of a panel.
        keys,
        /// Keys with which scores are computed at once: all of a panel, or fewer.
        tile,
        /// Words of `grad_out` that are loaded at once, if all.
        stream,
        /// Rows of a block of the gradient of queries.
        rows,
        /// Columns of such a block.
        columns,
        /// Words of a key that are loaded at once.
        key_stream,
    }
}

impl StoredSlopes {
    fn panels(self) -> KeyPanels {
        KeyPanels { keys: self.keys, tile: self.tile, stream: self.stream }
    }

    fn product(self) -> Product {
        Product { rows: self.rows, columns: self.columns, stream: self.key_stream }
    }
}

impl Family for StoredSlopes {
    type Arrays = Backward;

    fn traffic(&self, p: &Problem) -> Traffic {
        let slopes = Words::operands(p.visible.pairs());
        row_sums_traffic(p)
            + self.panels().traffic(p)
            + Traffic { loads: Words::default(), stores: slopes }
            + self.product().traffic(p, false)
    }

    fn moments(&self, p: &Problem) -> Vec<Words> {
        let mut moments = self.panels().moments(p);
        moments.extend([self.product().moment(), row_sums_moment()]);
        moments
    }

    fn flops(&self, p: &Problem) -> u64 {
        2 * p.row_words() + 10 * p.wide(p.visible.pairs())
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
        let stored = p.pairs_array(m, "slopes");
        self.panels().run(p, m, arrays, sums, |m, slopes, _, block| {
            p.store_pairs(m, slopes, stored, block, true)
        })?;
        discard_sums(p, m, sums);
        self.product().run(p, m, stored, arrays.key, arrays.grad_query, false)?;
        p.discard_pairs(m, stored, 0..p.rows());
        Ok(())
    }

    fn best(search: &Search) -> Option<Self> {
        let panels = KeyPanels::best(search)?;
        if !search.fits(&[row_sums_moment()]) {
            return None;
        }
        let product = best_gradient(search, false)?;
        Some(Self {
            keys: panels.keys,
            tile: panels.tile,
            stream: panels.stream,
            rows: product.rows,
            columns: product.columns,
            key_stream: product.stream,
        })
    }

    fn smallest(_: &Problem) -> Self {
        Self { keys: 1, tile: 1, stream: 1, rows: 1, columns: 1, key_stream: 1 }
    }
}

/// The best blocks for the product of weights or slopes, read from slow memory, with an array.
pub(super) fn best_gradient(search: &Search, transposed: bool) -> Option<Product> {
    let p = search.problem;
    let fits = |product: Product| search.fits(&[product.moment()]);
    let found = search.columns().into_iter().filter_map(|columns| {
        let at = |rows| Product { rows, columns, stream: 1 };
        let fits = |rows| fits(at(rows));
        let (rows, _) = if transposed { search.keys(fits)? } else { search.rows(fits)? };
        Some(at(rows))
    });
    let cost = |product: &Product| search.cost(product.traffic(p, transposed).moved());
    found.min_by_key(cost).map(|product| product.widened(fits))
}
