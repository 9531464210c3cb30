//! The product behind a pass: one micro-kernel, tile by tile.

use crate::linalg::tile::{Product, Tile, accumulate_as, add_to, zero};
use crate::simd::{Lanes, unroll};

/// `R` rows of a product, over all its columns, added to what is there, and there also if there are two places;
/// each row times its factor, if there are any. `a` is `(first, from row to row, from step to step)`.
///
/// # Safety
///
/// As [`accumulate_as`] and [`add_to`], for so many vectors.
#[inline(always)]
pub(crate) unsafe fn over_columns<V: Lanes, P: Product<V>, const R: usize, const C: usize>(
    a: (*const V::T, usize, usize),
    (b, b_step): (*const V::T, usize),
    depth: usize,
    (to, also, stride): (*mut V::T, Option<*mut V::T>, usize),
    vectors: usize,
    factors: Option<*const V::T>,
) {
    let mut c = 0;
    // SAFETY: the caller's promises.
    unsafe {
        while c + C <= vectors {
            let mut acc: Tile<V, R, C> = zero();
            accumulate_as::<V, P, R, C>(&mut acc, a, (b.add(c * V::N), b_step), depth);
            scale(&mut acc, factors);
            add_to(to.add(c * V::N), stride, &acc);
            if let Some(also) = also {
                add_to(also.add(c * V::N), stride, &acc);
            }
            c += C;
        }
        while c < vectors {
            let mut acc: Tile<V, R, 1> = zero();
            accumulate_as::<V, P, R, 1>(&mut acc, a, (b.add(c * V::N), b_step), depth);
            scale(&mut acc, factors);
            add_to(to.add(c * V::N), stride, &acc);
            if let Some(also) = also {
                add_to(also.add(c * V::N), stride, &acc);
            }
            c += 1;
        }
    }
}

/// # Safety
///
/// A factor must be readable for every row; the instruction set must be enabled.
#[inline(always)]
unsafe fn scale<V: Lanes, const R: usize, const C: usize>(
    acc: &mut Tile<V, R, C>,
    factors: Option<*const V::T>,
) {
    let Some(factors) = factors else { return };
    unroll!(R, r => {
        // SAFETY: the caller's promise.
        let factor = unsafe { V::splat(*factors.add(r)) };
        for c in 0..C {
            acc[r][c] = acc[r][c].mul(factor);
        }
    });
}
