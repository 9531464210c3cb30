//! A matrix for every lag between a query and a key: the logit of query `i` and key `j` is a sum over
//! coordinates `c` of `query[i, c] weights[c, i - j] key[j, c]`.
//!
//! Queries are the lanes of the tiled kernels, so the factors of one key with a strip of queries are a
//! vector of consecutive lags. They are no product of matrices: a logit takes a load, a product and a fused
//! step per coordinate, and its gradient is summed over pairs of the same lag as that of a bias is.

use std::ops::Range;

use super::dense_grad::Scratch;
use super::grad_pair::Pair;
use super::lags;
use super::scores::STRIP_VECTORS;
use super::{HeadGradients, Problem};
use crate::linalg::tile::Tile;
use crate::mat::{MatCell, Rows};
use crate::simd::{Float, Lanes, unroll};

/// Zeros at both ends of a row of factors: lanes beyond the last query and keys beyond the last one of a
/// tile are read.
const PAD: usize = 64;

/// The factors of a head, seen from one query and one key.
#[derive(Clone, Copy, Debug)]
pub struct Weights<T> {
    /// That of coordinate 0; null without.
    at: *const T,
    /// From one coordinate to the next.
    stride: usize,
    /// The largest absolute value; 1 without.
    pub largest: f64,
}

impl<T> Weights<T> {
    /// Nothing but ones.
    const NONE: Self = Self { at: std::ptr::null(), stride: 0, largest: 1.0 };

    /// Are there none?
    #[inline(always)]
    pub fn is_null(&self) -> bool {
        self.at.is_null()
    }

    /// Those of a query and a key so many places on.
    #[inline(always)]
    pub fn at(&self, queries: usize, keys: usize) -> Self {
        if self.is_null() {
            return Self { ..*self };
        }
        Self { at: self.at.wrapping_offset(queries as isize - keys as isize), ..*self }
    }

    /// Of a coordinate.
    #[inline(always)]
    fn of(&self, c: usize) -> *const T {
        self.at.wrapping_add(c * self.stride)
    }
}

/// The factors of all heads in the compute type, one copy of what several share.
pub struct Tables<T> {
    distinct: Vec<Table<T>>,
    of_head: Vec<usize>,
    /// Where lag 0 is.
    origin: usize,
}

struct Table<T> {
    numbers: Vec<T>,
    stride: usize,
    largest: f64,
}

impl<T: Float> Tables<T> {
    pub fn new(problem: &Problem<'_>) -> Self {
        let mut distinct: Vec<Rows<'_>> = Vec::new();
        let mut of_head = Vec::new();
        for weights in problem.heads.iter().filter_map(|head| head.weights) {
            let known = distinct.iter().position(|other| other.is_same_view(&weights));
            of_head.push(known.unwrap_or(distinct.len()));
            if known.is_none() {
                distinct.push(weights);
            }
        }
        let distinct = distinct.iter().map(Table::new).collect();
        let keys = problem.heads.first().map_or(0, |head| head.key.rows());
        Self { distinct, of_head, origin: PAD + keys.saturating_sub(1) }
    }

    /// Those of a head, from its first query and its first key.
    pub fn of(&self, h: usize) -> Weights<T> {
        let Some(&table) = self.of_head.get(h) else { return Weights::NONE };
        let Table { numbers, stride, largest } = &self.distinct[table];
        let at = numbers.as_ptr().wrapping_add(self.origin);
        Weights { at, stride: *stride, largest: *largest }
    }
}

impl<T: Float> Table<T> {
    fn new(weights: &Rows<'_>) -> Self {
        let stride = weights.cols() + 2 * PAD;
        // Never empty, or the head would seem to have none.
        let mut numbers = vec![T::ZERO; weights.rows().max(1) * stride];
        let mut largest = 0.0_f64;
        for (c, row) in numbers.chunks_exact_mut(stride).take(weights.rows()).enumerate() {
            for (m, x) in row[PAD..][..weights.cols()].iter_mut().enumerate() {
                let number = weights.get(c, m);
                *x = T::narrow(number);
                // A maximum would pass over NaN.
                if number.abs() > largest || number.is_nan() {
                    largest = number.abs();
                }
            }
        }
        Self { numbers, stride, largest }
    }
}

/// Adds the weighted products of `KR` keys and a strip of queries to their logits.
///
/// # Safety
/// The instruction set of `V` must be enabled; the keys are a tile of `e` coordinates, `queries` a strip,
/// and `weights` those of the first query and the first key of the tile.
#[inline(always)]
pub unsafe fn accumulate<V: Lanes, const KR: usize>(
    acc: &mut Tile<V, KR, STRIP_VECTORS>,
    keys: *const V::T,
    queries: *const V::T,
    weights: Weights<V::T>,
    e: usize,
) {
    // SAFETY: the caller's buffers hold whole strips and tiles, and the rows of factors are padded.
    unsafe {
        for c in 0..e {
            let row = weights.of(c);
            let (q, key) = (strip::<V>(queries, c), keys.add(c * KR));
            unroll!(KR, r => {
                let k = V::splat(*key.add(r));
                for u in 0..STRIP_VECTORS {
                    let x = V::load(row.wrapping_sub(r).wrapping_add(u * V::N));
                    acc[r][u] = x.mul(q[u]).fma(k, acc[r][u]);
                }
            });
        }
    }
}

