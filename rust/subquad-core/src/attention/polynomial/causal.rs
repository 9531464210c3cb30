//! Causal attention: a scan over tiles of queries.
//!
//! The keys that all queries of a tile see are in the sums; those that only some see are looked at one by one;
//! then the tile's keys enter the sums. Parts of the queries begin with the sums over all keys before them, see
//! [`strand`](super::strand).

use std::ops::Range;

use super::call::Operands;
use super::kit::Kit;
use super::near::{logits, multiply_add, weigh};
use super::strand::Before;
use super::tasks::{Found, Outcome, Scratch, finish};
use super::{Extent, State, TILE, load};
use crate::linalg::tile::add_to;
use crate::par::Pulse;
use crate::polynomial::{absorb_twice, read};
use crate::simd::{Float, Lanes, multiversion};

/// Rows of the output, one tile after the other.
pub struct Scan<'a, T> {
    pub kit: &'a Kit<T>,
    pub head: &'a Operands<'a>,
    pub before: &'a Before<T>,
    pub outcome: Outcome<'a, T>,
}

/// Where a tile of queries stands among the keys.
#[derive(Clone, Debug)]
pub struct Place {
    pub rows: Range<usize>,
    /// The keys that enter the sums behind this tile.
    pub keys: Range<usize>,
    /// How many of them some of its queries see.
    pub near: usize,
}

impl Place {
    /// The tiles of some rows.
    pub fn of<T>(
        kit: &Kit<T>,
        rows: Range<usize>,
        keys: usize,
    ) -> impl DoubleEndedIterator<Item = Self> {
        let visible = kit.visible;
        let tiles = rows.len().div_ceil(TILE);
        (0..tiles).map(move |i| {
            let first = rows.start + i * TILE;
            let rows = first..rows.end.min(first + TILE);
            let start = visible.keys(rows.start, keys).end;
            let near = visible.keys(rows.end - 1, keys).end - start;
            let end = visible.keys(rows.end, keys).end;
            Self { rows, keys: start..end, near }
        })
    }

    /// The first query of the tile that sees a key of it.
    pub fn first_to_see<T>(&self, kit: &Kit<T>, key: usize) -> usize {
        let (from, _) = kit.visible.lanes(self.keys.start + key, self.rows.start);
        from.max(0) as usize
    }
}

multiversion! {
    pub(in crate::attention) unsafe fn scan_f32(job: &Scan<'_, f32>, state: &mut State<f32>, own: Option<&mut State<f32>>, scratch: &mut Scratch<f32>, pulse: &Pulse<'_>) -> Found = scan_body {
        v4: [avx512::F32x16, 6, 4, 4, 6], v3: [avx2::F32x8, 6, 2, 6, 2], portable: [portable::F32x4, 6, 2, 6, 2],
    }
}

