//! Operands in the order in which the kernels read them.
//!
//! Everything is widened to the compute type and padded with zeros here, so the kernels have no
//! tails and know one element type. A vector of zeros times infinity or NaN is NaN: that is how the
//! check for finite input costs one instruction per vector.

use std::ops::Range;

use crate::mat::{MatRef, Rows, with_rows};
use crate::simd::unroll;
use crate::simd::{Element, Float, Lanes, transpose};

/// Vectors in a column panel.
pub(super) const PANEL: usize = 2;

/// Columns of a head dimension, padded to whole vectors.
pub(super) fn padded(cols: usize, lanes: usize) -> usize {
    cols.next_multiple_of(lanes)
}

/// Entries `j .. j + N` of row `i`; zero beyond the last column.
///
/// # Safety
/// Row `i` must exist, and the instruction set be enabled.
#[inline(always)]
pub(super) unsafe fn read<V: Lanes, E: Element>(view: &MatRef<'_, E>, i: usize, j: usize) -> V {
    // SAFETY: a whole vector of a row with adjacent entries, or what `gather` made.
    unsafe {
        if j + V::N <= view.cols() && view.has_contiguous_rows() {
            return E::load(view.at(i, j));
        }
        let mut lanes = [V::T::ZERO; 16];
        gather(view, i, j, &mut lanes[..V::N]);
        V::load(lanes.as_ptr())
    }
}

/// Out of line, so that the loops around [`read`] stay small.
#[cold]
#[inline(never)]
fn gather<T: Float, E: Element>(view: &MatRef<'_, E>, i: usize, j: usize, to: &mut [T]) {
    for (c, x) in to.iter_mut().enumerate().take(view.cols().saturating_sub(j)) {
        *x = T::narrow(view.get(i, j + c).to_f64());
    }
}

/// What is known of packed numbers.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    /// None is infinite or NaN.
    pub is_finite: bool,
    /// Largest square of what was written, infinite if it is out of range.
    pub largest_square: f64,
}

/// Rows of `source` in panels of `width` of them, transposed and times `factor`:
/// `to[panel][column][width]`. Beyond the last row of a range that is not empty, it is repeated: the
/// kernels ignore what comes of it.
///
/// # Safety
/// `rows` must exist; `to` must have room for whole panels and a vector more; the instruction set
/// must be enabled.
#[inline(always)]
pub(super) unsafe fn transposed<V: Lanes>(
    source: &Rows<'_>,
    rows: Range<usize>,
    width: usize,
    factor: V::T,
    to: *mut V::T,
) -> Extent {
    // SAFETY: passed on.
    unsafe { with_rows!(source, view => transposed_rows::<V, _>(view, rows, width, factor, to)) }
}

/// As [`transposed`], for a type.
///
/// # Safety
/// As [`transposed`].
#[inline(always)]
pub(super) unsafe fn transposed_rows<V: Lanes, E: Element>(
    view: &MatRef<'_, E>,
    rows: Range<usize>,
    width: usize,
    factor: V::T,
    to: *mut V::T,
) -> Extent {
    let cols = view.cols();
    // SAFETY: the caller promises the rows and the room. A store may reach into what comes next in
    // the panel; that is written later, or is the slack.
    unsafe {
        let (factor, zero) = (V::splat(factor), V::splat(V::T::ZERO));
        let (mut bad, mut squares) = (zero, zero);
        for (panel, first) in rows.clone().step_by(width).enumerate() {
            let to = to.add(panel * cols * width);
            for j in (0..cols).step_by(V::N) {
                // The last block of rows first: what its stores spill into the next row of the panel
                // is then overwritten by the first block.
                for r in (0..width).step_by(V::N).rev() {
                    let mut block = [zero; 16];
                    unroll!(V::N, i => {
                        let x: V = read(view, (first + r + i).min(rows.end - 1), j);
                        bad = x.fma(zero, bad);
                        block[i] = x.mul(factor);
                        squares = block[i].mul(block[i]).max(squares);
                    });
                    transpose(&mut block);
                    if j + V::N <= cols {
                        unroll!(V::N, c => {
                            block[c].store(to.add((j + c) * width + r));
                        });
                    } else {
                        for (c, row) in block[..cols - j].iter().enumerate() {
                            row.store(to.add((j + c) * width + r));
                        }
                    }
                }
            }
        }
        let mut lanes = [V::T::ZERO; 16];
        squares.store(lanes.as_mut_ptr());
        let largest_square = Float::to_f64(lanes.into_iter().fold(V::T::ZERO, V::T::max));
        Extent { is_finite: bad.sum() == V::T::ZERO, largest_square }
    }
}

