//! Sums over tokens, feature by feature: what a polynomial of inner products needs to know of them.
//!
//! `sums[m][c] = sum_t feature_m(t) value_c(t)` and `mass[m] = sum_t feature_m(t) weight(t)`. Three
//! products, each one micro-kernel over blocks of features:
//!
//! | pass | product |
//! |---|---|
//! | [`absorb`] | features x values, into the sums |
//! | [`read`] | features x sums, into rows of tokens |
//! | [`derive`](super::derive::derive) | sums x slopes of rows, into slopes of features |

use std::ops::Range;

use half::bf16;

use super::features::{BLOCK, SIDE, TILE, side_by_side};
use super::products::over_columns;
use super::workspace::Workspace;
use crate::linalg::tile::Fused;
use crate::scratch::Buffer;
use crate::simd::{Float, Lanes, unroll};

/// Sums over some tokens.
pub struct State<T> {
    /// Number of features.
    pub(super) len: usize,
    /// Numbers in a row: the width of the values, padded to whole vectors.
    pub(super) columns: usize,
    pub(super) sums: Buffer<T>,
    pub(super) mass: Buffer<T>,
    /// Sums from a feature on, rounded to bf16, `[m / 2][column]` a pair of features; none until asked for.
    pub(super) pairs: Buffer<u32>,
}

/// Most rows of a tile of sums.
pub(crate) const ROWS: usize = 8;

impl<T: Float> State<T> {
    /// Of no tokens yet.
    pub fn new(len: usize, columns: usize) -> Self {
        // Tiles of sums may reach beyond the last feature.
        let rows = len.next_multiple_of(BLOCK) + ROWS;
        let [sums, mass] = [rows * columns, rows].map(Buffer::new);
        Self { len, columns, sums, mass, pairs: Buffer::new(0) }
    }

    /// The sums of a feature, and its mass.
    pub fn row(&self, feature: usize) -> (&[T], T) {
        assert!(feature < self.len);
        // SAFETY: there are so many rows, and nobody writes while the state is borrowed.
        unsafe {
            let sums = self.sums.as_ptr().add(feature * self.columns);
            (std::slice::from_raw_parts(sums, self.columns), *self.mass.as_ptr().add(feature))
        }
    }

    /// Where the sums of a feature are, and its mass.
    pub fn at(&mut self, feature: usize) -> (*mut T, *mut T) {
        assert!(feature < self.len);
        let sums = self.sums.ptr().wrapping_add(feature * self.columns);
        (sums, self.mass.ptr().wrapping_add(feature))
    }

    /// Adds the sums of other tokens.
    pub fn add(&mut self, other: &Self) {
        assert!(self.len == other.len && self.columns == other.columns);
        for (to, from, len) in [
            (&mut self.sums, &other.sums, self.len * self.columns),
            (&mut self.mass, &other.mass, self.len),
        ] {
            for (i, x) in to.slice(len).iter_mut().enumerate() {
                // SAFETY: as in `row`.
                *x = *x + unsafe { *from.as_ptr().add(i) };
            }
        }
    }

    /// Rounds the sums of all features but the first `exact` to bf16, for products with pairs of features.
    pub fn round(&mut self, exact: usize) {
        let pairs = (self.len - exact).div_ceil(2);
        let mut to = Buffer::new(pairs * self.columns);
        let bits = |m: usize, c: usize| {
            let sum = if m < self.len { self.row(m).0[c].to_f64() } else { 0.0 };
            u32::from(bf16::from_f32(sum as f32).to_bits())
        };
        for (i, pair) in to.slice(pairs * self.columns).iter_mut().enumerate() {
            let (m, c) = (exact + 2 * (i / self.columns), i % self.columns);
            *pair = bits(m, c) | bits(m + 1, c) << 16;
        }
        self.pairs = to;
    }

    pub fn clear(&mut self) {
        self.sums.slice(self.len * self.columns).fill(T::ZERO);
        self.mass.slice(self.len).fill(T::ZERO);
    }
}

