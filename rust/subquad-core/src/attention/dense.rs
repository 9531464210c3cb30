//! Exact attention by tiles: `O(L S (E + Ev))` operations, no `L x S` array.
//!
//! Blocks of queries outside, blocks of keys inside, one strip of `w` queries at a time. Scores are
//! kept transposed, `[key][w]`: a lane is a query, so the running maximum, the sum, masks and biases
//! need no shuffles, and the same array is the broadcast operand of `P V`.
//!
//! The exponentials of a row refer to a number that follows its maximum only when that has risen by
//! [`LAG`] (online softmax with lazy rescaling): `P <= e^LAG` costs no accuracy, and rescaling
//! almost never happens.

use std::ops::Range;

use super::pack::{self, PANEL};
use super::scratch::Buffer;
use super::tile::{Tile, accumulate, add_to, load, store, unroll, zero};
use super::{Head, Output, Visible};
use crate::par::Pulse;
use crate::simd::{Exp2, Float, Lanes, multiversion};

/// How far a logit may exceed the reference of its row before the row is rescaled.
pub const LAG: f64 = 5.5;

/// Keys per block: a block of probabilities and a panel of values share the first-level cache.
pub const KEYS: usize = 192;

/// What one task computes: some rows of one head.
pub struct Job<'a, T> {
    pub head: &'a Head<'a>,
    pub visible: Visible,
    pub scale: T,
    pub rows: Range<usize>,
    pub output: &'a Output<'a, T>,
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

