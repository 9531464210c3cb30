//! The one task behind sums over blocks, rows read from them, and the gradients of both.
//!
//! With `W = sums_k`, given, and u a value and its mass, a token x of weights w may be asked for
//!
//! | what | pass |
//! |---|---|
//! | `sum_k w_k W_k phi(x)`, a row and a mass | [`read`] |
//! | its derivative by w, times u: `u . W_k phi(x)` | [`read`] |
//! | its derivative by x, times u | [`derive`] |
//! | `phi(x) w_k u`, added to sums of its own | [`absorb`] |
//!
//! The last is what a key gives to sums over keys, and the gradient of those that a query reads. To a key u is
//! its value, and W the gradient of the sums: their product is symmetric in u and W.

use std::ops::Range;

use super::super::slopes::{add_columns, turn};
use super::super::{State, TILE, load};
use super::frame::{BlockScratch, Frame};
use crate::attention::dense::Report;
use crate::mat::{MatCell, Rows};
use crate::par::Pulse;
use crate::polynomial::{absorb, derive, read};
use crate::simd::{Float, Lanes, multiversion};

/// What some tokens of one block give, and get.
pub struct Visit<'a, T> {
    pub frame: &'a Frame<T>,
    /// `n x E`, and `K x n`.
    pub tokens: Rows<'a>,
    pub weights: Rows<'a>,
    /// `n x Ev`, and `n x 1`; ones if nothing is said.
    pub values: Option<Rows<'a>>,
    pub masses: Option<Rows<'a>>,
    /// Sums and masses of every weight, for this block.
    pub given: Option<(&'a [Rows<'a>], &'a [Rows<'a>])>,
    pub range: Range<usize>,
    pub to: Wanted<'a, T>,
}

/// What is added for the tokens of a head. All but rows and masses need values.
#[derive(Clone, Copy)]
pub struct Wanted<'a, T> {
    /// `n x Ev`
    pub rows: Option<MatCell<'a, T>>,
    /// `n x 1`
    pub masses: Option<MatCell<'a, T>>,
    /// `n x E`
    pub tokens: Option<MatCell<'a, T>>,
    /// `K x n`
    pub weights: Option<MatCell<'a, T>>,
}

impl<T> Wanted<'_, T> {
    /// Is a row to be read?
    fn reads(&self) -> bool {
        self.rows.is_some() || self.masses.is_some() || self.weights.is_some()
    }
}

multiversion! {
    pub(in crate::attention) unsafe fn visit_f32(job: &Visit<'_, f32>, own: Option<&mut State<f32>>, scratch: &mut BlockScratch<f32>, pulse: &Pulse<'_>) -> Report = visit_body {
        v4: [avx512::F32x16, 6, 4, 4, 6], v3: [avx2::F32x8, 6, 2, 6, 2], portable: [portable::F32x4, 6, 2, 6, 2],
    }
}

multiversion! {
    pub(in crate::attention) unsafe fn visit_f64(job: &Visit<'_, f64>, own: Option<&mut State<f64>>, scratch: &mut BlockScratch<f64>, pulse: &Pulse<'_>) -> Report = visit_body {
        v4: [avx512::F64x8, 6, 4, 4, 6], v3: [avx2::F64x4, 6, 2, 6, 2], portable: [portable::F64x2, 6, 2, 6, 2],
    }
}

