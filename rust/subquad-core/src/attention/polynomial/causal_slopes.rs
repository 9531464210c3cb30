//! The gradient of causal attention: a scan over tiles of queries, then one back over those of keys.
//!
//! Forwards, the sums over the keys before a tile give what its queries get, as in the forward direction; what
//! keys and queries that see each other only in part get is settled at once. Backwards, the slopes of the sums
//! over the queries behind a tile give the rest of what its keys get.

use std::ops::Range;

use super::call::Operands;
use super::causal::{Place, load_keys};
use super::key_slopes::settle_keys;
use super::kit::Kit;
use super::near::{self, logits, multiply_add, weigh};
use super::slopes::{
    Upstream, add_columns, add_rows, derive_tile, derive_undivided, divide, row_slopes,
};
use super::strand::Before;
use super::tasks::{Found, Scratch};
use super::{Extent, RowSums, State, SumsGradients, TILE, load};
use crate::par::Pulse;
use crate::polynomial::absorb_twice;
use crate::simd::{Float, Lanes, multiversion};

/// Slopes of some queries, and of the keys that they see in part.
pub struct ScanSlopes<'a, T> {
    pub kit: &'a Kit<T>,
    pub head: &'a Operands<'a>,
    pub before: &'a Before<T>,
    pub upstream: Upstream<'a>,
    pub to: SumsGradients<'a, T>,
    /// G and g of [`slopes`](super::slopes), `L x columns` and `L x 1`, kept for the way back.
    pub kept: RowSums<'a, T>,
    /// Are derivatives by the coefficients wanted?
    pub terms: bool,
}

/// The rest of the slopes of the keys that enter the sums behind some queries.
pub struct Back<'a, T> {
    pub kit: &'a Kit<T>,
    pub head: &'a Operands<'a>,
    pub rows: Range<usize>,
    /// Slopes of the sums over the keys, from the queries behind these.
    pub behind: &'a State<T>,
    pub to: SumsGradients<'a, T>,
    /// See [`ScanSlopes`].
    pub kept: RowSums<'a, T>,
}

multiversion! {
    pub(in crate::attention) unsafe fn scan_slopes_f32(job: &ScanSlopes<'_, f32>, state: &mut State<f32>, own: Option<&mut State<f32>>, scratch: &mut Scratch<f32>, pulse: &Pulse<'_>) -> Found = scan_body {
        v4: [avx512::F32x16, 6, 4, 4, 6], v3: [avx2::F32x8, 6, 2, 6, 2], portable: [portable::F32x4, 6, 2, 6, 2],
    }
}

multiversion! {
    pub(in crate::attention) unsafe fn scan_slopes_f64(job: &ScanSlopes<'_, f64>, state: &mut State<f64>, own: Option<&mut State<f64>>, scratch: &mut Scratch<f64>, pulse: &Pulse<'_>) -> Found = scan_body {
        v4: [avx512::F64x8, 6, 4, 4, 6], v3: [avx2::F64x4, 6, 2, 6, 2], portable: [portable::F64x2, 6, 2, 6, 2],
    }
}

