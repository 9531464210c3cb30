//! From the numbers of a key to codes, and to bounds on what the codes leave out.
//!
//! A scale s is a bfloat16, at most 8 significant bits. With 8 bits, `c = round(x / s)` and
//! `s = up(max |x| / 127)`: then `s c` has at most 16 significant bits and `x - s c`, at most s/2 in
//! size, is a float32 without rounding. With 4 bits, `s (v - 7.5)` for `v = 0 .. 15` and
//! `s = up(max |x| / 8)`: the difference may round, by 2^-24 of itself.
//!
//! **Norms** are roots of sums of squares in float32: of `e = (x - s c) / s`, whatever the size of x, and of c.
//! With N lanes, e has three roundings, its square and the sum at most `2 d / N + log2 N`: 2056 in all on 4
//! lanes, for d <= 4096. So the sum is exact to within 1.3e-4, and its root is enlarged by 2^-12. An e below
//! 2^-63 may vanish: 2^-100 is added to the sum.
//!
//! Keys too small or too large for such scales (beyond 2^-100 and 2^100) get the scale 0: the codes
//! say nothing then, and their rest is the whole key.

use super::coarse::up;
use super::tile::FLUSH;
use crate::simd::{Isa, Lanes, multiversion};

/// Adding and subtracting this rounds a float32 below 2^22 to an integer, and its low byte is that.
const MAGIC: f32 = 12_582_912.0;

/// bfloat16 that is not below a number that is not negative.
pub(super) fn up16(x: f64) -> u16 {
    // What is not a number is no bound: infinity is.
    let bits = up(x).to_bits().min(f32::INFINITY.to_bits());
    (bits >> 16) as u16 + u16::from(bits & 0xffff != 0)
}

/// The number of a bfloat16.
pub(super) fn wide16(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

/// The bits of a code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bits {
    Eight,
    Four,
}

/// What coding one key gives.
#[derive(Clone, Copy, Default)]
pub(super) struct Summary {
    /// bfloat16.
    pub scale: u16,
    /// bfloat16: not below the norm of what the codes leave out.
    pub rest: u16,
    /// Not below the norm of the centred codes.
    pub norm: f64,
}

/// Keys that can be coded together, so that none waits for the divisions and roots of another.
pub(super) const TOGETHER: usize = 8;

/// Turns the numbers `x` of some keys, row after row, into `codes`, and into what the codes leave out. All, and
/// `bits_of`, a workspace, have rows that are padded alike to a multiple of 16; the padding of `x` is zero
/// and stays so.
///
/// # Panics
///
/// If there are more than [`TOGETHER`] keys, the lengths differ or are not multiples of 16, or `dim` is beyond
/// them.
pub(super) fn code(
    isa: Isa,
    bits: Bits,
    dim: usize,
    x: &mut [f32],
    bits_of: &mut [f32],
    codes: &mut [u8],
    out: &mut [Summary],
) {
    assert!((1..=TOGETHER).contains(&out.len()) && x.len().is_multiple_of(16 * out.len()));
    assert!(x.len() == codes.len() && x.len() == bits_of.len() && dim <= x.len() / out.len());
    // SAFETY: the rows are whole vectors of any set.
    unsafe {
        match bits {
            Bits::Eight => code8(isa, dim, x, bits_of, codes, out),
            Bits::Four => code4(isa, dim, x, bits_of, codes, out),
        }
    }
}

multiversion! {
    unsafe fn code8(dim: usize, x: &mut [f32], bits_of: &mut [f32], codes: &mut [u8], out: &mut [Summary]) = code_body {
        v4: [avx512::F32x16, true], v3: [avx2::F32x8, true], portable: [portable::F32x4, true],
    }
}

multiversion! {
    unsafe fn code4(dim: usize, x: &mut [f32], bits_of: &mut [f32], codes: &mut [u8], out: &mut [Summary]) = code_body {
        v4: [avx512::F32x16, false], v3: [avx2::F32x8, false], portable: [portable::F32x4, false],
    }
}

/// One step for all keys, then the next.
///
/// # Safety
///
/// The lengths of `x`, `bits_of` and `codes` must be the same multiple of 16 for every key, of which there are
/// `out` and at most [`TOGETHER`]; the instruction set must be enabled.
#[inline(always)]
unsafe fn code_body<V: Lanes<T = f32>, const EIGHT: bool>(
    dim: usize,
    x: &mut [f32],
    bits_of: &mut [f32],
    codes: &mut [u8],
    out: &mut [Summary],
) {
    let row = x.len() / out.len();
    let mut sizes = [0.0_f32; TOGETHER];
    let mut squares = [[0.0_f32; 2]; TOGETHER];
    // SAFETY: the caller's promises.
    unsafe {
        for (x, size) in x.chunks_exact(row).zip(&mut sizes) {
            *size = largest::<V>(x);
        }
        for (coded, &size) in out.iter_mut().zip(&sizes) {
            let scaled = (2_f32.powi(-100)..2_f32.powi(100)).contains(&size);
            let steps = if EIGHT { 127.0 } else { 8.0 };
            coded.scale = if scaled { up16(f64::from(size) / steps) } else { 0 };
        }
        for (i, x) in x.chunks_exact_mut(row).enumerate() {
            let scale = wide16(out[i].scale);
            squares[i] = code_row::<V, EIGHT>(dim, scale, x, &mut bits_of[i * row..(i + 1) * row]);
        }
        let flip = if EIGHT { 128 } else { 0 };
        for (code, bits) in codes.iter_mut().zip(bits_of.iter()) {
            *code = bits.to_bits() as u8 ^ flip;
        }
        for (coded, [lost, size]) in out.iter_mut().zip(squares) {
            let norm = |sum: f32| (f64::from(sum) + 2_f64.powi(-100)).sqrt() * (1.0 + ROUNDING);
            (coded.rest, coded.norm) =
                (up16(f64::from(wide16(coded.scale)) * norm(lost)), norm(size));
        }
    }
    for (x, coded) in x.chunks_exact(row).zip(out).filter(|(_, coded)| coded.scale == 0) {
        let sum: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        coded.rest = up16(sum.sqrt() * (1.0 + 1e-11));
    }
}