/// # Safety
///
/// State and scratch must be of the frame, all arrays of the shapes that [`Visit`] says, and no other task may
/// write the job's rows; the instruction set must be enabled.
#[inline(always)]
unsafe fn visit_body<V: Lanes, const R: usize, const C: usize, const DR: usize, const DC: usize>(
    job: &Visit<'_, V::T>,
    mut own: Option<&mut State<V::T>>,
    scratch: &mut BlockScratch<V::T>,
    pulse: &Pulse<'_>,
) -> Report {
    let (frame, dim) = (job.frame, job.frame.monomials.dim());
    let (abreast, factors) = (&frame.abreast, &frame.factors);
    let mut finite = true;
    let mut tiles = 0;
    let mut given = scratch.given.take();
    if let Some(sums) = job.given {
        let state = given.get_or_insert_with(|| frame.state());
        // SAFETY: the caller's promises; nobody else writes behind the last mass.
        finite &= unsafe { abreast.load::<V>(state, sums, &factors[..frame.monomials.len()]) };
    }
    for start in job.range.clone().step_by(TILE) {
        if pulse.stopped() {
            break;
        }
        let some = start..job.range.end.min(start + TILE);
        let (x, weights) = (scratch.tokens.ptr(), scratch.weights.ptr());
        // SAFETY: the tokens exist, and the scratch has room for a tile of them.
        unsafe {
            finite &= load::tokens::<V>(&job.tokens, some.clone(), x).is_finite;
            let room = scratch.weights.slice(abreast.weights * TILE);
            finite &= load_weights(&job.weights, some.clone(), room);
            let values = (scratch.values.ptr(), scratch.masses.ptr());
            let packed = (scratch.packed.ptr(), scratch.packed_masses.ptr());
            if let Some(rows) = &job.values {
                let (from, zeros) = ((rows, job.masses.as_ref()), &frame.zeros);
                finite &= load::values::<V>(from, some.clone(), abreast.stride, zeros, values);
                abreast.pack::<V>((values.0, values.1), weights, packed);
            }
            if let Some(state) = &given {
                if job.to.reads() {
                    let rows = (scratch.read.ptr(), scratch.read_masses.ptr());
                    scratch.read.slice(TILE * abreast.columns).fill(V::T::ZERO);
                    scratch.read_masses.slice(TILE).fill(V::T::ZERO);
                    read::<V, R, C>(state, &mut scratch.work, x, rows, &[]);
                    let rows = (rows.0.cast_const(), rows.1.cast_const());
                    let to = (job.to.rows.as_ref(), job.to.masses.as_ref());
                    abreast.combine(rows, weights, some.clone(), to);
                    if let Some(to) = &job.to.weights {
                        abreast.dots::<V>(rows, (values.0, values.1), some.clone(), to);
                    }
                }
                if let Some(to) = &job.to.tokens {
                    let (turned, slopes) = (scratch.turned.ptr(), scratch.slopes.ptr());
                    turn::<V>(packed.0, abreast.columns, turned);
                    scratch.slopes.slice(dim * TILE).fill(V::T::ZERO);
                    let of = (turned.cast_const(), packed.1.cast_const());
                    derive::<V, DR, DC>(state, &mut scratch.work, x, of, slopes, &[]);
                    add_columns::<V>(to, some.clone(), dim, (slopes, scratch.columns.ptr()));
                }
            }
            if let Some(own) = own.as_deref_mut() {
                let tile = (packed.0.cast_const(), packed.1.cast_const());
                absorb::<V, R, C>(own, &mut scratch.work, x, tile, factors.as_ptr());
            }
        }
        tiles += 1;
    }
    scratch.given = given;
    let passes = [job.to.reads(), job.to.tokens.is_some(), own.is_some()];
    let passes = passes.into_iter().map(u64::from).sum::<u64>();
    let bytes = |rows: &Rows<'_>| rows.bytes(job.range.len());
    Report {
        suspicious: !finite,
        tiles,
        flops: passes * frame.flops(job.range.len()),
        bytes_read: bytes(&job.tokens) + job.values.as_ref().map_or(0, bytes),
    }
}

/// A row of [`TILE`] numbers for every weight, zeros behind the last token. Are all finite?
fn load_weights<T: Float>(source: &Rows<'_>, tokens: Range<usize>, to: &mut [T]) -> bool {
    let mut finite = true;
    for (k, row) in to.chunks_exact_mut(TILE).enumerate() {
        let (row, behind) = row.split_at_mut(tokens.len());
        behind.fill(T::ZERO);
        for (to, i) in row.iter_mut().zip(tokens.clone()) {
            *to = T::narrow(source.get(k, i));
            finite &= to.is_finite();
        }
    }
    finite
}
