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

use super::features::{BLOCK, Features, TILE};
use super::monomials::Monomials;
use crate::linalg::tile::{Tile, accumulate, add_to, zero};
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
}

/// Most rows of a tile of sums.
pub(crate) const ROWS: usize = 8;

impl<T: Float> State<T> {
    /// Of no tokens yet.
    pub fn new(len: usize, columns: usize) -> Self {
        // Tiles of sums may reach beyond the last feature.
        let rows = len.next_multiple_of(BLOCK) + ROWS;
        Self { len, columns, sums: Buffer::new(rows * columns), mass: Buffer::new(rows) }
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

    pub fn clear(&mut self) {
        self.sums.slice(self.len * self.columns).fill(T::ZERO);
        self.mass.slice(self.len).fill(T::ZERO);
    }
}

/// What a task works with besides: one block of features, and where it is among them.
pub struct Workspace<T> {
    pub(super) features: Features<T>,
    /// Two more passes beside the first.
    pub(super) others: [Features<T>; 2],
    pub(super) block: Buffer<T>,
    pub(super) slopes: Buffer<T>,
}

impl<T: Float> Workspace<T> {
    pub fn new(monomials: &Monomials) -> Self {
        let rows = BLOCK + ROWS;
        Self {
            features: Features::new(monomials.words()),
            others: [Features::new(monomials.words()), Features::new(monomials.words())],
            block: Buffer::new(rows * TILE),
            slopes: Buffer::new(rows * TILE),
        }
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
    (state, mut also): (&mut State<V::T>, Option<&mut State<V::T>>),
    work: &mut Workspace<V::T>,
    x: *const V::T,
    (values, weights): (*const V::T, *const V::T),
    factors: *const V::T,
) {
    let columns = state.columns;
    let (block, sums, mass) = (work.block.ptr(), state.sums.ptr(), state.mass.ptr());
    let also = also.as_mut().map(|also| (also.sums.ptr(), also.mass.ptr()));
    work.features.restart();
    let mut base = 0;
    // SAFETY: the caller's promises; tiles of sums reach at most `ROWS` beyond the last feature.
    unsafe {
        loop {
            let count = work.features.fill::<V>(x, block, BLOCK);
            if count == 0 {
                break;
            }
            for i in (0..count).step_by(R) {
                let (a, at) = (block.add(i * TILE), (base + i) * columns);
                let by = Some(factors.add(base + i));
                let (b, vectors) = ((values, columns), columns / V::N);
                let to = (sums.add(at), also.map(|(sums, _)| sums.add(at)), columns);
                over_columns::<V, R, C>((a, TILE, 1), b, TILE, to, vectors, by);
            }
            for i in 0..count {
                let f = block.add(i * TILE);
                let mut sum = V::splat(V::T::ZERO);
                for t in (0..TILE).step_by(V::N) {
                    sum = V::load(f.add(t)).fma(V::load(weights.add(t)), sum);
                }
                let sum = sum.sum() * *factors.add(base + i);
                let mass = mass.add(base + i);
                *mass = *mass + sum;
                if let Some((_, mass)) = also {
                    let mass = mass.add(base + i);
                    *mass = *mass + sum;
                }
            }
            base += count;
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
    (rows, masses): (*mut V::T, *mut V::T),
    dead: &[Range<usize>],
) {
    let columns = state.columns;
    let (block, sums, mass) = (work.block.ptr(), state.sums.as_ptr(), state.mass.as_ptr());
    work.features.restart();
    let mut base = 0;
    // SAFETY: the caller's promises.
    unsafe {
        loop {
            let count = work.features.fill::<V>(x, block, BLOCK);
            if count == 0 {
                break;
            }
            silence(block, base, count, dead);
            let sums = sums.add(base * columns);
            for t in (0..TILE).step_by(R) {
                let (a, to) = (block.add(t).cast_const(), rows.add(t * columns));
                let (b, vectors) = ((sums, columns), columns / V::N);
                over_columns::<V, R, C>((a, 1, TILE), b, count, (to, None, columns), vectors, None);
            }
            for t in (0..TILE).step_by(V::N) {
                let mut sum = V::load(masses.add(t));
                for i in 0..count {
                    let f = V::load(block.add(i * TILE + t));
                    sum = V::splat(*mass.add(base + i)).fma(f, sum);
                }
                sum.store(masses.add(t));
            }
            base += count;
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
        for row in rows {
            // SAFETY: the caller's promise.
            unsafe { std::slice::from_raw_parts_mut(block.add((row - base) * TILE), TILE) }
                .fill(T::ZERO);
        }
    }
}

/// `R` rows of a product, over all its columns, added to what is there, and there also if there are two places;
/// each row times its factor, if there are any. `a` is `(first, from row to row, from step to step)`.
///
/// # Safety
///
/// As [`accumulate`] and [`add_to`], for so many vectors.
#[inline(always)]
pub(crate) unsafe fn over_columns<V: Lanes, const R: usize, const C: usize>(
    a: (*const V::T, usize, usize),
    (b, b_step): (*const V::T, usize),
    depth: usize,
    (to, also, stride): (*mut V::T, Option<*mut V::T>, usize),
    vectors: usize,
    factors: Option<*const V::T>,
) {
    let mut c = 0;
    // SAFETY: the caller's promises.
    unsafe {
        while c + C <= vectors {
            let mut acc: Tile<V, R, C> = zero();
            accumulate(&mut acc, a, (b.add(c * V::N), b_step), depth);
            scale(&mut acc, factors);
            add_to(to.add(c * V::N), stride, &acc);
            if let Some(also) = also {
                add_to(also.add(c * V::N), stride, &acc);
            }
            c += C;
        }
        while c < vectors {
            let mut acc: Tile<V, R, 1> = zero();
            accumulate(&mut acc, a, (b.add(c * V::N), b_step), depth);
            scale(&mut acc, factors);
            add_to(to.add(c * V::N), stride, &acc);
            if let Some(also) = also {
                add_to(also.add(c * V::N), stride, &acc);
            }
            c += 1;
        }
    }
}

/// # Safety
///
/// A factor must be readable for every row; the instruction set must be enabled.
#[inline(always)]
unsafe fn scale<V: Lanes, const R: usize, const C: usize>(
    acc: &mut Tile<V, R, C>,
    factors: Option<*const V::T>,
) {
    let Some(factors) = factors else { return };
    unroll!(R, r => {
        // SAFETY: the caller's promise.
        let factor = unsafe { V::splat(*factors.add(r)) };
        for c in 0..C {
            acc[r][c] = acc[r][c].mul(factor);
        }
    });
}
