//! Back through the features: from slopes of rows and of masses to those of the variables.

use std::ops::Range;

use super::features::{BLOCK, TILE};
use super::state::{State, silence};
use super::workspace::Workspace;
use crate::linalg::tile::{accumulate, zero};
use crate::simd::{Float, Lanes, unroll};

/// Adds to the slopes of the variables what the slopes of rows (transposed: `columns` rows of
/// [`TILE`]) and of masses mean for them.
///
/// # Safety
///
/// As [`absorb`](super::absorb); `C` vectors must divide [`TILE`], `R` must divide [`BLOCK`]. `slopes_of_x` is
/// written.
#[inline(always)]
pub(crate) unsafe fn derive<V: Lanes, const R: usize, const C: usize>(
    state: &State<V::T>,
    work: &mut Workspace<V::T>,
    x: *const V::T,
    slopes: (*const V::T, *const V::T),
    slopes_of_x: *mut V::T,
    dead: &[Range<usize>],
) {
    let (block, len) = (work.slopes.ptr(), state.len);
    work.features.restart();
    // SAFETY: the caller's promises; rows of sums exist up to `ROWS` beyond the last feature.
    unsafe {
        for base in (0..len).step_by(BLOCK) {
            let count = BLOCK.min(len - base);
            slopes_of::<V, R, C>(state, base, count, slopes, block);
            silence(block, base, count, dead);
            work.features.sweep::<V>(x, block, count, slopes_of_x);
        }
    }
}

/// The slopes of some features from those of rows and of masses, as [`derive`] has them.
///
/// # Safety
///
/// As [`derive`]; `to` must have a row of [`TILE`] for every feature and for `R` more.
#[inline(always)]
unsafe fn slopes_of<V: Lanes, const R: usize, const C: usize>(
    state: &State<V::T>,
    base: usize,
    count: usize,
    slopes: (*const V::T, *const V::T),
    to: *mut V::T,
) {
    let (columns, sums, mass) = (state.columns, state.sums.as_ptr(), state.mass.as_ptr());
    // SAFETY: the caller's promises; rows of sums exist up to `ROWS` beyond the last feature.
    unsafe {
        for i in (0..count).step_by(R) {
            let sums = sums.add((base + i) * columns);
            for t in (0..TILE).step_by(C * V::N) {
                let mut acc = zero::<V, R, C>();
                unroll!(R, r => {
                    let mass = V::splat(*mass.add(base + i + r));
                    for c in 0..C {
                        acc[r][c] = mass.mul(V::load(slopes.1.add(t + c * V::N)));
                    }
                });
                let rows = (slopes.0.add(t), TILE);
                accumulate::<V, R, C>(&mut acc, (sums, columns, 1), rows, columns);
                unroll!(R, r => {
                    for c in 0..C {
                        acc[r][c].store(to.add((i + r) * TILE + t + c * V::N));
                    }
                });
            }
        }
    }
}

/// What [`derive`] gives of slopes of rows that are yet to be divided, and of masses, apart from each other: with
/// T the slopes of the features, and M their masses, `to` gets those of the variables from T and from M, and
/// `moments`, for every degree, the sums of features times T and of features times M.
///
/// # Safety
///
/// As [`derive`]; `rows` are the slopes, `zeros` [`TILE`] zeros; `moments` must have two rows for every degree.
#[inline(always)]
pub(crate) unsafe fn derive_apart<V: Lanes, const R: usize, const C: usize>(
    state: &State<V::T>,
    work: &mut Workspace<V::T>,
    x: *const V::T,
    (rows, zeros): (*const V::T, *const V::T),
    to: [*mut V::T; 2],
    (moments, degrees): (*mut V::T, &[Range<usize>]),
    dead: &[Range<usize>],
) {
    let (block, features) = (work.slopes.ptr(), work.block.ptr());
    let mass = state.mass.as_ptr();
    work.features.restart();
    // SAFETY: the caller's promises.
    unsafe {
        for (degree, range) in degrees.iter().enumerate() {
            let at = moments.add(2 * degree * TILE);
            let live = !dead.contains(range);
            for base in range.clone().step_by(BLOCK) {
                let (count, mass) = (BLOCK.min(range.end - base), mass.add(base));
                slopes_of::<V, R, C>(state, base, count, (rows, zeros), block);
                if live {
                    let (by, moments) = ((block.cast_const(), mass), [at, at.add(TILE)]);
                    work.features.sweep_apart::<V>(x, by, count, to, moments);
                } else {
                    work.features.fill::<V>(x, features, count);
                    add_moments::<V>(features, block, mass, count, at);
                }
            }
        }
    }
}

/// # Safety
///
/// `features` and `slopes` must have `count` rows of [`TILE`], `mass` as many numbers, `to` two rows.
#[inline(always)]
unsafe fn add_moments<V: Lanes>(
    features: *const V::T,
    slopes: *const V::T,
    mass: *const V::T,
    count: usize,
    to: *mut V::T,
) {
    for t in (0..TILE).step_by(V::N) {
        // SAFETY: the caller's promises.
        unsafe {
            let (mut by_slope, mut by_mass) = (V::splat(V::T::ZERO), V::splat(V::T::ZERO));
            for i in 0..count {
                let f = V::load(features.add(i * TILE + t));
                by_slope = f.fma(V::load(slopes.add(i * TILE + t)), by_slope);
                by_mass = f.fma(V::splat(*mass.add(i)), by_mass);
            }
            V::load(to.add(t)).add(by_slope).store(to.add(t));
            V::load(to.add(TILE + t)).add(by_mass).store(to.add(TILE + t));
        }
    }
}
