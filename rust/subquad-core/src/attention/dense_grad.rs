//! Gradients of exact attention from the log-sum-exp: five products per pair of blocks, nothing of
//! size `L x S`.
//!
//! With `P` the probabilities, `D_i = dO_i . O_i` and `dS = P (dO V^T - D)`:
//! `dV = P^T dO`, `dQ = scale dS K`, `dK = scale dS^T Q`, `d bias = dS`.
//!
//! Key blocks outside, query blocks inside: `dK` and `dV` of a block stay in cache, `dQ` is added to
//! once per key block. Scores and their gradients are kept transposed, `[strip][key][w]`, as in the
//! forward pass; `dV` and `dK` read them along a row, `dQ` along a column.

use std::ops::Range;

use super::dense::Report;
use super::grad_bias::add_block_sums;
use super::grad_pair::{Pair, pair_step};
use super::lags::Sums;
use super::pack;
use super::scores::{STRIP_VECTORS, within};
use super::toeplitz::Weights;
use super::{Head, Visible};
use crate::mat::{MatCell, Rows};
use crate::par::Pulse;
use crate::scratch::Buffer;
use crate::simd::{Float, Lanes, multiversion};

/// Keys of a block at most, for heads up to this wide (`E + Ev`) and beyond it.
const KEYS: [(usize, usize); 2] = [(128, 288), (usize::MAX, 240)];
/// Rows of a block of queries.
pub const ROWS: usize = 96;
/// Key tiles of every instruction set divide this.
pub const KEY_UNIT: usize = 12;

/// The gradients of one head, each added to; what is not wanted is absent.
#[derive(Clone, Copy, Debug)]
pub struct HeadGradients<'a, T> {
    /// `L x E`
    pub query: Option<MatCell<'a, T>>,
    /// `S x E`
    pub key: Option<MatCell<'a, T>>,
    /// `S x Ev`
    pub value: Option<MatCell<'a, T>>,
    /// `L x S`, with strides of zero along axes that broadcast.
    pub bias: Option<MatCell<'a, T>>,
    /// `(L + S - 1) x 1`, sums over all pairs of a query and a key of the same lag.
    pub lags: Option<MatCell<'a, f64>>,
    /// `E x (L + S - 1)`, likewise.
    pub weights: Option<MatCell<'a, f64>>,
}

/// What the backward pass needs to know of a row: the exponentials are `e^(logit - shift)` and have
/// the sum `1 / weight`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowState<T> {
    /// Infinity for a row that sees no key.
    pub shift: T,
    /// Factor that makes probabilities of exponentials.
    pub weight: T,
    /// `-weight * (dO . O)`
    pub minus_dot: T,
}

/// What one task computes: the gradients from some rows and some keys of one head.
pub struct Job<'a, T> {
    pub head: &'a Head<'a>,
    pub grad_out: Rows<'a>,
    pub visible: Visible,
    pub scale: T,
    pub rows: Range<usize>,
    pub keys: Range<usize>,
    /// Of all rows of the head.
    pub states: &'a [RowState<T>],
    pub gradients: HeadGradients<'a, T>,
    /// Where the first row of the job is in `gradients.query`.
    pub first_query_row: usize,
    /// See [`Tables::of`](super::lags::Tables::of). The first of `gradients.lags` is the lag of the
    /// first row and the last key of the job; so it is of `gradients.weights`.
    pub lags: *const T,
    pub weights: Weights<T>,
}

/// Keys per block at most, for a head.
fn most_keys(head: &Head<'_>) -> usize {
    let width = head.query.cols() + head.value.cols();
    KEYS.iter().find(|(most, _)| width <= *most).map_or(KEY_UNIT, |&(_, keys)| keys)
}

impl<T> Job<'_, T> {
    /// Keys per block: the job's keys in as many blocks as needed, all of about the same size.
    fn block(&self) -> usize {
        let blocks = self.keys.len().div_ceil(most_keys(self.head)).max(1);
        self.keys.len().div_ceil(blocks).next_multiple_of(KEY_UNIT)
    }
}

