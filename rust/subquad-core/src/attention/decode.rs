//! Exact attention for few queries: nothing is reused, so the only aim is to read keys and values
//! once, at the speed of memory.
//!
//! All queries that share a key head are taken together (a group of heads, or a few positions of
//! one). Keys are cut into chunks fixed by the shape; each chunk gives a partial result per query,
//! and the partial results are merged in order. Within a chunk, blocks of keys and of values are
//! read in turn, strictly in address order, so that the prefetchers can follow.

use std::ops::Range;

use super::dense::{LAG, Report};
use super::pack;
use super::scratch::Buffer;
use super::{Head, Output, Visible};
use crate::mat::{MatRef, Rows, with_rows};
use crate::par::Pulse;
use crate::simd::{Element, Exp2, Float, Lanes, multiversion};

/// Keys per block: their scores and, if they must be widened, their rows stay in cache.
pub const BLOCK: usize = 256;
/// Keys per chunk: no sum within one has more terms.
pub const CHUNK: usize = 4096;

/// Bytes that software prefetch runs ahead.
const AHEAD: usize = 1024;

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
}

/// What a chunk adds to the output of one query.
#[derive(Clone, Debug)]
pub struct Partial<T> {
    reference: T,
    mass: T,
    sums: Vec<T>,
}

/// Workspace of a task.
pub struct Scratch<T> {
    /// Scaled queries `[query][E]`, scores `[query][BLOCK]`, sums of a block `[query][Ev]`.
    queries: Buffer<T>,
    scores: Buffer<T>,
    sums: Buffer<T>,
    /// A block of keys or of values, widened and padded to whole vectors.
    rows: Buffer<T>,
}

impl<T: Float> Scratch<T> {
    pub fn new(queries: usize, head: &Head<'_>, lanes: usize) -> Self {
        let e = pack::padded(head.query.cols(), lanes);
        let ev = pack::padded(head.value.cols(), lanes);
        Self {
            queries: Buffer::new(queries * e),
            scores: Buffer::new(queries * BLOCK),
            sums: Buffer::new(queries * ev),
            rows: Buffer::new(BLOCK * e.max(ev)),
        }
    }
}

/// Computes the partial results of a job, one per query of the group.
///
/// # Safety
/// The instruction set of `V` must be enabled.
#[inline(always)]
pub unsafe fn chunk_body<V: Lanes>(
    job: &Job<'_, V::T>,
    scratch: &mut Scratch<V::T>,
    pulse: &Pulse<'_>,
) -> (Vec<Partial<V::T>>, Report) {
    let head = &job.group.head;
    let (e, ev) = (pack::padded(head.query.cols(), V::N), pack::padded(head.value.cols(), V::N));
    let (zero, queries) = (V::T::ZERO, job.group.rows.len());
    let start =
        Partial { reference: V::T::NEG_INFINITY, mass: zero, sums: vec![zero; ev] };
    let mut partials = vec![start; queries];
    let mut report = Report::default();
    let seen = |&(h, i): &(usize, usize)| {
        let keys = job.visible.keys(i, job.heads[h].key.rows());
        keys.start.max(job.keys.start)..keys.end.min(job.keys.end)
    };
    let ranges: Vec<Range<usize>> = job.group.rows.iter().map(seen).collect();
    let visible = ranges.iter().filter(|range| !range.is_empty());
    let Some(first) = visible.clone().map(|range| range.start).min() else {
        return (partials, report);
    };
    let last = visible.map(|range| range.end).max().unwrap_or(first);
    report.bytes_read = head.key.bytes(last - first) + head.value.bytes(last - first);
    report.flops = 2 * (queries * (last - first) * (e + ev)) as u64;
    // SAFETY: the scratch was made for this group; keys and rows exist.
    unsafe {
        let mut bad = V::splat(zero);
        for (q, &(h, i)) in job.group.rows.iter().enumerate() {
            let row = widened::<V>(&job.heads[h].query, i, e, scratch.queries.ptr().add(q * e));
            for x in row {
                *x = *x * job.scale;
            }
        }
        for block in (first..last).step_by(BLOCK) {
            if pulse.stopped() {
                return (partials, report);
            }
            let keys = block..last.min(block + BLOCK);
            let (scratch_queries, scores) = (scratch.queries.ptr(), scratch.scores.ptr());
            let source = (&head.key, scratch.rows.ptr());
            with_vectors!(V, source, keys.clone(), e, |rows| {
                let mut q = 0;
                while q < queries {
                    let left = queries - q;
                    let (from, to) = (scratch_queries.add(q * e), scores.add(q * BLOCK));
                    if left >= 4 && V::N >= 4 {
                        products::<V, _, 4>(&rows, e, from, to);
                        q += 4;
                    } else if left >= 2 {
                        products::<V, _, 2>(&rows, e, from, to);
                        q += 2;
                    } else {
                        match e / V::N {
                            1 => short_products::<V, _, 1>(&rows, from, to),
                            2 => short_products::<V, _, 2>(&rows, from, to),
                            4 => short_products::<V, _, 4>(&rows, from, to),
                            8 => short_products::<V, _, 8>(&rows, from, to),
                            _ => products::<V, _, 1>(&rows, e, from, to),
                        }
                        q += 1;
                    }
                }
            });
            for (q, partial) in partials.iter_mut().enumerate() {
                let (h, i) = job.group.rows[q];
                let scores = scores.add(q * BLOCK);
                bad = check::<V>(scores, keys.len(), bad);
                add_mask::<V>(&job.heads[h], i, &keys, scores);
                hide(scores, &keys, &ranges[q]);
                exponentials::<V>(scores, partial);
            }
            let sums = scratch.sums.ptr();
            std::slice::from_raw_parts_mut(sums, queries * ev).fill(zero);
            let source = (&head.value, scratch.rows.ptr());
            with_vectors!(V, source, keys.clone(), ev, |rows| {
                let mut q = 0;
                while q < queries {
                    let (p, to) = (scores.add(q * BLOCK), sums.add(q * ev));
                    if queries - q >= 4 {
                        weighted::<V, _, 4>(&rows, ev, p, to);
                        q += 4;
                    } else {
                        weighted::<V, _, 1>(&rows, ev, p, to);
                        q += 1;
                    }
                }
            });
            for (q, partial) in partials.iter_mut().enumerate() {
                let block = std::slice::from_raw_parts(sums.add(q * ev), ev);
                for (sum, &x) in partial.sums.iter_mut().zip(block) {
                    *sum = *sum + x;
                }
            }
        }
        report.suspicious = bad.sum() != zero;
    }
    (partials, report)
}

