//! The gradient of causal attention: a scan over tiles of queries, then one back over those of keys.
//!
//! Forwards, the sums over the keys before a tile give what its queries get, as in the forward direction; what
//! keys and queries that see each other only in part get is settled at once. Backwards, the slopes of the sums
//! over the queries behind a tile give the rest of what its keys get.

use std::ops::Range;

use super::causal::{Place, add_near, load_keys};
use super::kit::Kit;
use super::near::{self, logits, multiply_add, weigh};
use super::slopes::{add_rows, row_slopes, turn};
use super::tasks::{Found, Scratch};
use super::{Extent, State, TILE, load};
use crate::attention::{Head, HeadGradients};
use crate::mat::{MatCell, Rows};
use crate::par::Pulse;
use crate::polynomial::{absorb, derive, read};
use crate::simd::{Float, Lanes, multiversion};

/// What the rows of a head get: G and g of [`slopes`](super::slopes).
#[derive(Clone, Copy)]
pub struct Upstream<'a, T> {
    /// `L x columns`
    pub rows: MatCell<'a, T>,
    /// `L x 1`
    pub masses: MatCell<'a, T>,
}

/// Slopes of some queries, and of the keys that they see in part.
pub struct ScanSlopes<'a, T> {
    pub kit: &'a Kit<T>,
    pub head: &'a Head<'a>,
    pub rows: Range<usize>,
    /// Sums over the keys that the first row sees.
    pub before: &'a State<T>,
    pub extent: &'a Extent<T>,
    pub grad_out: &'a Rows<'a>,
    pub to: HeadGradients<'a, T>,
    pub upstream: Upstream<'a, T>,
    /// Are derivatives by the coefficients wanted?
    pub terms: bool,
}

/// The rest of the slopes of the keys that enter the sums behind some queries.
pub struct Back<'a, T> {
    pub kit: &'a Kit<T>,
    pub head: &'a Head<'a>,
    pub rows: Range<usize>,
    /// Slopes of the sums over the keys, from the queries behind these.
    pub behind: &'a State<T>,
    pub to: HeadGradients<'a, T>,
    pub upstream: Upstream<'a, T>,
}

multiversion! {
    pub(in crate::attention) unsafe fn scan_slopes_f32(job: &ScanSlopes<'_, f32>, states: [&mut State<f32>; 2], scratch: &mut Scratch<f32>, pulse: &Pulse<'_>) -> Found = scan_body {
        v4: [avx512::F32x16, 6, 4, 4, 6], v3: [avx2::F32x8, 6, 2, 6, 2], portable: [portable::F32x4, 6, 2, 6, 2],
    }
}

multiversion! {
    pub(in crate::attention) unsafe fn scan_slopes_f64(job: &ScanSlopes<'_, f64>, states: [&mut State<f64>; 2], scratch: &mut Scratch<f64>, pulse: &Pulse<'_>) -> Found = scan_body {
        v4: [avx512::F64x8, 6, 4, 4, 6], v3: [avx2::F64x4, 6, 2, 6, 2], portable: [portable::F64x2, 6, 2, 6, 2],
    }
}

