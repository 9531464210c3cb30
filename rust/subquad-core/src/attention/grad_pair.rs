//! The backward pass of one block of queries and one block of keys.

use std::hint::black_box;
use std::ops::Range;

use super::dense::Report;
use super::dense_grad::{Job, ROWS, Scratch};
use super::grad_bias::add_bias;
use super::lags::add_tile;
use super::pack::{self, PANEL};
use super::scores::{Keys, STRIP_VECTORS, hidden, logits, within};
use super::toeplitz;
use crate::linalg::tile::{accumulate, add_to, load, store, zero};
use crate::simd::unroll;
use crate::simd::{Exp2, Float, Lanes};

/// A block of keys, packed, and the block of queries that meets it.
pub struct Pair<'a, T> {
    pub job: &'a Job<'a, T>,
    /// Keys of the block, in the head.
    pub keys: Range<usize>,
    /// Rows of the query block, in the head, and the first of them in the job.
    pub rows: Range<usize>,
    pub first: usize,
    /// Keys between the starts of strips of scores.
    pub capacity: usize,
    pub e: usize,
    pub ev: usize,
    pub pe: usize,
    pub pev: usize,
}

/// One block of queries against one block of keys.
///
/// # Safety
/// The instruction set of `V` must be enabled, and the scratch made for the job.
#[inline(always)]
pub unsafe fn pair_step<V: Lanes, const KR: usize, const OA: usize, const OB: usize>(
    pair: &Pair<'_, V::T>,
    scratch: &mut Scratch<V::T>,
    padded: usize,
) -> Report {
    let w = STRIP_VECTORS * V::N;
    let strips = pair.rows.len().div_ceil(w);
    let (wanted, weighted) = (&pair.job.gradients, !pair.job.weights.is_null());
    let mut spans = [const { 0..0 }; ROWS];
    let mut report = Report::default();
    // SAFETY: the scratch holds whole blocks.
    unsafe {
        for (s, span) in spans[..strips].iter_mut().enumerate() {
            *span = strip_scores::<V, KR>(pair, scratch, s);
            let depth = span.len();
            if depth == 0 {
                continue;
            }
            let (exact, padded) = (depth * w, depth.next_multiple_of(KR) * w);
            report.tiles += depth.div_ceil(KR) as u64;
            report.flops += 2 * (padded * (pair.e + pair.ev)) as u64;
            if weighted {
                report.flops += 8 * (padded * pair.e) as u64;
            } else if wanted.query.is_some() {
                report.flops += 2 * (exact * pair.pe) as u64;
                add_to_queries::<V, OA, OB>(pair, scratch, s, span);
            }
            let of_keys = wanted.key.is_some() && !weighted;
            let key_side = [(wanted.value.is_some(), pair.pev), (of_keys, pair.pe)];
            for (_, width) in key_side.into_iter().filter(|(wanted, _)| *wanted) {
                report.flops += 2 * (padded * width) as u64;
            }
        }
        if let Some(lags) = &wanted.lags {
            let all = (&pair.job.rows, &pair.job.keys);
            scratch.lag_sums.flush::<V>(KR, (&pair.rows, &pair.keys), all, (lags, 0));
        }
        if weighted {
            toeplitz::pair_slopes::<V, KR>(pair, scratch, &spans[..strips]);
        }
        let (spans, place) = (&spans[..strips], (pair.capacity, padded));
        if wanted.value.is_some() {
            let grads = scratch.grad_panels.ptr().add(pair.first * pair.pev);
            let from = (scratch.scores.ptr().cast_const(), grads.cast_const());
            key_sums::<V, KR>(from, spans, place, pair.pev, scratch.value_sums.ptr());
        }
        if wanted.key.is_some() && !weighted {
            let queries = scratch.query_panels.ptr().add(pair.first * pair.pe);
            let from = (scratch.grad_scores.ptr().cast_const(), queries.cast_const());
            key_sums::<V, KR>(from, spans, place, pair.pe, scratch.key_sums.ptr());
        }
    }
    report
}

