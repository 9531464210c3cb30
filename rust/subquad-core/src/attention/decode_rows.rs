//! The inner loops of decoding: rows of keys and values, read one after the other.

use std::ops::Range;

use super::decode::BLOCK;
use super::pack;
use crate::mat::{MatRef, Rows, with_rows};
use crate::simd::{Element, Float, Lanes};

/// Bytes that software prefetch runs ahead.
const AHEAD: usize = 1024;

/// Asks for what lies [`AHEAD`] of some entries, where that helps.
#[inline(always)]
fn ahead<V: Lanes, E>(from: *const E, entries: usize) {
    let from = from.cast::<u8>().wrapping_add(AHEAD);
    for line in (0..entries * size_of::<E>()).step_by(64) {
        V::prefetch(from.wrapping_add(line));
    }
}

/// Row `i` in the compute type, padded with zeros to `len`.
///
/// # Safety
/// The row must exist, `to` have room, and the instruction set be enabled.
#[inline(always)]
pub unsafe fn widened<'a, V: Lanes>(
    source: &Rows<'_>,
    i: usize,
    len: usize,
    to: *mut V::T,
) -> &'a mut [V::T] {
    // SAFETY: the caller's buffer has room for `len`, a whole number of vectors.
    unsafe {
        for j in (0..len).step_by(V::N) {
            with_rows!(source, view => pack::read::<V, _>(view, i, j)).store(to.add(j));
        }
        std::slice::from_raw_parts_mut(to, len)
    }
}

/// Rows of one element type, readable by whole vectors.
pub struct Vectors<'a, E> {
    pub view: MatRef<'a, E>,
    pub rows: Range<usize>,
}

impl<E: Copy> Vectors<'_, E> {
    #[inline(always)]
    fn at(&self, row: usize) -> *const E {
        self.view.at(self.rows.start + row, 0)
    }
}