/// `states` are the sums over the keys, and the slopes of such sums, to which the queries are added.
///
/// # Safety
///
/// States and scratch must be of the kit, and no other task may write the job's rows; the instruction set must
/// be enabled.
#[inline(always)]
unsafe fn scan_body<V: Lanes, const R: usize, const C: usize, const DR: usize, const DC: usize>(
    job: &ScanSlopes<'_, V::T>,
    [state, slopes]: [&mut State<V::T>; 2],
    scratch: &mut Scratch<V::T>,
    pulse: &Pulse<'_>,
) -> Found {
    let (kit, head) = (job.kit, job.head);
    let (dim, columns) = (kit.monomials.dim(), kit.columns);
    let count = if job.terms { kit.coefficients.len() } else { 0 };
    let mut found = Found { longest: job.extent.longest, ..Found::default() };
    found.terms.resize(count, 0.0);
    state.clear();
    state.add(job.before);
    for place in Place::of(kit, job.rows.clone(), head.key.rows()) {
        if pulse.stopped() {
            break;
        }
        let (x, rows) = (scratch.tokens.ptr(), place.rows.clone());
        scratch.sums.slice(TILE * columns).fill(V::T::ZERO);
        scratch.others.slice(TILE).fill(V::T::ZERO);
        // SAFETY: the tokens exist, and the scratch has room for a tile of queries and one of keys.
        unsafe {
            let extent = load::tokens::<V>(&head.query, rows.clone(), x);
            let to = (scratch.rows.ptr(), scratch.masses.ptr());
            let finite = load::values::<V>(job.grad_out, rows.clone(), columns, &kit.zeros, to);
            found.counts.suspicious |= !(extent.is_finite && finite);
            let to = (scratch.sums.ptr(), scratch.others.ptr());
            read::<V, R, C>(state, &mut scratch.work, x, to, &kit.dead);
            if !place.keys.is_empty() {
                load_keys::<V>(kit, head, &place, scratch, &mut found);
                let (s, weights) = (scratch.logits.ptr(), scratch.near.ptr());
                let by_logit = scratch.near_slopes.ptr();
                let from = |j| place.first_to_see(kit, j);
                logits::<V, DR, DC>(dim, x, scratch.keys.ptr(), place.near, s);
                weigh::<V>(kit, s, weights, place.near, Some(by_logit), from);
                add_near::<V, R>(kit, place.near, scratch, to);
            }
            let extent = Extent { mean: kit.zeros.clone(), longest: found.longest };
            row_slopes(kit, head, &extent, rows.clone(), scratch, &mut found);
            keep(job, rows.clone(), scratch);
            turn::<V>(scratch.rows.ptr(), columns, scratch.turned.ptr());
            scratch.slopes.slice(dim * TILE).fill(V::T::ZERO);
            let of = (scratch.turned.ptr().cast_const(), scratch.masses.ptr().cast_const());
            let (slope, work) = (scratch.slopes.ptr(), &mut scratch.work);
            let terms = &mut found.terms;
            let mut note = |m: usize, sum: f64| {
                let (t, c) = kit.term(m);
                terms[t] += sum / c;
            };
            let note: Option<&mut dyn FnMut(usize, f64)> =
                if job.terms { Some(&mut note) } else { None };
            derive::<V, DR, DC>(state, work, x, of, slope, &kit.dead, note);
            if place.near > 0 {
                near_slopes::<V, DR, DC>(job, &place, scratch, &mut found);
            }
            if let Some(to) = &job.to.query {
                add_rows(to, rows.clone(), dim, scratch.slopes.ptr());
            }
            let tile = (scratch.rows.ptr().cast_const(), scratch.masses.ptr().cast_const());
            let factors = kit.factors.as_ptr();
            absorb::<V, R, C>(slopes, &mut scratch.work, x, tile, factors);
            if !place.keys.is_empty() && rows.end < job.rows.end {
                let (rows, ones) = (scratch.key_rows.ptr(), scratch.key_ones.ptr());
                let tile = (rows.cast_const(), ones.cast_const());
                let y = scratch.keys.ptr();
                absorb::<V, R, C>(state, &mut scratch.work, y, tile, factors);
            }
        }
        found.counts.tiles += 1;
    }
    found.counts.flops = 4 * kit.flops(job.rows.len());
    let bytes = head.query.bytes(job.rows.len()) + job.grad_out.bytes(job.rows.len());
    found.counts.bytes_read = bytes;
    found
}

/// Keeps G and g of a tile for the way back.
///
/// # Safety
///
/// No other task may write the rows.
unsafe fn keep<T: Float>(job: &ScanSlopes<'_, T>, rows: Range<usize>, scratch: &mut Scratch<T>) {
    let columns = job.kit.columns;
    for (t, i) in rows.enumerate() {
        let row = &scratch.rows.slice(TILE * columns)[t * columns..(t + 1) * columns];
        // SAFETY: the caller's promise.
        unsafe {
            job.upstream.rows.row_mut(i).copy_from_slice(row);
            job.upstream.masses.row_mut(i)[0] = scratch.masses.slice(TILE)[t];
        }
    }
}

/// What queries and keys of a tile that see each other in part give each other.
///
/// # Safety
///
/// As [`scan_body`].
#[inline(always)]
unsafe fn near_slopes<V: Lanes, const R: usize, const C: usize>(
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
        let values = (scratch.key_rows.ptr().cast_const(), columns);
        let (g, mass) = (scratch.turned.ptr(), scratch.masses.ptr());
        near::upstream::<V, R, C>(values, g, mass, keys, up);
        let (by_logit, from) = (scratch.near_slopes.ptr(), |j| place.first_to_see(kit, j));
        near::settle::<V>(s, by_logit, up, keys, &mut found.terms, from);
        let (y, slope) = (scratch.keys.ptr(), scratch.slopes.ptr());
        let vectors = TILE / V::N;
        multiply_add::<V, R>((y, TILE, 1), (up, TILE), keys, (slope, TILE), (dim, vectors));
        if let Some(to) = &job.to.key {
            let zeros = vec![V::T::ZERO; wide];
            let into = (scratch.queries.ptr(), scratch.others.ptr());
            load::values::<V>(&head.query, place.rows.clone(), wide, &zeros, into);
            let (x, sums) = (scratch.queries.ptr(), scratch.key_slopes.ptr());
            scratch.key_slopes.slice(TILE * wide).fill(V::T::ZERO);
            let size = (keys, wide / V::N);
            multiply_add::<V, R>((up, TILE, 1), (x, wide), TILE, (sums, wide), size);
            add_near_rows(to, seen.clone(), wide, sums);
        }
        if let Some(to) = &job.to.value {
            let sums = scratch.key_slopes.ptr();
            scratch.key_slopes.slice(TILE * columns).fill(V::T::ZERO);
            let (weights, rows) = (scratch.near.ptr(), scratch.rows.ptr());
            let size = (keys, columns / V::N);
            multiply_add::<V, R>((weights, TILE, 1), (rows, columns), TILE, (sums, columns), size);
            add_near_rows(to, seen, columns, sums);
        }
    }
}

