//! Codes of 4 and 2 bits in a learnt basis.
//!
//! # The bound
//!
//! Let B be the matrix that turns queries (`g = B q`), and y any vector for each key, here what the
//! basis makes of it. With `delta = k - mu - B^T y`, exactly,
//!
//! > q . k = q . mu + g . y + q . delta,
//!
//! whatever B and y are; delta is small because the basis was learnt so. Its norm is computed for
//! every key, in float64, with the rounding of that sum added: a term `B_ji y_j` rounds by 2^-53 of
//! itself, d + 2 times at most, so that by Cauchy-Schwarz the error of all of delta is at most
//! `2 (d + 2) 2^-53 (|B|_F |y| + 2 |k - mu|)`. The largest over all keys is kept. y is coded as its
//! leading coordinates z in steps of the basis, and `|y - z| <= rho` is kept with the key, dropped
//! coordinates and all:
//!
//! > |q . k - q . mu - g' . z| <= |g'| rho + |g - g'| Y + |q| |delta|,  Y = max |y|,
//!
//! where g' is what float32 makes of g: `|g - g'| <= m 2^-24 |B|_F |q|`, m = 2 d/N + log2 N + 4 roundings
//! on N lanes (see [`predicate`](super::predicate)). What underflows is far below that, for `|g'|` is at
//! least 2^-60 ([`is_tame`]) and so is `|B|_F |q|`. The product `q . mu` is taken in float64.
//! Everything behind rho is the same for all keys: a slack, a few hundred thousandths of a score.
//!
//! What 4 and 2 bits leave out is coded again with 4 bits, in the same coordinates, for the second stage.
//!
//! Memory per key, besides the key: 2 to 4 bits per coordinate and 2 bytes, and d/2 + 4 bytes for the
//! second stage; for all keys 12 d^2.

use std::ops::Range;

use super::basis::{Basis, product};
use super::coarse::{Coarse, is_tame};
use super::keys::Keys;
use super::planes::{BLOCK, Coded, Open, Planes};
use super::predicate::Plane;
use super::residual::{Fine, Residuals};
use crate::mat::MatCell;
use crate::simd::Isa;
use crate::{Par, Result};

mod file;
mod key;
mod turn;

use key::Coder;
use turn::turn;

/// Keys coded in one task.
const TASK: usize = 32 * BLOCK;

/// Codes in a basis of their own.
#[derive(Clone)]
pub(super) struct Rotated {
    pub basis: Basis,
    pub planes: Planes,
    pub rest: Residuals,
    /// Not below `|B|_F`.
    size: f64,
    /// Not below `|delta|` and `|y|` of any key.
    delta: f64,
    largest: f64,
}

/// Largest norms that a task has met.
#[derive(Clone, Copy, Default)]
struct Norms {
    nibbles: f64,
    crumbs: f64,
    rest: f64,
    delta: f64,
    largest: f64,
}

impl Norms {
    fn max(self, b: Self) -> Self {
        Self {
            nibbles: self.nibbles.max(b.nibbles),
            crumbs: self.crumbs.max(b.crumbs),
            rest: self.rest.max(b.rest),
            delta: self.delta.max(b.delta),
            largest: self.largest.max(b.largest),
        }
    }
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt() * (1.0 + 1e-12)
}

impl Rotated {
    /// No codes yet.
    pub fn new(basis: Basis) -> Self {
        let wide: Vec<f64> = basis.backward.iter().map(|&x| x.into()).collect();
        let (planes, rest) = (Planes::new(basis.shape), Residuals::new(basis.dim));
        Self { size: norm(&wide), basis, planes, rest, delta: 0.0, largest: 0.0 }
    }

    /// Can queries be coded at all, or have keys come that are out of all proportion?
    pub fn is_sound(&self) -> bool {
        is_tame(self.largest) && self.delta.is_finite() && is_tame(self.size)
    }

    /// Codes the keys that are new.
    pub fn extend(&mut self, isa: Isa, keys: &Keys, par: Par<'_>) -> Result<()> {
        let (old, new) = (self.planes.len(), keys.len());
        let n = keys.dim();
        let backward = self.basis.backward[..n * n].iter().map(|&x| x.into()).collect();
        let (basis, size) = (&self.basis, self.size);
        let (planes, rows) = (self.planes.grow(new)?, self.rest.grow(new)?);
        let job = Job { isa, keys, basis, backward, size, planes, rows };
        let first = old / TASK;
        let work = (new - old) as u64 * (n * n) as u64;
        let norms = par.for_work(work).map(new.div_ceil(TASK) - first, |i, _| {
            let slots = (first + i) * TASK..((first + i + 1) * TASK).min(new);
            // SAFETY: tasks begin and end with a block, and each has its own.
            unsafe { job.fill(slots.start.max(old)..slots.end) }
        })?;
        drop(job);
        let norms = norms.into_iter().fold(Norms::default(), Norms::max);
        self.planes.note([0.0, norms.nibbles, norms.crumbs]);
        self.rest.note(norms.rest);
        self.delta = self.delta.max(norms.delta);
        self.largest = self.largest.max(norms.largest);
        Ok(())
    }