/// Exponentials and gradients of the logits of strip `s` of a pair of blocks. Returns the keys of
/// the block that it computed, whole tiles from the front.
#[inline(always)]
unsafe fn strip_scores<V: Lanes, const KR: usize>(
    pair: &Pair<'_, V::T>,
    scratch: &mut Scratch<V::T>,
    s: usize,
) -> Range<usize> {
    let (w, job, head) = (STRIP_VECTORS * V::N, pair.job, pair.job.head);
    let rows = pair.rows.start + s * w..pair.rows.end.min(pair.rows.start + (s + 1) * w);
    let (first, len) = (pair.keys.start, pair.keys.len());
    let union = within(&job.visible.union(rows.clone(), head.key.rows()), first, len);
    let common = within(&job.visible.common(rows.clone(), head.key.rows()), first, len);
    let from = union.start / KR * KR;
    if union.is_empty() {
        return 0..0;
    }
    // SAFETY: the scratch holds whole blocks.
    unsafe {
        let mut stage: *const V::T = std::ptr::null();
        if head.mask.is_some() || head.bias.is_some() {
            let to = scratch.stage.ptr();
            stage = to;
            let keys = first + from..first + union.end;
            let (mask, bias) = (head.mask.as_ref(), head.bias.as_ref());
            if !pack::stage::<V>(mask, bias, rows.clone(), keys, w, to.add(from * w)) {
                return 0..0;
            }
        }
        let log2e = V::splat(V::T::LOG2_E);
        let row = pair.first + s * w;
        let queries = scratch.query_strips.ptr().add(row * pair.e);
        let grads = scratch.grad_strips.ptr().add(row * pair.ev);
        let (shifts, dots) = (scratch.shift.ptr().add(row), scratch.minus_dot.ptr().add(row));
        let block = s * pair.capacity * w;
        let (scores, grad_scores) =
            (scratch.scores.ptr().add(block), scratch.grad_scores.ptr().add(block));
        let values = scratch.value_tiles.ptr();
        let weights = job.weights.at(rows.start, first);
        let mut keys = Keys { tiles: scratch.key_tiles.ptr(), stage, lags: job.lags, weights };
        if !job.lags.is_null() {
            keys.lags = job.lags.wrapping_offset(rows.start as isize - first as isize);
        }
        let (lag_sums, lag_stride) = scratch.lag_sums.place();
        let mut t = from;
        while t < union.end {
            let hide = hidden::<KR>(&job.visible, t, &common, (first, len), rows.start);
            let at = scores.add(t * w);
            let acc = logits::<V, KR>(queries, keys, (t, pair.e), hide.as_ref(), at);
            let table = Exp2::table();
            for u in 0..STRIP_VECTORS {
                let shift = V::load(shifts.add(u * V::N));
                unroll!(KR, r => {
                    let p = acc[r][u].sub(shift).mul(log2e).exp2(table);
                    p.store(at.add(r * w + u * V::N));
                });
            }
            let mut acc = zero::<V, KR, STRIP_VECTORS>();
            for u in 0..STRIP_VECTORS {
                let dot = V::load(dots.add(u * V::N));
                unroll!(KR, r => {
                    acc[r][u] = dot;
                });
            }
            accumulate(&mut acc, (values.add(t * pair.ev), 1, KR), (grads, w), pair.ev);
            let p = load::<V, KR, STRIP_VECTORS>(at);
            unroll!(KR, r => {
                for u in 0..STRIP_VECTORS {
                    acc[r][u] = acc[r][u].mul(p[r][u]);
                }
            });
            store(&acc, grad_scores.add(t * w));
            if job.gradients.lags.is_some() {
                let to = lag_sums.wrapping_add(s * w).wrapping_sub(t);
                add_tile::<V, KR>(&acc, (to, lag_stride));
            }
            t += KR;
        }
        if let Some(bias) = &job.gradients.bias {
            let keys = first + union.start..first + union.end;
            let from = grad_scores.add(union.start * w).cast_const();
            add_bias::<V>(bias, rows, (keys, first), from, scratch.bias_sums.ptr());
        }
    }
    from..union.end
}

