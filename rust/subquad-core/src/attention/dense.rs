//! Exact attention by tiles: `O(L S (E + Ev))` operations, no `L x S` array.
//!
//! Blocks of queries outside, blocks of keys inside, one strip of `w` queries at a time. Scores are
//! kept transposed, `[key][w]`: a lane is a query, so the running maximum, the sum, masks and biases
//! need no shuffles, and the same array is the broadcast operand of `P V`.

use std::ops::Range;

use super::pack::{self, PANEL};
use super::scores::{Keys, STRIP_VECTORS, within};
use super::strip::{Block, STATES, Strip, probabilities};
use super::toeplitz::Weights;
use super::{Head, Output, Visible};
use crate::linalg::tile::{accumulate, add_to, zero};
use crate::par::Pulse;
use crate::scratch::Buffer;
use crate::simd::{Float, Lanes, multiversion};

/// Keys per block: a block of probabilities and a panel of values share the first-level cache.
pub const KEYS: usize = 192;

/// What one task computes: some rows of one head.
pub struct Job<'a, T> {
    pub head: &'a Head<'a>,
    pub visible: Visible,
    pub scale: T,
    pub rows: Range<usize>,
    pub output: &'a Output<'a, T>,
    /// See [`Tables::of`](super::lags::Tables::of).
    pub lags: *const T,
    pub weights: Weights<T>,
}

/// What a task found and did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Something that was read, or computed from it, was not finite.
    pub suspicious: bool,
    /// Score tiles computed.
    pub tiles: u64,
    /// Floating-point operations of the matrix products in them.
    pub flops: u64,
    /// Bytes of the inputs that were read.
    pub bytes_read: u64,
}

impl Report {
    pub fn add(&mut self, other: &Self) {
        self.suspicious |= other.suspicious;
        self.tiles += other.tiles;
        self.flops += other.flops;
        self.bytes_read += other.bytes_read;
    }
}

/// Workspace of tasks of up to so many rows.
pub struct Scratch<T> {
    most_rows: usize,
    /// Strips of queries `[strip][E][w]`, packed keys `[tile][E][KR]`, values `[panel][key][panel]`.
    queries: Buffer<T>,
    keys: Buffer<T>,
    values: Buffer<T>,
    /// Scores, then probabilities, `[key][w]`; mask and bias of the same block.
    scores: Buffer<T>,
    stage: Buffer<T>,
    /// Unnormalised output `[strip][panel][w][panel]`.
    sums: Buffer<T>,
    /// Per strip, `w` each: see [`Strip`].
    state: Buffer<T>,
}

impl<T: Float> Scratch<T> {
    pub fn new(rows: usize, head: &Head<'_>, lanes: usize) -> Self {
        let (e, ev) = (head.query.cols(), pack::padded(head.value.cols(), lanes));
        let (w, rows) = (STRIP_VECTORS * lanes, rows.next_multiple_of(STRIP_VECTORS * lanes));
        // A tile may begin at the last key of a block.
        let keys = KEYS + 2 * lanes.max(16);
        let staged = head.mask.is_some() || head.bias.is_some();
        Self {
            most_rows: rows,
            queries: Buffer::new(rows * e),
            keys: Buffer::new(keys * e),
            values: Buffer::new(KEYS * ev),
            scores: Buffer::new(keys * w),
            stage: Buffer::new(if staged { keys * w } else { 0 }),
            sums: Buffer::new(rows * ev),
            state: Buffer::new(STATES * rows),
        }
    }
}