    /// Forgets the keys from slot `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.planes.truncate(len);
        self.rest.truncate(len);
    }

    pub fn bytes(&self) -> u64 {
        let basis =
            12 * self.basis.backward.len() + 4 * (self.basis.mean.len() + self.basis.steps.len());
        self.planes.bytes() + self.rest.bytes() + basis as u64
    }

    /// The query for both stages, if float32 can hold it.
    pub fn query(&self, plane: &Plane) -> Option<(Coarse, Fine)> {
        let Basis { dim, mean, backward, steps, shape, .. } = &self.basis;
        let mut turned = vec![0.0_f32; *dim];
        turn(plane.isa(), backward, plane.padded(), &mut turned);
        let turned: Vec<f64> = turned.into_iter().map(f64::from).collect();
        let length = norm(&turned);
        if !is_tame(length) || !self.is_sound() {
            return None;
        }
        let terms = || plane.query().iter().zip(mean).map(|(&x, &y)| f64::from(x) * f64::from(y));
        let (shift, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
        let threshold = plane.threshold - shift;
        let rounding = (2 * dim.div_ceil(4) + 8) as f64 * 2_f64.powi(-24) * self.size;
        let slack = plane.norm * (self.delta + rounding * self.largest)
            + 2_f64.powi(-52) * (*dim as f64 * size + plane.threshold.abs());
        let four = 8 * shape.nibbles;
        let weight = |j: usize| turned.get(j).map_or(0.0, |x| x * f64::from(steps[j]));
        let weights: Vec<f64> = (0..steps.len()).map(weight).collect();
        let (nibbles, crumbs) = weights.split_at(four);
        let norms = self.planes.norms();
        let coarse = Coarse::few_bits(*shape, [nibbles, crumbs], norms, length, slack, threshold);
        Some((coarse, self.rest.fine(&turned, length, threshold)))
    }
}

/// What the tasks of [`Rotated::extend`] share.
struct Job<'a> {
    isa: Isa,
    keys: &'a Keys,
    basis: &'a Basis,
    backward: Vec<f64>,
    size: f64,
    planes: Open<'a>,
    rows: MatCell<'a, u8>,
}

impl Job<'_> {
    /// Codes some keys.
    ///
    /// # Safety
    ///
    /// Nobody else may have a block or a row of these slots.
    unsafe fn fill(&self, slots: Range<usize>) -> Norms {
        let Basis { dim, mean, forward, .. } = self.basis;
        let n = *dim;
        let mut row = vec![0.0_f32; n];
        let mut centred = Vec::with_capacity(slots.len() * n);
        let mut sizes = Vec::with_capacity(slots.len());
        for slot in slots.clone() {
            self.keys.widen(slot, &mut row);
            let start = centred.len();
            centred.extend(row.iter().zip(mean).map(|(&x, &y)| f64::from(x) - f64::from(y)));
            sizes.push(norm(&centred[start..]));
        }
        // Any y will do; float32 is what the codes can take.
        let mut y = product(&centred, forward, n);
        for x in &mut y {
            *x = f64::from(*x as f32);
        }
        let back = transposed_product(&y, &self.backward, n);
        let mut coder = Coder::new(self.isa, self.basis);
        for (i, slot) in slots.enumerate() {
            let rows = i * n..(i + 1) * n;
            let (y, length) = (&y[rows.clone()], norm(&y[rows.clone()]));
            let left: Vec<f64> =
                centred[rows.clone()].iter().zip(&back[rows]).map(|(x, y)| x - y).collect();
            let rounding =
                2.0 * (n + 2) as f64 * 2_f64.powi(-53) * (self.size * length + sizes[i] * 2.0);
            // What is not a number bounds nothing.
            let bound = |x: f64| if x.is_nan() { f64::INFINITY } else { x };
            let (delta, largest) = (bound(norm(&left) + rounding), bound(length));
            let known = Norms { delta, largest, ..Norms::default() };
            coder.norms = coder.norms.max(known);
            // SAFETY: the caller's promise.
            let (mut block, row) =
                unsafe { (self.planes.block(slot / BLOCK), self.rows.row_mut(slot)) };
            let rest = coder.code(y, row);
            block.put(slot % BLOCK, &Coded { words: &coder.words, scale: 0, rest });
        }
        coder.norms
    }
}

/// `y b` for matrices with rows of length `n`.
fn transposed_product(y: &[f64], b: &[f64], n: usize) -> Vec<f64> {
    use crate::linalg::gemm;
    use crate::mat::MatRef;
    let rows = y.len() / n;
    let mut out = vec![0.0; y.len()];
    let (y, b) = (MatRef::from_slice(y, rows, n), MatRef::from_slice(b, n, n));
    gemm(&mut MatCell::from_slice(&mut out, rows, n), false, &y, &b);
    out
}
