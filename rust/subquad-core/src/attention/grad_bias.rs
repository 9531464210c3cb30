//! The gradient of the bias: that of the logits, summed over the axes on which the bias is the same.

use std::ops::Range;

use super::scores::STRIP_VECTORS;
use crate::mat::MatCell;
use crate::simd::{Float, Lanes};

/// Adds the gradients of the logits of a strip and a block of keys, `[key][w]`, to that of the bias.
///
/// Along an axis on which the bias is the same for all, terms are summed first and added once: over
/// keys here, over rows in `block_sums`, one for every key from `first`, see [`add_block_sums`].
///
/// # Safety
/// The instruction set of `V` must be enabled, and no other task may touch these entries.
#[inline(always)]
pub unsafe fn add_bias<V: Lanes>(
    bias: &MatCell<'_, V::T>,
    rows: Range<usize>,
    (keys, first): (Range<usize>, usize),
    grad: *const V::T,
    block_sums: *mut V::T,
) {
    let w = STRIP_VECTORS * V::N;
    let (same_for_rows, same_for_keys) = bias.broadcasts();
    // SAFETY: the rows and keys of the bias belong to this task; the strip holds whole keys, and there
    // is a sum for every key of the block.
    unsafe {
        for u in (0..rows.len()).step_by(V::N) {
            let rows = rows.start + u..rows.end.min(rows.start + u + V::N);
            let mut total = V::splat(V::T::ZERO);
            for (r, j) in keys.clone().enumerate() {
                // Lanes beyond the last row are zero: their probabilities are.
                let x = V::load(grad.add(r * w + u));
                if same_for_keys {
                    total = total.add(x);
                } else if same_for_rows {
                    let to = block_sums.add(j - first);
                    *to = *to + x.sum();
                } else {
                    add_lanes(bias, &rows, j, x);
                }
            }
            if same_for_keys && same_for_rows {
                let to = bias.at(rows.start, keys.start);
                *to = *to + total.sum();
            } else if same_for_keys {
                add_lanes(bias, &rows, keys.start, total);
            }
        }
    }
}

/// Adds the sums of a block of keys over all rows of a task to a bias that is the same for all rows.
///
/// # Safety
/// As [`add_bias`].
#[inline(always)]
pub unsafe fn add_block_sums<T: Float>(bias: &MatCell<'_, T>, keys: Range<usize>, sums: &mut [T]) {
    for (j, sum) in keys.zip(sums) {
        // SAFETY: the keys of the bias belong to this task.
        unsafe { *bias.at(0, j) = *bias.at(0, j) + *sum };
        *sum = T::ZERO;
    }
}

/// Adds lane `i` to entry (`rows.start + i`, `j`).
#[inline(always)]
unsafe fn add_lanes<V: Lanes>(bias: &MatCell<'_, V::T>, rows: &Range<usize>, j: usize, x: V) {
    let mut lanes = [V::T::ZERO; 16];
    // SAFETY: passed on.
    unsafe {
        x.store(lanes.as_mut_ptr());
        for (i, &x) in rows.clone().zip(&lanes) {
            let to = bias.at(i, j);
            *to = *to + x;
        }
    }
}
