//! Sums for several weights of a token side by side in one state: one pass over the features does for all.
//!
//! A row of the state has the columns of every weight one after the other, `[k][c]`, and behind them the masses
//! of all weights but the first, whose masses are the state's own; zeros up to whole vectors. So the passes are
//! what they are for one weight, and masses beyond the first are columns of their products.

use std::ops::Range;

use super::super::{State, TILE};
use crate::attention::pack;
use crate::mat::{MatCell, MatRef, Rows, with_rows};
use crate::simd::{Element, Float, Lanes};

/// Where the numbers of a row are.
#[derive(Clone, Copy, Debug)]
pub struct Abreast {
    /// How many weights there are, at least one.
    pub weights: usize,
    /// Width of the values; the same padded to whole vectors; and that of a row.
    pub width: usize,
    pub stride: usize,
    pub columns: usize,
}

impl Abreast {
    /// Nothing if there are more columns than addresses.
    pub fn new(weights: usize, width: usize, lanes: usize) -> Option<Self> {
        let columns = weights.checked_mul(width)?.checked_add(weights - 1)?;
        let columns = columns.checked_next_multiple_of(lanes)?.max(lanes);
        let stride = width.checked_next_multiple_of(lanes)?.max(lanes);
        Some(Self { weights, width, stride, columns })
    }

    /// The column of the masses of a weight that is not the first.
    fn mass(&self, k: usize) -> usize {
        self.weights * self.width + k - 1
    }

    /// Fills a state with given sums, each feature's times its factor. Are all finite?
    ///
    /// # Safety
    ///
    /// The state must have a row of `columns` for every factor, zeros behind the last mass, and every weight's
    /// sums and masses must have a row for it; the instruction set must be enabled.
    #[inline(always)]
    pub(super) unsafe fn load<V: Lanes>(
        &self,
        state: &mut State<V::T>,
        (sums, masses): (&[Rows<'_>], &[Rows<'_>]),
        factors: &[V::T],
    ) -> bool {
        // SAFETY: the caller's promises. Vectors that reach beyond a weight's columns have zeros there, and what
        // comes next is written later.
        unsafe {
            let mut bad = V::splat(V::T::ZERO);
            let mut finite = true;
            for (m, &factor) in factors.iter().enumerate() {
                let (row, mass) = state.at(m);
                for (k, sums) in sums.iter().enumerate() {
                    let to = row.add(k * self.width);
                    with_rows!(sums, view => load_row::<V, _>(view, m, factor, to, &mut bad));
                }
                for (k, masses) in masses.iter().enumerate() {
                    let x = V::T::narrow(masses.get(m, 0)) * factor;
                    finite &= x.is_finite();
                    *(if k == 0 { mass } else { row.add(self.mass(k)) }) = x;
                }
            }
            finite & (bad.sum() == V::T::ZERO)
        }
    }

    /// Adds a state to sums of every weight.
    ///
    /// # Safety
    ///
    /// No other task may write them.
    pub(super) unsafe fn add<T: Float>(
        &self,
        state: &State<T>,
        features: usize,
        (sums, masses): (&[MatCell<'_, T>], &[MatCell<'_, T>]),
    ) {
        for (k, (sums, masses)) in sums.iter().zip(masses).enumerate() {
            for m in 0..features {
                let (row, mass) = state.row(m);
                let mass = if k == 0 { mass } else { row[self.mass(k)] };
                // SAFETY: the caller's promise.
                let (to, to_mass) = unsafe { (sums.row_mut(m), masses.row_mut(m)) };
                add(to, &row[k * self.width..]);
                to_mass[0] = to_mass[0] + mass;
            }
        }
    }

    /// Makes rows of a tile out of values and masses: each weight times both.
    ///
    /// # Safety
    ///
    /// `values` must be [`TILE`] rows of `stride`, zero behind their width, `masses` as many numbers, `weights`
    /// as many for every weight; `to` must have room for as many rows of `columns` and a vector more, and for as
    /// many numbers; the instruction set must be enabled.
    #[inline(always)]
    pub(super) unsafe fn pack<V: Lanes>(
        &self,
        (values, masses): (*const V::T, *const V::T),
        weights: *const V::T,
        (to, to_masses): (*mut V::T, *mut V::T),
    ) {
        // SAFETY: the caller's promises; as in `load`, what comes next is written later.
        unsafe {
            for t in 0..TILE {
                let (from, row) = (values.add(t * self.stride), to.add(t * self.columns));
                for k in 0..self.weights {
                    let weight = V::splat(*weights.add(k * TILE + t));
                    for c in (0..self.width).step_by(V::N) {
                        weight.mul(V::load(from.add(c))).store(row.add(k * self.width + c));
                    }
                }
                *to_masses.add(t) = *weights.add(t) * *masses.add(t);
                for k in 1..self.weights {
                    *row.add(self.mass(k)) = *weights.add(k * TILE + t) * *masses.add(t);
                }
                for c in self.mass(self.weights)..self.columns {
                    *row.add(c) = V::T::ZERO;
                }
            }
        }
    }