/// Workspace of a task.
pub struct Scratch<T> {
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

/// Queries in a strip, of vectors with `lanes` lanes.
pub const STRIP_VECTORS: usize = 2;

impl<T: Float> Scratch<T> {
    pub fn new(rows: usize, head: &Head<'_>, lanes: usize) -> Self {
        let (e, ev) = (head.query.cols(), pack::padded(head.value.cols(), lanes));
        let (w, rows) = (STRIP_VECTORS * lanes, rows.next_multiple_of(STRIP_VECTORS * lanes));
        // A tile may begin at the last key of a block.
        let keys = KEYS + 2 * lanes.max(16);
        let staged = head.mask.is_some() || head.bias.is_some();
        Self {
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

/// Numbers kept for every row while the keys go by.
const STATES: usize = 5;

/// One strip's part of the state of a block of queries.
///
/// The numbers per row live in memory: kept in registers through the product loop, they would push
/// accumulators out.
struct Strip<T> {
    /// Its queries, counted from the first of the head.
    rows: Range<usize>,
    queries: *const T,
    sums: *mut T,
    /// What the exponentials refer to; minus infinity before the first key.
    reference: *mut T,
    /// A logit above this makes the reference rise.
    limit: *mut T,
    /// What is subtracted from logits: the reference, or 0 before the first key, so that a hidden
    /// logit gives minus infinity and not NaN.
    shift: *mut T,
    /// Sum of the exponentials up to the current block of keys, and within it.
    mass: *mut T,
    block_mass: *mut T,
}

impl<T: Float> Strip<T> {
    /// # Safety
    /// Both pointers must be those of whole strips.
    unsafe fn new(
        rows: Range<usize>,
        w: usize,
        queries: *const T,
        (sums, state): (*mut T, *mut T),
    ) -> Self {
        let part = |i: usize| state.wrapping_add(i * w);
        Self {
            rows,
            queries,
            sums,
            reference: part(0),
            limit: part(1),
            shift: part(2),
            mass: part(3),
            block_mass: part(4),
        }
    }

    /// Forgets all keys.
    unsafe fn clear(&self, w: usize) {
        for i in 0..w {
            // SAFETY: the state has `w` of each number.
            unsafe {
                *self.reference.add(i) = T::NEG_INFINITY;
                *self.limit.add(i) = T::NEG_INFINITY;
                *self.shift.add(i) = T::ZERO;
                *self.mass.add(i) = T::ZERO;
                *self.block_mass.add(i) = T::ZERO;
            }
        }
    }
}

/// A block of keys, packed.
struct Block<T> {
    keys: *const T,
    values: *const T,
    scores: *mut T,
    /// Mask and bias, or null.
    stage: *const T,
    first: usize,
    len: usize,
    /// Keys of the block that some query of the strip sees, and that all of them see.
    union: Range<usize>,
    common: Range<usize>,
    e: usize,
    ev: usize,
}

/// `range` counted from `first`, of which `len` exist.
pub fn within(range: &Range<usize>, first: usize, len: usize) -> Range<usize> {
    let clamp = |x: usize| x.saturating_sub(first).min(len);
    clamp(range.start)..clamp(range.end)
}

/// Computes the rows of a job.
///
/// `KR` keys make a score tile, `OR` rows a tile of `P V`.
///
/// # Safety
/// The instruction set of `V` must be enabled, and no other task may write the job's rows.
#[inline(always)]
pub unsafe fn forward_body<V: Lanes, const KR: usize, const OR: usize>(
    job: &Job<'_, V::T>,
    scratch: &mut Scratch<V::T>,
    pulse: &Pulse<'_>,
) -> Report {
    let (head, rows) = (job.head, &job.rows);
    let (e, ev) = (head.query.cols(), pack::padded(head.value.cols(), V::N));
    let w = STRIP_VECTORS * V::N;
    let seen = job.visible.union(rows.clone(), head.key.rows());
    let mut report = Report::default();
    let one = V::T::ONE;
    // SAFETY: the scratch was made for this head and for at least as many rows.
    unsafe {
        let queries = scratch.queries.ptr();
        report.bytes_read += head.query.bytes(rows.len()) + head.key.bytes(seen.len());
        report.bytes_read += head.value.bytes(seen.len());
        report.suspicious |=
            !pack::transposed::<V>(&head.query, rows.clone(), w, job.scale, queries);
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
            report.suspicious |= !pack::transposed::<V>(&head.key, range.clone(), KR, one, keys);
            report.suspicious |=
                !pack::columns::<V>(&head.value, range.clone(), (len, KEYS), values);
            for strip in (0..strips).map(strip) {
                let union = job.visible.union(strip.rows.clone(), head.key.rows());
                let common = job.visible.common(strip.rows.clone(), head.key.rows());
                let mut block = Block {
                    keys,
                    values,
                    scores: scratch.scores.ptr(),
                    stage: std::ptr::null(),
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
                if head.mask.is_some() || head.bias.is_some() {
                    let stage = scratch.stage.ptr();
                    let (mask, bias) = (head.mask.as_ref(), head.bias.as_ref());
                    let from = block.union.start / KR * KR;
                    let keys = first + from..first + block.union.end;
                    let to = stage.add(from * w);
                    if !pack::stage::<V>(mask, bias, strip.rows.clone(), keys, w, to) {
                        continue;
                    }
                    block.stage = stage;
                }
                report.add(&strip_step::<V, KR, OR>(&strip, &block, &job.visible));
            }
        }
        report.suspicious |= finish::<V>(job, scratch, ev);
    }
    report
}

/// One strip against one block of keys.
#[inline(always)]
unsafe fn strip_step<V: Lanes, const KR: usize, const OR: usize>(
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
                output::<V, OR, PANEL>(p, values, depth, sums);
            } else {
                output::<V, OR, 1>(p, values.add(from * V::N), depth, sums);
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
unsafe fn output<V: Lanes, const OR: usize, const C: usize>(
    p: *const V::T,
    values: *const V::T,
    keys: usize,
    sums: *mut V::T,
) {
    let w = STRIP_VECTORS * V::N;
    // SAFETY: the caller's buffers hold whole strips and panels.
    unsafe {
        for row in (0..w).step_by(OR) {
            let mut acc = zero::<V, OR, C>();
            accumulate(&mut acc, (p.add(row), 1, w), (values, C * V::N), keys);
            add_to(sums.add(row * C * V::N), C * V::N, &acc);
        }
    }
}

/// The logits of `KR` keys from `t`, for all queries of a strip, the hidden ones at minus infinity.
///
/// `at` is where the tile's probabilities will be: a tile with a mask or a bias goes through it,
/// because a loop over accumulators that the compiler does not unroll would keep all of them in
/// memory, in every tile.
///
/// The backward pass calls it too: its logits must equal those of the forward pass bit for bit,
/// else the gradient loses one to two digits where keys share a large common part.
#[inline(always)]
pub unsafe fn logits<V: Lanes, const KR: usize>(
    queries: *const V::T,
    (keys, stage): (*const V::T, *const V::T),
    (t, e): (usize, usize),
    hide: Option<impl Fn(usize) -> (i32, i32)>,
    at: *mut V::T,
) -> Tile<V, KR, STRIP_VECTORS> {
    let w = STRIP_VECTORS * V::N;
    // SAFETY: the caller's buffers hold whole strips and tiles.
    unsafe {
        let mut acc = zero::<V, KR, STRIP_VECTORS>();
        accumulate(&mut acc, (keys.add(t * e), 1, KR), (queries, w), e);
        if stage.is_null() && hide.is_none() {
            return acc;
        }
        store(&acc, at);
        for r in 0..KR {
            let (from, to) = hide.as_ref().map_or((0, w as i32), |hide| hide(t + r));
            for u in (0..w).step_by(V::N) {
                let mut x = V::load(at.add(r * w + u));
                if !stage.is_null() {
                    x = x.add(V::load(stage.add((t + r) * w + u)));
                }
                x.keep(from - u as i32, to - u as i32).store(at.add(r * w + u));
            }
        }
        load(at)
    }
}

/// Which lanes of a tile at `t` to hide, or `None` if every query sees every key of it.
#[inline(always)]
pub fn hidden<'a, const KR: usize>(
    visible: &'a Visible,
    t: usize,
    common: &Range<usize>,
    (first, len): (usize, usize),
    row: usize,
) -> Option<impl Fn(usize) -> (i32, i32) + 'a> {
    (t < common.start || t + KR > common.end).then_some(move |key: usize| {
        if key < len { visible.lanes(first + key, row) } else { (0, 0) }
    })
}

/// P of one strip and one block of keys, and the changes it makes to the strip's state.
#[inline(always)]
unsafe fn probabilities<V: Lanes, const KR: usize>(
    strip: &Strip<V::T>,
    block: &Block<V::T>,
    visible: &Visible,
) {
    let w = STRIP_VECTORS * V::N;
    let from = block.union.start / KR * KR;
    // SAFETY: the caller's buffers hold whole strips and blocks.
    unsafe {
        let log2e = V::splat(V::T::LOG2_E);
        let mut t = from;
        while t < block.union.end {
            let place = (block.first, block.len);
            let hide = hidden::<KR>(visible, t, &block.common, place, strip.rows.start);
            let (keys, at) = ((block.keys, block.stage), block.scores.add(t * w));
            let acc = logits::<V, KR>(strip.queries, keys, (t, block.e), hide, at);
            let mut top = acc[0];
            unroll!(KR, r => {
                for u in 0..STRIP_VECTORS {
                    top[u] = acc[r][u].max(top[u]);
                }
            });
            let exceeds = |u: usize| top[u].any_gt(V::load(strip.limit.add(u * V::N)));
            if exceeds(0) | exceeds(1) {
                let mut tops = [V::T::ZERO; 64];
                (0..STRIP_VECTORS).for_each(|u| top[u].store(tops.as_mut_ptr().add(u * V::N)));
                let done = std::slice::from_raw_parts_mut(block.scores.add(from * w), (t - from) * w);
                raise(strip, &tops[..w], (V::N, block.ev), done);
            }
            let table = Exp2::table();
            for u in 0..STRIP_VECTORS {
                let shift = V::load(strip.shift.add(u * V::N));
                let mass = strip.block_mass.add(u * V::N);
                let mut sum = V::load(mass);
                unroll!(KR, r => {
                    let p = acc[r][u].sub(shift).mul(log2e).exp2(table);
                    sum = sum.add(p);
                    p.store(at.add(r * w + u * V::N));
                });
                sum.store(mass);
            }
            t += KR;
        }
        for u in (0..w).step_by(V::N) {
            let (mass, part) = (strip.mass.add(u), strip.block_mass.add(u));
            V::load(mass).add(V::load(part)).store(mass);
            V::splat(V::T::ZERO).store(part);
        }
    }
}

/// Raises the references of a strip to the maxima `tops`, and shrinks what was summed under the old
/// ones: the state, and the probabilities `done` of the current block.
///
/// Rare, hence out of line and plain.
#[inline(never)]
#[cold]
unsafe fn raise<T: Float>(
    strip: &Strip<T>,
    tops: &[T],
    (lanes, ev): (usize, usize),
    done: &mut [T],
) {
    let w = tops.len();
    let mut shrink = [T::ONE; 64];
    // SAFETY: the caller's buffers hold whole strips.
    unsafe {
        for (i, (shrink, &top)) in shrink.iter_mut().zip(tops).enumerate() {
            let old = *strip.reference.add(i);
            // Only by more than the lag, so that a row is rescaled a bounded number of times.
            if top > *strip.limit.add(i) {
                *strip.reference.add(i) = top;
                *strip.limit.add(i) = top + T::from_f64(LAG);
                *strip.shift.add(i) = top;
                // Nothing has been summed before the first key.
                if old != T::NEG_INFINITY {
                    *shrink = (old - top).exp();
                    *strip.mass.add(i) = *strip.mass.add(i) * *shrink;
                    *strip.block_mass.add(i) = *strip.block_mass.add(i) * *shrink;
                }
            }
        }
        if shrink[..w].iter().all(|&x| x == T::ONE) {
            return;
        }
        for row in done.chunks_exact_mut(w) {
            for (p, &shrink) in row.iter_mut().zip(&shrink) {
                *p = *p * shrink;
            }
        }
        for first in (0..ev / lanes).step_by(PANEL) {
            let width = PANEL.min(ev / lanes - first) * lanes;
            let panel = std::slice::from_raw_parts_mut(strip.sums.add(first * lanes * w), w * width);
            for (row, &shrink) in panel.chunks_exact_mut(width).zip(&shrink) {
                for x in row {
                    *x = *x * shrink;
                }
            }
        }
    }
}

/// Divides by the sums and writes the job's rows. True if something is not as it should be.
#[inline(always)]
unsafe fn finish<V: Lanes>(
    job: &Job<'_, V::T>,
    scratch: &mut Scratch<V::T>,
    ev: usize,
) -> bool {
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
        v4: [avx512::F32x16, 12, 8], v3: [avx2::F32x8, 6, 4], portable: [portable::F32x4, 4, 4],
    }
}

multiversion! {
    /// [`forward_body`] in double precision.
    pub unsafe fn forward_f64<'a>(
        job: &Job<'a, f64>, scratch: &mut Scratch<f64>, pulse: &Pulse<'_>,
    ) -> Report = forward_body {
        v4: [avx512::F64x8, 12, 8], v3: [avx2::F64x4, 6, 4], portable: [portable::F64x2, 4, 4],
    }
}