/// Adds rows of `stride` numbers.
///
/// # Safety
///
/// No other task may write the rows; `from` must have as many.
unsafe fn add_near_rows<T: Float>(
    to: &MatCell<'_, T>,
    rows: Range<usize>,
    stride: usize,
    from: *const T,
) {
    for (t, i) in rows.enumerate() {
        // SAFETY: the caller's promises.
        let (row, from) =
            unsafe { (to.row_mut(i), std::slice::from_raw_parts(from.add(t * stride), stride)) };
        row.iter_mut().zip(from).for_each(|(to, &x)| *to = *to + x);
    }
}

multiversion! {
    pub(in crate::attention) unsafe fn back_f32(job: &Back<'_, f32>, state: &mut State<f32>, scratch: &mut Scratch<f32>, pulse: &Pulse<'_>) -> Found = back_body {
        v4: [avx512::F32x16, 6, 4, 4, 6], v3: [avx2::F32x8, 6, 2, 6, 2], portable: [portable::F32x4, 6, 2, 6, 2],
    }
}

multiversion! {
    pub(in crate::attention) unsafe fn back_f64(job: &Back<'_, f64>, state: &mut State<f64>, scratch: &mut Scratch<f64>, pulse: &Pulse<'_>) -> Found = back_body {
        v4: [avx512::F64x8, 6, 4, 4, 6], v3: [avx2::F64x4, 6, 2, 6, 2], portable: [portable::F64x2, 6, 2, 6, 2],
    }
}

/// # Safety
///
/// As [`scan_body`].
#[inline(always)]
unsafe fn back_body<V: Lanes, const R: usize, const C: usize, const DR: usize, const DC: usize>(
    job: &Back<'_, V::T>,
    state: &mut State<V::T>,
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
                key_slopes::<V, R, C, DR, DC>(job, &place, state, scratch);
            }
            let x = scratch.tokens.ptr();
            load::tokens::<V>(&head.query, place.rows.clone(), x);
            scratch.rows.slice(TILE * columns).fill(V::T::ZERO);
            scratch.masses.slice(TILE).fill(V::T::ZERO);
            for (t, i) in place.rows.clone().enumerate() {
                let row = &mut scratch.rows.slice(TILE * columns)[t * columns..][..columns];
                row.copy_from_slice(job.upstream.rows.row_mut(i));
                scratch.masses.slice(TILE)[t] = job.upstream.masses.row_mut(i)[0];
            }
            let tile = (scratch.rows.ptr().cast_const(), scratch.masses.ptr().cast_const());
            absorb::<V, R, C>(state, &mut scratch.work, x, tile, kit.factors.as_ptr());
        }
        found.counts.tiles += 1;
    }
    found.counts.flops = 3 * kit.flops(job.rows.len());
    found.counts.bytes_read = head.query.bytes(job.rows.len());
    found
}

/// What the keys of a place get from the queries behind it.
///
/// # Safety
///
/// As [`scan_body`]; the keys must have been loaded.
#[inline(always)]
unsafe fn key_slopes<V: Lanes, const R: usize, const C: usize, const DR: usize, const DC: usize>(
    job: &Back<'_, V::T>,
    place: &Place,
    state: &State<V::T>,
    scratch: &mut Scratch<V::T>,
) {
    let (kit, keys) = (job.kit, place.keys.clone());
    let (dim, columns) = (kit.monomials.dim(), kit.columns);
    let y = scratch.keys.ptr();
    // SAFETY: arrays of whole tiles.
    unsafe {
        if let Some(to) = &job.to.value {
            scratch.sums.slice(TILE * columns).fill(V::T::ZERO);
            scratch.others.slice(TILE).fill(V::T::ZERO);
            let into = (scratch.sums.ptr(), scratch.others.ptr());
            read::<V, R, C>(state, &mut scratch.work, y, into, &kit.dead);
            add_near_rows(to, keys.clone(), columns, scratch.sums.ptr());
        }
        if let Some(to) = &job.to.key {
            turn::<V>(scratch.key_rows.ptr(), columns, scratch.turned.ptr());
            scratch.slopes.slice(dim * TILE).fill(V::T::ZERO);
            let of = (scratch.turned.ptr().cast_const(), scratch.key_ones.ptr().cast_const());
            let (slope, work) = (scratch.slopes.ptr(), &mut scratch.work);
            derive::<V, DR, DC>(state, work, y, of, slope, &kit.dead, None);
            add_rows(to, keys, dim, slope);
        }
    }
}
