//! The second stage: what the first codes of a key leave out, in 4 bits, row by row.
//!
//! Let `k = k1 + e` with k1 what the first stage knows and `e = k2 + (k - k1 - k2)`, k2 being what the
//! codes of `e` stand for. The first stage has an interval of `q . k1`, without what it left out; added
//! to it are `q . k2`, computed from integers as there, and `|q| rho2`, the new rest, in float64.
//!
//! A row has 16 bytes for every 32 coordinates, the first 16 in the low halves, then two bfloat16: the
//! scale and the norm of the rest.

use super::buffer::Buf;
use super::coarse::Integers;
use super::coder::{Summary, wide16};
use super::keys::Rows;
use super::predicate::{SURE, sure_if};
use super::scan::Found;
use super::store::{Reader, Writer, damaged};
use crate::Result;
use crate::mat::MatCell;
use crate::simd::ints::{Ints, Unit, multiversion_ints};

/// Coordinates that share 16 bytes.
const CHUNK: usize = 32;

/// Rows of residual codes.
#[derive(Clone)]
pub(super) struct Residuals {
    dim: usize,
    rows: Buf<u8>,
    /// Largest norm of the centred codes of a row.
    norm: f64,
}

/// A query against residual codes.
pub(super) struct Fine {
    /// Bytes of the query for the low and for the high halves, padded with zeros to 64 bytes.
    low: Vec<i8>,
    high: Vec<i8>,
    /// `-15` times the sum of the query's integers.
    offset: i32,
    /// What half an integer stands for.
    alpha: f64,
    /// What the query's rounding contributes, for a scale of 1.
    beta: f64,
    /// Not below the norm of the query.
    gamma: f64,
    threshold: f64,
}

impl Residuals {
    pub fn new(dim: usize) -> Self {
        Self { dim, rows: Buf::new(), norm: 0.0 }
    }

    /// Coordinates, filled up to whole chunks.
    pub fn padded(dim: usize) -> usize {
        dim.next_multiple_of(CHUNK)
    }

    /// Bytes of a row.
    pub fn stride(&self) -> usize {
        Self::padded(self.dim) / 2 + 4
    }

    pub fn bytes(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Rows 0 to `len`, to be filled by tasks.
    pub fn grow(&mut self, len: usize) -> Result<MatCell<'_, u8>> {
        let stride = self.stride();
        self.rows.try_resize(len * stride)?;
        Ok(MatCell::from_slice(self.rows.to_mut(), len, stride))
    }

    /// Forgets the rows from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.rows.resize(len * self.stride());
    }

    /// Takes note of the largest norm of the centred codes of new rows.
    pub fn note(&mut self, norm: f64) {
        self.norm = self.norm.max(norm);
    }

    /// A query, given in the coordinates of the codes.
    pub fn fine(&self, query: &[f64], gamma: f64, threshold: f64) -> Fine {
        let integers = Integers::of(query, 127, self.norm);
        let len = Self::padded(self.dim).next_multiple_of(4 * CHUNK) / 2;
        let mut fine = Fine {
            low: vec![0; len],
            high: vec![0; len],
            offset: -15 * integers.u.iter().sum::<i32>(),
            alpha: f64::from(integers.unit) / 2.0,
            beta: integers.rest * self.norm * (1.0 + 1e-9),
            gamma,
            threshold,
        };
        for (j, &u) in integers.u.iter().enumerate() {
            let half = if j % CHUNK < CHUNK / 2 { &mut fine.low } else { &mut fine.high };
            half[j / CHUNK * (CHUNK / 2) + j % (CHUNK / 2)] = u as i8;
        }
        fine
    }

    fn rows(&self) -> Rows {
        Rows { first: self.rows.ptr(), stride: self.stride() }
    }

    /// Settles what it can: takes out the candidates that are out, and marks those that are in.
    pub fn narrow(&self, unit: Unit, fine: &Fine, found: &mut Found) {
        let stride = self.stride();
        let rows = self.rows.len() / stride;
        let Found { slots, least, most } = found;
        assert!(slots.iter().all(|slot| ((slot & !SURE) as usize) < rows));
        assert!(slots.len() == least.len() && slots.len() == most.len());
        assert_eq!(fine.low.len(), (stride - 4).next_multiple_of(64));
        // SAFETY: the rows exist; the query has as many bytes as vectors read of a row, and zeros
        // beyond its end.
        let kept = unsafe { narrow(unit, self.rows(), fine, slots, [least, most]) };
        slots.truncate(kept);
        // The ends have served.
        least.clear();
        most.clear();
    }

    /// Under names that begin with `name`.
    pub fn write<'a>(&'a self, name: &str, to: &mut Writer<'a>) {
        to.put(&format!("{name}rest"), &self.rows);
        to.put_copy(&format!("{name}unit"), &[self.norm]);
    }

    /// `len` rows.
    pub fn read(name: &str, from: &Reader<'_>, dim: usize, len: usize) -> Result<Self> {
        let mut read = Self::new(dim);
        let size = len.checked_mul(read.stride());
        read.rows = from.take(&format!("{name}rest"), size)?;
        [read.norm] = from.array(&format!("{name}unit"))?;
        if size.is_none() || !read.norm.is_finite() {
            return Err(damaged("residual codes without bounds"));
        }
        Ok(read)
    }
}