/// The keys of the part are added to `own`, if somebody wants to know.
///
/// # Safety
///
/// States and scratch must be of the kit, and no other task may write the job's rows; the instruction set must
/// be enabled.
#[inline(always)]
unsafe fn scan_body<V: Lanes, const R: usize, const C: usize, const DR: usize, const DC: usize>(
    job: &ScanSlopes<'_, V::T>,
    state: &mut State<V::T>,
    mut own: Option<&mut State<V::T>>,
    scratch: &mut Scratch<V::T>,
    pulse: &Pulse<'_>,
) -> Found {
    let (kit, head) = (job.kit, job.head);
    let (dim, columns) = (kit.monomials.dim(), kit.columns);
    let count = if job.terms { kit.coefficients.len() } else { 0 };
    let Before { rows: part, state: before, extent } = job.before;
    let mut found = Found { longest: extent.longest, ..Found::default() };
    found.terms.resize(count, 0.0);
    state.clear();
    state.add(before);
    let divided = job.upstream.sums.is_none();
    let wanted = job.to.query.is_some() || job.terms;
    for place in Place::of(kit, part.clone(), head.key.rows()) {
        if pulse.stopped() {
            break;
        }
        let (x, rows) = (scratch.tokens.ptr(), place.rows.clone());
        // SAFETY: the tokens exist, and the scratch has room for a tile of queries and one of keys.
        unsafe {
            let extent = load::tokens::<V>(&head.query, rows.clone(), x);
            let finite = job.upstream.load::<V>(kit, rows.clone(), scratch);
            found.counts.suspicious |= !(extent.is_finite && finite);
            if divided {
                derive_undivided::<V, DR, DC>(kit, state, x, scratch);
            } else if wanted {
                derive_tile::<V, DR, DC>(kit, state, x, scratch.masses.ptr(), scratch);
            }
            if !place.keys.is_empty() {
                load_keys::<V>(kit, head, &place, scratch, &mut found);
                near_upstream::<V, DR, DC>(kit, &place, scratch);
            }
            if divided {
                let (weights, up) = (scratch.near.ptr(), scratch.upstream.ptr());
                let sums = (scratch.dots.ptr(), scratch.others.ptr());
                near::add_dots::<V>(weights, up, place.near, sums);
                let extent = Extent { mean: kit.zeros.clone(), longest: found.longest };
                row_slopes(kit, head, &extent, rows.clone(), scratch, &mut found);
                if wanted {
                    divide::<V>(kit, rows.len(), scratch, &mut found.terms);
                }
                let by = (scratch.others.ptr().cast_const(), scratch.masses.ptr().cast_const());
                near::divide::<V>(up, by, place.near);
            }
            job.kept.store(rows.clone(), columns, scratch);
            if place.near > 0 {
                near_slopes::<V, R, C, DR, DC>(job, &place, scratch, &mut found);
            }
            if let Some(to) = &job.to.query {
                add_columns::<V>(to, rows.clone(), dim, scratch.turning());
            }
            if !place.keys.is_empty() && (rows.end < part.end || own.is_some()) {
                let (rows, masses) = (scratch.key_rows.ptr(), scratch.key_masses.ptr());
                let tile = (rows.cast_const(), masses.cast_const());
                let (y, factors) = (scratch.keys.ptr(), kit.factors.as_ptr());
                let states = (&mut *state, own.as_deref_mut());
                absorb_twice::<V, R, C>(states, &mut scratch.work, y, tile, factors);
            }
        }
        found.counts.tiles += 1;
    }
    found.counts.flops = (1 + u64::from(divided || wanted)) * kit.flops(part.len());
    let bytes = head.query.bytes(part.len()) + job.upstream.rows.bytes(part.len());
    found.counts.bytes_read = bytes;
    found
}

/// Weights of the keys that only some of a tile see, their slopes, and what they get from rows and sums of the tile:
/// in `near`, `near_slopes` and `upstream`.
///
/// # Safety
///
/// As [`scan_body`]; the keys must have been loaded.
#[inline(always)]
unsafe fn near_upstream<V: Lanes, const R: usize, const C: usize>(
    kit: &Kit<V::T>,
    place: &Place,
    scratch: &mut Scratch<V::T>,
) {
    let (s, weights, up) = (scratch.logits.ptr(), scratch.near.ptr(), scratch.upstream.ptr());
    let (by_logit, from) = (scratch.near_slopes.ptr(), |j| place.first_to_see(kit, j));
    // SAFETY: arrays of whole tiles.
    unsafe {
        let (x, y) = (scratch.tokens.ptr(), scratch.keys.ptr());
        logits::<V, R, C>(kit.monomials.dim(), x, y, place.near, s);
        weigh::<V>(kit, s, weights, place.near, Some(by_logit), from);
        let (values, masses) = (scratch.key_rows.ptr(), scratch.key_masses.ptr());
        let of_keys = (values.cast_const(), masses.cast_const(), kit.columns);
        let of_rows = (scratch.turned.ptr().cast_const(), scratch.masses.ptr().cast_const());
        near::upstream::<V, R, C>(of_keys, of_rows, place.near, up);
    }
}

/// What queries and keys of a tile that see each other in part give each other.
///
/// # Safety
///
/// As [`scan_body`].
#[inline(always)]
unsafe fn near_slopes<
    V: Lanes,
    const R: usize,
    const C: usize,
    const DR: usize,
    const DC: usize,