/// Coordinate `c` of a strip of queries.
#[inline(always)]
unsafe fn strip<V: Lanes>(queries: *const V::T, c: usize) -> [V; STRIP_VECTORS] {
    // SAFETY: the caller's strip has the coordinate.
    unsafe {
        let mut q = [V::splat(V::T::ZERO); STRIP_VECTORS];
        for (u, q) in q.iter_mut().enumerate() {
            *q = V::load(queries.add((c * STRIP_VECTORS + u) * V::N));
        }
        q
    }
}

/// Sums the gradients of queries, keys and factors from those of the logits of a pair of blocks, of which
/// each strip has the keys `spans`.
///
/// # Safety
/// The instruction set of `V` must be enabled, and the scratch made for the job.
#[inline(always)]
pub unsafe fn pair_slopes<V: Lanes, const KR: usize>(
    pair: &Pair<'_, V::T>,
    scratch: &mut Scratch<V::T>,
    spans: &[Range<usize>],
) {
    let job = pair.job;
    // SAFETY: passed on.
    unsafe {
        for c in 0..pair.e {
            for (s, span) in spans.iter().enumerate() {
                strip_slopes::<V, KR>(pair, scratch, c, (s, span));
            }
            if let Some(to) = &job.gradients.weights {
                let all = (&job.rows, &job.keys);
                let to = (&to.transpose(), c);
                scratch.lag_sums.flush::<V>(KR, (&pair.rows, &pair.keys), all, to);
            }
        }
    }
}

/// As [`pair_slopes`], for one coordinate and one strip.
#[inline(always)]
unsafe fn strip_slopes<V: Lanes, const KR: usize>(
    pair: &Pair<'_, V::T>,
    scratch: &mut Scratch<V::T>,
    c: usize,
    (s, span): (usize, &Range<usize>),
) {
    let w = STRIP_VECTORS * V::N;
    let (row, stride) = (pair.first + s * w, scratch.slope_rows);
    // SAFETY: the scratch holds whole blocks.
    unsafe {
        let slopes = scratch.grad_scores.ptr().add(s * pair.capacity * w);
        let q = strip::<V>(scratch.query_strips.ptr().add(row * pair.e), c);
        let weights = pair.job.weights.at(pair.rows.start + s * w, pair.keys.start).of(c);
        let (sums, sum_stride) = scratch.lag_sums.place();
        let by_query = scratch.left_sums.ptr().add(c * stride + row);
        let by_key = scratch.right_sums.ptr().add(c * scratch.slope_keys);
        let zero = V::splat(V::T::ZERO);
        let mut total = [zero; STRIP_VECTORS];
        let mut t = span.start;
        while t < span.end {
            let key = scratch.key_tiles.ptr().add(t * pair.e + c * KR);
            let (weights, to) = (weights.wrapping_sub(t), sums.wrapping_add(s * w).wrapping_sub(t));
            // Nothing is carried from key to key but the two sums: unrolled, they would be spilled.
            for r in 0..KR {
                let k = V::splat(*key.add(r));
                let mut of_key = zero;
                for u in 0..STRIP_VECTORS {
                    let slope = V::load(slopes.add((t + r) * w + u * V::N));
                    let x = V::load(weights.wrapping_sub(r).wrapping_add(u * V::N));
                    let moved = slope.mul(x);
                    total[u] = moved.fma(k, total[u]);
                    of_key = moved.fma(q[u], of_key);
                    let at = to.wrapping_add(r * sum_stride).wrapping_sub(r).wrapping_add(u * V::N);
                    slope.mul(q[u]).fma(k, V::load(at)).store(at);
                }
                *by_key.add(t + r) = *by_key.add(t + r) + of_key.sum();
            }
            t += KR;
        }
        for (u, total) in total.into_iter().enumerate() {
            let at = by_query.add(u * V::N);
            V::load(at).add(total).store(at);
        }
    }
}

/// Gradients of the factors that tasks sum up, each over lags of its own.
pub struct TaskSums {
    sums: Vec<f64>,
    coordinates: usize,
    lags: usize,
}

impl TaskSums {
    /// For so many tasks, if `to` wants them, of up to so many rows and keys.
    pub fn new<T>(to: &HeadGradients<'_, T>, tasks: usize, rows: usize, keys: usize) -> Self {
        let (coordinates, wanted) = to.weights.map_or((0, 0), |cell| (cell.rows(), tasks));
        let lags = lags::count(rows, keys);
        Self { sums: vec![0.0; wanted * coordinates * lags], coordinates, lags }
    }

    /// Where each task sums; empty where nothing is wanted.
    pub fn cells(&mut self) -> Vec<MatCell<'_, f64>> {
        let (coordinates, lags) = (self.coordinates, self.lags);
        let parts = self.sums.chunks_exact_mut((coordinates * lags).max(1));
        parts.map(|part| MatCell::from_slice(part, coordinates, lags)).collect()
    }

    /// Adds what a task has summed to the gradient of its head, whose lags begin `first` before. False if
    /// something is not finite.
    ///
    /// # Safety
    /// The task must be over, and nobody else have the gradient.
    pub unsafe fn add(
        &self,
        task: usize,
        to: &MatCell<'_, f64>,
        first: usize,
        count: usize,
    ) -> bool {
        let size = self.coordinates * self.lags;
        let mut finite = true;
        for (c, row) in self.sums[task * size..][..size].chunks_exact(self.lags.max(1)).enumerate()
        {
            for (m, x) in row[..count].iter().enumerate() {
                // SAFETY: the caller has the gradient.
                unsafe { *to.at(c, first + m) += x };
                finite &= x.is_finite();
            }
        }
        finite
    }
}

#[cfg(test)]
mod tests;
