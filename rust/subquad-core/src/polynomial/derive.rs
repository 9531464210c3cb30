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
/// T the slopes of the features, and M their masses, `to` gets those of the variables from T and from M (if
/// wanted), and `moments`, for every degree, the sums of features times T and of features times M.
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
    to: Option<[*mut V::T; 2]>,
    (moments, degrees): (*mut V::T, &[Range<usize>]),
    dead: &[Range<usize>],
) {
    let (block, features) = (work.slopes.ptr(), work.block.ptr());
    let mass = state.mass.as_ptr();
    let [made, by_mass] = &mut work.others;
    for walk in [&mut work.features, &mut *made, &mut *by_mass] {
        walk.restart();
    }
    // SAFETY: the caller's promises.
    unsafe {
        for base in (0..state.len).step_by(BLOCK) {
            let count = BLOCK.min(state.len - base);
            slopes_of::<V, R, C>(state, base, count, (rows, zeros), block);
            made.fill::<V>(x, features, count);
            for (degree, range) in degrees.iter().enumerate() {
                let some =
                    range.start.clamp(base, base + count)..range.end.clamp(base, base + count);
                if some.is_empty() {
                    continue;
                }
                let at = (some.start - base) * TILE;
                let (f, slopes) = (features.add(at).cast_const(), block.add(at).cast_const());
                let to = moments.add(2 * degree * TILE);
                add_moments::<V>(f, slopes, mass.add(some.start), some.len(), to);
            }
            let Some([of_rows, of_masses]) = to else { continue };
            silence(block, base, count, dead);
            work.features.sweep::<V>(x, block, count, of_rows);
            for i in 0..count {
                let mass = V::splat(*mass.add(base + i));
                for t in (0..TILE).step_by(V::N) {
                    mass.store(block.add(i * TILE + t));
                }
            }
            silence(block, base, count, dead);
            by_mass.sweep::<V>(x, block, count, of_masses);
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
