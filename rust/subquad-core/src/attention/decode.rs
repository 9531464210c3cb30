//! Exact attention for few queries: nothing is reused, so the only aim is to read keys and values
//! once, at the speed of memory.
//!
//! All queries that share a key head are taken together (a group of heads, or a few positions of
//! one). Keys are cut into chunks fixed by the shape; each chunk gives a partial result per query,
//! and the partial results are merged in order. Within a chunk, blocks of keys and of values are
//! read in turn, strictly in address order, so that the prefetchers can follow.

use std::ops::Range;

use super::decode_rows::{Vectors, products, short_products, weighted, widened, with_vectors};
use super::dense::Report;
use super::lags::Tables;
use super::pack;
use super::scores::within;
use super::strip::LAG;
use super::{Head, Output, Visible};
use crate::mat::{MatRef, Rows, with_rows};
use crate::par::Pulse;
use crate::scratch::Buffer;
use crate::simd::{Exp2, Float, Lanes, multiversion};

/// Keys per block: their scores and, if they must be widened, their rows stay in cache.
pub const BLOCK: usize = 256;
/// Keys per chunk: no sum within one has more terms.
pub const CHUNK: usize = 4096;

/// Queries that read the same keys and values: rows of some heads.
pub struct Group<'a> {
    /// Head and row of every query.
    pub rows: Vec<(usize, usize)>,
    /// The first of the heads.
    pub head: Head<'a>,
}

/// One chunk of keys for the queries of a group.
pub struct Job<'a, T> {
    pub heads: &'a [Head<'a>],
    pub visible: Visible,
    pub scale: T,
    pub group: &'a Group<'a>,
    pub keys: Range<usize>,
    /// In the order of the keys.
    pub lags: &'a Tables<T>,
}

/// What a chunk adds to the output of every query of a group.
#[derive(Clone, Debug)]
pub struct Partials<T> {
    /// What the exponentials of a query refer to; minus infinity before the first key.
    reference: Vec<T>,
    /// Sums of the exponentials.
    mass: Vec<T>,
    /// Sums of the values times their exponentials, `[query][Ev]`.
    sums: Vec<T>,
}

impl<T: Float> Partials<T> {
    fn new(queries: usize, ev: usize) -> Self {
        Self {
            reference: vec![T::NEG_INFINITY; queries],
            mass: vec![T::ZERO; queries],
            sums: vec![T::ZERO; queries * ev],
        }
    }

    /// The sums of query `q`.
    fn sums(&mut self, q: usize) -> &mut [T] {
        let ev = self.sums.len() / self.mass.len();
        &mut self.sums[q * ev..(q + 1) * ev]
    }

    /// Raises the reference of query `q` to `top`.
    fn raise(&mut self, q: usize, top: T) {
        if self.reference[q] != T::NEG_INFINITY {
            let shrink = (self.reference[q] - top).exp();
            self.mass[q] = self.mass[q] * shrink;
            self.sums(q).iter_mut().for_each(|x| *x = *x * shrink);
        }
        self.reference[q] = top;
    }
}

/// Workspace of tasks of up to so many queries.
pub struct Scratch<T> {
    most_queries: usize,
    /// Scaled queries `[query][E]` and scores `[query][BLOCK]`.
    queries: Buffer<T>,
    scores: Buffer<T>,
    /// A vector for each of as many dot products as a vector has lanes.
    dots: Buffer<T>,
    /// A block of keys or of values, widened and padded to whole vectors.
    rows: Buffer<T>,
}

impl<T: Float> Scratch<T> {
    pub fn new(queries: usize, head: &Head<'_>, lanes: usize) -> Self {
        let e = pack::padded(head.query.cols(), lanes);
        let ev = pack::padded(head.value.cols(), lanes);
        Self {
            most_queries: queries,
            queries: Buffer::new(queries * e),
            scores: Buffer::new(queries * BLOCK),
            dots: Buffer::new(lanes * lanes),
            rows: Buffer::new(BLOCK * e.max(ev)),
        }
    }
}