/// `dQ += dS K` for strip `s` and its keys `span` of the block.
#[inline(always)]
unsafe fn add_to_queries<V: Lanes, const OA: usize, const OB: usize>(
    pair: &Pair<'_, V::T>,
    scratch: &mut Scratch<V::T>,
    s: usize,
    span: &Range<usize>,
) {
    let (w, vectors) = (STRIP_VECTORS * V::N, pair.pe / V::N);
    // SAFETY: the scratch holds whole blocks.
    unsafe {
        let grad = scratch.grad_scores.ptr().add((s * pair.capacity + span.start) * w);
        let sums = scratch.query_sums.ptr().add(pair.first * pair.pe);
        for first in (0..vectors).step_by(PANEL) {
            let keys = scratch.key_panels.ptr().add(first * V::N * pair.capacity);
            let sums = sums.add(first * V::N * ROWS);
            if first + PANEL <= vectors {
                query_side::<V, OA, OB, PANEL>(grad, (keys, span), sums, s * w);
            } else {
                query_side::<V, OA, OB, 1>(grad, (keys, span), sums, s * w);
            }
        }
    }
}

/// `dQ += dS K` for one strip and one column panel of `C` vectors.
#[inline(always)]
unsafe fn query_side<V: Lanes, const OA: usize, const OB: usize, const C: usize>(
    grad: *const V::T,
    (keys, span): (*const V::T, &Range<usize>),
    sums: *mut V::T,
    row: usize,
) {
    let w = STRIP_VECTORS * V::N;
    // SAFETY: the caller's buffers hold whole strips and panels.
    unsafe {
        let keys = keys.add(span.start * C * V::N);
        let sums = sums.add(row * C * V::N);
        let mut acc = zero::<V, OA, C>();
        accumulate(&mut acc, (grad, 1, w), (keys, C * V::N), span.len());
        add_to(sums, C * V::N, &acc);
        for r in (OA..w).step_by(OB) {
            let mut acc = zero::<V, OB, C>();
            accumulate(&mut acc, (grad.add(r), 1, w), (keys, C * V::N), span.len());
            add_to(sums.add(r * C * V::N), C * V::N, &acc);
        }
    }
}

/// `sums[key] += sum over the queries of a block of scores[query][key] panel[query]`, all panels of
/// `width` columns; `spans` are the keys that each strip has.
#[inline(always)]
unsafe fn key_sums<V: Lanes, const KR: usize>(
    (scores, panels): (*const V::T, *const V::T),
    spans: &[Range<usize>],
    (capacity, padded): (usize, usize),
    width: usize,
    sums: *mut V::T,
) {
    // SAFETY: the caller's buffers hold whole blocks.
    unsafe {
        for first in (0..width / V::N).step_by(PANEL) {
            let panel = panels.add(first * V::N * ROWS);
            let sums = sums.add(first * V::N * capacity);
            if first + PANEL <= width / V::N {
                key_panel::<V, KR, PANEL>(scores, panel, spans, (capacity, padded), sums);
            } else {
                key_panel::<V, KR, 1>(scores, panel, spans, (capacity, padded), sums);
            }
        }
    }
}

#[inline(always)]
unsafe fn key_panel<V: Lanes, const KR: usize, const C: usize>(
    scores: *const V::T,
    panel: *const V::T,
    spans: &[Range<usize>],
    (capacity, padded): (usize, usize),
    sums: *mut V::T,
) {
    let w = STRIP_VECTORS * V::N;
    // Where a strip is short, a known depth would be unrolled whole, and the loop over strips with its
    // strides become the inner one.
    let depth = black_box(w);
    // SAFETY: the caller's buffers hold whole blocks.
    unsafe {
        for t in (0..padded).step_by(KR) {
            let mut acc = zero::<V, KR, C>();
            for (s, span) in spans.iter().enumerate() {
                if span.start <= t && t < span.end {
                    let scores = scores.add((s * capacity + t) * w);
                    let rows = panel.add(s * w * C * V::N);
                    accumulate(&mut acc, (scores, w, 1), (rows, C * V::N), depth);
                }
            }
            add_to(sums.add(t * C * V::N), C * V::N, &acc);
        }
    }
}
