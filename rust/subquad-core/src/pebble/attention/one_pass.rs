//! The backward direction of the second flash attention (arXiv:2307.08691): one pass over panels of keys, in which the gradient of the rows is read,
//! added to and written for every panel.
//!
//! 4cd + 2c + d + 1 words fit, and about 16 n^2 d^2 / M move: four arrays stay, and queries, `grad_out` and, twice, the
//! gradient of queries pass by.

use super::family::{Family, family};
use super::fault::Step;
use super::key_panels::{KeyPanels, discard_sums};
use super::memory::Memory;
use super::operands::Backward;
use super::phases::{row_sums, row_sums_moment, row_sums_traffic};
use super::planner::Search;
use super::problem::{Problem, Traffic, widest};
use super::visible::pieces;
use super::visit::{Visit, zero_unseeing};
use super::words::{Class, Words};

family! {
    /// Keys stay, rows and their gradients pass by.
    OnePass {
        /// Keys of a panel.
        keys,
        /// Words of a row that are loaded at once.
        stream,
    }
}

impl OnePass {
    fn panels(self) -> KeyPanels {
        KeyPanels { keys: self.keys, tile: self.keys, stream: self.stream }
    }
}

impl Family for OnePass {
    type Arrays = Backward;
    const PRODUCTS: u64 = 5;

    fn traffic(&self, p: &Problem) -> Traffic {
        let again = p.visible.rows_of_panels(self.keys) - p.visible.seeing();
        let partial = Words([0, p.wide(again), 0]);
        let stores = partial + Words::operands(p.row_words());
        row_sums_traffic(p) + self.panels().traffic(p) + Traffic { loads: partial, stores }
    }

    fn moments(&self, p: &Problem) -> Vec<Words> {
        let mut moments = self.panels().moments(p);
        moments.push(self.panels().during(p) + Words::new(0, self.stream, 0));
        moments.push(row_sums_moment());
        moments
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
        let partial = arrays.grad_query.of(Class::Accumulator);
        self.panels().run(p, m, arrays, sums, |m, slopes, key, block| {
            let visit = Visit::new(p, block);
            for cols in pieces(p.width, self.stream) {
                let mut grad = visit.load_columns(m, partial, cols.clone())?;
                let products = block.look.pairs * cols.len() as u64;
                m.multiply(&mut grad, 0, slopes.view(), key.columns(cols.clone()), products);
                visit.store_columns(m, &grad, arrays.grad_query, cols.start)?;
                m.free(grad);
            }
            Ok(())
        })?;
        discard_sums(p, m, sums);
        zero_unseeing(p, m, arrays.grad_query)
    }

    fn best(search: &Search) -> Option<Self> {
        let p = search.problem;
        let fits = |keys, stream| search.fits(&Self { keys, stream }.moments(p));
        let (keys, _) = search.keys(|keys| fits(keys, 1))?;
        let stream = widest(p.width, |stream| fits(keys, stream))?;
        Some(Self { keys, stream })
    }
}
