//! Transforms and convolutions of one pack.

use std::ops::Range;

use super::ends::{Given, Scaled, Sink, Source, Sum, Taken};
use super::passes::{BACKWARD, FORWARD, MULTIPLY, backward, bases, first, forward, last};
use super::plan::{CHUNK, Plan, Recent, at, is_large, span};
use super::sequence::along;
use crate::linalg::Product;
use crate::simd::{Isa, Lanes, multiversion};

/// Rows of a part all of whose passes are done before the next part: half of the first cache.
const BLOCK: usize = 160;

/// Where the rows of a pack come from.
#[derive(Debug)]
pub(crate) enum From<T> {
    Rows([Taken<T>; 2]),
    Scaled([Scaled<T>; 2]),
    /// They are the workspace's, as a transform left them.
    Frequencies,
}

/// Where they go.
#[derive(Debug)]
pub(crate) enum To<T> {
    Rows([Option<Given<T>>; 2]),
    Sum(Sum<T>),
    /// They stay in the workspace, transformed.
    Frequencies,
}

/// What to do with a pack: transform it, multiply with a spectrum, transform it back.
#[derive(Debug)]
pub(crate) struct Job<'a, T> {
    pub from: From<T>,
    /// How many rows come; zeros follow.
    pub rows: usize,
    /// Numbers for every frequency, real part first, in the order of the workspace, with the factor 1 / n.
    pub spectrum: &'a [T],
    pub to: To<T>,
    /// How many of the first rows are wanted.
    pub wanted: usize,
}

/// `f32` or `f64`.
pub trait Transform: Product {
    /// Lanes of a vector: a pack is twice as many columns.
    #[doc(hidden)]
    fn lanes(isa: Isa) -> usize {
        isa.register_bytes() / size_of::<Self>()
    }

    /// # Safety
    /// The rows must exist, `lanes` numbers each, nobody else may touch what is written, and the workspace
    /// have the size that the plan says.
    #[doc(hidden)]
    #[allow(private_interfaces)]
    unsafe fn run(isa: Isa, plan: &Plan<Self>, job: &Job<'_, Self>, work: *mut Self);

    /// `sum += conj(a) b` for `rows` rows of packs.
    ///
    /// # Safety
    /// The rows must exist.
    #[doc(hidden)]
    unsafe fn add_products(isa: Isa, sum: *mut Self, a: *const Self, b: *const Self, rows: usize);

    /// A forward pass over one part, given as real and imaginary parts; twiddles are six rows.
    #[doc(hidden)]
    fn pass(isa: Isa, re: &mut [Self], im: &mut [Self], twiddles: &[Self]);

    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn recent() -> &'static Recent<Self>;
}

impl Transform for f32 {
    #[allow(private_interfaces)]
    unsafe fn run(isa: Isa, plan: &Plan<f32>, job: &Job<'_, f32>, work: *mut f32) {
        // SAFETY: the caller's promises.
        unsafe { run_f32(isa, plan, job, work) }
    }

    unsafe fn add_products(isa: Isa, sum: *mut f32, a: *const f32, b: *const f32, rows: usize) {
        // SAFETY: the caller's promises.
        unsafe { add_f32(isa, sum, a, b, rows) }
    }

    fn pass(isa: Isa, re: &mut [f32], im: &mut [f32], twiddles: &[f32]) {
        // SAFETY: slices are checked.
        unsafe { pass_f32(isa, re, im, twiddles) }
    }

    #[allow(private_interfaces)]
    fn recent() -> &'static Recent<f32> {
        static RECENT: Recent<f32> = Recent::new(Vec::new());
        &RECENT
    }
}

impl Transform for f64 {
    #[allow(private_interfaces)]
    unsafe fn run(isa: Isa, plan: &Plan<f64>, job: &Job<'_, f64>, work: *mut f64) {
        // SAFETY: the caller's promises.
        unsafe { run_f64(isa, plan, job, work) }
    }