    /// Adds to rows, and to their masses, what was read for every weight times that weight.
    ///
    /// # Safety
    ///
    /// `from` must be [`TILE`] rows of `columns` and as many masses, `weights` as in [`pack`](Self::pack); no
    /// other task may write the rows.
    #[inline(always)]
    pub(super) unsafe fn combine<T: Float>(
        &self,
        (rows, masses): (*const T, *const T),
        weights: *const T,
        tokens: Range<usize>,
        (to, to_masses): (Option<&MatCell<'_, T>>, Option<&MatCell<'_, T>>),
    ) {
        for (t, i) in tokens.enumerate() {
            // SAFETY: the caller's promises.
            unsafe {
                let row = std::slice::from_raw_parts(rows.add(t * self.columns), self.columns);
                if let Some(to) = to {
                    let to = to.row_mut(i);
                    for k in 0..self.weights {
                        add_scaled(to, *weights.add(k * TILE + t), &row[k * self.width..]);
                    }
                }
                if let Some(to) = to_masses {
                    let mut sum = *weights.add(t) * *masses.add(t);
                    for k in 1..self.weights {
                        sum = sum + *weights.add(k * TILE + t) * row[self.mass(k)];
                    }
                    let to = to.row_mut(i);
                    to[0] = to[0] + sum;
                }
            }
        }
    }

    /// Adds to every weight of a token what its row, as it was read, and its mass say of values.
    ///
    /// # Safety
    ///
    /// `from` as in [`combine`](Self::combine), `values` and `masses` as in [`pack`](Self::pack); `to` must be a
    /// number for every weight and token, and no other task may write those of these tokens; the instruction set
    /// must be enabled.
    #[inline(always)]
    pub(super) unsafe fn dots<V: Lanes>(
        &self,
        (rows, row_masses): (*const V::T, *const V::T),
        (values, masses): (*const V::T, *const V::T),
        tokens: Range<usize>,
        to: &MatCell<'_, V::T>,
    ) {
        let whole = self.width / V::N * V::N;
        for (t, i) in tokens.enumerate() {
            for k in 0..self.weights {
                // SAFETY: the caller's promises.
                unsafe {
                    let row = rows.add(t * self.columns);
                    let (part, values) = (row.add(k * self.width), values.add(t * self.stride));
                    let mut sums = V::splat(V::T::ZERO);
                    for c in (0..whole).step_by(V::N) {
                        sums = V::load(part.add(c)).fma(V::load(values.add(c)), sums);
                    }
                    let mass = if k == 0 { row_masses.add(t) } else { row.add(self.mass(k)) };
                    let mut sum = sums.sum() + *mass * *masses.add(t);
                    for c in whole..self.width {
                        sum = sum + *part.add(c) * *values.add(c);
                    }
                    *to.at(k, i) = *to.at(k, i) + sum;
                }
            }
        }
    }
}

/// Row `m` of a matrix times a factor, zeros behind it up to whole vectors. What is not finite makes `bad` NaN.
///
/// # Safety
///
/// The row must exist, `to` must have room for it; the instruction set must be enabled.
#[inline(always)]
unsafe fn load_row<V: Lanes, E: Element>(
    view: &MatRef<'_, E>,
    m: usize,
    factor: V::T,
    to: *mut V::T,
    bad: &mut V,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let (factor, zero) = (V::splat(factor), V::splat(V::T::ZERO));
        for c in (0..view.cols()).step_by(V::N) {
            let x: V = pack::read(view, m, c);
            let x = x.mul(factor);
            *bad = x.fma(zero, *bad);
            x.store(to.add(c));
        }
    }
}

fn add<T: Float>(to: &mut [T], from: &[T]) {
    for (to, &x) in to.iter_mut().zip(from) {
        *to = *to + x;
    }
}

#[inline(always)]
fn add_scaled<T: Float>(to: &mut [T], factor: T, from: &[T]) {
    for (to, &x) in to.iter_mut().zip(from) {
        *to = *to + factor * x;
    }
}
