//! The online softmax of one strip of queries.
//!
//! The exponentials of a row refer to a number that follows its maximum only when that has risen by
//! [`LAG`] (lazy rescaling): `P <= e^LAG` costs no accuracy, and rescaling almost never happens.

use std::ops::Range;

use super::Visible;
use super::pack::PANEL;
use super::scores::{Keys, STRIP_VECTORS, hidden, logits};
use crate::simd::unroll;
use crate::simd::{Exp2, Float, Lanes};

/// How far a logit may exceed the reference of its row before the row is rescaled.
pub const LAG: f64 = 5.5;

/// Numbers kept for every row while the keys go by.
pub const STATES: usize = 5;

/// One strip's part of the state of a block of queries.
///
/// The numbers per row live in memory: kept in registers through the product loop, they would push
/// accumulators out.
pub struct Strip<T> {
    /// Its queries, counted from the first of the head.
    pub rows: Range<usize>,
    pub queries: *const T,
    pub sums: *mut T,
    /// What the exponentials refer to; minus infinity before the first key.
    reference: *mut T,
    /// A logit above this makes the reference rise.
    limit: *mut T,
    /// What is subtracted from logits: the reference, or 0 before the first key, so that a hidden
    /// logit gives minus infinity and not NaN.
    shift: *mut T,
    /// Sum of the exponentials up to the current block of keys, and within it.
    mass: *mut T,
    block_mass: *mut T,
}

impl<T: Float> Strip<T> {
    /// # Safety
    /// Both pointers must be those of whole strips.
    pub unsafe fn new(
        rows: Range<usize>,
        w: usize,
        queries: *const T,
        (sums, state): (*mut T, *mut T),
    ) -> Self {
        let part = |i: usize| state.wrapping_add(i * w);
        Self {
            rows,
            queries,
            sums,
            reference: part(0),
            limit: part(1),
            shift: part(2),
            mass: part(3),
            block_mass: part(4),
        }
    }

    /// Forgets all keys.
    ///
    /// # Safety
    /// The state must be that of a whole strip.
    pub unsafe fn clear(&self, w: usize) {
        for i in 0..w {
            // SAFETY: the state has `w` of each number.
            unsafe {
                *self.reference.add(i) = T::NEG_INFINITY;
                *self.limit.add(i) = T::NEG_INFINITY;
                *self.shift.add(i) = T::ZERO;
                *self.mass.add(i) = T::ZERO;
                *self.block_mass.add(i) = T::ZERO;
            }
        }
    }
}

/// A block of keys, packed.
pub struct Block<T> {
    pub keys: Keys<T>,
    pub values: *const T,
    pub scores: *mut T,
    pub first: usize,
    pub len: usize,
    /// Keys of the block that some query of the strip sees, and that all of them see.
    pub union: Range<usize>,
    pub common: Range<usize>,
    pub e: usize,
    pub ev: usize,
}

/// P of one strip and one block of keys, and the changes it makes to the strip's state.
///
/// # Safety
/// The instruction set of `V` must be enabled, and strip and block be whole.
#[inline(always)]
pub unsafe fn probabilities<V: Lanes, const KR: usize>(
    strip: &Strip<V::T>,
    block: &Block<V::T>,
    visible: &Visible,
) {
    let w = STRIP_VECTORS * V::N;
    let from = block.union.start / KR * KR;
    // SAFETY: the caller's buffers hold whole strips and blocks.
    unsafe {
        let log2e = V::splat(V::T::LOG2_E);
        let mut t = from;
        while t < block.union.end {
            let place = (block.first, block.len);
            let hide = hidden::<KR>(visible, t, &block.common, place, strip.rows.start);
            let (place, at) = ((t, block.e), block.scores.add(t * w));
            let acc = logits::<V, KR>(strip.queries, block.keys, place, hide.as_ref(), at);
            let mut top = acc[0];
            unroll!(KR, r => {
                for u in 0..STRIP_VECTORS {
                    top[u] = acc[r][u].max(top[u]);
                }
            });
            let exceeds = |u: usize| top[u].any_gt(V::load(strip.limit.add(u * V::N)));
            if exceeds(0) | exceeds(1) {
                let mut tops = [V::T::ZERO; 64];
                (0..STRIP_VECTORS).for_each(|u| top[u].store(tops.as_mut_ptr().add(u * V::N)));
                let done =
                    std::slice::from_raw_parts_mut(block.scores.add(from * w), (t - from) * w);
                raise(strip, &tops[..w], (V::N, block.ev), done);
            }
            let table = Exp2::table();
            for u in 0..STRIP_VECTORS {
                let shift = V::load(strip.shift.add(u * V::N));
                let mass = strip.block_mass.add(u * V::N);
                let mut sum = V::load(mass);
                unroll!(KR, r => {
                    let p = acc[r][u].sub(shift).mul(log2e).exp2(table);
                    sum = sum.add(p);
                    p.store(at.add(r * w + u * V::N));
                });
                sum.store(mass);
            }
            t += KR;
        }
        for u in (0..w).step_by(V::N) {
            let (mass, part) = (strip.mass.add(u), strip.block_mass.add(u));
            V::load(mass).add(V::load(part)).store(mass);
            V::splat(V::T::ZERO).store(part);
        }
    }
}

/// Raises the references of a strip to the maxima `tops`, and shrinks what was summed under the old
/// ones: the state, and the probabilities `done` of the current block.
///
/// Rare, hence out of line and plain.
#[inline(never)]
#[cold]
unsafe fn raise<T: Float>(
    strip: &Strip<T>,
    tops: &[T],
    (lanes, ev): (usize, usize),
    done: &mut [T],
) {
    let w = tops.len();
    let mut shrink = [T::ONE; 64];
    // SAFETY: the caller's buffers hold whole strips.
    unsafe {
        for (i, (shrink, &top)) in shrink.iter_mut().zip(tops).enumerate() {
            let old = *strip.reference.add(i);
            // Only by more than the lag, so that a row is rescaled a bounded number of times.
            if top > *strip.limit.add(i) {
                *strip.reference.add(i) = top;
                *strip.limit.add(i) = top + T::from_f64(LAG);
                *strip.shift.add(i) = top;
                // Nothing has been summed before the first key.
                if old != T::NEG_INFINITY {
                    *shrink = (old - top).exp();
                    *strip.mass.add(i) = *strip.mass.add(i) * *shrink;
                    *strip.block_mass.add(i) = *strip.block_mass.add(i) * *shrink;
                }
            }
        }
        if shrink[..w].iter().all(|&x| x == T::ONE) {
            return;
        }
        for row in done.chunks_exact_mut(w) {
            for (p, &shrink) in row.iter_mut().zip(&shrink) {
                *p = *p * shrink;
            }
        }
        for first in (0..ev / lanes).step_by(PANEL) {
            let width = PANEL.min(ev / lanes - first) * lanes;
            let panel =
                std::slice::from_raw_parts_mut(strip.sums.add(first * lanes * w), w * width);
            for (row, &shrink) in panel.chunks_exact_mut(width).zip(&shrink) {
                for x in row {
                    *x = *x * shrink;
                }
            }
        }
    }
}
