//! Backward schedules that write the weights, let slopes of scores take their place, and read those: the products at
//! either end.

use super::fault::Step;
use super::memory::Memory;
use super::operands::Backward;
use super::phases::Product;
use super::planner::Search;
use super::problem::{Problem, Traffic};
use super::scores::Scores;
use super::slow::Array;
use super::visible::pieces;
use super::words::Words;

/// Writes the weights of all rows, whose logarithms of sums are known and stay with them.
pub(super) fn store_weights<const DATA: bool>(
    p: &Problem,
    m: &mut Memory<DATA>,
    arrays: Backward,
    scores: &impl Scores,
) -> Step<Array> {
    let stored = p.pairs_array(m, "weights");
    for rows in pieces(p.rows(), scores.rows()) {
        let lse = m.load(arrays.lse, rows.clone(), 0..1)?;
        scores.panel(p, m, (arrays.query, arrays.key), rows, |m, mut tile, block| {
            p.map::<DATA>(&mut tile, block, |i, _, x| (x * p.scale - lse.words[i]).exp());
            p.store_pairs(m, &tile, stored, block, true)?;
            m.free(tile);
            Ok(())
        })?;
        m.free(lse);
    }
    Ok(stored)
}

/// Words moved by [`store_weights`].
pub(super) fn weights_traffic(p: &Problem, scores: &impl Scores) -> Traffic {
    let loads = Words::statistics(p.rows() as u64);
    scores.traffic(p) + Traffic { loads, stores: Words::operands(p.visible.pairs()) }
}

/// What is in fast memory while the weights of a panel are computed.
pub(super) fn weights_moments(p: &Problem, scores: &impl Scores) -> [Words; 2] {
    let lse = Words::new(0, 0, scores.rows());
    [scores.moment(p) + lse, scores.finished(p) + lse]
}

/// The products at the end: of slopes that are stored with keys, and with queries.
#[derive(Clone, Copy)]
pub(super) struct Gradients {
    /// For the gradient of queries.
    pub query: Product,
    /// For the gradient of keys.
    pub key: Product,
}

impl Gradients {
    /// Computes both gradients, and gives up the slopes.
    pub fn run<const DATA: bool>(
        self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: Backward,
        slopes: Array,
    ) -> Step {
        self.query.run(p, m, slopes, arrays.key, arrays.grad_query, false)?;
        self.key.run(p, m, slopes, arrays.query, arrays.grad_key, true)?;
        p.discard_pairs(m, slopes, 0..p.rows());
        Ok(())
    }

    /// Words moved.
    pub fn traffic(self, p: &Problem) -> Traffic {
        self.query.traffic(p, false) + self.key.traffic(p, true)
    }

    /// What is in fast memory when.
    pub fn moments(self) -> [Words; 2] {
        [self.query.moment(), self.key.moment()]
    }

    /// The best blocks.
    pub fn best(search: &Search) -> Option<Self> {
        let fits = |product: Product| search.fits(&[product.moment()]);
        let (query, key) =
            (Product::best(search, false, fits)?, Product::best(search, true, fits)?);
        Some(Self { query, key })
    }
}
