//! Scores in rectangular blocks, written and read again, for a fast memory of less than about d^2 / 3 words.
//!
//! A block of r by c scores is computed from one column of r rows and a few words of the keys at a time; a block of r'
//! by w outputs from one column of weights and a few words of the values: with M words and r c, r' w near M, some
//! 2 n^2 d / sqrt(M) words move for either product, and n^2 for the scores each time. The square blocks of Saha and Ye
//! (arXiv:2402.07443) leave room unused where d is not a multiple of their side: w divides d into equal parts.

use super::family::{Family, family};
use super::fault::Step;
use super::memory::Memory;
use super::phases::{Product, ScoreBlocks, Scores};
use super::planner::Search;
use super::problem::{Forward, Problem, Traffic, widest};
use super::unfused;
use super::words::Words;

family! {
    /// Scores in blocks, then outputs in blocks.
    Rectangular {
        /// Rows of a block of scores.
        rows,
        /// Keys of a block of scores.
        keys,
        /// Keys of which a column is loaded at once.
        stream,
        /// Rows of a block of the output.
        out_rows,
        /// Columns of a block of the output.
        out_columns,
        /// Words of a value that are loaded at once.
        out_stream,
    }
}

impl Rectangular {
    fn scores(&self) -> ScoreBlocks {
        ScoreBlocks { rows: self.rows, keys: self.keys, stream: self.stream }
    }

    fn product(&self) -> Product {
        Product { rows: self.out_rows, columns: self.out_columns, stream: self.out_stream }
    }
}

/// The best blocks of scores; `fits` says which fit.
pub(super) fn best_blocks(
    search: &Search,
    fits: impl Fn(ScoreBlocks) -> bool,
) -> Option<ScoreBlocks> {
    let found = search.heights().filter_map(|(rows, of_keys)| {
        let at = |keys| ScoreBlocks { rows, keys, stream: 1 };
        let (keys, of_rows) = search.keys(|keys| fits(at(keys)))?;
        Some((of_keys + of_rows, at(keys)))
    });
    let (_, blocks) = found.min_by_key(|&(cost, _)| cost)?;
    let stream = widest(blocks.keys, |stream| fits(ScoreBlocks { stream, ..blocks }))?;
    Some(ScoreBlocks { stream, ..blocks })
}

/// The best blocks of the output.
pub(super) fn best_out(search: &Search) -> Option<Product> {
    let p = search.problem;
    let passes =
        |keys, columns| p.wide(keys) + p.width.div_ceil(columns) as u64 * p.visible.pairs();
    unfused::best_product(search, passes, |product| search.fits(&unfused::product_moments(product)))
}

impl Family for Rectangular {
    type Arrays = Forward;

    fn traffic(&self, p: &Problem) -> Traffic {
        unfused::traffic(p, &self.scores(), self.product())
    }

    fn moments(&self, p: &Problem) -> Vec<Words> {
        unfused::moments(p, &self.scores(), self.product())
    }

    fn flops(&self, p: &Problem) -> u64 {
        4 * p.wide(p.visible.pairs())
    }

    fn workspace(&self, p: &Problem) -> u64 {
        unfused::workspace(p, self.rows, self.out_rows)
    }

    fn execute<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: Forward,
    ) -> Step {
        unfused::execute(p, m, arrays, &self.scores(), self.product())
    }

    fn best(search: &Search) -> Option<Self> {
        let p = search.problem;
        let scores = best_blocks(search, |s| search.fits(&[s.moment(p), s.finished(p)]))?;
        let out = best_out(search)?;
        Some(Self {
            rows: scores.rows,
            keys: scores.keys,
            stream: scores.stream,
            out_rows: out.rows,
            out_columns: out.columns,
            out_stream: out.stream,
        })
    }

    fn smallest(_: &Problem) -> Self {
        Self { rows: 1, keys: 1, stream: 1, out_rows: 1, out_columns: 1, out_stream: 1 }
    }
}
