//! The one seam to the `gemm` crate.

use crate::mat::{MatCell, MatRef};
use crate::simd::Float;

/// `f32` or `f64`.
pub trait Product: Float {}

impl Product for f32 {}
impl Product for f64 {}

/// `out = a b`, or `out += a b` if `accumulate`, on the calling thread: parallelism is ours, one
/// level up.
///
/// Takes `2 m n k` operations. The crate picks its kernels by cpuid, whatever `SUBQUAD_ISA` says.
///
/// # Panics
///
/// If the shapes `m x k`, `k x n` and `m x n` do not agree.
pub fn gemm<T: Product>(
    out: &mut MatCell<'_, T>,
    accumulate: bool,
    a: &MatRef<'_, T>,
    b: &MatRef<'_, T>,
) {
    let (m, n, k) = (out.rows(), out.cols(), a.cols());
    assert_eq!((a.rows(), b.rows(), b.cols()), (m, k, n), "shapes m x k, k x n and m x n");
    let beta = if accumulate { T::ONE } else { T::ZERO };
    let ((out_row, out_col), (a_row, a_col)) = (out.strides(), a.strides());
    let (b_row, b_col) = b.strides();
    // SAFETY: the views' own promises cover every element that the shapes name, and `out` is
    // borrowed mutably.
    unsafe {
        ::gemm::gemm(
            m,
            n,
            k,
            out.at(0, 0),
            out_col,
            out_row,
            accumulate,
            a.at(0, 0),
            a_col,
            a_row,
            b.at(0, 0),
            b_col,
            b_row,
            beta,
            T::ONE,
            false,
            false,
            false,
            ::gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_small_integers_are_exact_in_any_layout() {
        for (m, n, k) in [(1, 1, 1), (5, 7, 3), (33, 17, 40), (2, 3, 0)] {
            let a: Vec<f64> = (0..m * k).map(|x| (x % 7) as f64 - 3.0).collect();
            let b: Vec<f64> = (0..k * n).map(|x| (x % 5) as f64 - 2.0).collect();
            let mut out = vec![1.0; m * n];
            let (a, b) = (MatRef::from_slice(&a, m, k), MatRef::from_slice(&b, n, k));
            // `b` is stored by columns.
            let b = b.transpose();
            gemm(&mut MatCell::from_slice(&mut out, m, n), true, &a, &b);
            for (i, row) in out.chunks(n).enumerate() {
                for (j, &x) in row.iter().enumerate() {
                    let exact: f64 = (0..k).map(|l| a.get(i, l) * b.get(l, j)).sum();
                    assert_eq!(x, 1.0 + exact);
                }
            }
        }
    }
}