/// Computes the rows of a job.
///
/// `KR` keys make a score tile, `OA` rows, then `OB` at a time, a tile of `P V`.
///
/// # Safety
/// The instruction set of `V` must be enabled, and no other task may write the job's rows.
#[inline(always)]
pub unsafe fn forward_body<V: Lanes, const KR: usize, const OA: usize, const OB: usize>(
    job: &Job<'_, V::T>,
    scratch: &mut Scratch<V::T>,
    pulse: &Pulse<'_>,
) -> Report {
    const { assert!((STRIP_VECTORS * V::N - OA).is_multiple_of(OB) && KEYS.is_multiple_of(KR)) };
    let (head, rows) = (job.head, &job.rows);
    let (e, ev) = (head.query.cols(), pack::padded(head.value.cols(), V::N));
    let w = STRIP_VECTORS * V::N;
    let seen = job.visible.union(rows.clone(), head.key.rows());
    assert!(rows.len() <= scratch.most_rows);
    let mut report = Report::default();
    let one = V::T::ONE;
    // SAFETY: the scratch was made for heads like this one and has room for the rows.
    unsafe {
        let queries = scratch.queries.ptr();
        report.bytes_read += head.query.bytes(rows.len()) + head.key.bytes(seen.len());
        report.bytes_read += head.value.bytes(seen.len());
        let extent = pack::transposed::<V>(&head.query, rows.clone(), w, job.scale, queries);
        report.suspicious |= !extent.is_finite;
        let mut key_square: f64 = 0.0;
        let strips = rows.len().div_ceil(w);
        scratch.sums.slice(strips * w * ev).fill(V::T::ZERO);
        let (sums, state) = (scratch.sums.ptr(), scratch.state.ptr());
        let strip = |s: usize| {
            let start = rows.start + s * w;
            let own = (sums.wrapping_add(s * w * ev), state.wrapping_add(s * w * STATES));
            let rows = start..rows.end.min(start + w);
            Strip::new(rows, w, queries.cast_const().wrapping_add(s * w * e), own)
        };
        (0..strips).for_each(|s| strip(s).clear(w));
        for first in seen.clone().step_by(KEYS) {
            if pulse.stopped() {
                return report;
            }
            let len = KEYS.min(seen.end - first);
            let (keys, values) = (scratch.keys.ptr(), scratch.values.ptr());
            let range = first..first + len;
            let key_extent = pack::transposed::<V>(&head.key, range.clone(), KR, one, keys);
            report.suspicious |= !key_extent.is_finite;
            key_square = key_square.max(key_extent.largest_square);
            report.suspicious |=
                !pack::columns::<V>(&head.value, range.clone(), (len, KEYS), values);
            for strip in (0..strips).map(strip) {
                let union = job.visible.union(strip.rows.clone(), head.key.rows());
                let common = job.visible.common(strip.rows.clone(), head.key.rows());
                let mut block = Block {
                    keys: Keys {
                        tiles: keys,
                        stage: std::ptr::null(),
                        lags: job.lags,
                        weights: job.weights.at(strip.rows.start, first),
                    },
                    values,
                    scores: scratch.scores.ptr(),
                    first,
                    len,
                    union: within(&union, first, len),
                    common: within(&common, first, len),
                    e,
                    ev,
                };
                if block.union.is_empty() {
                    continue;
                }
                if !job.lags.is_null() {
                    let lag = strip.rows.start as isize - first as isize;
                    block.keys.lags = job.lags.wrapping_offset(lag);
                }
                if head.mask.is_some() || head.bias.is_some() {
                    let stage = scratch.stage.ptr();
                    let (mask, bias) = (head.mask.as_ref(), head.bias.as_ref());
                    let from = block.union.start / KR * KR;
                    let keys = first + from..first + block.union.end;
                    let to = stage.add(from * w);
                    if !pack::stage::<V>(mask, bias, strip.rows.clone(), keys, w, to) {
                        continue;
                    }
                    block.keys.stage = stage;
                }
                report.add(&strip_step::<V, KR, OA, OB>(&strip, &block, &job.visible));
            }
        }
        report.suspicious |= finish::<V>(job, scratch, ev);
        // No dot product exceeds E max|q| max|k|, times the largest factor.
        let largest_dot =
            e as f64 * (extent.largest_square * key_square).sqrt() * job.weights.largest;
        if largest_dot >= V::T::LARGEST / 4.0 {
            report.suspicious |= job.overflows(pulse);
        }
    }
    report
}

/// One strip against one block of keys.
#[inline(always)]
unsafe fn strip_step<V: Lanes, const KR: usize, const OA: usize, const OB: usize>(
    strip: &Strip<V::T>,
    block: &Block<V::T>,
    visible: &Visible,
) -> Report {
    let w = STRIP_VECTORS * V::N;
    let from = block.union.start / KR * KR;
    let depth = block.union.end - from;
    // SAFETY: the caller's buffers hold whole strips and blocks.
    unsafe {
        probabilities::<V, KR>(strip, block, visible);
        let p = block.scores.add(from * w).cast_const();
        for first in (0..block.ev / V::N).step_by(PANEL) {
            let values = block.values.add(first * V::N * KEYS);
            let sums = strip.sums.add(first * V::N * w);
            if first + PANEL <= block.ev / V::N {
                let values = values.add(from * PANEL * V::N);
                output::<V, OA, OB, PANEL>(p, values, depth, sums);
            } else {
                output::<V, OA, OB, 1>(p, values.add(from * V::N), depth, sums);
            }
        }
    }
    let tiles = depth.div_ceil(KR) as u64;
    let scores = tiles * (KR * w * block.e) as u64;
    let flops = 2 * (scores + (depth * w * block.ev) as u64);
    Report { tiles, flops, ..Report::default() }
}

