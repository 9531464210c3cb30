//! Tiles of tokens, as the passes over features read them.

use std::ops::Range;

use super::TILE;
use crate::attention::pack::{self, Extent};
use crate::mat::{MatRef, Rows, with_rows};
use crate::simd::{Element, Float, Lanes};

/// Queries or keys: a row of [`TILE`] numbers for every coordinate. The last token is repeated.
///
/// # Safety
///
/// The rows must exist, at least one and at most [`TILE`]; `to` must have room for the tile and a vector
/// more; the instruction set must be enabled.
#[inline(always)]
pub unsafe fn tokens<V: Lanes>(source: &Rows<'_>, rows: Range<usize>, to: *mut V::T) -> Extent {
    // SAFETY: the caller's promises.
    unsafe { pack::transposed::<V>(source, rows, TILE, V::T::ONE, to) }
}

/// Rows of `columns` numbers, less what is common to all, zero behind the last; and the mass of every row, one
/// if nothing is said, zero behind the last. Are all finite?
///
/// # Safety
///
/// As [`tokens`], also for the masses.
#[inline(always)]
pub unsafe fn values<V: Lanes>(
    (source, masses): (&Rows<'_>, Option<&Rows<'_>>),
    rows: Range<usize>,
    columns: usize,
    mean: &[V::T],
    (to, to_masses): (*mut V::T, *mut V::T),
) -> bool {
    assert!(mean.len() == columns && rows.len() <= TILE);
    // SAFETY: the caller's promises.
    unsafe {
        let finite =
            with_rows!(source, view => rows_of::<V, _>(view, rows.clone(), columns, mean, to));
        for at in (rows.len() * columns..TILE * columns).step_by(V::N) {
            V::splat(V::T::ZERO).store(to.add(at));
        }
        let to = std::slice::from_raw_parts_mut(to_masses, TILE);
        finite & masses_of(masses, rows, to)
    }
}

/// See [`values`].
fn masses_of<T: Float>(source: Option<&Rows<'_>>, rows: Range<usize>, to: &mut [T]) -> bool {
    let (to, behind) = to.split_at_mut(rows.len());
    behind.fill(T::ZERO);
    match source {
        Some(source) => {
            to.iter_mut().zip(rows).for_each(|(to, i)| *to = T::narrow(source.get(i, 0)));
        }
        None => to.fill(T::ONE),
    }
    to.iter().all(|x| x.is_finite())
}

/// # Safety
///
/// As [`values`].
#[inline(always)]
unsafe fn rows_of<V: Lanes, E: Element>(
    view: &MatRef<'_, E>,
    rows: Range<usize>,
    columns: usize,
    mean: &[V::T],
    to: *mut V::T,
) -> bool {
    // SAFETY: the caller's promises. `read` gives zeros beyond the last column, as the mean does.
    unsafe {
        let zero = V::splat(V::T::ZERO);
        let mut bad = zero;
        for (t, i) in rows.enumerate() {
            for c in (0..columns).step_by(V::N) {
                let x: V = pack::read(view, i, c);
                bad = x.fma(zero, bad);
                x.sub(V::load(mean.as_ptr().add(c))).store(to.add(t * columns + c));
            }
        }
        bad.sum() == V::T::ZERO
    }
}

/// The mean of the rows, zeros behind it up to a multiple of 16. Of what is not finite it is zero: whoever
/// reads the rows will notice.
pub fn mean<T: Float>(rows: &Rows<'_>) -> Vec<T> {
    let (count, cols) = (rows.rows(), rows.cols());
    let mut sums = vec![0.0_f64; cols.next_multiple_of(16).max(16)];
    with_rows!(rows, view => add_up(view, &mut sums[..cols]));
    let mean = |sum: f64| if sum.is_finite() { sum / count.max(1) as f64 } else { 0.0 };
    sums.into_iter().map(|sum| T::narrow(mean(sum))).collect()
}

/// Adds every row, from the first to the last.
fn add_up<E: Element>(view: &MatRef<'_, E>, sums: &mut [f64]) {
    for i in 0..view.rows() {
        if view.has_contiguous_rows() {
            sums.iter_mut().zip(view.row(i)).for_each(|(sum, x)| *sum += x.to_f64());
        } else {
            sums.iter_mut().enumerate().for_each(|(j, sum)| *sum += view.get(i, j).to_f64());
        }
    }
}

/// Norms of the tokens of a tile: all at once, or each would wait for the next row.
pub fn norms<T: Float>(tile: &[T]) -> [f64; TILE] {
    let mut squares = [0.0; TILE];
    for row in tile.chunks_exact(TILE) {
        squares.iter_mut().zip(row).for_each(|(sum, x)| *sum += x.to_f64().powi(2));
    }
    squares.map(f64::sqrt)
}

/// Not below the norm of any token of a tile. Squares that underflow are taken for the smallest that do not.
pub fn longest<T: Float>(extent: &Extent, dim: usize) -> f64 {
    (extent.largest_square.max(T::SMALLEST_NORMAL) * (1.0 + 1e-6) * dim as f64).sqrt()
}
