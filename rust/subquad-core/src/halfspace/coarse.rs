//! A query in integers: what the first stage multiplies codes with, and by how much it may err.
//!
//! # The interval
//!
//! Let `k^ = s c` be what the codes of a key stand for: its scale s (1 if keys have none) times the
//! vector c of its centred codes, and `|k - k^| <= rho`. On the coordinates of one width of codes, let the
//! query be `q = a u + r` with integers u. Then, exactly, and summed over the widths,
//!
//! > q . k = s a (u . c) + s (r . c) + q . (k - k^),
//! > |r . c| <= |r| C,  |q . (k - k^)| <= |q| rho
//!
//! by Cauchy-Schwarz, where C is the largest `|c|` over all keys, taken when they are coded. So with
//! `t = u . c`, which integers give exactly, and `beta >= |r| C`, `gamma >= |q|`,
//!
//! > s (a t - beta) - gamma rho <= q . k <= s (a t + beta) + gamma rho.
//!
//! C belongs to integer codes, so a long key widens its own interval only.
//!
//! # Rounding
//!
//! Both ends are computed in float32, u = 2^-24. With 8 bits, `t` is found in integers and becomes a
//! float with one rounding; `a t` is added to beta with two more at most, and the product with s takes
//! one. Each is at most u (a |u| C + beta) before the scaling by s. With 4 and 2 bits, codes are centred
//! last: the sum of products with the codes as they are, at most 15 |u|_1 (3 |u|_1) and so a float without
//! rounding, is multiplied by a and added to the constant -7.5 a sum(u) (-1.5 a sum(u)), to which beta
//! has been added and which was rounded away from the interval; no number on the way exceeds
//! 22.5 a |u|_1 (4.5 a |u|_1), summed over the widths, and beta. So beta is enlarged by
//! 10 u times these sizes and itself, and by a factor of 1 + 2^-20 for the arithmetic that finds it;
//! gamma by a factor of 1 + 2^-20 for the product with rho. The last addition rounds too, but rounding is
//! monotone and the threshold a float32: an end that reaches it still does. Products that underflow lose
//! less than 2^-148, which the directed rounding of the thresholds covers with 2^-140.
//!
//! Overflow is excluded: codes are not used if the norm of the query or of the longest key lies outside
//! 2^-60 .. 2^60 ([`is_tame`] says no).

use super::planes::Shape;
use super::predicate::Plane;
use crate::simd::ints::{Unit, quad};

/// A query against codes of one shape, as the kernels read it.
pub(super) struct Coarse {
    /// The query's integers, a word or more for every line, in the order of the lines.
    pub words: Vec<i32>,
    /// What makes codes of 8 bits centred: added to the sum of products.
    pub offset: i32,
    /// What an integer stands for, for each width.
    pub alpha: [f32; 3],
    /// What the ends of the interval begin with: beta on either side of what makes codes of 4 and 2 bits
    /// centred.
    pub shifts: [f32; 2],
    /// See the top of this file.
    pub beta: f32,
    /// See the top of this file.
    pub gamma: f32,
    /// An upper end below this is out.
    pub low: f32,
    /// A lower end of at least this is in.
    pub high: f32,
}

/// Can numbers of this size be handled in float32 without overflow, and without underflow that matters?
pub(super) fn is_tame(norm: f64) -> bool {
    (2_f64.powi(-60)..=2_f64.powi(60)).contains(&norm)
}

/// The float32 that is not below.
pub(super) fn up(x: f64) -> f32 {
    let y = x as f32;
    if f64::from(y) < x { y.next_up() } else { y }
}

/// The float32 that is not above.
pub(super) fn down(x: f64) -> f32 {
    -up(-x)
}

/// The nearest integer to what is small. Any integer will do, and the processors that a portable build
/// is for have no instruction that rounds.
fn nearest(x: f64) -> i32 {
    const SHIFT: f64 = (3_u64 << 51) as f64;
    ((x + SHIFT) - SHIFT) as i32
}

/// Integers for the coordinates of one width.
pub(super) struct Integers {
    pub u: Vec<i32>,
    /// What one stands for.
    pub unit: f32,
    /// Not below the norm of what they leave out.
    pub rest: f64,
    /// Not below `unit |u|`.
    pub size: f64,
    /// Not below `unit |u|_1`.
    pub spread: f64,
}

impl Integers {
    /// Integers of at most `limit`, with `|u| largest_code < 2^31`.
    pub fn of(weights: &[f64], limit: i32, largest_code: f64) -> Self {
        Self::with_unit(weights, 0.0, limit, largest_code)
    }