/// Computes the partial results of a job.
///
/// # Safety
/// The instruction set of `V` must be enabled.
#[inline(always)]
pub unsafe fn chunk_body<V: Lanes>(
    job: &Job<'_, V::T>,
    scratch: &mut Scratch<V::T>,
    pulse: &Pulse<'_>,
) -> (Partials<V::T>, Report) {
    let head = &job.group.head;
    let (e, ev) = (pack::padded(head.query.cols(), V::N), pack::padded(head.value.cols(), V::N));
    let (zero, queries) = (V::T::ZERO, job.group.rows.len());
    assert!(queries <= scratch.most_queries);
    let mut partials = Partials::new(queries, ev);
    let mut report = Report::default();
    let ranges = job.ranges();
    let Some(range) = union(&ranges) else { return (partials, report) };
    report.bytes_read = head.key.bytes(range.len()) + head.value.bytes(range.len());
    report.flops = 2 * (queries * range.len() * (e + ev)) as u64;
    // SAFETY: the scratch was made for heads like this one and has room for the queries; keys and rows
    // exist.
    unsafe {
        let mut bad = V::splat(zero);
        for (q, &(h, i)) in job.group.rows.iter().enumerate() {
            let to = scratch.queries.ptr().add(q * e);
            for x in widened::<V>(&job.heads[h].query, i, e, to) {
                *x = *x * job.scale;
            }
        }
        for block in range.clone().step_by(BLOCK) {
            if pulse.stopped() {
                return (partials, report);
            }
            let keys = block..range.end.min(block + BLOCK);
            let scores = scratch.scores.ptr();
            all_scores::<V>(head, &keys, (e, queries), scratch);
            for (q, range) in ranges.iter().enumerate() {
                let (h, i) = job.group.rows[q];
                let scores = scores.add(q * BLOCK);
                let seen = within(range, keys.start, keys.len());
                bad = check::<V>(scores, &seen, bad);
                add_mask::<V>(&job.heads[h], job.lags.of(h), i, &keys, scores);
                hide(scores, &seen);
                exponentials::<V>(scores, q, &mut partials);
            }
            let source = (&head.value, scratch.rows.ptr());
            let sums = partials.sums.as_mut_ptr();
            with_vectors!(V, source, keys, ev, |rows| {
                let mut q = 0;
                while q < queries {
                    let (p, to) = (scores.add(q * BLOCK), sums.add(q * ev));
                    match queries - q {
                        4.. => q += weighted::<V, _, 4>(&rows, ev, p, to),
                        _ => q += weighted::<V, _, 1>(&rows, ev, p, to),
                    }
                }
            });
        }
        report.suspicious = bad.sum() != zero;
    }
    (partials, report)
}

impl<T> Job<'_, T> {
    /// The keys of the chunk that each query sees.
    fn ranges(&self) -> Vec<Range<usize>> {
        let seen = |&(h, i): &(usize, usize)| {
            let keys = self.visible.keys(i, self.heads[h].key.rows());
            keys.start.max(self.keys.start)..keys.end.min(self.keys.end)
        };
        self.group.rows.iter().map(seen).collect()
    }
}

/// The smallest range that covers all that are not empty, if there is one.
fn union(ranges: &[Range<usize>]) -> Option<Range<usize>> {
    let visible = || ranges.iter().filter(|range| !range.is_empty());
    let start = visible().map(|range| range.start).min()?;
    Some(start..visible().map(|range| range.end).max()?)
}

/// Scores of all queries and a block of keys, before masks.
#[inline(always)]
unsafe fn all_scores<V: Lanes>(
    head: &Head<'_>,
    keys: &Range<usize>,
    (e, queries): (usize, usize),
    scratch: &mut Scratch<V::T>,
) {
    let (from, to, dots) = (scratch.queries.ptr(), scratch.scores.ptr(), scratch.dots.ptr());
    // SAFETY: the caller's scratch was made for the queries; the keys exist.
    unsafe {
        with_vectors!(V, (&head.key, scratch.rows.ptr()), keys.clone(), e, |rows| {
            let mut q = 0;
            while q < queries {
                let (from, to) = (from.add(q * e), (to.add(q * BLOCK), dots));
                match (queries - q, e / V::N) {
                    (4.., _) if V::N >= 4 => q += products::<V, _, 4>(&rows, e, from, to),
                    (2.., _) => q += products::<V, _, 2>(&rows, e, from, to),
                    (_, 1) => q += short_products::<V, _, 1>(&rows, from, to),
                    (_, 2) => q += short_products::<V, _, 2>(&rows, from, to),
                    (_, 4) => q += short_products::<V, _, 4>(&rows, from, to),
                    (_, 8) if V::REGISTERS > 16 => q += short_products::<V, _, 8>(&rows, from, to),
                    _ => q += products::<V, _, 1>(&rows, e, from, to),
                }
            }
        });
    }
}

/// Adds to `bad` what is NaN for a score of a key seen that is not finite.
#[inline(always)]
unsafe fn check<V: Lanes>(scores: *const V::T, seen: &Range<usize>, mut bad: V) -> V {
    // SAFETY: the scores are those of a whole block.
    unsafe {
        let zero = V::splat(V::T::ZERO);
        for j in (seen.start / V::N * V::N..seen.end).step_by(V::N) {
            let (from, to) = (seen.start as i32 - j as i32, seen.end as i32 - j as i32);
            let x = V::load(scores.add(j));
            if from <= 0 && to >= V::N as i32 {
                bad = x.fma(zero, bad);
            } else {
                let mut lanes = [V::T::ZERO; 16];
                x.store(lanes.as_mut_ptr());
                let inside = &lanes[from.max(0) as usize..to.min(V::N as i32) as usize];
                if !inside.iter().all(|x| x.is_finite()) {
                    bad = V::splat(V::T::NEG_INFINITY).fma(zero, bad);
                }
            }
        }
        bad
    }
}

