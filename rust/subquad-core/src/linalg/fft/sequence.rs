//! The transform of one sequence of real numbers, in the order of transforms of packs.
//!
//! A pack wants a column in every lane, and there is one. But after two passes of radix 4 it is sixteen
//! sequences that have nothing to do with each other: those passes go along the sequence, a vector of
//! neighbours at a time, and the rest is a pack whose lanes are the sixteen parts. The passes are those of
//! `passes.rs`, so the bound on rounding is the same.

use std::sync::Arc;

use super::ends::Taken;
use super::kernel::{From, Job, To, Transform};
use super::plan::{Plan, at};
use crate::scratch::Buffer;
use crate::simd::{Isa, Lanes};

/// Room for the transform of a sequence of the length of a plan.
pub(crate) struct Sequence<T> {
    isa: Isa,
    /// Transforms of a part.
    plan: Plan<T>,
    /// Twiddles of the passes along the sequence.
    tables: Vec<Arc<Vec<T>>>,
    /// The parts, one after the other.
    re: Buffer<T>,
    im: Buffer<T>,
    /// Parts side by side.
    rows: [Buffer<T>; 2],
    work: Buffer<T>,
}

impl<T: Transform> Sequence<T> {
    pub fn new(whole: &Plan<T>, isa: Isa) -> Self {
        let n = whole.n;
        let tables = whole.along().to_vec();
        let plan = whole.part(tables.len());
        let rows = || Buffer::new(plan.n * T::lanes(isa));
        let (rows, work) = ([rows(), rows()], Buffer::new(plan.workspace(isa)));
        Self { isa, plan, tables, re: Buffer::new(n), im: Buffer::new(n), rows, work }
    }

    /// Where the numbers of the sequence go; what was there is lost.
    pub fn numbers(&mut self) -> &mut [T] {
        let n = self.re.len();
        self.re.slice(n)
    }

    /// Transforms the numbers, and returns all frequencies times `factor`: real part first, in the order of the
    /// transform of a pack.
    pub fn transform(&mut self, factor: T) -> Vec<T> {
        let (n, m, lanes) = (self.re.len(), self.plan.n, T::lanes(self.isa));
        self.im.slice(n).fill(T::ZERO);
        let (re, im) = (self.re.slice(n), self.im.slice(n));
        for (level, table) in self.tables.iter().enumerate() {
            let part = n >> (2 * level);
            for (re, im) in re.chunks_exact_mut(part).zip(im.chunks_exact_mut(part)) {
                T::pass(self.isa, re, im, table);
            }
        }
        let mut out = vec![T::ZERO; 2 * n];
        for (p, out) in out.chunks_mut(2 * m * lanes).enumerate() {
            self.pack(p * lanes);
            for (lane, out) in out.chunks_exact_mut(2 * m).enumerate() {
                for (k, out) in out.chunks_exact_mut(2).enumerate() {
                    let from = self.work.as_ptr().wrapping_add(at(m, k) * 2 * lanes + lane);
                    // SAFETY: the row is one of the workspace.
                    let (re, im) = unsafe { (*from, *from.add(lanes)) };
                    (out[0], out[1]) = (re * factor, im * factor);
                }
            }
        }
        out
    }

    /// Transforms the parts from `first` on, as many as there are lanes; they stay in the workspace.
    fn pack(&mut self, first: usize) {
        let (n, m, lanes) = (self.re.len(), self.plan.n, T::lanes(self.isa));
        let count = lanes.min(n / m - first);
        for (from, rows) in [&mut self.re, &mut self.im].into_iter().zip(&mut self.rows) {
            let from = &from.slice(n)[first * m..(first + count) * m];
            for (k, row) in rows.slice(m * lanes).chunks_exact_mut(lanes).enumerate() {
                for (lane, x) in row[..count].iter_mut().enumerate() {
                    *x = from[lane * m + k];
                }
            }
        }
        let from = [0, 1].map(|i| Taken { ptr: self.rows[i].as_ptr(), stride: lanes as isize });
        let from = From::Rows(from);
        let job = Job { from, rows: m, spectrum: &[], to: To::Frequencies, wanted: 0 };
        // SAFETY: there are `m` rows, and a workspace for this plan.
        unsafe { T::run(self.isa, &self.plan, &job, self.work.ptr()) };
    }
}

/// A forward pass over one part: numbers `k + j q` for j < 4 are combined for all k, and multiplied by their
/// twiddles. Loops over plain slices, which become vectors of whatever instruction set is enabled.
///
/// # Safety
/// The instruction set of `V` must be enabled.
#[inline(always)]
pub(super) unsafe fn along<V: Lanes>(re: &mut [V::T], im: &mut [V::T], twiddles: &[V::T]) {
    let q = re.len() / 4;
    let [r0, r1, r2, r3] = quarters(re, q);
    let [i0, i1, i2, i3] = quarters(im, q);
    let row = |i: usize| &twiddles[i * q..(i + 1) * q];
    let (w0, w1, w2, w3, w4, w5) = (row(0), row(1), row(2), row(3), row(4), row(5));
    for k in 0..q {
        let (ar, ai) = (r0[k] + r2[k], i0[k] + i2[k]);
        let (br, bi) = (r0[k] - r2[k], i0[k] - i2[k]);
        let (cr, ci) = (r1[k] + r3[k], i1[k] + i3[k]);
        let (dr, di) = (r1[k] - r3[k], i1[k] - i3[k]);
        (r0[k], i0[k]) = (ar + cr, ai + ci);
        let (xr, xi) = (br + di, bi - dr);
        (r1[k], i1[k]) = (xr * w0[k] - xi * w1[k], xi * w0[k] + xr * w1[k]);
        let (xr, xi) = (ar - cr, ai - ci);
        (r2[k], i2[k]) = (xr * w2[k] - xi * w3[k], xi * w2[k] + xr * w3[k]);
        let (xr, xi) = (br - di, bi + dr);
        (r3[k], i3[k]) = (xr * w4[k] - xi * w5[k], xi * w4[k] + xr * w5[k]);
    }
}

fn quarters<T>(x: &mut [T], q: usize) -> [&mut [T]; 4] {
    let (left, right) = x.split_at_mut(2 * q);
    let ((a, b), (c, d)) = (left.split_at_mut(q), right.split_at_mut(q));
    [a, b, c, &mut d[..q]]
}
