//! The tasks of the gradients of keys, values and masses: see [`slopes`](super::slopes).

use std::ops::Range;

use super::call::Operands;
use super::kit::Kit;
use super::slopes::{add_columns, add_rows, derive_tile, turn};
use super::tasks::{Found, Scratch};
use super::{Extent, State, SumsGradients, TILE, load};
use crate::par::Pulse;
use crate::polynomial::read;
use crate::simd::{Float, Lanes, multiversion};

/// Slopes of some keys and values of a head.
pub struct KeySlopes<'a, T> {
    pub kit: &'a Kit<T>,
    pub head: &'a Operands<'a>,
    pub keys: Range<usize>,
    /// Slopes of the sums over keys.
    pub slopes: &'a State<T>,
    pub extent: &'a Extent<T>,
    pub to: SumsGradients<'a, T>,
}

multiversion! {
    pub(in crate::attention) unsafe fn keys_f32(job: &KeySlopes<'_, f32>, scratch: &mut Scratch<f32>, pulse: &Pulse<'_>) -> Found = key_body {
        v4: [avx512::F32x16, 6, 4, 4, 6], v3: [avx2::F32x8, 6, 2, 6, 2], portable: [portable::F32x4, 6, 2, 6, 2],
    }
}

multiversion! {
    pub(in crate::attention) unsafe fn keys_f64(job: &KeySlopes<'_, f64>, scratch: &mut Scratch<f64>, pulse: &Pulse<'_>) -> Found = key_body {
        v4: [avx512::F64x8, 6, 4, 4, 6], v3: [avx2::F64x4, 6, 2, 6, 2], portable: [portable::F64x2, 6, 2, 6, 2],
    }
}

/// # Safety
///
/// The slopes and the scratch must be of the kit, and no other task may write the job's rows; the instruction
/// set must be enabled.
#[inline(always)]
unsafe fn key_body<V: Lanes, const R: usize, const C: usize, const DR: usize, const DC: usize>(
    job: &KeySlopes<'_, V::T>,
    scratch: &mut Scratch<V::T>,
    pulse: &Pulse<'_>,
) -> Found {
    let (kit, head) = (job.kit, job.head);
    let columns = kit.columns;
    let mut found = Found::default();
    for start in job.keys.clone().step_by(TILE) {
        if pulse.stopped() {
            break;
        }
        let some = start..job.keys.end.min(start + TILE);
        let y = scratch.tokens.ptr();
        // SAFETY: the keys exist, and the scratch has room for a tile of them.
        unsafe {
            let extent = load::tokens::<V>(&head.key, some.clone(), y);
            found.counts.suspicious |= !extent.is_finite;
            let (rows, masses) = (scratch.rows.ptr(), scratch.masses.ptr());
            if job.to.key.is_some() {
                let (from, mean) =
                    ((&head.value, head.masses.as_ref()), &job.extent.mean[..columns]);
                load::values::<V>(from, some.clone(), columns, mean, (rows, masses));
            }
            let tile = (y.cast_const(), rows.cast_const(), masses.cast_const());
            settle_keys::<V, R, C, DR, DC>(kit, job.slopes, &job.to, some, tile, scratch);
        }
        found.counts.tiles += 1;
    }
    let reads = job.to.value.is_some() || job.to.masses.is_some();
    let passes = u64::from(job.to.key.is_some()) + u64::from(reads);
    found.counts.flops = kit.flops(job.keys.len()) * passes;
    found.counts.bytes_read = head.key.bytes(job.keys.len()) + head.value.bytes(job.keys.len());
    found
}

/// What a tile of keys gets from the slopes of sums over keys. The tile is its coordinates, rows of values and
/// masses; the last two are read for the gradient of the keys alone.
///
/// # Safety
///
/// As [`key_body`]; the keys must have been loaded.
#[inline(always)]
pub unsafe fn settle_keys<
    V: Lanes,
    const R: usize,
    const C: usize,
    const DR: usize,
    const DC: usize,
>(
    kit: &Kit<V::T>,
    slopes: &State<V::T>,
    to: &SumsGradients<'_, V::T>,
    keys: Range<usize>,
    (y, rows, masses): (*const V::T, *const V::T, *const V::T),
    scratch: &mut Scratch<V::T>,
) {
    let (dim, columns) = (kit.monomials.dim(), kit.columns);
    // SAFETY: the caller's promises.
    unsafe {
        if to.value.is_some() || to.masses.is_some() {
            scratch.sums.slice(TILE * columns).fill(V::T::ZERO);
            scratch.others.slice(TILE).fill(V::T::ZERO);
            let into = (scratch.sums.ptr(), scratch.others.ptr());
            read::<V, R, C>(slopes, &mut scratch.work, y, into, &kit.dead);
            if let Some(to) = &to.value {
                add_rows(to, keys.clone(), columns, scratch.sums.ptr());
            }
            if let Some(to) = &to.masses {
                add_rows(to, keys.clone(), 1, scratch.others.ptr());
            }
        }
        if let Some(to) = &to.key {
            turn::<V>(rows, columns, scratch.turned.ptr());
            derive_tile::<V, DR, DC>(kit, slopes, y, masses, scratch);
            add_columns::<V>(to, keys, dim, scratch.turning());
        }
    }
}