    unsafe fn add_products(isa: Isa, sum: *mut f64, a: *const f64, b: *const f64, rows: usize) {
        // SAFETY: the caller's promises.
        unsafe { add_f64(isa, sum, a, b, rows) }
    }

    fn pass(isa: Isa, re: &mut [f64], im: &mut [f64], twiddles: &[f64]) {
        // SAFETY: slices are checked.
        unsafe { pass_f64(isa, re, im, twiddles) }
    }

    #[allow(private_interfaces)]
    fn recent() -> &'static Recent<f64> {
        static RECENT: Recent<f64> = Recent::new(Vec::new());
        &RECENT
    }
}

multiversion! {
    unsafe fn run_f32<'a>(plan: &'a Plan<f32>, job: &'a Job<'a, f32>, work: *mut f32) = body {
        v4: [avx512::F32x16],
        v3: [avx2::F32x8],
        portable: [portable::F32x4],
    }
}

multiversion! {
    unsafe fn run_f64<'a>(plan: &'a Plan<f64>, job: &'a Job<'a, f64>, work: *mut f64) = body {
        v4: [avx512::F64x8],
        v3: [avx2::F64x4],
        portable: [portable::F64x2],
    }
}

multiversion! {
    unsafe fn add_f32(sum: *mut f32, a: *const f32, b: *const f32, rows: usize) = add_body {
        v4: [avx512::F32x16],
        v3: [avx2::F32x8],
        portable: [portable::F32x4],
    }
}

multiversion! {
    unsafe fn add_f64(sum: *mut f64, a: *const f64, b: *const f64, rows: usize) = add_body {
        v4: [avx512::F64x8],
        v3: [avx2::F64x4],
        portable: [portable::F64x2],
    }
}

multiversion! {
    unsafe fn pass_f32<'a>(re: &'a mut [f32], im: &'a mut [f32], twiddles: &'a [f32]) = along {
        v4: [avx512::F32x16],
        v3: [avx2::F32x8],
        portable: [portable::F32x4],
    }
}

multiversion! {
    unsafe fn pass_f64<'a>(re: &'a mut [f64], im: &'a mut [f64], twiddles: &'a [f64]) = along {
        v4: [avx512::F64x8],
        v3: [avx2::F64x4],
        portable: [portable::F64x2],
    }
}

/// # Safety
/// See [`Transform::add_products`].
#[inline(always)]
unsafe fn add_body<V: Lanes>(sum: *mut V::T, a: *const V::T, b: *const V::T, rows: usize) {
    // SAFETY: the caller's promises.
    unsafe {
        for at in (0..rows * 2 * V::N).step_by(2 * V::N) {
            let im = at + V::N;
            let (are, aim) = (V::load(a.add(at)), V::load(a.add(im)));
            let (bre, bim) = (V::load(b.add(at)), V::load(b.add(im)));
            let re = aim.fma(bim, are.fma(bre, V::load(sum.add(at))));
            let minus = aim.fms(bre, V::load(sum.add(im)));
            re.store(sum.add(at));
            are.fms(bim, minus).store(sum.add(im));
        }
    }
}

/// # Safety
/// See [`Transform::run`].
#[inline(always)]
unsafe fn body<V: Lanes>(plan: &Plan<V::T>, job: &Job<'_, V::T>, work: *mut V::T) {
    // SAFETY: the caller's promises.
    unsafe {
        match job.from {
            From::Rows(source) => enter::<V, _>(plan, source, job.rows, work),
            From::Scaled(source) => enter::<V, _>(plan, source, job.rows, work),
            From::Frequencies => {}
        }
        match (&job.from, &job.to) {
            (_, To::Frequencies) => descend::<V, FORWARD>(plan, job.spectrum, work),
            (From::Frequencies, _) => {
                descend::<V, { MULTIPLY | BACKWARD }>(plan, job.spectrum, work);
            }
            _ => descend::<V, { FORWARD | MULTIPLY | BACKWARD }>(plan, job.spectrum, work),
        }
        match job.to {
            To::Rows(sink) => leave::<V, _>(plan, sink, job.wanted, work),
            To::Sum(sink) => leave::<V, _>(plan, sink, job.wanted, work),
            To::Frequencies => {}
        }
    }
}