/// Workspace of tasks of up to so many rows, with blocks of up to so many keys.
pub struct Scratch<T> {
    most_rows: usize,
    most_keys: usize,
    /// Queries and output gradients in strips `[strip][E][w]`, and in column panels
    /// `[block][panel][row][panel]`.
    pub(super) query_strips: Buffer<T>,
    pub(super) grad_strips: Buffer<T>,
    pub(super) query_panels: Buffer<T>,
    pub(super) grad_panels: Buffer<T>,
    /// `shift` and `minus_dot` of every row.
    pub(super) shift: Buffer<T>,
    pub(super) minus_dot: Buffer<T>,
    /// Keys and values of a block in tiles, keys in panels too.
    pub(super) key_tiles: Buffer<T>,
    pub(super) value_tiles: Buffer<T>,
    pub(super) key_panels: Buffer<T>,
    /// Exponentials and gradients of the logits `[strip][key][w]`; mask and bias of one strip.
    pub(super) scores: Buffer<T>,
    pub(super) grad_scores: Buffer<T>,
    pub(super) stage: Buffer<T>,
    /// Sums of the gradients, in panels.
    pub(super) query_sums: Buffer<T>,
    pub(super) key_sums: Buffer<T>,
    pub(super) value_sums: Buffer<T>,
    /// Sums of the gradient of a bias that is the same for all rows, one for every key of a block.
    pub(super) bias_sums: Buffer<T>,
    /// Sums over pairs of the same lag, of one pair of blocks.
    pub(super) lag_sums: Sums<T>,
    /// With factors of the lags, sums of the gradients of queries and keys, `[coordinate][row]`, and the
    /// numbers of a row.
    pub(super) left_sums: Buffer<T>,
    pub(super) right_sums: Buffer<T>,
    pub(super) slope_rows: usize,
    pub(super) slope_keys: usize,
}

impl<T: Float> Scratch<T> {
    /// For all tasks of up to `rows` rows of heads like this one.
    pub fn new(head: &Head<'_>, rows: usize, lanes: usize) -> Self {
        let (e, ev) = (head.query.cols(), head.value.cols());
        let (pe, pev) = (pack::padded(e, lanes), pack::padded(ev, lanes));
        let (w, rows) = (STRIP_VECTORS * lanes, rows.next_multiple_of(ROWS));
        let most_keys = most_keys(head).min(head.key.rows().next_multiple_of(KEY_UNIT));
        // A tile may begin at the last key of a block.
        let keys = most_keys + 2 * lanes.max(16);
        let staged = head.mask.is_some() || head.bias.is_some();
        let weighted = head.weights.is_some();
        Self {
            most_rows: rows,
            most_keys,
            query_strips: Buffer::new(rows * e),
            grad_strips: Buffer::new(rows * ev),
            query_panels: Buffer::new(rows * pe),
            grad_panels: Buffer::new(rows * pev),
            shift: Buffer::new(rows),
            minus_dot: Buffer::new(rows),
            key_tiles: Buffer::new(keys * e),
            value_tiles: Buffer::new(keys * ev),
            key_panels: Buffer::new(keys * pe),
            scores: Buffer::new(ROWS * keys),
            grad_scores: Buffer::new(ROWS * keys),
            stage: Buffer::new(if staged { keys * w } else { 0 }),
            query_sums: Buffer::new(rows * pe),
            key_sums: Buffer::new(keys * pe),
            value_sums: Buffer::new(keys * pev),
            bias_sums: Buffer::new(keys),
            lag_sums: if head.lags.is_some() || weighted {
                Sums::new(ROWS, keys, KEY_UNIT)
            } else {
                Sums::none()
            },
            left_sums: Buffer::new(if weighted { rows * e } else { 0 }),
            right_sums: Buffer::new(if weighted { keys * e } else { 0 }),
            slope_rows: rows,
            slope_keys: keys,
        }
    }
}

