//! Tiles of logits, as both passes compute them.

use std::ops::Range;

use super::Visible;
use super::toeplitz::{self, Weights};
use crate::linalg::tile::{Tile, accumulate, load, store, zero};
use crate::simd::{Lanes, unroll};

/// Queries in a strip, in vectors.
pub const STRIP_VECTORS: usize = 2;

/// `range` counted from `first`, of which `len` exist.
pub fn within(range: &Range<usize>, first: usize, len: usize) -> Range<usize> {
    let clamp = |x: usize| x.saturating_sub(first).min(len);
    clamp(range.start)..clamp(range.end)
}

/// Where the keys of a block are, and what is added to their products with a strip of queries.
#[derive(Clone, Copy)]
pub struct Keys<T> {
    /// Packed in tiles.
    pub tiles: *const T,
    /// Mask and bias, or null.
    pub stage: *const T,
    /// The bias by lags of the first query and the first key, or null.
    pub lags: *const T,
    /// Factors of the products, of the first query and the first key; null without.
    pub weights: Weights<T>,
}

/// The logits of `KR` keys from `t`, for all queries of a strip, the hidden ones at minus infinity.
///
/// `at` is where the tile's probabilities will be: a tile with a mask or a bias goes through it,
/// because a loop over accumulators that the compiler does not unroll would keep all of them in
/// memory, in every tile. A bias by lags is one vector per key, and is added in registers.
///
/// The backward pass calls it too: its logits must equal those of the forward pass bit for bit,
/// else the gradient loses one to two digits where keys share a large common part.
#[inline(always)]
pub unsafe fn logits<V: Lanes, const KR: usize>(
    queries: *const V::T,
    keys: Keys<V::T>,
    (t, e): (usize, usize),
    hide: Option<&impl Fn(usize) -> (i32, i32)>,
    at: *mut V::T,
) -> Tile<V, KR, STRIP_VECTORS> {
    let (w, stage) = (STRIP_VECTORS * V::N, keys.stage);
    // SAFETY: the caller's buffers hold whole strips and tiles.
    unsafe {
        let mut acc = zero::<V, KR, STRIP_VECTORS>();
        if keys.weights.is_null() {
            accumulate(&mut acc, (keys.tiles.add(t * e), 1, KR), (queries, w), e);
        } else {
            let weights = keys.weights.at(0, t);
            toeplitz::accumulate(&mut acc, keys.tiles.add(t * e), queries, weights, e);
        }
        if !keys.lags.is_null() {
            let lags = keys.lags.wrapping_sub(t);
            unroll!(KR, r => {
                for u in 0..STRIP_VECTORS {
                    let x = V::load(lags.wrapping_sub(r).wrapping_add(u * V::N));
                    acc[r][u] = acc[r][u].add(x);
                }
            });
        }
        if stage.is_null() && hide.is_none() {
            return acc;
        }
        store(&acc, at);
        for r in 0..KR {
            let (from, to) = hide.map_or((0, w as i32), |hide| hide(t + r));
            for u in (0..w).step_by(V::N) {
                let mut x = V::load(at.add(r * w + u));
                if !stage.is_null() {
                    x = x.add(V::load(stage.add((t + r) * w + u)));
                }
                x.keep(from - u as i32, to - u as i32).store(at.add(r * w + u));
            }
        }
        load(at)
    }
}

/// Which lanes of a tile at `t` to hide, or `None` if every query sees every key of it.
#[inline(always)]
pub fn hidden<'a, const KR: usize>(
    visible: &'a Visible,
    t: usize,
    common: &Range<usize>,
    (first, len): (usize, usize),
    row: usize,
) -> Option<impl Fn(usize) -> (i32, i32) + 'a> {
    (t < common.start || t + KR > common.end).then_some(move |key: usize| {
        if key < len { visible.lanes(first + key, row) } else { (0, 0) }
    })
}