/// Stores a row.
pub(super) fn put(row: &mut [u8], codes: &[u8], coded: Summary) {
    let (halves, numbers) = row.split_at_mut(codes.len() / 2);
    for (to, from) in halves.chunks_exact_mut(CHUNK / 2).zip(codes.chunks_exact(CHUNK)) {
        let (low, high) = from.split_at(CHUNK / 2);
        for ((to, low), high) in to.iter_mut().zip(low).zip(high) {
            *to = low | high << 4;
        }
    }
    numbers[..2].copy_from_slice(&coded.scale.to_le_bytes());
    numbers[2..].copy_from_slice(&coded.rest.to_le_bytes());
}

multiversion_ints! {
    unsafe fn narrow(rows: Rows, fine: &Fine, slots: &mut [u32], ends: [&[f32]; 2]) -> usize = narrow_body {
        vnni512: [vnni512::I32x16],
        vnni256: [vnni256::Vnni8],
        avx2: [avx2::I32x8],
        portable: [portable::I32x4],
    }
}

/// Whether a candidate stays is not branched on: that can be guessed for few.
///
/// # Safety
///
/// The rows of all candidates must be readable, and 64 bytes beyond the last; there must be as many ends as
/// candidates; the query must have the bytes of a row, rounded up to 64; the instruction set must be
/// enabled.
#[inline(always)]
unsafe fn narrow_body<V: Ints>(
    rows: Rows,
    fine: &Fine,
    slots: &mut [u32],
    [least, most]: [&[f32]; 2],
) -> usize {
    let mut kept = 0;
    rows.touch_first(slots);
    for i in 0..slots.len() {
        let slot = slots[i];
        rows.touch_later(slots, i);
        let (mut out, mut mark) = (false, 0);
        if slot & SURE == 0 {
            // SAFETY: the caller's promises.
            let (least, most) = unsafe {
                let ends = [f64::from(*least.get_unchecked(i)), f64::from(*most.get_unchecked(i))];
                let row = rows.first.add(slot as usize * rows.stride);
                interval::<V>(row, rows.stride, fine, ends)
            };
            out = most < fine.threshold;
            mark = sure_if(least > fine.threshold);
        }
        slots[kept] = slot | mark;
        kept += usize::from(!out);
    }
    kept
}

/// The ends of a score, from those of the first stage.
///
/// # Safety
///
/// As [`narrow_body`], for one row.
#[inline(always)]
unsafe fn interval<V: Ints>(
    row: *const u8,
    stride: usize,
    fine: &Fine,
    [least, most]: [f64; 2],
) -> (f64, f64) {
    // SAFETY: the caller's promises.
    unsafe {
        let mask = V::splat(0x0f0f_0f0f);
        let mut sums = [V::splat(0); 2];
        for j in (0..stride - 4).step_by(4 * V::N) {
            let codes = V::load(row.add(j));
            let low = V::load(fine.low.as_ptr().add(j).cast());
            let high = V::load(fine.high.as_ptr().add(j).cast());
            sums[0] = sums[0].dot(codes.bits::<0>(mask), low);
            sums[1] = sums[1].dot(codes.bits::<4>(mask), high);
        }
        let number =
            |at: usize| f64::from(wide16(row.add(at).cast::<u16>().read_unaligned().to_le()));
        let (scale, rest) = (number(stride - 4), number(stride - 2));
        let t = 2 * sums[0].add(sums[1]).sum() + fine.offset;
        let middle = scale * fine.alpha * f64::from(t);
        let reach = scale * fine.beta + fine.gamma * rest;
        // A few roundings of float64, each 2^-53 of one of these, and what the first stage lost where
        // its products underflowed.
        let slack = 1e-14 * (middle.abs() + reach + least.abs().max(most.abs())) + 2_f64.powi(-140);
        (least + middle - reach - slack, most + middle + reach + slack)
    }
}