/// Adds mask and bias of row `i` to the scores of a block of keys.
#[inline(always)]
unsafe fn add_mask<V: Lanes>(
    head: &Head<'_>,
    lags: *const V::T,
    i: usize,
    keys: &Range<usize>,
    scores: *mut V::T,
) {
    // SAFETY: the row exists, the scores of a block are whole vectors, and lags are padded.
    unsafe {
        for j in (0..keys.len()).step_by(V::N) {
            let mut x = V::load(scores.add(j));
            if let Some(bias) = &head.bias {
                x = x.add(with_rows!(bias, b => pack::read(b, i, keys.start + j)));
            }
            if !lags.is_null() {
                let lag = (keys.start + j) as isize - i as isize;
                x = x.add(V::load(lags.wrapping_offset(lag)));
            }
            if let Some(mask) = &head.mask {
                x = x.add(pack::read(mask, i, keys.start + j));
            }
            x.store(scores.add(j));
        }
    }
}

/// Hides the keys of a block outside those seen, and the rest of the block.
#[inline(always)]
unsafe fn hide<T: Float>(scores: *mut T, seen: &Range<usize>) {
    // SAFETY: there are scores for a whole block.
    let scores = unsafe { std::slice::from_raw_parts_mut(scores, BLOCK) };
    scores[..seen.start].fill(T::NEG_INFINITY);
    scores[seen.end.max(seen.start)..].fill(T::NEG_INFINITY);
}

/// Turns the scores of a block into exponentials, and adds them to the mass of query `q`.
#[inline(always)]
unsafe fn exponentials<V: Lanes>(scores: *mut V::T, q: usize, partials: &mut Partials<V::T>) {
    // SAFETY: there are scores for a whole block.
    unsafe {
        let mut best = V::load(scores);
        for j in (V::N..BLOCK).step_by(V::N) {
            best = V::load(scores.add(j)).max(best);
        }
        let mut lanes = [V::T::NEG_INFINITY; 16];
        best.store(lanes.as_mut_ptr());
        let top = lanes.into_iter().fold(V::T::NEG_INFINITY, |a, b| if b > a { b } else { a });
        if top > partials.reference[q] + V::T::from_f64(LAG) {
            partials.raise(q, top);
        }
        // Before the first key everything is hidden, and minus infinity must stay what it is.
        let reference = partials.reference[q];
        let is_fresh = reference == V::T::NEG_INFINITY;
        let shift = V::splat(if is_fresh { V::T::ZERO } else { reference });
        let (log2e, table) = (V::splat(V::T::LOG2_E), Exp2::table());
        let mut sum = V::splat(V::T::ZERO);
        for j in (0..BLOCK).step_by(V::N) {
            let p = V::load(scores.add(j)).sub(shift).mul(log2e).exp2(table);
            sum = sum.add(p);
            p.store(scores.add(j));
        }
        partials.mass[q] = partials.mass[q] + sum.sum();
    }
}

/// Merges the partial results of query `q` of a group, in order, and writes row `i` of its head. True
/// if something is not as it should be.
///
/// # Safety
/// Nobody else may have the row.
pub unsafe fn finish<T: Float>(
    head: &Head<'_>,
    visible: &Visible,
    (q, i): (usize, usize),
    parts: &[Partials<T>],
    output: &Output<'_, T>,
) -> bool {
    let top = parts.iter().fold(T::NEG_INFINITY, |top, part| top.max(part.reference[q]));
    let (mut mass, mut sums) = (0.0, vec![0.0; head.value.cols()]);
    for part in parts.iter().filter(|part| part.mass[q] != T::ZERO) {
        let weight = (part.reference[q].to_f64() - top.to_f64()).exp();
        mass += weight * part.mass[q].to_f64();
        let ev = part.sums.len() / part.mass.len();
        for (sum, x) in sums.iter_mut().zip(&part.sums[q * ev..]) {
            *sum += weight * x.to_f64();
        }
    }
    // SAFETY: passed on.
    let out = unsafe { output.out.row_mut(i) };
    let inverse = if mass == 0.0 { 0.0 } else { 1.0 / mass };
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = T::from_f64(sum * inverse);
    }
    let lse = T::from_f64(top.to_f64() + mass.ln());
    // SAFETY: passed on.
    unsafe { output.write_statistics(i, lse, top, T::from_f64(mass)) };
    let lost = mass == 0.0 && head.sees_a_key(visible, i);
    lost || !out.iter().all(|x| x.is_finite())
}

multiversion! {
    /// [`chunk_body`] in single precision.
    pub unsafe fn chunk_f32<'a>(
        job: &Job<'a, f32>, scratch: &mut Scratch<f32>, pulse: &Pulse<'_>,
    ) -> (Partials<f32>, Report) = chunk_body {
        v4: [avx512::F32x16], v3: [avx2::F32x8], portable: [portable::F32x4],
    }
}

multiversion! {
    /// [`chunk_body`] in double precision.
    pub unsafe fn chunk_f64<'a>(
        job: &Job<'a, f64>, scratch: &mut Scratch<f64>, pulse: &Pulse<'_>,
    ) -> (Partials<f64>, Report) = chunk_body {
        v4: [avx512::F64x8], v3: [avx2::F64x4], portable: [portable::F64x2],
    }
}
