//! The keys that only some queries of a tile see: logit by logit.
//!
//! Arrays are `[key][`[`TILE`]` queries]`.

use super::TILE;
use super::kit::Kit;
use crate::linalg::tile::{Fused, Tile, accumulate, zero};
use crate::polynomial::over_columns;
use crate::simd::{Float, Lanes, unroll};

/// `x . y` of every query and every key of two tiles, for the first `keys` keys.
///
/// # Safety
///
/// Both must have a row of [`TILE`] for every one of `dim` coordinates, `to` one for every key; `R` and
/// `C` vectors must divide [`TILE`]; the instruction set must be enabled.
#[inline(always)]
pub unsafe fn logits<V: Lanes, const R: usize, const C: usize>(
    dim: usize,
    x: *const V::T,
    y: *const V::T,
    keys: usize,
    to: *mut V::T,
) {
    for j in (0..keys).step_by(R) {
        for t in (0..TILE).step_by(C * V::N) {
            // SAFETY: the caller's promises.
            unsafe {
                let mut acc: Tile<V, R, C> = zero();
                accumulate(&mut acc, (y.add(j), 1, TILE), (x.add(t), TILE), dim);
                unroll!(R, r => {
                    for c in 0..C {
                        acc[r][c].store(to.add((j + r) * TILE + t + c * V::N));
                    }
                });
            }
        }
    }
}

/// Makes logits of products, and weights of logits, zero for the queries before `from(key)`; and the derivatives
/// of those by the products, if wanted.
///
/// # Safety
///
/// `logits`, `near` and `slopes` must have a row of [`TILE`] for every key; the instruction set must be
/// enabled.
#[inline(always)]
pub unsafe fn weigh<V: Lanes>(
    kit: &Kit<V::T>,
    logits: *mut V::T,
    near: *mut V::T,
    keys: usize,
    slopes: Option<*mut V::T>,
    from: impl Fn(usize) -> usize,
) {
    let (last, rest) = kit.terms.split_last().expect("there is a coefficient");
    for j in 0..keys {
        // SAFETY: the caller's promises.
        unsafe {
            let row = near.add(j * TILE);
            let scale = V::splat(kit.factor);
            for t in (0..TILE).step_by(V::N) {
                let s = V::load(logits.add(j * TILE + t)).mul(scale);
                s.store(logits.add(j * TILE + t));
                let (mut p, mut slope) = (V::splat(*last), V::splat(V::T::ZERO));
                for &c in rest.iter().rev() {
                    slope = slope.fma(s, p);
                    p = p.fma(s, V::splat(c));
                }
                p.store(row.add(t));
                if let Some(slopes) = slopes {
                    slope.mul(scale).store(slopes.add(j * TILE + t));
                }
            }
            let hidden = from(j).min(TILE);
            std::slice::from_raw_parts_mut(row, hidden).fill(V::T::ZERO);
            if let Some(slopes) = slopes {
                std::slice::from_raw_parts_mut(slopes.add(j * TILE), hidden).fill(V::T::ZERO);
            }
        }
    }
}

/// `to[r][c] += sum_k a[r][k] b[k][c]`, for `rows` rows (whole groups of `R` are written) and `vectors`
/// vectors of columns.
///
/// # Safety
///
/// As [`over_columns`], for so many; `b` and `to` are `(first, from row to row)`.
#[inline(always)]
pub unsafe fn multiply_add<V: Lanes, const R: usize, const C: usize>(
    a: (*const V::T, usize, usize),
    b: (*const V::T, usize),
    depth: usize,
    (to, stride): (*mut V::T, usize),
    (rows, vectors): (usize, usize),
) {
    for r in (0..rows).step_by(R) {
        // SAFETY: the caller's promises.
        unsafe {
            let a = (a.0.add(r * a.1), a.1, a.2);
            let to = (to.add(r * stride), None, stride);
            over_columns::<V, Fused, R, C>(a, b, depth, to, vectors, None);
        }
    }
}