/// Adds the gradients of a job.
///
/// `KR` keys make a tile of scores, `OA` rows, then `OB` at a time, a tile of `dS K`.
///
/// # Safety
/// The instruction set of `V` must be enabled, and no other task may touch the job's gradients.
#[inline(always)]
pub unsafe fn backward_body<V: Lanes, const KR: usize, const OA: usize, const OB: usize>(
    job: &Job<'_, V::T>,
    scratch: &mut Scratch<V::T>,
    pulse: &Pulse<'_>,
) -> Report {
    const { assert!((STRIP_VECTORS * V::N - OA).is_multiple_of(OB) && KEY_UNIT.is_multiple_of(KR)) };
    let head = job.head;
    let (e, ev) = (head.query.cols(), head.value.cols());
    let (pe, pev) = (pack::padded(e, V::N), pack::padded(ev, V::N));
    let (one, block) = (V::T::ONE, job.block());
    assert!(job.rows.len() <= scratch.most_rows && block <= scratch.most_keys);
    let mut report = Report::default();
    // SAFETY: the scratch is large enough for this job.
    unsafe {
        report.suspicious |= pack_queries::<V>(job, scratch);
        report.bytes_read = head.query.bytes(job.rows.len()) + head.key.bytes(job.keys.len());
        report.bytes_read += head.value.bytes(job.keys.len()) + job.grad_out.bytes(job.rows.len());
        scratch.query_sums.slice(job.rows.len().next_multiple_of(ROWS) * pe).fill(V::T::ZERO);
        if !job.weights.is_null() {
            scratch.left_sums.slice(scratch.slope_rows * e).fill(V::T::ZERO);
        }
        for start in job.keys.clone().step_by(block) {
            let keys = start..job.keys.end.min(start + block);
            let (len, padded) = (keys.len(), keys.len().next_multiple_of(KR));
            let seen = job.visible.queries(keys.clone(), head.query.rows());
            let seen = within(&seen, job.rows.start, job.rows.len());
            if seen.is_empty() {
                continue;
            }
            let tiles = (scratch.key_tiles.ptr(), scratch.value_tiles.ptr());
            let key_extent = pack::transposed::<V>(&head.key, keys.clone(), KR, one, tiles.0);
            let value_extent = pack::transposed::<V>(&head.value, keys.clone(), KR, one, tiles.1);
            report.suspicious |= !(key_extent.is_finite && value_extent.is_finite);
            let panels = scratch.key_panels.ptr();
            pack::columns::<V>(&head.key, keys.clone(), (len, block), panels);
            scratch.key_sums.slice(block * pe).fill(V::T::ZERO);
            if !job.weights.is_null() {
                scratch.right_sums.slice(scratch.slope_keys * e).fill(V::T::ZERO);
            }
            scratch.value_sums.slice(block * pev).fill(V::T::ZERO);
            for first in (seen.start / ROWS * ROWS..seen.end).step_by(ROWS) {
                if pulse.stopped() {
                    return report;
                }
                let rows = job.rows.start + first..job.rows.end.min(job.rows.start + first + ROWS);
                let keys = keys.clone();
                let pair = Pair { job, keys, rows, first, capacity: block, e, ev, pe, pev };
                report.add(&pair_step::<V, KR, OA, OB>(&pair, scratch, padded));
            }
            report.suspicious |= add_keys::<V>(job, scratch, &keys, block);
            if let Some(bias) = job.gradients.bias.filter(|bias| bias.broadcasts() == (true, false))
            {
                add_block_sums(&bias, keys, scratch.bias_sums.slice(block));
            }
        }
        report.suspicious |= add_queries::<V>(job, scratch);
    }
    report
}

/// The query side of a job, in both orders. True if something is not finite.
#[inline(always)]
unsafe fn pack_queries<V: Lanes>(job: &Job<'_, V::T>, scratch: &mut Scratch<V::T>) -> bool {
    let (w, count) = (STRIP_VECTORS * V::N, job.rows.len());
    let (query, grad) = (&job.head.query, &job.grad_out);
    let mut suspicious = false;
    // SAFETY: the scratch was made for this job.
    unsafe {
        let strips = (scratch.query_strips.ptr(), scratch.grad_strips.ptr());
        let queries = pack::transposed::<V>(query, job.rows.clone(), w, job.scale, strips.0);
        let grads = pack::transposed::<V>(grad, job.rows.clone(), w, V::T::ONE, strips.1);
        suspicious |= !(queries.is_finite && grads.is_finite);
        let (pe, pev) = (pack::padded(query.cols(), V::N), pack::padded(grad.cols(), V::N));
        for first in (0..count).step_by(ROWS) {
            let rows = job.rows.start + first..job.rows.end.min(job.rows.start + first + ROWS);
            let to = scratch.query_panels.ptr().add(first * pe);
            pack::columns::<V>(query, rows.clone(), (ROWS, ROWS), to);
            let to = scratch.grad_panels.ptr().add(first * pev);
            pack::columns::<V>(grad, rows, (ROWS, ROWS), to);
        }
        let (shifts, dots) = (scratch.shift.ptr(), scratch.minus_dot.ptr());
        for r in 0..count.next_multiple_of(ROWS) {
            let state = job.states[job.rows.clone()].get(r);
            *shifts.add(r) = state.map_or(-V::T::NEG_INFINITY, |state| state.shift);
            *dots.add(r) = state.map_or(V::T::ZERO, |state| state.minus_dot);
            if let Some(weight) = state.map(|state| state.weight).filter(|&x| x != V::T::ONE) {
                scale_strided(
                    strips.1.add(r / w * w * grad.cols() + r % w),
                    grad.cols(),
                    w,
                    weight,
                );
                let panels = scratch.grad_panels.ptr().add(r / ROWS * ROWS * pev);
                pack::scale_row::<V>(panels, r % ROWS, ROWS, grad.cols(), weight);
            }
        }
    }
    suspicious
}

