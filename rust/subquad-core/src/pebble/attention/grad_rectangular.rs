//! Backward by five products in rectangular blocks, for a fast memory of less than about d^2 / 4 words.
//!
//! Weights are computed in blocks of r by c and written, and the gradient of values is computed from them; slopes are computed in such
//! blocks and written over the weights, and the gradients of queries and keys are computed from them. About
//! 10 n^2 d / sqrt(M) + 3 n^2 words, and statistics of rows are read once for each panel of rows, not for each block.

use super::family::{Family, family};
use super::fault::Step;
use super::key_panels::discard_sums;
use super::memory::Memory;
use super::operands::Backward;
use super::phases::{Product, row_sums, row_sums_moment, row_sums_traffic};
use super::planner::Search;
use super::problem::{Problem, Traffic};
use super::scores::{ScoreBlocks, Scores};
use super::slow::Array;
use super::stored_weights::{Gradients, store_weights, weights_traffic};
use super::visible::pieces;
use super::words::Words;

family! {
    /// Five products in blocks.
    GradRectangular {
        /// Rows of a block of weights or slopes.
        rows,
        /// Keys of such a block.
        keys,
        /// Keys of which a column is loaded at once.
        stream,
        /// Rows of a block of the gradient of queries.
        query_rows,
        /// Columns of such a block.
        query_columns,
        /// Words of a key that are loaded at once for it.
        query_stream,
        /// Keys of a block of the gradients of keys and values.
        key_rows,
        /// Columns of such a block.
        key_columns,
        /// Words of a row that are loaded at once for it.
        key_stream,
    }
}

impl GradRectangular {
    fn scores(&self) -> ScoreBlocks {
        ScoreBlocks { rows: self.rows, keys: self.keys, stream: self.stream }
    }

    fn gradients(&self) -> Gradients {
        let (rows, columns) = (self.query_rows, self.query_columns);
        let query = Product { rows, columns, stream: self.query_stream };
        let (rows, columns) = (self.key_rows, self.key_columns);
        Gradients { query, key: Product { rows, columns, stream: self.key_stream } }
    }
}

/// What is in fast memory while blocks are computed, and while slopes meet a column of weights.
fn block_moments(p: &Problem, scores: ScoreBlocks) -> [Words; 2] {
    let statistics = Words::new(0, 0, scores.rows);
    let column = Words::new(scores.rows, 0, 0);
    [scores.moment(p) + statistics, scores.finished(p) + column + statistics]
}

/// Weights become slopes, block by block.
fn store_slopes<const DATA: bool>(
    p: &Problem,
    m: &mut Memory<DATA>,
    arrays: Backward,
    scores: ScoreBlocks,
    sums: Array,
    stored: Array,
) -> Step {
    for rows in pieces(p.rows(), scores.rows) {
        let sum = m.load(sums, rows.clone(), 0..1)?;
        let operands = (arrays.grad_out, arrays.value);
        scores.panel(p, m, operands, rows, |m, mut tile, block| {
            for one in p.along_keys(&block.rows, block.keys.clone(), 1) {
                let weights = p.load_pairs(m, stored, &one)?;
                if DATA {
                    let (cols, at) = (tile.cols, one.keys.start - block.keys.start);
                    for (i, &weight) in weights.words.iter().enumerate() {
                        let slope = &mut tile.words[i * cols + at];
                        *slope = weight * (*slope - sum.words[i]) * p.scale;
                    }
                }
                m.free(weights);
            }
            p.store_pairs(m, &tile, stored, block, false)?;
            m.free(tile);
            Ok(())
        })?;
        m.free(sum);
    }
    Ok(())
}

impl Family for GradRectangular {
    type Arrays = Backward;
    const PRODUCTS: u64 = 5;

    fn traffic(&self, p: &Problem) -> Traffic {
        let read = Words::operands(p.visible.pairs());
        row_sums_traffic(p)
            + weights_traffic(p, &self.scores())
            + weights_traffic(p, &self.scores())
            + Traffic { loads: read, stores: Words::default() }
            + self.gradients().traffic(p)
            + self.gradients().key.traffic(p, true)
    }

    fn moments(&self, p: &Problem) -> Vec<Words> {
        let mut moments = block_moments(p, self.scores()).to_vec();
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
        self.gradients().key.run(p, m, stored, arrays.grad_out, arrays.grad_value, true)?;
        store_slopes(p, m, arrays, self.scores(), sums, stored)?;
        discard_sums(p, m, sums);
        self.gradients().run(p, m, arrays, stored)
    }

    fn best(search: &Search) -> Option<Self> {
        let p = search.problem;
        let scores = ScoreBlocks::best(search, |scores| search.fits(&block_moments(p, scores)))?;
        let Gradients { query, key } = Gradients::best(search)?;
        search.fits(&[row_sums_moment()]).then_some(Self {
            rows: scores.rows,
            keys: scores.keys,
            stream: scores.stream,
            query_rows: query.rows,
            query_columns: query.columns,
            query_stream: query.stream,
            key_rows: key.rows,
            key_columns: key.columns,
            key_stream: key.stream,
        })
    }
}