>(
    job: &ScanSlopes<'_, V::T>,
    place: &Place,
    scratch: &mut Scratch<V::T>,
    found: &mut Found,
) {
    let (kit, head) = (job.kit, job.head);
    let (dim, columns, keys) = (kit.monomials.dim(), kit.columns, place.near);
    let wide = dim.next_multiple_of(V::N);
    let (s, up) = (scratch.logits.ptr(), scratch.upstream.ptr());
    let seen = place.keys.start..place.keys.start + keys;
    // SAFETY: arrays of whole tiles; rows of keys and coordinates beyond the last are room that is not read.
    unsafe {
        let (by_logit, from) = (scratch.near_slopes.ptr(), |j| place.first_to_see(kit, j));
        near::settle::<V>(s, by_logit, up, keys, &mut found.terms, from);
        let (y, slope) = (scratch.keys.ptr(), scratch.slopes.ptr());
        let vectors = TILE / V::N;
        multiply_add::<V, DR, DC>((y, TILE, 1), (up, TILE), keys, (slope, TILE), (dim, vectors));
        if let Some(to) = &job.to.key {
            let zeros = vec![V::T::ZERO; wide];
            let into = (scratch.queries.ptr(), scratch.others.ptr());
            load::values::<V>((&head.query, None), place.rows.clone(), wide, &zeros, into);
            let (x, sums) = (scratch.queries.ptr(), scratch.key_slopes.ptr());
            scratch.key_slopes.slice(TILE * wide).fill(V::T::ZERO);
            let size = (keys, wide / V::N);
            multiply_add::<V, R, C>((up, TILE, 1), (x, wide), TILE, (sums, wide), size);
            add_rows(to, seen.clone(), wide, sums);
        }
        if let Some(to) = &job.to.value {
            let sums = scratch.key_slopes.ptr();
            scratch.key_slopes.slice(TILE * columns).fill(V::T::ZERO);
            let (weights, rows) = (scratch.near.ptr(), scratch.rows.ptr());
            let size = (keys, columns / V::N);
            multiply_add::<V, R, C>(
                (weights, TILE, 1),
                (rows, columns),
                TILE,
                (sums, columns),
                size,
            );
            add_rows(to, seen.clone(), columns, sums);
        }
        if let Some(to) = &job.to.masses {
            let sums = scratch.key_slopes.ptr();
            near::add_up::<V>(scratch.near.ptr(), scratch.masses.ptr(), keys, sums);
            add_rows(to, seen, 1, sums);
        }
    }
}

multiversion! {
    pub(in crate::attention) unsafe fn back_f32(job: &Back<'_, f32>, state: &mut State<f32>, own: Option<&mut State<f32>>, scratch: &mut Scratch<f32>, pulse: &Pulse<'_>) -> Found = back_body {
        v4: [avx512::F32x16, 6, 4, 4, 6], v3: [avx2::F32x8, 6, 2, 6, 2], portable: [portable::F32x4, 6, 2, 6, 2],
    }
}

multiversion! {
    pub(in crate::attention) unsafe fn back_f64(job: &Back<'_, f64>, state: &mut State<f64>, own: Option<&mut State<f64>>, scratch: &mut Scratch<f64>, pulse: &Pulse<'_>) -> Found = back_body {
        v4: [avx512::F64x8, 6, 4, 4, 6], v3: [avx2::F64x4, 6, 2, 6, 2], portable: [portable::F64x2, 6, 2, 6, 2],
    }
}

/// The slopes from the queries of the part are added to `own`, if somebody wants to know.
///
/// # Safety
///
/// As [`scan_body`].
#[inline(always)]
unsafe fn back_body<V: Lanes, const R: usize, const C: usize, const DR: usize, const DC: usize>(
    job: &Back<'_, V::T>,
    state: &mut State<V::T>,
    mut own: Option<&mut State<V::T>>,
    scratch: &mut Scratch<V::T>,
    pulse: &Pulse<'_>,
) -> Found {
    let (kit, head) = (job.kit, job.head);
    let columns = kit.columns;
    let mut found = Found::default();
    state.clear();
    state.add(job.behind);
    for place in Place::of(kit, job.rows.clone(), head.key.rows()).rev() {
        if pulse.stopped() {
            break;
        }
        // SAFETY: the tokens exist, and the scratch has room for a tile of queries and one of keys.
        unsafe {
            if !place.keys.is_empty() {
                load_keys::<V>(kit, head, &place, scratch, &mut found);
                let (y, rows) = (scratch.keys.ptr(), scratch.key_rows.ptr());
                let masses = scratch.key_masses.ptr();
                let tile = (y.cast_const(), rows.cast_const(), masses.cast_const());
                let keys = place.keys.clone();
                settle_keys::<V, R, C, DR, DC>(kit, state, &job.to, keys, tile, scratch);
            }
            found.counts.tiles += 1;
            if place.rows.start == job.rows.start && own.is_none() {
                break;
            }
            let x = scratch.tokens.ptr();
            load::tokens::<V>(&head.query, place.rows.clone(), x);
            scratch.rows.slice(TILE * columns).fill(V::T::ZERO);
            scratch.masses.slice(TILE).fill(V::T::ZERO);
            for (t, i) in place.rows.clone().enumerate() {
                let row = &mut scratch.rows.slice(TILE * columns)[t * columns..][..columns];
                row.copy_from_slice(job.kept.rows.row_mut(i));
                scratch.masses.slice(TILE)[t] = job.kept.sums.row_mut(i)[0];
            }
            let tile = (scratch.rows.ptr().cast_const(), scratch.masses.ptr().cast_const());
            let (states, factors) = ((&mut *state, own.as_deref_mut()), kit.factors.as_ptr());
            absorb_twice::<V, R, C>(states, &mut scratch.work, x, tile, factors);
        }
    }
    found.counts.flops = 3 * kit.flops(job.rows.len());
    found.counts.bytes_read = head.query.bytes(job.rows.len());
    found
}
