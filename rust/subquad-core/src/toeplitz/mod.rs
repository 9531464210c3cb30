//! Products with Toeplitz matrices, whose entry in row `i` and column `j` depends on the lag `i - j` alone.
//!
//! A matrix of `L` rows and `S` columns has weights for the lags `1 - S ..= L - 1`, in this order: that of lag
//! `i - j` is number `i - j + S - 1` of `L + S - 1`.
//!
//! | function | computes | operations |
//! |---|---|---|
//! | [`product`] | `T x`, or `T^t x` | `n log n` a column, `n` about `L + S` |
//! | [`product_grad`] | the gradient of its weights | the same |
//! | [`rescaled_sum`] | `sum_t diag(left_t) T_t diag(right_t) x` | the same a term and column |
//! | [`rescaled_sum_grad`] | its gradients | two to three times as much |
//!
//! All go through [`fft`](crate::linalg::fft): a pack of columns at a time, which a task transforms, multiplies
//! with the spectrum of the weights and transforms back. Small matrices are multiplied as they are. What is not
//! finite is found in the results, all of which it reaches.

mod columns;
mod grad;
mod product;
mod rescaled;
mod rescaled_grad;
mod spectra;
mod terms;
#[cfg(test)]
mod tests;

pub use grad::product_grad;
pub use product::product;
pub use rescaled::rescaled_sum;
pub use rescaled_grad::{Gradients, rescaled_sum_grad};

pub use crate::linalg::fft::Transform;

/// Rows and columns of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    rows: usize,
    columns: usize,
}

impl Extent {
    /// Number of weights.
    fn lags(self) -> usize {
        (self.rows + self.columns).saturating_sub(1)
    }

    /// Where a transform of length `n` has the weight with this index: lag 0 first, negative lags at the end.
    fn place(self, n: usize, index: usize) -> usize {
        (index + n + 1 - self.columns) % n
    }
}
