//! Rows stay in fast memory while their scores are computed and written; then their outputs do, while the scores are read.
//!
//! 2nd + n d (ceil(n / r) + ceil(n / r')) + n^2 (1 + ceil(d / w)) words, about 2 n^2 d^2 / M + 2 n^2 for w = d. With fused products
//! either of rows and outputs has half of the memory, so that each panel is half as high and 4 n^2 d^2 / M words
//! move; in blocks, 4 n^2 d / sqrt(M) + n^2. Between M = d^2 / 3 and d^2, this is the least of the three.

use super::family::{Family, family};
use super::fault::Step;
use super::memory::Memory;
use super::phases::{Product, ResidentRows, Scores};
use super::planner::Search;
use super::problem::{Forward, Problem, Traffic, widest};
use super::rectangular::best_out;
use super::unfused;
use super::words::Words;

family! {
    /// Rows stay for their scores, then for their outputs.
    RowResident {
        /// Rows of a panel of scores.
        rows,
        /// Words of a key that are loaded at once.
        stream,
        /// Rows of a block of the output.
        out_rows,
        /// Columns of a block of the output.
        out_columns,
        /// Words of a value that are loaded at once.
        out_stream,
    }
}

impl RowResident {
    fn scores(&self) -> ResidentRows {
        ResidentRows { rows: self.rows, stream: self.stream }
    }

    fn product(&self) -> Product {
        Product { rows: self.out_rows, columns: self.out_columns, stream: self.out_stream }
    }
}

/// The best panels of rows; `fits` says which fit.
pub(super) fn best_resident(
    search: &Search,
    fits: impl Fn(ResidentRows) -> bool,
) -> Option<ResidentRows> {
    let (rows, _) = search.rows(|rows| fits(ResidentRows { rows, stream: 1 }))?;
    let stream = widest(search.problem.width, |stream| fits(ResidentRows { rows, stream }))?;
    Some(ResidentRows { rows, stream })
}

impl Family for RowResident {
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
        let scores = best_resident(search, |s| search.fits(&[s.moment(p), s.finished(p)]))?;
        let out = best_out(search)?;
        Some(Self {
            rows: scores.rows,
            stream: scores.stream,
            out_rows: out.rows,
            out_columns: out.columns,
            out_stream: out.stream,
        })
    }

    fn smallest(_: &Problem) -> Self {
        Self { rows: 1, stream: 1, out_rows: 1, out_columns: 1, out_stream: 1 }
    }
}