/// Adds a tile of tokens: `x` has a row for every variable, `values` one for every token, and `weights` a
/// number for it. What a feature sums up is multiplied by its factor.
///
/// # Safety
///
/// `factors` must have a number for every feature and for [`ROWS`] more; `x` must have a row of [`TILE`] for
/// every variable, `values` [`TILE`] rows of the state's width, `weights` [`TILE`] numbers; the state must be one
/// of these features; the instruction set must be enabled.
#[inline(always)]
pub(crate) unsafe fn absorb<V: Lanes, const R: usize, const C: usize>(
    state: &mut State<V::T>,
    work: &mut Workspace<V::T>,
    x: *const V::T,
    tile: (*const V::T, *const V::T),
    factors: *const V::T,
) {
    // SAFETY: the caller's promises.
    unsafe { absorb_twice::<V, R, C>((state, None), work, x, tile, factors) };
}

/// As [`absorb`], to two states if there are two: for the price of one, as products are at hand.
///
/// # Safety
///
/// As [`absorb`]; both states must be of these features.
#[inline(always)]
pub(crate) unsafe fn absorb_twice<V: Lanes, const R: usize, const C: usize>(
    states: (&mut State<V::T>, Option<&mut State<V::T>>),
    work: &mut Workspace<V::T>,
    x: *const V::T,
    tile: (*const V::T, *const V::T),
    factors: *const V::T,
) {
    // SAFETY: the caller's promises.
    unsafe { absorb_first::<V, R, C>(states, work, x, tile, factors, usize::MAX) };
}

/// As [`absorb`], for no more than the first `most` features; gives their number.
///
/// # Safety
///
/// As [`absorb`].
#[inline(always)]
pub(super) unsafe fn absorb_first<V: Lanes, const R: usize, const C: usize>(
    (state, mut also): (&mut State<V::T>, Option<&mut State<V::T>>),
    work: &mut Workspace<V::T>,
    x: *const V::T,
    (values, weights): (*const V::T, *const V::T),
    factors: *const V::T,
    most: usize,
) -> usize {
    let columns = state.columns;
    let also = also.as_mut().map(|also| (also.sums.ptr(), also.mass.ptr()));
    let (block, sums) = (work.block.ptr(), state.sums.ptr());
    work.features.restart();
    let (mut base, mut count) = (0, 0);
    // SAFETY: the caller's promises; tiles of sums reach at most `ROWS` beyond the last feature.
    unsafe {
        // A group ahead: features are made while the products before them are still being added up.
        let (mut now, mut next) = (block, block.add(R * TILE));
        loop {
            let after = base + count;
            let more = work.features.fill::<V>(x, next, R.min(most - after));
            if count > 0 {
                let (a, at) = (now.cast_const(), base * columns);
                let by = Some(factors.add(base));
                let (b, vectors) = ((values, columns), columns / V::N);
                let to = (sums.add(at), also.map(|(sums, _)| sums.add(at)), columns);
                over_columns::<V, Fused, R, C>((a, TILE, 1), b, TILE, to, vectors, by);
                let masses = (state.mass.ptr(), also.map(|(_, mass)| mass));
                add_masses::<V, R>(masses, now, (base, count), weights, factors);
            }
            if more == 0 {
                return after;
            }
            // The last tile adds nothing to features that come later.
            clear_rows(next, more..R);
            (base, count) = (after, more);
            (now, next) = (next, now);
        }
    }
}

/// Adds the weights of a tile to the masses of `R` features or fewer, and there also if there are two places: the
/// first feature, and how many there are.
///
/// # Safety
///
/// As [`absorb`]; there must be `R` rows of features, and a mass for each that counts.
#[inline(always)]
pub(super) unsafe fn add_masses<V: Lanes, const R: usize>(
    (mass, also): (*mut V::T, Option<*mut V::T>),
    features: *const V::T,
    (base, count): (usize, usize),
    weights: *const V::T,
    factors: *const V::T,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut sums = [V::splat(V::T::ZERO); R];
        for t in (0..TILE).step_by(V::N) {
            let weights = V::load(weights.add(t));
            unroll!(R, r => {
                sums[r] = V::load(features.add(r * TILE + t)).fma(weights, sums[r]);
            });
        }
        // Numbers before any branch, which would put vectors on the stack.
        let mut of = [V::T::ZERO; R];
        unroll!(R, r => {
            of[r] = sums[r].sum() * *factors.add(base + r);
        });
        for (r, &sum) in of.iter().enumerate().take(count) {
            *mass.add(base + r) = *mass.add(base + r) + sum;
            if let Some(also) = also {
                *also.add(base + r) = *also.add(base + r) + sum;
            }
        }
    }
}