/// Rows of `source` in column panels of [`PANEL`] vectors (the last may have one):
/// `to[panel][row][panel width]`, `capacity` rows apart, zero beyond the last row up to `padded`
/// rows. True if all of them are finite.
///
/// # Safety
/// As [`transposed`], with room for `capacity` rows of all panels.
#[inline(always)]
pub(super) unsafe fn columns<V: Lanes>(
    source: &Rows<'_>,
    rows: Range<usize>,
    (padded, capacity): (usize, usize),
    to: *mut V::T,
) -> bool {
    // SAFETY: passed on.
    unsafe { with_rows!(source, view => column_panels::<V, _>(view, rows, padded, capacity, to)) }
}

#[inline(always)]
unsafe fn column_panels<V: Lanes, E: Element>(
    view: &MatRef<'_, E>,
    rows: Range<usize>,
    padded_rows: usize,
    capacity: usize,
    to: *mut V::T,
) -> bool {
    let vectors = view.cols().div_ceil(V::N);
    // SAFETY: the caller promises the rows and the room.
    unsafe {
        let zero = V::splat(V::T::ZERO);
        let mut bad = zero;
        for first in (0..vectors).step_by(PANEL) {
            let width = PANEL.min(vectors - first);
            let to = to.add(first * V::N * capacity);
            for (r, i) in rows.clone().enumerate() {
                for u in 0..width {
                    let x: V = read(view, i, (first + u) * V::N);
                    bad = x.fma(zero, bad);
                    x.store(to.add((r * width + u) * V::N));
                }
            }
            for at in rows.len() * width..padded_rows * width {
                zero.store(to.add(at * V::N));
            }
        }
        bad.sum() == V::T::ZERO
    }
}

/// Visits one row of column panels together with the row `to` in one piece. `capacity` is the number
/// of rows between panels.
///
/// # Safety
/// The row must be readable in every panel.
#[inline(always)]
pub(super) unsafe fn for_row<V: Lanes>(
    panels: *const V::T,
    row: usize,
    capacity: usize,
    to: &mut [V::T],
    mut visit: impl FnMut(&mut V::T, V::T),
) {
    let vectors = to.len().div_ceil(V::N);
    for first in (0..vectors).step_by(PANEL) {
        let width = PANEL.min(vectors - first) * V::N;
        let start = first * V::N;
        let end = to.len().min(start + width);
        for (x, slot) in to[start..end].iter_mut().enumerate() {
            // SAFETY: the caller promises the panels.
            visit(slot, unsafe { *panels.add(start * capacity + row * width + x) });
        }
    }
}

/// Multiplies one row of `cols` columns in panels, `capacity` rows each.
///
/// # Safety
/// The row must be readable and writable in every panel.
#[inline(always)]
pub(super) unsafe fn scale_row<V: Lanes>(
    panels: *mut V::T,
    row: usize,
    capacity: usize,
    cols: usize,
    factor: V::T,
) {
    let vectors = cols.div_ceil(V::N);
    for first in (0..vectors).step_by(PANEL) {
        let width = PANEL.min(vectors - first) * V::N;
        for x in 0..width {
            // SAFETY: the caller promises the panels.
            unsafe {
                let at = panels.add(first * V::N * capacity + row * width + x);
                *at = *at * factor;
            }
        }
    }
}

/// Mask and bias of a strip of queries, transposed to the layout of its scores: `to[key][width]`.
/// False if they hide every key from every query.
///
/// Queries beyond `rows` repeat the last one.
///
/// # Safety
/// `rows` and `keys` must exist in the mask and the bias; `to` must have room for the keys rounded up
/// to whole vectors, and a vector more; the instruction set must be enabled.
#[inline(always)]
pub(super) unsafe fn stage<V: Lanes>(
    mask: Option<&MatRef<'_, u8>>,
    bias: Option<&Rows<'_>>,
    rows: Range<usize>,
    keys: Range<usize>,
    width: usize,
    to: *mut V::T,
) -> bool {
    // SAFETY: passed on; a block of N x N is stored row by row within the room.
    unsafe {
        let mut all_hidden = true;
        for r in (0..width).step_by(V::N) {
            for j in keys.clone().step_by(V::N) {
                let mut block = [V::splat(V::T::ZERO); 16];
                unroll!(V::N, i => {
                    let i_row = (rows.start + r + i).min(rows.end - 1);
                    if let Some(bias) = bias {
                        block[i] = with_rows!(bias, view => read(view, i_row, j));
                    }
                    if let Some(mask) = mask {
                        block[i] = block[i].add(read(mask, i_row, j));
                    }
                    all_hidden &= block[i].all_hidden();
                });
                transpose(&mut block);
                unroll!(V::N, c => {
                    block[c].store(to.add((j - keys.start + c) * width + r));
                });
            }
        }
        !all_hidden
    }
}
