//! A query in 8 bits.
//!
//! # Sums in 16 bits
//!
//! AVX2 multiplies bytes in pairs, into 16 bits. The pairs are added up there, without being
//! widened, over [`FLUSH`] lines: two coordinates of each fall into the same 16 bits. The codes are
//! unsigned, `c + 128`, so the sum begins at `-128 sum(u)`; it may wrap on the way, for in arithmetic
//! modulo 2^16 only its final value counts, and by Cauchy-Schwarz that is
//!
//! > |sum u c| <= |u| |c| <= 32767
//!
//! with norms over the coordinates of one such sum, the second the largest that any key has. A pair
//! itself must not saturate: `255 (|u_1| + |u_2|) <= 32767`. [`Narrow`] chooses the unit of the query
//! so, and checks the integers it gets.

use super::lane;
use crate::halfspace::coarse::{Coarse, Integers};
use crate::halfspace::tile::FLUSH;
use crate::simd::ints::{Unit, quad};

/// A query in 8 bits.
pub(in super::super) struct Narrow {
    /// Four coordinates for every line.
    pub(super) words: Vec<i32>,
    /// What sums begin with.
    pub(super) start: Vec<i32>,
    pub(super) coarse: Coarse,
}

impl Narrow {
    /// `query` is padded with zeros to whole lines; `pair` is the largest norm of codes of a key
    /// over the coordinates that share 16 bits.
    pub fn new(
        unit: Unit,
        query: &[f64],
        norms: [f64; 3],
        pair: f64,
        norm: f64,
        threshold: f64,
    ) -> Self {
        let integers = if unit.is_narrow() {
            narrow_integers(query, norms[0], pair)
        } else {
            Integers::of(query, 127, norms[0])
        };
        let u = &integers.u;
        let words = u.chunks_exact(4).map(|u| quad([0, 1, 2, 3].map(|i| u[i] as i8))).collect();
        let start = if unit.is_narrow() {
            u.chunks(4 * FLUSH).map(|u| pack_start(lane_sums(u, |u| -128 * u))).collect()
        } else {
            vec![-128 * u.iter().sum::<i32>()]
        };
        let coarse = Coarse::of_wide(&integers, norms, norm, threshold);
        Self { words, start, coarse }
    }
}

/// Sums over the coordinates of each lane of 16 bits.
fn lane_sums(u: &[i32], f: impl Fn(i32) -> i32) -> [i32; 2] {
    let mut sums = [0; 2];
    for (j, &u) in u.iter().enumerate() {
        sums[lane(j)] += f(u);
    }
    sums
}

/// Both in a word, modulo 2^16.
fn pack_start([low, high]: [i32; 2]) -> i32 {
    (low & 0xffff) | high << 16
}

/// Integers for which neither a pair saturates nor a sum leaves 16 bits.
fn narrow_integers(query: &[f64], norm: f64, pair: f64) -> Integers {
    let pairs = query.chunks_exact(2).map(|x| (x[0].abs() + x[1].abs()) / 128.0);
    let mut needed = pairs.fold(0.0_f64, f64::max);
    loop {
        let integers = Integers::with_unit(query, needed, 127, norm);
        let pairs_fit = integers.u.chunks_exact(2).all(|u| u[0].abs() + u[1].abs() <= 128);
        let sums_fit = integers.u.chunks(4 * FLUSH).all(|u| {
            lane_sums(u, |u| u * u).into_iter().all(|x| f64::from(x).sqrt() * pair <= 32767.0)
        });
        if pairs_fit && sums_fit {
            return integers;
        }
        needed = f64::from(integers.unit) * 1.02;
    }
}
