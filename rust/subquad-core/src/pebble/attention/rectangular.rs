//! Scores in rectangular blocks, written and read again, for a fast memory of less than about d^2 / 3 words.
//!
//! A block of r by c scores is computed from one column of r rows and a few words of the keys at a time; a block of r'
//! by w outputs from one column of weights and a few words of the values: with M words and r c, r' w near M, some
//! 2 n^2 d / sqrt(M) words move for either product, and n^2 for the scores each time. The square blocks of Saha and Ye
//! (arXiv:2402.07443) leave room unused where d is not a multiple of their side: w divides d into equal parts.

use super::family::family;
use super::phases::Product;
use super::scores::ScoreBlocks;
use super::unfused::Unfused;

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

impl Unfused for Rectangular {
    type Scores = ScoreBlocks;

    fn parts(&self) -> (ScoreBlocks, Product) {
        let scores = ScoreBlocks { rows: self.rows, keys: self.keys, stream: self.stream };
        let (rows, columns) = (self.out_rows, self.out_columns);
        (scores, Product { rows, columns, stream: self.out_stream })
    }

    fn new(scores: ScoreBlocks, out: Product) -> Self {
        Self {
            rows: scores.rows,
            keys: scores.keys,
            stream: scores.stream,
            out_rows: out.rows,
            out_columns: out.columns,
            out_stream: out.stream,
        }
    }
}