/// Adds to rows of tokens, and to a number for each, what the sums say of them.
///
/// # Safety
///
/// As [`absorb`]; `rows` and `masses` are written, and `R` must divide [`TILE`].
#[inline(always)]
pub(crate) unsafe fn read<V: Lanes, const R: usize, const C: usize>(
    state: &State<V::T>,
    work: &mut Workspace<V::T>,
    x: *const V::T,
    to: (*mut V::T, *mut V::T),
    dead: &[Range<usize>],
) {
    // SAFETY: the caller's promises.
    unsafe { read_first::<V, R, C>(state, work, x, to, dead, usize::MAX) };
}

/// As [`read`], for no more than the first `most` features; gives their number.
///
/// # Safety
///
/// As [`read`].
#[inline(always)]
pub(super) unsafe fn read_first<V: Lanes, const R: usize, const C: usize>(
    state: &State<V::T>,
    work: &mut Workspace<V::T>,
    x: *const V::T,
    (rows, masses): (*mut V::T, *mut V::T),
    dead: &[Range<usize>],
    most: usize,
) -> usize {
    let columns = state.columns;
    let sums = state.sums.as_ptr();
    work.features.restart();
    let (mut base, mut count) = (0, 0);
    // SAFETY: the caller's promises.
    unsafe {
        // A block ahead: features are made while the products before them are still being added up.
        let (mut now, mut next) = (work.block.ptr(), work.slopes.ptr());
        loop {
            let (after, mut more) = (base + count, 0);
            let sums = sums.add(base * columns);
            for t in (0..TILE).step_by(R) {
                let (to, at) = (next.add(more * TILE), after + more);
                let some = work.features.fill::<V>(x, to, (BLOCK * R / TILE).min(most - at));
                silence(to, at, some, dead);
                more += some;
                if count > 0 {
                    let (a, to) = (now.add(t).cast_const(), rows.add(t * columns));
                    let (b, vectors) = ((sums, columns), columns / V::N);
                    over_columns::<V, Fused, R, C>(
                        (a, 1, TILE),
                        b,
                        count,
                        (to, None, columns),
                        vectors,
                        None,
                    );
                }
            }
            read_masses::<V>(state, now, (base, count), masses);
            if more == 0 {
                return after;
            }
            (base, count) = (after, more);
            (now, next) = (next, now);
        }
    }
}

/// Adds to a number for each token what the masses of a block of features say of it.
///
/// # Safety
///
/// As [`read`]; the block must be filled.
#[inline(always)]
pub(super) unsafe fn read_masses<V: Lanes>(
    state: &State<V::T>,
    block: *const V::T,
    (base, count): (usize, usize),
    masses: *mut V::T,
) {
    let mass = state.mass.as_ptr();
    // SAFETY: the caller's promises.
    unsafe {
        for t in (0..TILE).step_by(SIDE * V::N) {
            let mut sum = side_by_side::<V>(masses.add(t));
            for i in 0..count {
                let (f, mass) = (block.add(i * TILE + t), V::splat(*mass.add(base + i)));
                unroll!(SIDE, c => {
                    sum[c] = mass.fma(V::load(f.add(c * V::N)), sum[c]);
                });
            }
            unroll!(SIDE, c => {
                sum[c].store(masses.add(t + c * V::N));
            });
        }
    }
}

/// Zeroes the rows of a block, whose first feature is `base`, that belong to no term of the polynomial.
///
/// # Safety
///
/// The block must have `count` rows of [`TILE`].
pub(super) unsafe fn silence<T: Float>(
    block: *mut T,
    base: usize,
    count: usize,
    dead: &[Range<usize>],
) {
    for range in dead {
        let rows = range.start.clamp(base, base + count)..range.end.clamp(base, base + count);
        // SAFETY: the caller's promise.
        unsafe { clear_rows(block, rows.start - base..rows.end - base) };
    }
}

/// Zeroes rows of a block.
///
/// # Safety
///
/// They must exist.
pub(super) unsafe fn clear_rows<T: Float>(block: *mut T, rows: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(block.add(rows.start * TILE), rows.len() * TILE) }
        .fill(T::ZERO);
}
