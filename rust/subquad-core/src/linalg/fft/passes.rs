//! Passes of radix 4 over rows `k + j q` for j < 4, and what is done to short parts in registers.

use std::ops::Range;

use super::base::{Complex, four, row_of, transform};
use super::ends::{Sink, Source};
use crate::simd::{Float, Lanes, unroll};

/// Forward: the four rows at `x`, `apart` rows from each other, for every k of a range.
///
/// # Safety
/// The rows must exist, and twiddles for every k; the instruction set must be enabled.
#[inline(always)]
pub(super) unsafe fn forward<V: Lanes>(
    x: *mut V::T,
    apart: usize,
    range: Range<usize>,
    twiddles: *const V::T,
) {
    let row = 2 * V::N;
    // SAFETY: the caller's promises.
    unsafe {
        let mut x = x;
        for k in range {
            let p = [x, x.add(apart * row), x.add(2 * apart * row), x.add(3 * apart * row)];
            let y = four([load(p[0]), load(p[1]), load(p[2]), load(p[3])]);
            scatter::<V>(y, p, twiddles.add(6 * k));
            x = x.add(row);
        }
    }
}

/// # Safety
/// A row must be readable; the instruction set must be enabled.
#[inline(always)]
unsafe fn load<V: Lanes>(p: *const V::T) -> Complex<V> {
    // SAFETY: the caller's promises.
    unsafe { Complex::load(p) }
}

/// Twiddles after a forward pass.
///
/// # Safety
/// As [`forward`].
#[inline(always)]
unsafe fn scatter<V: Lanes>(y: [Complex<V>; 4], to: [*mut V::T; 4], twiddles: *const V::T) {
    // SAFETY: the caller's promises.
    unsafe {
        y[0].store(to[0]);
        y[1].by::<false>(twiddles).store(to[1]);
        y[2].by::<false>(twiddles.add(2)).store(to[2]);
        y[3].by::<false>(twiddles.add(4)).store(to[3]);
    }
}

/// Exchanges the parts of all: what lies between two exchanges is done to the conjugates. No closure, which the
/// compiler may leave outside the instruction set.
#[inline(always)]
fn swap<V: Lanes, const M: usize>(x: [Complex<V>; M]) -> [Complex<V>; M] {
    let mut y = x;
    unroll!(M, i => { y[i] = Complex { re: x[i].im, im: x[i].re }; });
    y
}

/// Twiddles before a backward pass, and its sums.
///
/// # Safety
/// As [`forward`].
#[inline(always)]
unsafe fn gather<V: Lanes>(from: [*const V::T; 4], twiddles: *const V::T) -> [Complex<V>; 4] {
    // SAFETY: the caller's promises.
    unsafe {
        let a = load::<V>(from[0]);
        let b = load::<V>(from[1]).by::<true>(twiddles);
        let c = load::<V>(from[2]).by::<true>(twiddles.add(2));
        let d = load::<V>(from[3]).by::<true>(twiddles.add(4));
        swap(four(swap([a, b, c, d])))
    }
}

/// Backward, see [`forward`].
///
/// # Safety
/// As [`forward`].
#[inline(always)]
pub(super) unsafe fn backward<V: Lanes>(
    x: *mut V::T,
    apart: usize,
    range: Range<usize>,
    twiddles: *const V::T,
) {
    let row = 2 * V::N;
    // SAFETY: the caller's promises.
    unsafe {
        let mut x = x;
        for k in range {
            let p = [x, x.add(apart * row), x.add(2 * apart * row), x.add(3 * apart * row)];
            let from = [p[0].cast_const(), p[1], p[2], p[3]];
            let y = gather::<V>(from, twiddles.add(6 * k));
            unroll!(4, j => { y[j].store(p[j]); });
            x = x.add(row);
        }
    }
}

/// The first pass: `live` of the four rows `k + j q` exist, the others are zero.
///
/// # Safety
/// As [`forward`]; the rows must exist.
#[inline(always)]
pub(super) unsafe fn first<V: Lanes, S: Source<V>>(
    source: S,
    (x, apart): (*mut V::T, usize),
    q: usize,
    range: Range<usize>,
    live: usize,
    twiddles: *const V::T,
) {
    // SAFETY: the caller's promises.
    unsafe {
        match live {
            0 => first_of::<V, S, 0>(source, (x, apart), q, range, twiddles),
            1 => first_of::<V, S, 1>(source, (x, apart), q, range, twiddles),
            2 => first_of::<V, S, 2>(source, (x, apart), q, range, twiddles),
            3 => first_of::<V, S, 3>(source, (x, apart), q, range, twiddles),
            _ => first_of::<V, S, 4>(source, (x, apart), q, range, twiddles),
        }
    }
}

