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
use super::operands::Backward;
use super::phases::{Product, row_sums, row_sums_moment, row_sums_traffic};
use super::planner::Search;
use super::problem::{Problem, Traffic};
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
    const PRODUCTS: u64 = 5;

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
        let product = Product::best(search, false, |product| search.fits(&[product.moment()]))?;
        Some(Self {
            keys: panels.keys,
            tile: panels.tile,
            stream: panels.stream,
            rows: product.rows,
            columns: product.columns,
            key_stream: product.stream,
        })
    }
}