/// `sums += P V` for all rows of a strip and one column panel of `C` vectors.
#[inline(always)]
unsafe fn output<V: Lanes, const OA: usize, const OB: usize, const C: usize>(
    p: *const V::T,
    values: *const V::T,
    keys: usize,
    sums: *mut V::T,
) {
    let w = STRIP_VECTORS * V::N;
    // SAFETY: the caller's buffers hold whole strips and panels.
    unsafe {
        let mut acc = zero::<V, OA, C>();
        accumulate(&mut acc, (p, 1, w), (values, C * V::N), keys);
        add_to(sums, C * V::N, &acc);
        for row in (OA..w).step_by(OB) {
            let mut acc = zero::<V, OB, C>();
            accumulate(&mut acc, (p.add(row), 1, w), (values, C * V::N), keys);
            add_to(sums.add(row * C * V::N), C * V::N, &acc);
        }
    }
}

impl<T: Float> Job<'_, T> {
    /// May a logit that counts have left the range of the compute type? Slow, and only called for numbers
    /// so large that it may: minus infinity would silently hide a key.
    #[cold]
    #[inline(never)]
    fn overflows(&self, pulse: &Pulse<'_>) -> bool {
        let head = self.head;
        let overflows = |i: usize, j: usize| {
            // A sum may leave the range on the way to a result within it.
            let product = |x| head.product(i, j, x).abs();
            let products = (0..head.query.cols()).map(product).sum::<f64>();
            let most = self.scale.to_f64().abs() * products;
            let bias = head.added(i, j);
            let is_seen =
                bias != f64::NEG_INFINITY && head.mask.is_none_or(|mask| mask.get(i, j) != 0);
            is_seen && !(most <= T::LARGEST && most + bias.abs() <= T::LARGEST)
        };
        self.rows
            .clone()
            .take_while(|_| !pulse.stopped())
            .any(|i| self.visible.keys(i, head.key.rows()).any(|j| overflows(i, j)))
    }
}

/// Divides by the sums and writes the job's rows. True if something is not as it should be.
#[inline(always)]
unsafe fn finish<V: Lanes>(job: &Job<'_, V::T>, scratch: &mut Scratch<V::T>, ev: usize) -> bool {
    let w = STRIP_VECTORS * V::N;
    let (one, zero, hidden) = (V::T::ONE, V::T::ZERO, V::T::NEG_INFINITY);
    let mut suspicious = false;
    for (r, i) in job.rows.clone().enumerate() {
        // SAFETY: the row belongs to this task; the scratch holds whole strips.
        unsafe {
            let state = scratch.state.ptr().add(r / w * w * STATES + r % w);
            let (reference, mass) = (*state, *state.add(3 * w));
            let inverse = if mass == zero { zero } else { one / mass };
            let strip = scratch.sums.ptr().add(r / w * w * ev);
            let out = job.output.out.row_mut(i);
            pack::for_row::<V>(strip, r % w, w, out, |slot, x| *slot = x * inverse);
            let lse = if mass == zero { hidden } else { reference + mass.ln() };
            // No mass although there are keys: their logits are out of range.
            suspicious |= mass == zero && job.head.sees_a_key(&job.visible, i);
            job.output.write_statistics(i, lse, reference, mass);
            suspicious |= !out.iter().all(|x| x.is_finite());
        }
    }
    suspicious
}

multiversion! {
    /// [`forward_body`] in single precision.
    pub unsafe fn forward_f32<'a>(
        job: &Job<'a, f32>, scratch: &mut Scratch<f32>, pulse: &Pulse<'_>,
    ) -> Report = forward_body {
        v4: [avx512::F32x16, 12, 8, 8], v3: [avx2::F32x8, 6, 6, 5], portable: [portable::F32x4, 4, 4, 4],
    }
}

multiversion! {
    /// [`forward_body`] in double precision.
    pub unsafe fn forward_f64<'a>(
        job: &Job<'a, f64>, scratch: &mut Scratch<f64>, pulse: &Pulse<'_>,
    ) -> Report = forward_body {
        v4: [avx512::F64x8, 12, 8, 8], v3: [avx2::F64x4, 6, 4, 4], portable: [portable::F64x2, 4, 4, 4],
    }
}