/// # Safety
/// As [`first`].
#[inline(always)]
unsafe fn first_of<V: Lanes, S: Source<V>, const LIVE: usize>(
    source: S,
    (x, apart): (*mut V::T, usize),
    q: usize,
    range: Range<usize>,
    twiddles: *const V::T,
) {
    let row = 2 * V::N;
    // SAFETY: the caller's promises.
    unsafe {
        let zero = Complex { re: V::splat(V::T::ZERO), im: V::splat(V::T::ZERO) };
        let mut x = x;
        for k in range {
            let p = [x, x.add(apart * row), x.add(2 * apart * row), x.add(3 * apart * row)];
            let mut from = [zero; 4];
            unroll!(4, j => {
                if j < LIVE {
                    from[j] = source.row(k + j * q);
                }
            });
            let y = match LIVE {
                0 | 1 => [from[0]; 4],
                2 => {
                    let (minus, plus) = from[0].turn(from[1]);
                    [from[0].add(from[1]), minus, from[0].sub(from[1]), plus]
                }
                _ => four(from),
            };
            scatter::<V>(y, p, twiddles.add(6 * k));
            x = x.add(row);
        }
    }
}

/// The last pass: `live` of the four rows are wanted.
///
/// # Safety
/// As [`forward`]; the sink must take the rows.
#[inline(always)]
pub(super) unsafe fn last<V: Lanes, K: Sink<V>>(
    sink: K,
    (x, apart): (*const V::T, usize),
    q: usize,
    range: Range<usize>,
    live: usize,
    twiddles: *const V::T,
) {
    // SAFETY: the caller's promises.
    unsafe {
        match live {
            0 => {}
            1 => last_of::<V, K, 1>(sink, (x, apart), q, range, twiddles),
            2 => last_of::<V, K, 2>(sink, (x, apart), q, range, twiddles),
            3 => last_of::<V, K, 3>(sink, (x, apart), q, range, twiddles),
            _ => last_of::<V, K, 4>(sink, (x, apart), q, range, twiddles),
        }
    }
}

/// # Safety
/// As [`last`].
#[inline(always)]
unsafe fn last_of<V: Lanes, K: Sink<V>, const LIVE: usize>(
    sink: K,
    (x, apart): (*const V::T, usize),
    q: usize,
    range: Range<usize>,
    twiddles: *const V::T,
) {
    let row = 2 * V::N;
    // SAFETY: the caller's promises.
    unsafe {
        let mut x = x;
        for k in range {
            let p = [x, x.add(apart * row), x.add(2 * apart * row), x.add(3 * apart * row)];
            let y = gather::<V>(p, twiddles.add(6 * k));
            unroll!(4, j => {
                if j < LIVE {
                    sink.take(k + j * q, y[j]);
                }
            });
            x = x.add(row);
        }
    }
}

/// What is done to a part: of this transform, of the product with a spectrum and of the transform backward some.
pub(super) const FORWARD: u8 = 1;
/// See [`FORWARD`].
pub(super) const MULTIPLY: u8 = 2;
/// See [`FORWARD`].
pub(super) const BACKWARD: u8 = 4;

/// The parts of `base` rows that begin at `x`: `count` of them.
///
/// # Safety
/// The rows must exist, and numbers of the spectrum for each; the instruction set must be enabled.
#[inline(always)]
pub(super) unsafe fn bases<V: Lanes, const ACT: u8>(
    base: usize,
    x: *mut V::T,
    count: usize,
    spectrum: *const V::T,
) {
    // SAFETY: the caller's promises.
    unsafe {
        match base {
            3 => bases_of::<V, 3, ACT>(x, count, spectrum),
            4 => bases_of::<V, 4, ACT>(x, count, spectrum),
            5 => bases_of::<V, 5, ACT>(x, count, spectrum),
            6 => bases_of::<V, 6, ACT>(x, count, spectrum),
            _ => bases_of::<V, 8, ACT>(x, count, spectrum),
        }
    }
}

/// # Safety
/// As [`bases`].
#[inline(always)]
unsafe fn bases_of<V: Lanes, const M: usize, const ACT: u8>(
    x: *mut V::T,
    count: usize,
    spectrum: *const V::T,
) {
    let row = 2 * V::N;
    // SAFETY: the caller's promises.
    unsafe {
        let zero = Complex { re: V::splat(V::T::ZERO), im: V::splat(V::T::ZERO) };
        let (mut x, mut spectrum) = (x, spectrum);
        for _ in 0..count {
            let mut y = [zero; M];
            // Frequencies are in memory in the order in which the transform gives them.
            unroll!(M, i => {
                y[i] = load(x.add(row * if ACT & FORWARD == 0 { i } else { row_of(M, i) }));
            });
            if ACT & FORWARD != 0 {
                y = transform::<V, M>(y);
            }
            if ACT & MULTIPLY != 0 {
                unroll!(M, i => {
                    y[i] = y[i].by::<false>(spectrum.add(2 * i));
                });
                spectrum = spectrum.add(2 * M);
            }
            if ACT & BACKWARD != 0 {
                y = swap(transform::<V, M>(swap(y)));
            }
            unroll!(M, i => {
                y[i].store(x.add(row * if ACT & BACKWARD == 0 { i } else { row_of(M, i) }));
            });
            x = x.add(M * row);
        }
    }
}
