//! The passes by products of numbers rounded to bf16, for all features but the first ones.
//!
//! Features of a key, its values, the sums over keys and features of a query are each rounded once, to 8 bits:
//! a product of all four is off by `(1 + 2^-8)^4 - 1` of its size. Products of two have 16 bits and are exact,
//! and sums are rounded to float32 as ever. What is below `2^-126`, rounded or summed up, is lost, and what
//! rounds beyond the largest bf16 is infinite. Masses have features and sums of float32: they are denominators,
//! and nobody wants those rounded.

use std::ops::Range;

use super::features::{BLOCK, TILE};
use super::passes::Passes;
use super::products::over_columns;
use super::state::{State, absorb_first, add_masses, clear_rows, read_first, read_masses, silence};
use super::workspace::Workspace;
use crate::simd::Lanes;
use crate::simd::avx512::F32x16;
use crate::simd::bf16::{Pairs, interleave, narrow};

/// Vectors in lanes.
const N: usize = F32x16::N;

/// The first features as [`Single`](super::passes::Single) has them, pairs of bf16 for the others. The workspace
/// must be [`rounding`](Workspace::rounding), and sums that are read rounded; `AVX512_BF16` must be enabled.
pub(crate) struct Half<const R: usize, const C: usize>;

impl<const R: usize, const C: usize> Passes<F32x16> for Half<R, C> {
    #[inline(always)]
    unsafe fn absorb(
        state: &mut State<f32>,
        work: &mut Workspace<f32>,
        x: *const f32,
        tile: (*const f32, *const f32),
        factors: *const f32,
    ) {
        let (columns, exact) = (state.columns, work.exact);
        // SAFETY: the caller's promises, and the workspace has room for what is rounded.
        unsafe {
            let mut base =
                absorb_first::<F32x16, R, C>((state, None), work, x, tile, factors, exact);
            let (block, sums, mass) = (work.block.ptr(), state.sums.ptr(), state.mass.ptr());
            let (rounded, pairs) = (work.narrow.ptr().cast(), work.value_pairs.ptr().cast());
            pair_rows(tile.0, columns, TILE, pairs);
            loop {
                let count = work.features.fill::<F32x16>(x, block, BLOCK);
                if count == 0 {
                    break;
                }
                narrow_rows(block, count, rounded);
                for i in (0..count).step_by(R) {
                    let a = (rounded.add(i * TILE / 2).cast_const(), TILE / 2, 1);
                    let b = (pairs.cast_const(), columns);
                    let to = (sums.add((base + i) * columns), None, columns);
                    let by = Some(factors.add(base + i));
                    over_columns::<F32x16, Pairs, R, C>(a, b, TILE / 2, to, columns / N, by);
                    let (f, some) = (block.add(i * TILE), (base + i, R.min(count - i)));
                    add_masses::<F32x16, R>((mass, None), f, some, tile.1, factors);
                }
                base += count;
            }
        }
    }

    #[inline(always)]
    unsafe fn read(
        state: &State<f32>,
        work: &mut Workspace<f32>,
        x: *const f32,
        (rows, masses): (*mut f32, *mut f32),
        dead: &[Range<usize>],
    ) {
        let (columns, exact) = (state.columns, work.exact);
        // SAFETY: the caller's promises, and the workspace has room for what is rounded.
        unsafe {
            let to = (rows, masses);
            let mut base = read_first::<F32x16, R, C>(state, work, x, to, dead, exact);
            let (block, rounded) = (work.block.ptr(), work.narrow.ptr().cast());
            let mut sums = state.pairs.as_ptr().cast();
            loop {
                let count = work.features.fill::<F32x16>(x, block, BLOCK);
                if count == 0 {
                    break;
                }
                silence(block, base, count, dead);
                let depth = count.div_ceil(2);
                // The last feature may have no other one beside it.
                clear_rows(block, count..2 * depth);
                pair_rows(block, TILE, 2 * depth, rounded);
                for t in (0..TILE).step_by(R) {
                    let a = (rounded.add(t).cast_const(), 1, TILE);
                    let (b, to) = ((sums, columns), (rows.add(t * columns), None, columns));
                    over_columns::<F32x16, Pairs, R, C>(a, b, depth, to, columns / N, None);
                }
                read_masses::<F32x16>(state, block, (base, count), masses);
                base += count;
                sums = sums.add(depth * columns);
            }
        }
    }
}

/// Rounds rows of a tile.
///
/// # Safety
///
/// So many rows must be readable, and half their bytes writable; `AVX512_BF16` must be enabled.
#[inline(always)]
unsafe fn narrow_rows(from: *const f32, rows: usize, to: *mut f32) {
    for i in (0..rows * TILE).step_by(2 * N) {
        // SAFETY: the caller's promises; a row is a whole number of such steps.
        unsafe {
            let both = narrow(F32x16::load(from.add(i)), F32x16::load(from.add(i + N)));
            both.store(to.add(i / 2));
        }
    }
}

/// Rounds rows of whole vectors, two neighbours side by side.
///
/// # Safety
///
/// As [`narrow_rows`], for an even number of rows of `columns`.
#[inline(always)]
unsafe fn pair_rows(from: *const f32, columns: usize, rows: usize, to: *mut f32) {
    for pair in 0..rows / 2 {
        for c in (0..columns).step_by(N) {
            // SAFETY: the caller's promises.
            unsafe {
                let low = from.add(2 * pair * columns + c);
                let pairs = interleave(F32x16::load(low), F32x16::load(low.add(columns)));
                pairs.store(to.add(pair * columns + c));
            }
        }
    }
}
