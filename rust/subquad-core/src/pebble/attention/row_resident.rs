//! Rows stay in fast memory while their scores are computed and written; then their outputs do, while the scores are read.
//!
//! 2nd + n d (ceil(n / r) + ceil(n / r')) + n^2 (1 + ceil(d / w)) words, about 2 n^2 d^2 / M + 2 n^2 for w = d. With fused products
//! either of rows and outputs has half of the memory, so that each panel is half as high and 4 n^2 d^2 / M words
//! move; in blocks, 4 n^2 d / sqrt(M) + n^2. Between M = d^2 / 3 and d^2, this is the least of the three.

use super::family::family;
use super::phases::Product;
use super::scores::ResidentRows;
use super::unfused::Unfused;

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

impl Unfused for RowResident {
    type Scores = ResidentRows;

    fn parts(&self) -> (ResidentRows, Product) {
        let scores = ResidentRows { rows: self.rows, stream: self.stream };
        let (rows, columns) = (self.out_rows, self.out_columns);
        (scores, Product { rows, columns, stream: self.out_stream })
    }

    fn new(scores: ResidentRows, out: Product) -> Self {
        Self {
            rows: scores.rows,
            stream: scores.stream,
            out_rows: out.rows,
            out_columns: out.columns,
            out_stream: out.stream,
        }
    }
}
