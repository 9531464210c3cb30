//! The one micro-kernel behind all fused products:
//!
//! `acc[r][c] += sum_k a[r * a_row + k * a_step] * b[k * b_step + N c ..]`
//!
//! `a` is broadcast one number at a time, `b` is read by whole vectors. It is called with literal
//! strides wherever that is possible, so that the addresses of an unrolled step are base plus
//! constant.
//!
//! What the product of two lanes is, a [`Product`] says: each may hold a pair of numbers.

use crate::simd::Lanes;
use crate::simd::unroll;

/// Accumulators of a tile: `R` rows of `C` vectors, all in registers.
pub(crate) type Tile<V, const R: usize, const C: usize> = [[V; C]; R];

/// # Safety
/// As [`Lanes::splat`].
#[inline(always)]
pub(crate) unsafe fn zero<V: Lanes, const R: usize, const C: usize>() -> Tile<V, R, C> {
    // SAFETY: the caller promises the instruction set.
    unsafe { [[V::splat(V::T::default()); C]; R] }
}

/// What a step adds to a sum, lane by lane.
pub(crate) trait Product<V> {
    /// # Safety
    /// The instruction set must be enabled.
    unsafe fn add_to(sum: V, a: V, b: V) -> V;
}

/// `a b`, rounded with the sum.
pub(crate) struct Fused;

impl<V: Lanes> Product<V> for Fused {
    #[inline(always)]
    unsafe fn add_to(sum: V, a: V, b: V) -> V {
        a.fma(b, sum)
    }
}

/// # Safety
/// `R` values of `a`, `a_row` apart, and `C` vectors of `b` must be readable.
#[inline(always)]
unsafe fn step<V: Lanes, P: Product<V>, const R: usize, const C: usize>(
    acc: &mut Tile<V, R, C>,
    a: *const V::T,
    a_row: usize,
    b: *const V::T,
) {
    // SAFETY: the caller promises the operands.
    unsafe {
        let b: [V; C] = std::array::from_fn(|c| V::load(b.add(V::N * c)));
        for r in 0..R {
            let x = V::splat(*a.add(r * a_row));
            for c in 0..C {
                acc[r][c] = P::add_to(acc[r][c], x, b[c]);
            }
        }
    }
}

/// Adds `depth` steps to a tile.
///
/// Unrolled by four: by eight, the compiler hoists loads and spills accumulators, which costs a
/// third of the speed.
///
/// # Safety
/// Every element named in the module's formula must be readable.
#[inline(always)]
pub(crate) unsafe fn accumulate<V: Lanes, const R: usize, const C: usize>(
    acc: &mut Tile<V, R, C>,
    a: (*const V::T, usize, usize),
    b: (*const V::T, usize),
    depth: usize,
) {
    // SAFETY: the caller promises the operands.
    unsafe { accumulate_as::<V, Fused, R, C>(acc, a, b, depth) }
}

/// As [`accumulate`], of any products.
///
/// # Safety
/// As [`accumulate`]; the instruction set of the product must be enabled.
#[inline(always)]
pub(crate) unsafe fn accumulate_as<V: Lanes, P: Product<V>, const R: usize, const C: usize>(
    acc: &mut Tile<V, R, C>,
    (mut a, a_row, a_step): (*const V::T, usize, usize),
    (mut b, b_step): (*const V::T, usize),
    depth: usize,
) {
    // SAFETY: the caller promises the operands of every step.
    unsafe {
        for _ in 0..depth / 4 {
            step::<V, P, R, C>(acc, a, a_row, b);
            step::<V, P, R, C>(acc, a.add(a_step), a_row, b.add(b_step));
            step::<V, P, R, C>(acc, a.add(2 * a_step), a_row, b.add(2 * b_step));
            step::<V, P, R, C>(acc, a.add(3 * a_step), a_row, b.add(3 * b_step));
            a = a.wrapping_add(4 * a_step);
            b = b.wrapping_add(4 * b_step);
        }
        for _ in 0..depth % 4 {
            step::<V, P, R, C>(acc, a, a_row, b);
            a = a.wrapping_add(a_step);
            b = b.wrapping_add(b_step);
        }
    }
}

/// Adds a tile to memory. A block is summed from zero and added once: the rounding error grows with
/// the length of a block plus the number of blocks, not with their product.
///
/// # Safety
/// `R` rows of `C` vectors, `stride` apart, must be readable and writable at `p`.
#[inline(always)]
pub(crate) unsafe fn add_to<V: Lanes, const R: usize, const C: usize>(
    p: *mut V::T,
    stride: usize,
    acc: &Tile<V, R, C>,
) {
    // SAFETY: the caller promises the memory.
    unsafe {
        for (r, row) in acc.iter().enumerate() {
            for (c, &x) in row.iter().enumerate() {
                let at = p.add(r * stride + V::N * c);
                V::load(at).add(x).store(at);
            }
        }
    }
}

/// A tile from memory, row after row.
///
/// # Safety
/// `R C` vectors must be readable at `p`.
#[inline(always)]
pub(crate) unsafe fn load<V: Lanes, const R: usize, const C: usize>(
    p: *const V::T,
) -> Tile<V, R, C> {
    // SAFETY: the caller promises the memory.
    unsafe {
        let mut acc = zero::<V, R, C>();
        unroll!(R, r => {
            for c in 0..C {
                acc[r][c] = V::load(p.add((r * C + c) * V::N));
            }
        });
        acc
    }
}

/// A tile to memory, row after row.
///
/// # Safety
/// `R C` vectors must be writable at `p`.
#[inline(always)]
pub(crate) unsafe fn store<V: Lanes, const R: usize, const C: usize>(
    acc: &Tile<V, R, C>,
    p: *mut V::T,
) {
    // SAFETY: the caller promises the memory.
    unsafe {
        unroll!(R, r => {
            for c in 0..C {
                acc[r][c].store(p.add((r * C + c) * V::N));
            }
        });
    }
}