/// Multiplies `len` numbers, `stride` apart.
unsafe fn scale_strided<T: Float>(from: *mut T, len: usize, stride: usize, factor: T) {
    for x in 0..len {
        // SAFETY: the caller has them.
        unsafe { *from.add(x * stride) = *from.add(x * stride) * factor };
    }
}

/// Adds the sums of a block of keys to the gradients. True if one of them is not finite.
#[inline(always)]
unsafe fn add_keys<V: Lanes>(
    job: &Job<'_, V::T>,
    scratch: &mut Scratch<V::T>,
    keys: &Range<usize>,
    capacity: usize,
) -> bool {
    let mut suspicious = false;
    // SAFETY: the keys belong to this task.
    unsafe {
        for (r, j) in keys.clone().enumerate() {
            if let Some(gradient) = &job.gradients.key {
                let to = gradient.row_mut(j);
                suspicious |= if job.weights.is_null() {
                    add_row::<V>(scratch.key_sums.ptr(), (r, capacity), job.scale, to)
                } else {
                    // The scale is in the queries that were multiplied.
                    let sums = scratch.right_sums.ptr().add(r);
                    add_column(sums, scratch.slope_keys, V::T::ONE, to)
                };
            }
            if let Some(gradient) = &job.gradients.value {
                let sums = scratch.value_sums.ptr();
                suspicious |= add_row::<V>(sums, (r, capacity), V::T::ONE, gradient.row_mut(j));
            }
        }
    }
    suspicious
}

/// Adds the sums of the job's rows to the gradient. True if one of them is not finite.
#[inline(always)]
unsafe fn add_queries<V: Lanes>(job: &Job<'_, V::T>, scratch: &mut Scratch<V::T>) -> bool {
    let Some(gradient) = &job.gradients.query else { return false };
    let width = pack::padded(job.head.query.cols(), V::N);
    let mut suspicious = false;
    for r in 0..job.rows.len() {
        // SAFETY: the rows belong to this task.
        unsafe {
            let to = gradient.row_mut(job.first_query_row + r);
            suspicious |= if job.weights.is_null() {
                let sums = scratch.query_sums.ptr().add(r / ROWS * ROWS * width);
                add_row::<V>(sums, (r % ROWS, ROWS), job.scale, to)
            } else {
                add_column(scratch.left_sums.ptr().add(r), scratch.slope_rows, job.scale, to)
            };
        }
    }
    suspicious
}

/// Adds numbers that are `stride` apart. True if one of the sums is not finite.
unsafe fn add_column<T: Float>(from: *const T, stride: usize, factor: T, to: &mut [T]) -> bool {
    let mut finite = true;
    for (c, slot) in to.iter_mut().enumerate() {
        // SAFETY: the caller has them.
        *slot = *slot + unsafe { *from.add(c * stride) } * factor;
        finite &= slot.is_finite();
    }
    !finite
}

#[inline(always)]
unsafe fn add_row<V: Lanes>(
    panels: *const V::T,
    (row, capacity): (usize, usize),
    factor: V::T,
    to: &mut [V::T],
) -> bool {
    let mut finite = true;
    // SAFETY: passed on.
    unsafe {
        pack::for_row::<V>(panels, row, capacity, to, |slot, x| {
            *slot = *slot + x * factor;
            finite &= slot.is_finite();
        });
    }
    !finite
}

multiversion! {
    /// [`backward_body`] in single precision.
    pub unsafe fn backward_f32<'a>(
        job: &Job<'a, f32>, scratch: &mut Scratch<f32>, pulse: &Pulse<'_>,
    ) -> Report = backward_body {
        v4: [avx512::F32x16, 12, 8, 8], v3: [avx2::F32x8, 6, 6, 5], portable: [portable::F32x4, 4, 4, 4],
    }
}

multiversion! {
    /// [`backward_body`] in double precision.
    pub unsafe fn backward_f64<'a>(
        job: &Job<'a, f64>, scratch: &mut Scratch<f64>, pulse: &Pulse<'_>,
    ) -> Report = backward_body {
        v4: [avx512::F64x8, 12, 8, 8], v3: [avx2::F64x4, 6, 4, 4], portable: [portable::F64x2, 4, 4, 4],
    }
}