/// How many of the rows `k + j q` are below `count`: for the first part of the range of k, and for the rest.
fn live(count: usize, q: usize, range: Range<usize>) -> [(Range<usize>, usize); 2] {
    let middle = (count % q).clamp(range.start, range.end);
    let (whole, begun) = (count / q, count / q + 1);
    [(range.start..middle, begun.min(4)), (middle..range.end, whole.min(4))]
}

/// The first pass of all, or the first two of a large plan.
///
/// # Safety
/// See [`Transform::run`].
#[inline(always)]
unsafe fn enter<V: Lanes, S: Source<V>>(
    plan: &Plan<V::T>,
    source: S,
    rows: usize,
    work: *mut V::T,
) {
    let (n, q, row) = (plan.n, plan.n / 4, 2 * V::N);
    // SAFETY: the caller's promises.
    unsafe {
        if !is_large(n) {
            for (range, live) in live(rows, q, 0..q) {
                let to = (work.add(range.start * row), q);
                first::<V, S>(source, to, q, range, live, plan.twiddles(0));
            }
            return;
        }
        let (sixteenth, apart) = (n / 16, span(n / 16) + CHUNK);
        for k in (0..sixteenth).step_by(CHUNK) {
            let chunk = work.add(at(sixteenth, k) * row);
            for j in 0..4 {
                let begin = j * sixteenth + k;
                for (range, live) in live(rows, q, begin..begin + CHUNK) {
                    let to = chunk.add((j * apart + range.start - begin) * row);
                    first::<V, S>(source, (to, 4 * apart), q, range, live, plan.twiddles(0));
                }
            }
            for j in 0..4 {
                let to = chunk.add(4 * j * apart * row);
                forward::<V>(to, apart, k..k + CHUNK, plan.twiddles(1));
            }
        }
    }
}

/// The last pass of all, or the last two of a large plan.
///
/// # Safety
/// See [`Transform::run`].
#[inline(always)]
unsafe fn leave<V: Lanes, K: Sink<V>>(plan: &Plan<V::T>, sink: K, wanted: usize, work: *mut V::T) {
    let (n, q, row) = (plan.n, plan.n / 4, 2 * V::N);
    // SAFETY: the caller's promises.
    unsafe {
        if !is_large(n) {
            for (range, live) in live(wanted, q, 0..q) {
                let from = (work.add(range.start * row).cast_const(), q);
                last::<V, K>(sink, from, q, range, live, plan.twiddles(0));
            }
            return;
        }
        let (sixteenth, apart) = (n / 16, span(n / 16) + CHUNK);
        for k in (0..sixteenth).step_by(CHUNK) {
            let chunk = work.add(at(sixteenth, k) * row);
            for j in 0..4 {
                let to = chunk.add(4 * j * apart * row);
                backward::<V>(to, apart, k..k + CHUNK, plan.twiddles(1));
            }
            for j in 0..4 {
                let begin = j * sixteenth + k;
                for (range, live) in live(wanted, q, begin..begin + CHUNK) {
                    let from = chunk.add((j * apart + range.start - begin) * row).cast_const();
                    last::<V, K>(sink, (from, 4 * apart), q, range, live, plan.twiddles(0));
                }
            }
        }
    }
}

/// A part and its passes: rows, level of the twiddles.
type Node = (usize, usize);

/// The parts of a part below the passes at it.
fn below((m, level): Node) -> Node {
    if is_large(m) { (m / 16, level + 2) } else { (m / 4, level + 1) }
}

