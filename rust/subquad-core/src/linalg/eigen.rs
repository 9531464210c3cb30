//! The one seam to `nalgebra`.

use nalgebra::DMatrix;

/// Eigenvalues of a symmetric matrix (n x n, row by row), largest first, and its unit eigenvectors as the
/// rows of a matrix; nothing if the iteration does not end or the matrix is not finite.
///
/// Takes some 10 n^3 operations.
///
/// # Panics
///
/// If `a` does not have n^2 entries.
pub fn symmetric_eigen(a: &[f64], n: usize) -> Option<(Vec<f64>, Vec<f64>)> {
    assert_eq!(a.len(), n * n);
    if !a.iter().all(|x| x.is_finite()) {
        return None;
    }
    if n == 0 {
        return Some((Vec::new(), Vec::new()));
    }
    let eigen = DMatrix::from_row_slice(n, n, a).try_symmetric_eigen(f64::EPSILON, 100 * n)?;
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| eigen.eigenvalues[j].total_cmp(&eigen.eigenvalues[i]));
    let values: Vec<f64> = order.iter().map(|&i| eigen.eigenvalues[i]).collect();
    // Stored by columns, so that eigenvectors follow each other.
    let columns = eigen.eigenvectors.as_slice();
    let vectors: Vec<f64> =
        order.iter().flat_map(|&i| &columns[i * n..(i + 1) * n]).copied().collect();
    let finite = values.iter().chain(&vectors).all(|x| x.is_finite());
    finite.then_some((values, vectors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_is_put_together_again() {
        for n in [1, 2, 5, 33] {
            let b: Vec<f64> = (0..n * n).map(|i| ((i * 7919) % 23) as f64 - 11.0).collect();
            let entry = |i: usize, j: usize| b[i * n + j] + b[j * n + i];
            let a: Vec<f64> = (0..n * n).map(|x| entry(x / n, x % n)).collect();
            let (values, vectors) = symmetric_eigen(&a, n).unwrap();
            assert!(values.is_sorted_by(|x, y| x >= y));
            for i in 0..n {
                for j in 0..n {
                    let term = |k: usize| values[k] * vectors[k * n + i] * vectors[k * n + j];
                    let sum: f64 = (0..n).map(term).sum();
                    assert!((sum - a[i * n + j]).abs() < 1e-11 * n as f64);
                    let dot: f64 = (0..n).map(|k| vectors[i * n + k] * vectors[j * n + k]).sum();
                    assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn what_has_no_eigenvalues_has_none() {
        assert_eq!(symmetric_eigen(&[f64::NAN], 1), None);
        assert_eq!(symmetric_eigen(&[], 0), Some((vec![], vec![])));
    }
}