/// Asks for what lies [`AHEAD`] of some entries, where that helps.
#[inline(always)]
fn ahead<V: Lanes, E>(from: *const E, entries: usize) {
    let from = from.cast::<u8>().wrapping_add(AHEAD);
    for line in (0..entries * size_of::<E>()).step_by(64) {
        V::prefetch(from.wrapping_add(line));
    }
}

/// Row `i` in the compute type, padded with zeros to `len`.
unsafe fn widened<'a, V: Lanes>(
    source: &Rows<'_>,
    i: usize,
    len: usize,
    to: *mut V::T,
) -> &'a mut [V::T] {
    // SAFETY: the caller's buffer has room for `len`.
    let row = unsafe { std::slice::from_raw_parts_mut(to, len) };
    for (j, x) in row.iter_mut().enumerate() {
        *x = if j < source.cols() { V::T::from_f64(source.get(i, j)) } else { V::T::ZERO };
    }
    row
}

/// Rows of one element type, readable by whole vectors.
struct Vectors<'a, E> {
    view: MatRef<'a, E>,
    rows: Range<usize>,
}

impl<E: Copy> Vectors<'_, E> {
    #[inline(always)]
    fn at(&self, row: usize) -> *const E {
        self.view.at(self.rows.start + row, 0)
    }
}