/// Evaluates `$body` with `$rows` bound to the rows as they are in memory, or, where their length is
/// not a whole number of vectors, to a padded copy of them.
macro_rules! with_vectors {
    ($v:ty, $source:expr, $range:expr, $len:expr, |$rows:ident| $body:expr) => {{
        let (source, copy): (&Rows<'_>, *mut <$v as Lanes>::T) = $source;
        let (range, len): (Range<usize>, usize) = ($range, $len);
        if source.cols() == len && source.has_contiguous_rows() {
            with_rows!(source, view => {
                let $rows = Vectors { view: *view, rows: range };
                $body
            })
        } else {
            for (r, i) in range.clone().enumerate() {
                widened::<$v>(source, i, len, copy.add(r * len));
            }
            let shape = (range.len(), len);
            let view = MatRef::from_raw_parts(copy.cast_const(), shape, (len as isize, 1));
            let $rows = Vectors { view, rows: 0..range.len() };
            $body
        }
    }};
}
pub(super) use with_vectors;

/// `scores[g][j] = q_g . k_j` for `G` queries, `e` apart, and a block of keys. Returns `G`.
///
/// `N` sums are gathered in `dots` and transposed into one vector of results. Beyond the last key,
/// what is left of earlier keys gives results that nobody looks at.
///
/// # Safety
/// The queries, room for `G` blocks of scores and for `N` vectors of `dots` must exist, and the
/// instruction set be enabled.
#[inline(always)]
pub unsafe fn products<V: Lanes, E: Element, const G: usize>(
    keys: &Vectors<'_, E>,
    e: usize,
    queries: *const V::T,
    (scores, dots): (*mut V::T, *mut V::T),
) -> usize {
    let step = V::N / G;
    // SAFETY: the caller has `G` queries and room for `G` rows of scores; keys beyond the last one
    // are not read.
    unsafe {
        let zero = V::splat(V::T::ZERO);
        for first in (0..keys.rows.len()).step_by(step) {
            for r in 0..step.min(keys.rows.len() - first) {
                let row = keys.at(first + r);
                ahead::<V, E>(row, e);
                let mut acc = [zero; G];
                for x in (0..e).step_by(V::N) {
                    let key: V = E::load(row.add(x));
                    for (g, acc) in acc.iter_mut().enumerate() {
                        *acc = key.fma(V::load(queries.add(g * e + x)), *acc);
                    }
                }
                for (g, acc) in acc.into_iter().enumerate() {
                    acc.store(dots.add((g * step + r) * V::N));
                }
            }
            let mut sums = [V::T::ZERO; 16];
            sum_each::<V>(dots).store(sums.as_mut_ptr());
            for g in 0..G {
                for r in 0..step {
                    *scores.add(g * BLOCK + first + r) = sums[g * step + r];
                }
            }
        }
    }
    G
}

/// As [`products`] for one query of `C` vectors, which registers hold. Returns 1.
///
/// One row after the other: unrolled over rows, the compiler loads them column by column, which the
/// prefetcher does not follow (a fifth slower from memory).
///
/// # Safety
/// As [`products`], for one query.
#[inline(always)]
pub unsafe fn short_products<V: Lanes, E: Element, const C: usize>(
    keys: &Vectors<'_, E>,
    query: *const V::T,
    (scores, dots): (*mut V::T, *mut V::T),
) -> usize {
    // SAFETY: the caller has a query and room for a block of scores; keys beyond the last one are
    // not read.
    unsafe {
        let query: [V; C] = std::array::from_fn(|c| V::load(query.add(c * V::N)));
        for first in (0..keys.rows.len()).step_by(V::N) {
            for r in 0..V::N.min(keys.rows.len() - first) {
                let row = keys.at(first + r);
                let mut dot = E::load::<V>(row).mul(query[0]);
                ahead::<V, E>(row, C * V::N);
                for c in 1..C {
                    dot = E::load::<V>(row.add(c * V::N)).fma(query[c], dot);
                }
                dot.store(dots.add(r * V::N));
            }
            sum_each::<V>(dots).store(scores.add(first));
        }
    }
    1
}

/// Lane `i` of the result is the sum of the lanes of the `i`-th of `N` vectors.
#[inline(always)]
unsafe fn sum_each<V: Lanes>(vectors: *const V::T) -> V {
    // SAFETY: the caller has `N` vectors.
    let mut x = unsafe { [V::splat(V::T::ZERO); 16] };
    for (i, x) in x[..V::N].iter_mut().enumerate() {
        // SAFETY: as above.
        *x = unsafe { V::load(vectors.add(i * V::N)) };
    }
    let mut half = V::N / 2;
    while half > 0 {
        for i in 0..half {
            let (low, high) = x[i].zip(x[i + half]);
            x[i] = low.add(high);
        }
        half /= 2;
    }
    x[0]
}

/// `sums[g] += sum_j p[g][j] v_j` for `G` queries and a block of values. Returns `G`.
///
/// Sums of as many columns as registers hold are kept there, so that the rows of a usual head are
/// read strictly in address order.
///
/// # Safety
/// `G` rows of weights and of sums must exist, and the instruction set be enabled.
#[inline(always)]
pub unsafe fn weighted<V: Lanes, E: Element, const G: usize>(
    values: &Vectors<'_, E>,
    ev: usize,
    p: *const V::T,
    sums: *mut V::T,
) -> usize {
    let vectors = ev / V::N;
    let mut x = 0;
    // SAFETY: the caller has `G` rows of weights and of sums.
    unsafe {
        while x < vectors {
            let place = (x * V::N, ev);
            match vectors - x {
                8.. if G == 1 => x += columns::<V, E, G, 8>(values, place, p, sums),
                4.. => x += columns::<V, E, G, 4>(values, place, p, sums),
                2.. => x += columns::<V, E, G, 2>(values, place, p, sums),
                _ => x += columns::<V, E, G, 1>(values, place, p, sums),
            }
        }
    }
    G
}

/// `C` vectors of columns from `x` of the sums. Returns `C`.
#[inline(always)]
unsafe fn columns<V: Lanes, E: Element, const G: usize, const C: usize>(
    values: &Vectors<'_, E>,
    (x, ev): (usize, usize),
    p: *const V::T,
    sums: *mut V::T,
) -> usize {
    // SAFETY: the caller has `G` rows of weights and of sums; values beyond the last are not read.
    unsafe {
        let mut acc = [[V::splat(V::T::ZERO); C]; G];
        for r in 0..values.rows.len() {
            let row = values.at(r).add(x);
            ahead::<V, E>(row, C * V::N);
            let value: [V; C] = std::array::from_fn(|c| E::load(row.add(c * V::N)));
            for g in 0..G {
                let p = V::splat(*p.add(g * BLOCK + r));
                for c in 0..C {
                    acc[g][c] = p.fma(value[c], acc[g][c]);
                }
            }
        }
        for g in 0..G {
            for c in 0..C {
                let at = sums.add(g * ev + x + c * V::N);
                V::load(at).add(acc[g][c]).store(at);
            }
        }
    }
    C
}
