//! The tasks of a call: sums over keys, and rows of the output.

use std::cmp::Ordering;
use std::ops::Range;

use super::call::Operands;
use super::kit::Kit;
use super::{Extent, RowSums, State, TILE, anew, load};
use crate::attention::dense::Report;
use crate::attention::{Stats, Visible};
use crate::mat::MatCell;
use crate::par::Pulse;
use crate::polynomial::{Passes, SPARE, Single, Workspace};
use crate::scratch::Buffer;
use crate::simd::{Float, Lanes, multiversion};
use crate::{Error, Result};

/// Sums over some keys of a head.
pub struct Sum<'a, T> {
    pub kit: &'a Kit<T>,
    pub head: &'a Operands<'a>,
    /// Keys that enter the sums at once, at least one.
    pub tiles: &'a [Range<usize>],
    pub mean: &'a [T],
}

/// Rows of the output from sums over the keys.
pub struct Apply<'a, T> {
    pub kit: &'a Kit<T>,
    pub head: &'a Operands<'a>,
    pub rows: Range<usize>,
    pub state: &'a State<T>,
    pub extent: &'a Extent<T>,
    pub outcome: Outcome<'a, T>,
}

/// Where rows of sums go.
#[derive(Clone, Copy)]
pub enum Outcome<'a, T> {
    /// Divided by the sums of weights: rows of attention, `L x Ev`.
    Quotient(MatCell<'a, T>),
    /// As they are.
    Sums(RowSums<'a, T>),
}

/// Workspace of a task.
pub struct Scratch<T> {
    pub work: Workspace<T>,
    /// A row of [`TILE`] numbers for every coordinate, and as much for slopes.
    pub tokens: Buffer<T>,
    pub slopes: Buffer<T>,
    /// A row of the values' width for every token; the same with a row for every column; and another, of the
    /// coordinates' if they are more.
    pub rows: Buffer<T>,
    pub turned: Buffer<T>,
    pub sums: Buffer<T>,
    /// Of causal attention, a tile of keys: as `tokens`, `rows` and `masses`.
    pub keys: Buffer<T>,
    pub key_rows: Buffer<T>,
    pub key_masses: Buffer<T>,
    /// Key by key, see [`near`](super::near): logits, weights, their slopes, and those of the loss.
    pub logits: Buffer<T>,
    pub near: Buffer<T>,
    pub near_slopes: Buffer<T>,
    pub upstream: Buffer<T>,
    /// Queries as rows, and what keys get of them.
    pub queries: Buffer<T>,
    pub key_slopes: Buffer<T>,
    /// A number for every token, four times.
    pub masses: Buffer<T>,
    pub others: Buffer<T>,
    pub dots: Buffer<T>,
    pub units: Buffer<T>,
    /// Of sums that are divided: slopes by masses, and two numbers for every token and degree.
    pub mass_slopes: Buffer<T>,
    pub moments: Buffer<T>,
}

impl<T: Float> Scratch<T> {
    /// Slopes of a tile, and where they may be turned.
    pub fn turning(&mut self) -> (*const T, *mut T) {
        (self.slopes.ptr(), self.sums.ptr())
    }

    pub fn new(kit: &Kit<T>) -> Self {
        let dim = kit.monomials.dim();
        let causal = |len| Buffer::new(if kit.visible == Visible::ALL { 0 } else { len });
        Self {
            work: kit.workspace(),
            tokens: Buffer::new((dim + SPARE) * TILE),
            slopes: Buffer::new((dim + SPARE) * TILE),
            rows: Buffer::new(TILE * kit.columns),
            turned: Buffer::new(TILE * kit.columns),
            sums: Buffer::new(TILE * dim.next_multiple_of(16).max(kit.columns)),
            keys: causal((dim + SPARE) * TILE),
            key_rows: causal(TILE * kit.columns),
            key_masses: causal(TILE),
            logits: causal(TILE * TILE),
            near: causal(TILE * TILE),
            near_slopes: causal(TILE * TILE),
            upstream: causal(TILE * TILE),
            queries: causal(TILE * dim.next_multiple_of(16)),
            key_slopes: causal(TILE * dim.next_multiple_of(16).max(kit.columns)),
            masses: Buffer::new(TILE),
            others: Buffer::new(TILE),
            dots: Buffer::new(TILE),
            units: Buffer::new(TILE),
            mass_slopes: Buffer::new((dim + SPARE) * TILE),
            moments: Buffer::new(2 * kit.degrees.len() * TILE),
        }
    }
}

/// What a task found and did.
#[derive(Default)]
pub struct Found {
    pub counts: Report,
    /// Largest norm of a key.
    pub longest: f64,
    /// Derivatives by the coefficients.
    pub terms: Vec<f64>,
    /// Rows that were computed anew, key by key.
    pub anew: u64,
    /// The first row whose weights have no sum that is certainly positive; the sum, and its doubt.
    pub hopeless: Option<(usize, [f64; 2])>,
}

impl Found {
    /// Takes note of what a task of a head found.
    pub fn accept(&self, head: usize, stats: &mut Stats) -> Result<()> {
        stats.take(&self.counts);
        stats.rows_anew += self.anew;
        self.hopeless
            .map_or(Ok(()), |(row, [sum, doubt])| Err(Error::Weights { head, row, sum, doubt }))
    }

    /// A row key by key, or a note that there is none.
    pub fn row<T: Float>(
        &mut self,
        kit: &Kit<T>,
        head: &Operands<'_>,
        i: usize,
    ) -> Option<(Vec<f64>, f64)> {
        self.anew += 1;
        let found = anew::row(head, (kit.scale, kit.visible), &kit.coefficients, i);
        if let Err(sum) = found {
            self.hopeless = self.hopeless.or(Some((i, sum)));
        }
        found.ok()
    }
}

multiversion! {
    pub(in crate::attention) unsafe fn sum_single(job: &Sum<'_, f32>, state: &mut State<f32>, scratch: &mut Scratch<f32>, pulse: &Pulse<'_>) -> Found = sum_body {
        v4: [avx512::F32x16, Single<6, 4>], v3: [avx2::F32x8, Single<6, 2>], portable: [portable::F32x4, Single<6, 2>],
    }
}

multiversion! {
    pub(in crate::attention) unsafe fn sum_f64(job: &Sum<'_, f64>, state: &mut State<f64>, scratch: &mut Scratch<f64>, pulse: &Pulse<'_>) -> Found = sum_body {
        v4: [avx512::F64x8, Single<6, 4>], v3: [avx2::F64x4, Single<6, 2>], portable: [portable::F64x2, Single<6, 2>],
    }
}

/// # Safety
///
/// The state and the scratch must be of the kit; the instruction set must be enabled.
#[inline(always)]
pub(super) unsafe fn sum_body<V: Lanes, P: Passes<V>>(
    job: &Sum<'_, V::T>,
    state: &mut State<V::T>,
    scratch: &mut Scratch<V::T>,
    pulse: &Pulse<'_>,
) -> Found {
    let (kit, head) = (job.kit, job.head);
    let mut found = Found::default();
    for some in job.tiles {
        if pulse.stopped() {
            break;
        }
        let (x, values, ones) = (scratch.tokens.ptr(), scratch.rows.ptr(), scratch.masses.ptr());
        // SAFETY: the keys exist, and the scratch has room for a tile of them.
        unsafe {
            let extent = load::tokens::<V>(&head.key, some.clone(), x);
            let finite = load::values::<V>(
                (&head.value, head.masses.as_ref()),
                some.clone(),
                kit.columns,
                &job.mean[..kit.columns],
                (values, ones),
            );
            found.counts.suspicious |= !(extent.is_finite && finite);
            let longest = load::longest::<V::T>(&extent, kit.monomials.dim());
            found.longest = found.longest.max(longest);
            let tile = (values.cast_const(), ones.cast_const());
            P::absorb(state, &mut scratch.work, x, tile, kit.factors.as_ptr());
        }
        found.counts.tiles += 1;
    }
    let keys = job.tiles.iter().map(ExactSizeIterator::len).sum();
    found.counts.flops = kit.flops(keys);
    found.counts.bytes_read = head.key.bytes(keys) + head.value.bytes(keys);
    found
}

multiversion! {
    pub(in crate::attention) unsafe fn apply_single(job: &Apply<'_, f32>, scratch: &mut Scratch<f32>, pulse: &Pulse<'_>) -> Found = apply_body {
        v4: [avx512::F32x16, Single<6, 4>], v3: [avx2::F32x8, Single<6, 2>], portable: [portable::F32x4, Single<6, 2>],
    }
}

multiversion! {
    pub(in crate::attention) unsafe fn apply_f64(job: &Apply<'_, f64>, scratch: &mut Scratch<f64>, pulse: &Pulse<'_>) -> Found = apply_body {
        v4: [avx512::F64x8, Single<6, 4>], v3: [avx2::F64x4, Single<6, 2>], portable: [portable::F64x2, Single<6, 2>],
    }
}

/// # Safety
///
/// The scratch must be of the kit, and no other task may write the job's rows; the instruction set must be
/// enabled.
#[inline(always)]
pub(super) unsafe fn apply_body<V: Lanes, P: Passes<V>>(
    job: &Apply<'_, V::T>,
    scratch: &mut Scratch<V::T>,
    pulse: &Pulse<'_>,
) -> Found {
    let (kit, head) = (job.kit, job.head);
    let mut found = Found::default();
    for start in job.rows.clone().step_by(TILE) {
        if pulse.stopped() {
            break;
        }
        let some = start..job.rows.end.min(start + TILE);
        let x = scratch.tokens.ptr();
        scratch.rows.slice(TILE * kit.columns).fill(V::T::ZERO);
        scratch.masses.slice(TILE).fill(V::T::ZERO);
        // SAFETY: the queries exist, and the scratch has room for a tile of them.
        unsafe {
            let extent = load::tokens::<V>(&head.query, some.clone(), x);
            found.counts.suspicious |= !extent.is_finite;
            let to = (scratch.rows.ptr(), scratch.masses.ptr());
            P::read(job.state, &mut scratch.work, x, to, &kit.dead);
        }
        // SAFETY: the caller's promise.
        unsafe { finish(kit, head, job.extent, job.outcome, some, scratch, &mut found) };
        found.counts.tiles += 1;
    }
    found.counts.flops = kit.flops(job.rows.len());
    found.counts.bytes_read = head.query.bytes(job.rows.len());
    found
}

/// Hands out the rows of a tile.
///
/// # Safety
///
/// No other task may write the rows.
pub unsafe fn finish<T: Float>(
    kit: &Kit<T>,
    head: &Operands<'_>,
    extent: &Extent<T>,
    outcome: Outcome<'_, T>,
    rows: Range<usize>,
    scratch: &mut Scratch<T>,
    found: &mut Found,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match outcome {
            Outcome::Quotient(out) => divide(kit, head, extent, out, rows, scratch, found),
            Outcome::Sums(to) => to.store(rows, kit.columns, scratch),
        }
    }
}

