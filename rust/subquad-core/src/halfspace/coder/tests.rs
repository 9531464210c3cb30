//! What coding a key says of it, against float64.

use super::*;
use crate::halfspace::tests::Random;
use crate::simd::Level;

/// Codes rows of `x`, with every instruction set that this machine has, and compares.
fn check(bits: Bits, dim: usize, x: &[f32]) {
    let padded = dim.next_multiple_of(16);
    let count = x.len() / dim;
    let mut rows = vec![0.0; count * padded];
    for (row, x) in rows.chunks_exact_mut(padded).zip(x.chunks_exact(dim)) {
        row[..dim].copy_from_slice(x);
    }
    for level in [Level::Portable, Level::V3, Level::V4] {
        if level > Isa::detect().0 {
            continue;
        }
        let (mut left, mut bits_of) = (rows.clone(), rows.clone());
        let mut codes = vec![0; rows.len()];
        let mut out = vec![Summary::default(); count];
        code(Isa(level), bits, dim, &mut left, &mut bits_of, &mut codes, &mut out);
        for (i, coded) in out.iter().enumerate() {
            let row = i * padded..(i + 1) * padded;
            let (left, codes) = (&left[row.clone()], &codes[row]);
            let centre = if bits == Bits::Eight { 128.0 } else { 7.5 };
            let scale = f64::from(wide16(coded.scale));
            let (mut lost, mut size) = (0.0, 0.0);
            for j in 0..dim {
                let c = f64::from(codes[j]) - centre;
                let rest = f64::from(x[i * dim + j]) - scale * c;
                // To within a rounding, and exactly with 8 bits.
                let slack = if bits == Bits::Eight { 0.0 } else { 1e-7 * rest.abs() };
                assert!((rest - f64::from(left[j])).abs() <= slack, "{rest} {}", left[j]);
                (lost, size) = (lost + rest * rest, size + c * c);
            }
            assert!(left[dim..].iter().all(|&x| x == 0.0));
            let rest = f64::from(wide16(coded.rest));
            assert!(rest >= lost.sqrt() && rest <= 1.01 * lost.sqrt() + 1e-40, "{rest} {lost}");
            assert!(coded.norm >= size.sqrt(), "{} {size}", coded.norm);
        }
    }
}

#[test]
fn norms_are_bounds() {
    let mut random = Random(3);
    for dim in [1, 2, 15, 16, 17, 100, 4096] {
        for exponent in [-149, -126, -101, -100, -99, -30, 0, 30, 99, 100, 120] {
            let unit = 2_f64.powi(exponent);
            let x: Vec<f32> =
                (0..3 * dim).map(|_| (f64::from(random.normal()) * unit) as f32).collect();
            let mut spiked = x.clone();
            spiked[dim - 1] *= 30.0;
            for x in [&x, &spiked, &vec![0.0; dim]] {
                check(Bits::Eight, dim, x);
                check(Bits::Four, dim, x);
            }
        }
    }
}