/// What the weights get: `values . rows + mass sum` for every key, which has values and a mass, and every query,
/// which has a row and a sum; `rows` has those as columns.
///
/// # Safety
///
/// `values` must have a row of `columns` and `masses` a number for every key and for `R` more, `rows` a row of
/// [`TILE`] for every column, `sums` [`TILE`] numbers; for the rest see [`logits`].
#[inline(always)]
pub unsafe fn upstream<V: Lanes, const R: usize, const C: usize>(
    (values, masses, columns): (*const V::T, *const V::T, usize),
    (rows, sums): (*const V::T, *const V::T),
    keys: usize,
    to: *mut V::T,
) {
    for j in (0..keys).step_by(R) {
        for t in (0..TILE).step_by(C * V::N) {
            // SAFETY: the caller's promises.
            unsafe {
                let mut acc: Tile<V, R, C> = zero();
                unroll!(R, r => {
                    let mass = V::splat(*masses.add(j + r));
                    for c in 0..C {
                        acc[r][c] = mass.mul(V::load(sums.add(t + c * V::N)));
                    }
                });
                let a = (values.add(j * columns), columns, 1);
                accumulate(&mut acc, a, (rows.add(t), TILE), columns);
                unroll!(R, r => {
                    for c in 0..C {
                        acc[r][c].store(to.add((j + r) * TILE + t + c * V::N));
                    }
                });
            }
        }
    }
}

/// Adds to `terms` what powers of the logits get, for the queries from `from(key)` on; then makes slopes of the
/// products of what the weights get.
///
/// # Safety
///
/// As [`weigh`].
#[inline(always)]
pub unsafe fn settle<V: Lanes>(
    logits: *const V::T,
    slopes: *const V::T,
    upstream: *mut V::T,
    keys: usize,
    terms: &mut [f64],
    from: impl Fn(usize) -> usize,
) {
    for j in 0..keys {
        for t in (0..TILE).step_by(V::N) {
            let at = j * TILE + t;
            // SAFETY: the caller's promises.
            unsafe {
                let hidden = from(j).min(TILE);
                let up = V::load(upstream.add(at));
                if !terms.is_empty() {
                    let mut lanes = [V::T::ZERO; 16];
                    up.store(lanes.as_mut_ptr());
                    lanes[..hidden.clamp(t, t + V::N) - t].fill(V::T::ZERO);
                    let (mut power, s) = (V::load(lanes.as_ptr()), V::load(logits.add(at)));
                    for term in terms.iter_mut() {
                        *term += power.sum().to_f64();
                        power = power.mul(s);
                    }
                }
                up.mul(V::load(slopes.add(at))).store(upstream.add(at));
            }
        }
    }
}

/// `to[j] = sum_t weights[j][t] of_queries[t]` for every key.
///
/// # Safety
///
/// `weights` must have a row of [`TILE`] for every key, `of_queries` [`TILE`] numbers; the instruction set must
/// be enabled.
#[inline(always)]
pub unsafe fn add_up<V: Lanes>(
    weights: *const V::T,
    of_queries: *const V::T,
    keys: usize,
    to: *mut V::T,
) {
    for j in 0..keys {
        // SAFETY: the caller's promises.
        unsafe {
            let mut sum = V::splat(V::T::ZERO);
            for t in (0..TILE).step_by(V::N) {
                let weights = V::load(weights.add(j * TILE + t));
                sum = weights.fma(V::load(of_queries.add(t)), sum);
            }
            *to.add(j) = sum.sum();
        }
    }
}

/// Adds to numbers of the queries what keys give them: weights times what they get, and weights.
///
/// # Safety
///
/// `weights` and `upstream` must have a row of [`TILE`] for every key, both of `to` [`TILE`] numbers; the
/// instruction set must be enabled.
#[inline(always)]
pub unsafe fn add_dots<V: Lanes>(
    weights: *const V::T,
    upstream: *const V::T,
    keys: usize,
    to: (*mut V::T, *mut V::T),
) {
    for t in (0..TILE).step_by(V::N) {
        // SAFETY: the caller's promises.
        unsafe {
            let (mut dot, mut sum) = (V::splat(V::T::ZERO), V::splat(V::T::ZERO));
            for j in 0..keys {
                let weight = V::load(weights.add(j * TILE + t));
                dot = weight.fma(V::load(upstream.add(j * TILE + t)), dot);
                sum = sum.add(weight);
            }
            V::load(to.0.add(t)).add(dot).store(to.0.add(t));
            V::load(to.1.add(t)).add(sum).store(to.1.add(t));
        }
    }
}

/// Multiplies what keys get by a number of every query, and adds another.
///
/// # Safety
///
/// As [`add_dots`].
#[inline(always)]
pub unsafe fn divide<V: Lanes>(
    upstream: *mut V::T,
    (per, g): (*const V::T, *const V::T),
    keys: usize,
) {
    for j in 0..keys {
        for t in (0..TILE).step_by(V::N) {
            // SAFETY: the caller's promises.
            unsafe {
                let at = upstream.add(j * TILE + t);
                V::load(at).fma(V::load(per.add(t)), V::load(g.add(t))).store(at);
            }
        }
    }
}