/// Codes one key, as floats whose lowest byte is a code, and leaves in `x` what they leave out. Gives the sums
/// of squares of that, in units of the scale, and of the centred codes.
///
/// # Safety
///
/// As [`code_body`].
#[inline(always)]
unsafe fn code_row<V: Lanes<T = f32>, const EIGHT: bool>(
    dim: usize,
    scale: f32,
    x: &mut [f32],
    bits_of: &mut [f32],
) -> [f32; 2] {
    // What a code of the padding stands for, so that nothing is left of it.
    x[dim..].fill(if EIGHT { 0.0 } else { scale / 2.0 });
    // SAFETY: the caller's promises.
    unsafe {
        let per = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let (s, per) = (V::splat(scale), V::splat(per));
        let (magic, centre) = (V::splat(MAGIC), V::splat(if EIGHT { 0.0 } else { 7.5 }));
        let (zero, top) = (V::splat(0.0), V::splat(-15.0));
        let (mut lost, mut size) = (zero, zero);
        for j in (0..x.len()).step_by(V::N) {
            let at = x.as_mut_ptr().add(j);
            let y = V::load(at);
            let mut scaled = y.fma(per, centre);
            if !EIGHT {
                scaled = zero.sub(zero.sub(scaled.max(zero)).max(top));
            }
            let rounded = scaled.add(magic);
            rounded.store(bits_of.as_mut_ptr().add(j));
            // y - s c, in one step with a rounding or in two of which the first has none.
            let minus = centre.sub(rounded.sub(magic));
            let left = minus.fma(s, y);
            left.store(at);
            let part = left.mul(per);
            (lost, size) = (part.fma(part, lost), minus.fma(minus, size));
        }
        [lost.sum(), size.sum()]
    }
}

/// Of a norm, see the top of this file.
const ROUNDING: f64 = 1.0 / 4096.0;

/// The largest size.
///
/// # Safety
///
/// As [`code_body`].
#[inline(always)]
unsafe fn largest<V: Lanes<T = f32>>(x: &[f32]) -> f32 {
    // SAFETY: the caller's promises.
    unsafe {
        let mut most = V::splat(0.0);
        for j in (0..x.len()).step_by(V::N) {
            most = V::load(x.as_ptr().add(j)).abs().max(most);
        }
        most.largest()
    }
}

/// Four codes of 8 bits to a word.
pub(super) fn pack8(codes: &[u8], words: &mut [u32]) {
    for (word, codes) in words.iter_mut().zip(codes.chunks_exact(4)) {
        *word = u32::from_le_bytes([codes[0], codes[1], codes[2], codes[3]]);
    }
}

/// Eight codes of 4 bits to a word: the first four in the low halves of its bytes.
pub(super) fn pack4(codes: &[u8], words: &mut [u32]) {
    for (word, codes) in words.iter_mut().zip(codes.chunks_exact(8)) {
        *word = u32::from_le_bytes(std::array::from_fn(|i| codes[i] | codes[i + 4] << 4));
    }
}

/// Sixteen codes of 2 bits to a word.
pub(super) fn pack2(codes: &[u8], words: &mut [u32]) {
    for (word, codes) in words.iter_mut().zip(codes.chunks_exact(16)) {
        let byte = |i: usize| (0..4).fold(0, |byte, k| byte | codes[i + 4 * k] << (2 * k));
        *word = u32::from_le_bytes(std::array::from_fn(byte));
    }
}

/// The rest of codes of numbers that were rounded, by 2^-24 of what they are.
pub(super) fn rest_of_rounded(rest: u16, size: u16) -> u16 {
    up16(f64::from(wide16(rest)) + 2_f64.powi(-23) * f64::from(wide16(size)))
}

/// Largest sum of squares of centred codes of 8 bits over the coordinates that share a sum in 16 bits.
pub(super) fn pair_square(codes: &[u8]) -> f64 {
    let square = |code: u8| (i32::from(code) - 128) * (i32::from(code) - 128);
    let mut most = 0;
    for chunk in codes.chunks(4 * FLUSH) {
        let mut sums = [0; 4];
        for quad in chunk.chunks_exact(4) {
            for (sum, &code) in sums.iter_mut().zip(quad) {
                *sum += square(code);
            }
        }
        most = most.max(sums[0] + sums[1]).max(sums[2] + sums[3]);
    }
    f64::from(most)
}

#[cfg(test)]
mod tests;
