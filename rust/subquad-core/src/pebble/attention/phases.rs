//! What schedules have in common: products of an array of rows by keys, and sums of rows.
//!
//! One factor comes a column or a few words at a time, and a block of the result stays in fast memory until it is
//! complete.

use super::fault::Step;
use super::memory::Memory;
use super::planner::Search;
use super::problem::{Problem, Traffic, widest};
use super::slow::Array;
use super::visible::pieces;
use super::words::{Class, Widths, Words};

/// The product of weights, an array of rows by keys, and an array of keys; or, transposed, of rows. A block of the
/// result, `rows` by `columns`, is in fast memory with one column of weights and `stream` words of the factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Rows of a block of the result: rows, or if transposed keys.
    pub rows: usize,
    /// Columns of a block of the result.
    pub columns: usize,
    /// Words of the factor that are loaded at once.
    pub stream: usize,
}

impl Product {
    /// Square blocks, and all of a row of a block at once.
    pub(super) fn square(p: &Problem, side: usize) -> Self {
        let columns = side.min(p.width);
        Self { rows: side, columns, stream: columns }
    }

    /// The best blocks; `fits` says which fit.
    pub(super) fn best(
        search: &Search,
        transposed: bool,
        fits: impl Fn(Self) -> bool,
    ) -> Option<Self> {
        let found = search.columns().into_iter().filter_map(|columns| {
            let at = |rows| Self { rows, columns, stream: 1 };
            let fits = |rows| fits(at(rows));
            let (rows, _) = if transposed { search.keys(fits)? } else { search.rows(fits)? };
            Some(at(rows))
        });
        let traffic = |product: &Self| product.traffic(search.problem, transposed);
        let best = found.min_by_key(|product| search.cost(traffic(product).moved()))?;
        let stream = widest(best.columns, |stream| fits(Self { stream, ..best }));
        Some(Self { stream: stream.unwrap_or(1), ..best })
    }

    /// `result = weights factor`, or `weights^t factor`.
    pub(super) fn run<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        weights: Array,
        factor: Array,
        result: Array,
        transposed: bool,
    ) -> Step {
        let (rows, keys) = (p.rows(), p.keys());
        let (height, depth) = if transposed { (keys, rows) } else { (rows, keys) };
        for panel in pieces(height, self.rows) {
            for cols in pieces(p.width, self.columns) {
                let mut sums = m.alloc(Class::Accumulator, panel.len(), cols.len())?;
                for k in 0..depth {
                    let one = k..k + 1;
                    let block = if transposed {
                        p.block(one.clone(), panel.clone())
                    } else {
                        p.block(panel.clone(), one.clone())
                    };
                    if block.look.pairs == 0 {
                        continue;
                    }
                    let w = p.load_pairs(m, weights, &block)?;
                    let w_view = if transposed { w.view().t() } else { w.view() };
                    for part in pieces(cols.len(), self.stream) {
                        let words = cols.start + part.start..cols.start + part.end;
                        let products = block.look.pairs * words.len() as u64;
                        let f = m.load(factor, one.clone(), words)?;
                        m.multiply(&mut sums, part.start, w_view, f.view(), products);
                        m.free(f);
                    }
                    m.free(w);
                }
                m.store(&sums, result, panel.start, cols.start)?;
                m.free(sums);
            }
        }
        Ok(())
    }

    /// Words moved.
    pub(super) fn traffic(&self, p: &Problem, transposed: bool) -> Traffic {
        let (of_factor, of_result) = if transposed {
            (p.visible.rows_of_panels(self.rows), p.key_words())
        } else {
            (p.visible.keys_of_panels(self.rows), p.row_words())
        };
        let passes = p.width.div_ceil(self.columns) as u64;
        let loads = passes * p.visible.pairs() + p.wide(of_factor);
        Traffic { loads: Words::operands(loads), stores: Words::operands(of_result) }
    }

    /// What is in fast memory.
    pub(super) fn moment(&self) -> Words {
        Words::new(self.rows + self.stream, self.rows * self.columns, 0)
    }
}

/// The sums of `out * grad_out` over the width, one for each row, which the gradient of softmax needs.
pub(super) fn row_sums<const DATA: bool>(
    p: &Problem,
    m: &mut Memory<DATA>,
    out: Array,
    grad_out: Array,
) -> Step<Array> {
    let sums = m.scratch("row sums", (p.rows(), 1), Class::Statistic);
    for row in 0..p.rows() {
        let mut sum = m.alloc(Class::Statistic, 1, 1)?;
        for col in 0..p.width {
            let a = m.load(out, row..row + 1, col..col + 1)?;
            let b = m.load(grad_out, row..row + 1, col..col + 1)?;
            m.multiply(&mut sum, 0, a.view(), b.view(), 1);
            m.free(a);
            m.free(b);
        }
        m.store(&sum, sums, row, 0)?;
        m.free(sum);
    }
    Ok(sums)
}

/// Words moved by [`row_sums`].
pub(super) fn row_sums_traffic(p: &Problem) -> Traffic {
    let loads = Words::operands(2 * p.row_words());
    Traffic { loads, stores: Words::statistics(p.rows() as u64) }
}

/// What is in fast memory during [`row_sums`].
pub(super) fn row_sums_moment() -> Words {
    Words::new(2, 0, 1)
}

/// Whether all moments fit.
pub(super) fn fit(moments: &[Words], widths: Widths, memory: u64) -> bool {
    moments.iter().all(|&words| widths.size(words) <= memory)
}