/// Evaluates `$body` with `$rows` bound to the rows as they are in memory, or, where their length is
/// not a whole number of vectors, to a padded copy of them.
macro_rules! with_vectors {
    ($v:ty, $source:expr, $range:expr, $len:expr, |$rows:ident| $body:expr) => {{
        let (source, copy): (&Rows<'_>, *mut <$v as Lanes>::T) = $source;
        let (range, len): (Range<usize>, usize) = ($range, $len);
        if source.cols() == len && source.has_contiguous_rows() {
            with_rows!(source, view => {
                let $rows = Vectors { view: *view, rows: range };
                $body
            })
        } else {
            for (r, i) in range.clone().enumerate() {
                widened::<$v>(source, i, len, copy.add(r * len));
            }
            let shape = (range.len(), len);
            let view = MatRef::from_raw_parts(copy.cast_const(), shape, (len as isize, 1));
            let $rows = Vectors { view, rows: 0..range.len() };
            $body
        }
    }};
}
use with_vectors;

/// `scores[g][j] = q_g . k_j` for `G` queries, `e` apart, and a block of keys.
///
/// `N` sums are gathered and transposed into one vector of results.
#[inline(always)]
unsafe fn products<V: Lanes, E: Element, const G: usize>(
    keys: &Vectors<'_, E>,
    e: usize,
    queries: *const V::T,
    scores: *mut V::T,
) {
    let step = V::N / G;
    // SAFETY: the caller has `G` queries and room for `G` rows of scores; keys beyond the last one
    // are not read.
    unsafe {
        let zero = V::splat(V::T::ZERO);
        for first in (0..keys.rows.len()).step_by(step) {
            let mut acc = [zero; 16];
            for r in 0..step.min(keys.rows.len() - first) {
                let row = keys.at(first + r);
                ahead::<V, E>(row, e);
                let mut dots = [zero; G];
                for x in (0..e).step_by(V::N) {
                    let key: V = E::load(row.add(x));
                    for (g, dot) in dots.iter_mut().enumerate() {
                        *dot = key.fma(V::load(queries.add(g * e + x)), *dot);
                    }
                }
                for (g, dot) in dots.into_iter().enumerate() {
                    acc[g * step + r] = dot;
                }
            }
            let mut sums = [V::T::ZERO; 16];
            sum_each(acc).store(sums.as_mut_ptr());
            for g in 0..G {
                for r in 0..step {
                    *scores.add(g * BLOCK + first + r) = sums[g * step + r];
                }
            }
        }
    }
}

/// As [`products`] for one query of `C` vectors, which registers hold.
///
/// One row after the other: unrolled over rows, the compiler loads them column by column, which the
/// prefetcher does not follow (a fifth slower from memory).
#[inline(always)]
unsafe fn short_products<V: Lanes, E: Element, const C: usize>(
    keys: &Vectors<'_, E>,
    query: *const V::T,
    scores: *mut V::T,
) {
    // SAFETY: the caller has a query and room for a block of scores; keys beyond the last one are
    // not read.
    unsafe {
        let query: [V; C] = std::array::from_fn(|c| V::load(query.add(c * V::N)));
        for first in (0..keys.rows.len()).step_by(V::N) {
            let mut acc = [V::splat(V::T::ZERO); 16];
            for r in 0..V::N.min(keys.rows.len() - first) {
                let row = keys.at(first + r);
                let mut dot = E::load::<V>(row).mul(query[0]);
                ahead::<V, E>(row, C * V::N);
                for c in 1..C {
                    dot = E::load::<V>(row.add(c * V::N)).fma(query[c], dot);
                }
                acc[r] = dot;
            }
            sum_each(acc).store(scores.add(first));
        }
    }
}

/// Lane `i` of the result is the sum of the lanes of `x[i]`.
#[inline(always)]
fn sum_each<V: Lanes>(mut x: [V; 16]) -> V {
    let mut half = V::N / 2;
    while half > 0 {
        for i in 0..half {
            let (low, high) = x[i].zip(x[i + half]);
            x[i] = low.add(high);
        }
        half /= 2;
    }
    x[0]
}

/// Adds to `bad` what is NaN for a score that is not finite.
#[inline(always)]
unsafe fn check<V: Lanes>(scores: *const V::T, keys: usize, mut bad: V) -> V {
    // SAFETY: the scores are those of a whole block; what follows the last key is of an older one.
    unsafe {
        let zero = V::splat(V::T::ZERO);
        for j in (0..keys).step_by(V::N) {
            bad = V::load(scores.add(j)).fma(zero, bad);
        }
        bad
    }
}

/// Adds mask and bias of row `i` to the scores of a block of keys.
#[inline(always)]
unsafe fn add_mask<V: Lanes>(head: &Head<'_>, i: usize, keys: &Range<usize>, scores: *mut V::T) {
    // SAFETY: the row exists, and the scores of a block are whole vectors.
    unsafe {
        for j in (0..keys.len()).step_by(V::N) {
            let mut x = V::load(scores.add(j));
            if let Some(bias) = &head.bias {
                x = x.add(with_rows!(bias, b => pack::read(b, i, keys.start + j)));
            }
            if let Some(mask) = &head.mask {
                x = x.add(pack::read(mask, i, keys.start + j));
            }
            x.store(scores.add(j));
        }
    }
}

/// Hides the keys of a block outside the range that a query sees, and the rest of the block.
#[inline(always)]
unsafe fn hide<T: Float>(scores: *mut T, keys: &Range<usize>, seen: &Range<usize>) {
    // SAFETY: there are scores for a whole block.
    let scores = unsafe { std::slice::from_raw_parts_mut(scores, BLOCK) };
    let seen = super::dense::within(seen, keys.start, keys.len());
    scores[..seen.start].fill(T::NEG_INFINITY);
    scores[seen.end.max(seen.start)..].fill(T::NEG_INFINITY);
}

/// Turns the scores of a block into exponentials, and adds them to the mass of a query.
#[inline(always)]
unsafe fn exponentials<V: Lanes>(scores: *mut V::T, partial: &mut Partial<V::T>) {
    // SAFETY: there are scores for a whole block.
    unsafe {
        let mut best = V::load(scores);
        for j in (V::N..BLOCK).step_by(V::N) {
            best = V::load(scores.add(j)).max(best);
        }
        let mut lanes = [V::T::NEG_INFINITY; 16];
        best.store(lanes.as_mut_ptr());
        let top = lanes.into_iter().fold(V::T::NEG_INFINITY, |a, b| if b > a { b } else { a });
        if top > partial.reference + V::T::from_f64(LAG) {
            partial.raise(top);
        }
        let (log2e, table) = (V::splat(V::T::LOG2_E), Exp2::table());
        // Before the first key everything is hidden, and minus infinity must stay what it is.
        let is_fresh = partial.reference == V::T::NEG_INFINITY;
        let shift = V::splat(if is_fresh { V::T::ZERO } else { partial.reference });
        let mut sum = V::splat(V::T::ZERO);
        for j in (0..BLOCK).step_by(V::N) {
            let p = V::load(scores.add(j)).sub(shift).mul(log2e).exp2(table);
            sum = sum.add(p);
            p.store(scores.add(j));
        }
        partial.mass = partial.mass + sum.sum();
    }
}

impl<T: Float> Partial<T> {
    fn raise(&mut self, top: T) {
        if self.reference != T::NEG_INFINITY {
            let shrink = (self.reference - top).exp();
            self.mass = self.mass * shrink;
            self.sums.iter_mut().for_each(|x| *x = *x * shrink);
        }
        self.reference = top;
    }
}

/// `sums[g] += sum_j p[g][j] v_j` for `G` queries and a block of values.
///
/// Sums of as many columns as registers hold are kept there, so that the rows of a usual head are
/// read strictly in address order.
#[inline(always)]
unsafe fn weighted<V: Lanes, E: Element, const G: usize>(
    values: &Vectors<'_, E>,
    ev: usize,
    p: *const V::T,
    sums: *mut V::T,
) {
    let vectors = ev / V::N;
    let mut x = 0;
    // SAFETY: the caller has `G` rows of weights and of sums.
    unsafe {
        while x < vectors {
            let place = (x * V::N, ev);
            match vectors - x {
                8.. if G == 1 => x += columns::<V, E, G, 8>(values, place, p, sums),
                4.. => x += columns::<V, E, G, 4>(values, place, p, sums),
                2.. => x += columns::<V, E, G, 2>(values, place, p, sums),
                _ => x += columns::<V, E, G, 1>(values, place, p, sums),
            }
        }
    }
}

/// `C` vectors of columns from `x` of the sums. Returns `C`.
#[inline(always)]
unsafe fn columns<V: Lanes, E: Element, const G: usize, const C: usize>(
    values: &Vectors<'_, E>,
    (x, ev): (usize, usize),
    p: *const V::T,
    sums: *mut V::T,
) -> usize {
    // SAFETY: the caller has `G` rows of weights and of sums; values beyond the last are not read.
    unsafe {
        let mut acc = [[V::splat(V::T::ZERO); C]; G];
        for r in 0..values.rows.len() {
            let row = values.at(r).add(x);
            ahead::<V, E>(row, C * V::N);
            let value: [V; C] = std::array::from_fn(|c| E::load(row.add(c * V::N)));
            for g in 0..G {
                let p = V::splat(*p.add(g * BLOCK + r));
                for c in 0..C {
                    acc[g][c] = p.fma(value[c], acc[g][c]);
                }
            }
        }
        for g in 0..G {
            for c in 0..C {
                let at = sums.add(g * ev + x + c * V::N);
                V::load(at).add(acc[g][c]).store(at);
            }
        }
    }
    C
}

/// Merges the partial results of one query, in order, and writes its row. True if something is not
/// as it should be.
///
/// # Safety
/// The row must belong to the caller's task.
pub unsafe fn finish<T: Float>(
    head: &Head<'_>,
    visible: &Visible,
    i: usize,
    parts: &[&Partial<T>],
    output: &Output<'_, T>,
) -> bool {
    let top = parts.iter().fold(T::NEG_INFINITY, |top, part| top.max(part.reference));
    let (mut mass, mut sums) = (0.0, vec![0.0; head.value.cols()]);
    for part in parts.iter().filter(|part| part.mass != T::ZERO) {
        let weight = (part.reference.to_f64() - top.to_f64()).exp();
        mass += weight * part.mass.to_f64();
        for (sum, x) in sums.iter_mut().zip(&part.sums) {
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
    ) -> (Vec<Partial<f32>>, Report) = chunk_body {
        v4: [avx512::F32x16], v3: [avx2::F32x8], portable: [portable::F32x4],
    }
}

multiversion! {
    /// [`chunk_body`] in double precision.
    pub unsafe fn chunk_f64<'a>(
        job: &Job<'a, f64>, scratch: &mut Scratch<f64>, pulse: &Pulse<'_>,
    ) -> (Vec<Partial<f64>>, Report) = chunk_body {
        v4: [avx512::F64x8], v3: [avx2::F64x4], portable: [portable::F64x2],
    }
}