/// Divides the rows of a tile by their sums of weights.
///
/// # Safety
///
/// As [`finish`].
unsafe fn divide<T: Float>(
    kit: &Kit<T>,
    head: &Operands<'_>,
    extent: &Extent<T>,
    to: MatCell<'_, T>,
    rows: Range<usize>,
    scratch: &mut Scratch<T>,
    found: &mut Found,
) {
    let norms = load::norms(scratch.tokens.slice(kit.monomials.dim() * TILE));
    for (t, i) in rows.enumerate() {
        // SAFETY: the caller's promise.
        let out = unsafe { to.row_mut(i) };
        let keys = kit.visible.keys(i, head.key.rows()).len();
        if keys == 0 {
            out.fill(T::ZERO);
            continue;
        }
        let mass = scratch.masses.slice(TILE)[t];
        found.counts.suspicious |= !mass.is_finite();
        let doubt = kit.doubt(norms[t], extent.longest, keys);
        if mass.to_f64().partial_cmp(&doubt) != Some(Ordering::Greater) {
            if let Some((row, _)) = found.row(kit, head, i) {
                out.iter_mut().zip(row).for_each(|(to, x)| *to = T::from_f64(x));
            }
            continue;
        }
        let per = T::ONE / mass;
        let row = &scratch.rows.slice(TILE * kit.columns)[t * kit.columns..];
        for ((to, &x), &mean) in out.iter_mut().zip(row).zip(&extent.mean) {
            *to = x * per + mean;
        }
    }
}