/// All between the first pass and the last: depth first, so that a part that fits into a cache stays there
/// until it is done.
///
/// # Safety
/// See [`Transform::run`].
#[inline(always)]
unsafe fn descend<V: Lanes, const ACT: u8>(plan: &Plan<V::T>, spectrum: &[V::T], work: *mut V::T) {
    let row = 2 * V::N;
    let mut nodes = [(0, 0); 16];
    let mut depth = 0;
    let mut node = below((plan.n, 0));
    while node.0 > BLOCK {
        nodes[depth] = node;
        depth += 1;
        node = below(node);
    }
    let nodes = &nodes[..depth];
    let (block, level) = node;
    // SAFETY: the caller's promises.
    unsafe {
        for begin in (0..plan.n).step_by(block) {
            if ACT & FORWARD != 0 {
                for &node in nodes {
                    if begin % node.0 == 0 {
                        pass::<V, false>(plan, node, work.add(at(plan.n, begin) * row));
                    }
                }
            }
            let spectrum = spectrum.as_ptr().wrapping_add(2 * begin);
            short::<V, ACT>(plan, (block, level), work.add(at(plan.n, begin) * row), spectrum);
            if ACT & BACKWARD != 0 {
                let end = begin + block;
                for &node in nodes.iter().rev() {
                    if end % node.0 == 0 {
                        pass::<V, true>(plan, node, work.add(at(plan.n, end - node.0) * row));
                    }
                }
            }
        }
    }
}

/// The passes at one part.
///
/// # Safety
/// See [`Transform::run`]; the part begins at `x`.
#[inline(always)]
unsafe fn pass<V: Lanes, const BACK: bool>(plan: &Plan<V::T>, (m, level): Node, x: *mut V::T) {
    // SAFETY: the caller's promises.
    unsafe {
        if !is_large(m) {
            step::<V, BACK>(x, m / 4, 0..m / 4, plan.twiddles(level));
            return;
        }
        let (sixteenth, apart, row) = (m / 16, span(m / 16) + CHUNK, 2 * V::N);
        for k in (0..sixteenth).step_by(CHUNK) {
            let chunk = x.add(at(sixteenth, k) * row);
            for inner in [BACK, !BACK] {
                for j in 0..4 {
                    if inner {
                        let to = chunk.add(4 * j * apart * row);
                        step::<V, BACK>(to, apart, k..k + CHUNK, plan.twiddles(level + 1));
                    } else {
                        let begin = j * sixteenth + k;
                        let range = begin..begin + CHUNK;
                        let to = chunk.add(j * apart * row);
                        step::<V, BACK>(to, 4 * apart, range, plan.twiddles(level));
                    }
                }
            }
        }
    }
}

/// # Safety
/// See [`forward`].
#[inline(always)]
unsafe fn step<V: Lanes, const BACK: bool>(
    x: *mut V::T,
    apart: usize,
    range: Range<usize>,
    twiddles: *const V::T,
) {
    // SAFETY: the caller's promises.
    unsafe {
        if BACK {
            backward::<V>(x, apart, range, twiddles);
        } else {
            forward::<V>(x, apart, range, twiddles);
        }
    }
}

/// All passes at a part that stays in the first cache.
///
/// # Safety
/// See [`pass`]; there is a spectrum for the part.
#[inline(always)]
unsafe fn short<V: Lanes, const ACT: u8>(
    plan: &Plan<V::T>,
    (block, level): Node,
    x: *mut V::T,
    spectrum: *const V::T,
) {
    let row = 2 * V::N;
    // SAFETY: the caller's promises.
    unsafe {
        let (mut m, mut at) = (block, level);
        while m > plan.base {
            if ACT & FORWARD != 0 {
                for part in (0..block).step_by(m) {
                    forward::<V>(x.add(part * row), m / 4, 0..m / 4, plan.twiddles(at));
                }
            }
            (m, at) = (m / 4, at + 1);
        }
        bases::<V, ACT>(plan.base, x, block / m, spectrum);
        while m < block {
            (m, at) = (4 * m, at - 1);
            if ACT & BACKWARD != 0 {
                for part in (0..block).step_by(m) {
                    backward::<V>(x.add(part * row), m / 4, 0..m / 4, plan.twiddles(at));
                }
            }
        }
    }
}