multiversion! {
    pub(in crate::attention) unsafe fn scan_f64(job: &Scan<'_, f64>, state: &mut State<f64>, own: Option<&mut State<f64>>, scratch: &mut Scratch<f64>, pulse: &Pulse<'_>) -> Found = scan_body {
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
    job: &Scan<'_, V::T>,
    state: &mut State<V::T>,
    mut own: Option<&mut State<V::T>>,
    scratch: &mut Scratch<V::T>,
    pulse: &Pulse<'_>,
) -> Found {
    let (kit, head) = (job.kit, job.head);
    let (dim, columns) = (kit.monomials.dim(), kit.columns);
    let Before { rows: part, state: before, extent } = job.before;
    let mut found = Found { longest: extent.longest, ..Found::default() };
    let mut extent = Extent { mean: extent.mean.clone(), longest: extent.longest };
    state.clear();
    state.add(before);
    for place in Place::of(kit, part.clone(), head.key.rows()) {
        if pulse.stopped() {
            break;
        }
        let x = scratch.tokens.ptr();
        scratch.rows.slice(TILE * columns).fill(V::T::ZERO);
        scratch.masses.slice(TILE).fill(V::T::ZERO);
        // SAFETY: the tokens exist, and the scratch has room for a tile of queries and one of keys.
        unsafe {
            let extent = load::tokens::<V>(&head.query, place.rows.clone(), x);
            found.counts.suspicious |= !extent.is_finite;
            let to = (scratch.rows.ptr(), scratch.masses.ptr());
            read::<V, R, C>(state, &mut scratch.work, x, to, &kit.dead);
            if !place.keys.is_empty() {
                load_keys::<V>(kit, head, &place, scratch, &mut found);
                let (s, near) = (scratch.logits.ptr(), scratch.near.ptr());
                logits::<V, DR, DC>(dim, x, scratch.keys.ptr(), place.near, s);
                weigh::<V>(kit, s, near, place.near, None, |j| place.first_to_see(kit, j));
                let to = (scratch.rows.ptr(), scratch.masses.ptr());
                add_near::<V, R, C>(kit, &place, scratch, to);
            }
        }
        extent.longest = found.longest;
        // SAFETY: the caller's promise.
        unsafe {
            finish(kit, head, &extent, job.outcome, place.rows.clone(), scratch, &mut found);
            if !place.keys.is_empty() && (place.rows.end < part.end || own.is_some()) {
                let (rows, masses) = (scratch.key_rows.ptr(), scratch.key_masses.ptr());
                let tile = (rows.cast_const(), masses.cast_const());
                let (y, factors) = (scratch.keys.ptr(), kit.factors.as_ptr());
                let states = (&mut *state, own.as_deref_mut());
                absorb_twice::<V, R, C>(states, &mut scratch.work, y, tile, factors);
            }
        }
        found.counts.tiles += 1;
    }
    found.counts.flops = 2 * kit.flops(part.len());
    found.counts.bytes_read = head.query.bytes(part.len());
    found
}

/// Loads the keys of a place, and their values.
///
/// # Safety
///
/// The keys must exist, at least one; the instruction set must be enabled.
#[inline(always)]
pub unsafe fn load_keys<V: Lanes>(
    kit: &Kit<V::T>,
    head: &Operands<'_>,
    place: &Place,
    scratch: &mut Scratch<V::T>,
    found: &mut Found,
) {
    let (y, values) = (scratch.keys.ptr(), scratch.key_rows.ptr());
    let masses = scratch.key_masses.ptr();
    // SAFETY: the caller's promises.
    unsafe {
        let extent = load::tokens::<V>(&head.key, place.keys.clone(), y);
        let (source, to) = ((&head.value, head.masses.as_ref()), (values, masses));
        let finite = load::values::<V>(source, place.keys.clone(), kit.columns, &kit.zeros, to);
        found.counts.suspicious |= !(extent.is_finite && finite);
        let longest = load::longest::<V::T>(&extent, kit.monomials.dim());
        found.longest = found.longest.max(longest);
    }
}

/// Adds the weights in `near` times the values of the keys to rows, and times their masses to sums.
///
/// # Safety
///
/// The instruction set must be enabled.
#[inline(always)]
unsafe fn add_near<V: Lanes, const R: usize, const C: usize>(
    kit: &Kit<V::T>,
    place: &Place,
    scratch: &mut Scratch<V::T>,
    (rows, sums): (*mut V::T, *mut V::T),
) {
    let (near, values) = (scratch.near.ptr().cast_const(), scratch.key_rows.ptr().cast_const());
    let masses = scratch.key_masses.ptr();
    // SAFETY: arrays of whole tiles.
    unsafe {
        let size = (R, kit.columns / V::N);
        let mut keys = 0;
        for t in (0..TILE).step_by(R) {
            // Weights of the keys behind those are zero.
            while keys < place.near && place.first_to_see(kit, keys) < t + R {
                keys += 1;
            }
            let (a, to) = (near.add(t), (rows.add(t * kit.columns), kit.columns));
            multiply_add::<V, R, C>((a, 1, TILE), (values, kit.columns), keys, to, size);
        }
        for t in (0..TILE).step_by(V::N) {
            let mut sum = [[V::splat(V::T::default()); 1]; 1];
            for j in 0..place.near {
                let mass = V::splat(*masses.add(j));
                sum[0][0] = V::load(near.add(j * TILE + t)).fma(mass, sum[0][0]);
            }
            add_to(sums.add(t), TILE, &sum);
        }
    }
}
