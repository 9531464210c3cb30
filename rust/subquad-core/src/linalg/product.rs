//! Products of tall matrices, a block of rows at a time.

use super::gemm::{Product, gemm};
use crate::mat::{MatCell, MatRef};
use crate::par::Par;
use crate::{Error, Result};

/// Rows in a task.
const BLOCK: usize = 1024;

/// `out = a b` of shapes `n x k` and `k x m`, for many rows.
///
/// # Errors
///
/// [`Error::Shape`] if the shapes do not fit, [`Error::Stopped`].
pub fn product<T: Product>(
    out: &MatCell<'_, T>,
    a: &MatRef<'_, T>,
    b: &MatRef<'_, T>,
    par: Par<'_>,
) -> Result<()> {
    Error::unless_equal("b", "k", a.cols(), b.rows())?;
    Error::unless_equal("out", "n", a.rows(), out.rows())?;
    Error::unless_equal("out", "m", b.cols(), out.cols())?;
    let par = par.for_work(2 * (a.rows() * a.cols() * b.cols()) as u64);
    par.map(a.rows().div_ceil(BLOCK), |i, pulse| {
        if pulse.stopped() {
            return;
        }
        let rows = i * BLOCK..a.rows().min((i + 1) * BLOCK);
        let (first, shape) = (out.at(rows.start, 0), (rows.len(), out.cols()));
        // SAFETY: these rows exist, and tasks have rows of their own.
        let mut part = unsafe { MatCell::from_raw_parts(first, shape, out.strides()) };
        gemm(&mut part, false, &a.slice_rows(rows), b);
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_rows_are_the_rows_of_the_whole() {
        let (n, k, m) = (2 * BLOCK + 5, 3, 4);
        let a: Vec<f64> = (0..n * k).map(|x| (x % 11) as f64 - 5.0).collect();
        let b: Vec<f64> = (0..k * m).map(|x| (x % 5) as f64 - 2.0).collect();
        let (a, b) = (MatRef::from_slice(&a, n, k), MatRef::from_slice(&b, k, m));
        let (mut out, mut whole) = (vec![f64::NAN; n * m], vec![0.0; n * m]);
        product(&MatCell::from_slice(&mut out, n, m), &a, &b, Par::seq()).unwrap();
        gemm(&mut MatCell::from_slice(&mut whole, n, m), false, &a, &b);
        assert_eq!(out, whole);
        let mut short = vec![0.0; m];
        let short = MatCell::from_slice(&mut short, 1, m);
        assert!(product(&short, &a, &b, Par::seq()).is_err());
    }
}