    /// As [`of`](Self::of), in units of `least` or more.
    pub fn with_unit(weights: &[f64], least: f64, limit: i32, largest_code: f64) -> Self {
        let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        let largest = weights.iter().fold(0.0_f64, |a, x| a.max(x.abs())) / f64::from(limit);
        let needed = (norm(weights) * largest_code / 2_f64.powi(30)).max(largest).max(least);
        // Half a unit is a number, too.
        let needed = if needed > 0.0 { needed.max(2_f64.powi(-100)) } else { 0.0 };
        let unit = up(needed * (1.0 + 1e-9));
        let per = if unit > 0.0 { 1.0 / f64::from(unit) } else { 0.0 };
        let u: Vec<i32> = weights.iter().map(|x| nearest(x * per).clamp(-limit, limit)).collect();
        let rest: Vec<f64> =
            weights.iter().zip(&u).map(|(x, &u)| x - f64::from(unit) * f64::from(u)).collect();
        let size = norm(&u.iter().map(|&u| f64::from(u)).collect::<Vec<_>>()) * f64::from(unit);
        let spread = u.iter().map(|&u| f64::from(u.abs())).sum::<f64>() * f64::from(unit);
        let inflate = |x: f64| x * (1.0 + 1e-9);
        let (rest, size, spread) = (inflate(norm(&rest)), inflate(size), inflate(spread));
        Self { u, unit, rest, size, spread }
    }
}

impl Coarse {
    /// `weights` are the query's coordinates for each width, padded with zeros to whole lines; `norms`
    /// the largest norms of centred codes; `norm` that of the query against what codes leave out; and
    /// `slack` what else the score may be off by.
    pub fn new(
        unit: Unit,
        shape: Shape,
        weights: [&[f64]; 3],
        norms: [f64; 3],
        norm: f64,
        slack: f64,
        threshold: f64,
    ) -> Self {
        let lengths = [4 * shape.wide, 8 * shape.nibbles, 16 * shape.crumbs];
        assert!(weights.iter().zip(lengths).all(|(w, len)| w.len() == len));
        let mut words = Vec::with_capacity(2 * shape.wide + 2 * shape.nibbles + 4 * shape.crumbs);
        let [wide, nibbles, crumbs] =
            [0, 1, 2].map(|i| Integers::of(weights[i], if i == 0 { 16256 } else { 127 }, norms[i]));
        for u in wide.u.chunks_exact(4) {
            words.extend(unit.words([u[0], u[1], u[2], u[3]]));
        }
        for u in nibbles.u.chunks_exact(4).chain(crumbs.u.chunks_exact(4)) {
            words.push(quad([u[0] as i8, u[1] as i8, u[2] as i8, u[3] as i8]));
        }
        Self { words, ..Self::of([&wide, &nibbles, &crumbs], norms, norm, slack, threshold) }
    }

    /// Everything but the words.
    fn of(parts: [&Integers; 3], norms: [f64; 3], norm: f64, slack: f64, threshold: f64) -> Self {
        let [wide, nibbles, crumbs] = parts;
        let sum = |of: &Integers| of.u.iter().fold(0_i32, |a, &b| a.wrapping_add(b));
        let centre = |of: &Integers, by: f64| -by * f64::from(of.unit) * f64::from(sum(of));
        let sizes = [wide.size * norms[0], 22.5 * nibbles.spread, 4.5 * crumbs.spread];
        let mut beta = slack;
        for ((part, largest), size) in parts.into_iter().zip(norms).zip(sizes) {
            let rest = part.rest * largest;
            beta += rest + 10.0 * 2_f64.powi(-24) * (size + rest);
        }
        let beta = up(beta * (1.0 + 2_f64.powi(-20)));
        let shift = centre(nibbles, 7.5) + centre(crumbs, 1.5);
        Self {
            words: Vec::new(),
            offset: sum(wide).wrapping_mul(-128),
            alpha: [wide.unit, nibbles.unit, crumbs.unit],
            shifts: [down(shift - f64::from(beta)), up(shift + f64::from(beta))],
            beta,
            gamma: up(norm * (1.0 + 2_f64.powi(-20))),
            // Not minus infinity, which what is gone would reach.
            low: down(threshold - 2_f64.powi(-140)).max(f32::MIN),
            // The number after, for half-spaces without their boundary.
            high: up(threshold + 2_f64.powi(-140)).next_up(),
        }
    }

    /// For a query in 8 bits against codes of 8 bits; the caller has the words.
    pub fn of_wide(integers: &Integers, norms: [f64; 3], norm: f64, threshold: f64) -> Self {
        let none = Integers::of(&[], 1, 0.0);
        Self::of([integers, &none, &none], norms, norm, 0.0, threshold)
    }

    /// For codes of 4 and 2 bits without scales.
    pub fn few_bits(
        shape: Shape,
        [nibbles, crumbs]: [&[f64]; 2],
        norms: [f64; 3],
        norm: f64,
        slack: f64,
        threshold: f64,
    ) -> Self {
        // No unit is needed for lines of 8 bits, of which there are none.
        Self::new(Unit::Portable, shape, [&[], nibbles, crumbs], norms, norm, slack, threshold)
    }

    /// As [`new`](Self::new), for codes of the keys' own coordinates in one width.
    pub fn plain(unit: Unit, shape: Shape, norms: [f64; 3], plane: &Plane) -> Self {
        let query = plane.query().iter().map(|&x| f64::from(x));
        let len = 4 * shape.wide + 8 * shape.nibbles;
        let weights: Vec<f64> = query.chain(std::iter::repeat(0.0)).take(len).collect();
        let (wide, nibbles) = weights.split_at(4 * shape.wide);
        Self::new(unit, shape, [wide, nibbles, &[]], norms, plane.norm, 0.0, plane.threshold)
    }
}
