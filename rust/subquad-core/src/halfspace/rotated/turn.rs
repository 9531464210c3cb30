//! The change of coordinates of a query.

use crate::simd::{Isa, Lanes, multiversion};

/// `out = matrix query`, row by row. The query is padded with zeros to a multiple of 16; behind the
/// matrix are 16 more numbers.
pub(super) fn turn(isa: Isa, matrix: &[f32], query: &[f32], out: &mut [f32]) {
    let n = out.len();
    assert!(matrix.len() == n * n + 16 && query.len() == n.next_multiple_of(16));
    // SAFETY: a row that begins at `n (n - 1)` at most can be read for a multiple of 16 numbers.
    unsafe { turn_rows(isa, matrix, query, out) };
}

multiversion! {
    unsafe fn turn_rows(matrix: &[f32], query: &[f32], out: &mut [f32]) = turn_body {
        v4: [avx512::F32x16], v3: [avx2::F32x8], portable: [portable::F32x4],
    }
}

/// # Safety
///
/// The query must have a multiple of 16 numbers, zeros from the length of `out` on, and as many must be
/// readable at each row of the matrix; the instruction set must be enabled.
#[inline(always)]
unsafe fn turn_body<V: Lanes<T = f32>>(matrix: &[f32], query: &[f32], out: &mut [f32]) {
    let n = out.len();
    for (i, x) in out.iter_mut().enumerate() {
        // SAFETY: the caller's promises.
        unsafe {
            let mut sum = V::splat(0.0);
            for j in (0..n).step_by(V::N) {
                let row = V::load(matrix.as_ptr().add(i * n + j));
                sum = row.fma(V::load(query.as_ptr().add(j)), sum);
            }
            *x = sum.sum();
        }
    }
}
