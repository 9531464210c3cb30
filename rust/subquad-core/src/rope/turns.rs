//! Turns `e^{ipw}` for positions p and frequencies w, in float64.
//!
//! A sine takes as long as a dozen numbers from memory, so whole positions are split,
//! `p = 256 h + 16 m + l`, and a turn is the product of those for its three parts: the first changes every
//! 256 positions, the others are a table of 256. Which parts they are depends on p alone, so a position has
//! the same turn, bit for bit, in whatever call and row. Positions that are not whole have no parts.
//!
//! **Error**, in units of `v = 2^-53`, as the distance of a computed turn from the exact one for the given
//! numbers p and w:
//!
//! 1. The angle `p w` is taken with its rounding error, `hi + lo`, both exact. Sine and cosine of `hi` are
//!    within a unit of the last place, v each. For small `lo` they are moved by `lo` times the other: two
//!    roundings of v/2, and `lo^2 / 2 < v / 4`. That makes 1.75 v each, 2.5 v together. Else there is a
//!    product of two turns of 1.42 v each.
//! 2. A product of two turns adds their errors and at most `sqrt(5)` v.
//! 3. So a turn is within `3 * 2.5 + 2 sqrt(5) < 12` v where angles are below `2^26`, else within 15 v.

use std::sync::OnceLock;

/// Positions that share the first part.
const RUN: usize = 256;

/// The base of the other two parts.
const BASE: usize = 16;

/// Whole numbers up to here, and their differences, are float64 numbers.
const WHOLE: f64 = (1_u64 << 53) as f64;

/// The turns of a call.
pub struct Turns {
    frequencies: Vec<f64>,
    /// Whether so many positions are asked for that a table pays.
    many: bool,
    table: OnceLock<Vec<f64>>,
}

/// Cosines and sines of one position.
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    pub cos: &'a [f64],
    pub sin: &'a [f64],
}

impl<'a> Turn<'a> {
    /// Cosines, then as many sines.
    fn of(both: &'a [f64]) -> Self {
        let (cos, sin) = both.split_at(both.len() / 2);
        Self { cos, sin }
    }
}

impl Turns {
    pub fn new(frequencies: &[f64], positions: usize) -> Self {
        let many = positions >= RUN / 10 && !frequencies.is_empty();
        Self { frequencies: frequencies.to_vec(), many, table: OnceLock::new() }
    }

    /// Numbers in a row of cosines.
    pub fn width(&self) -> usize {
        self.frequencies.len()
    }

    /// Writes cosines and sines of `p w`, from sines.
    fn direct(&self, position: f64, to: &mut [f64]) {
        let (cos, sin) = to.split_at_mut(self.width());
        for ((cos, sin), &w) in cos.iter_mut().zip(sin).zip(&self.frequencies) {
            (*cos, *sin) = turn(position, w);
        }
    }

    /// Writes the turn of a position below [`RUN`]; `parts` is scratch for two turns.
    fn below_run(&self, position: usize, parts: &mut [f64], to: &mut [f64]) {
        let (first, second) = parts.split_at_mut(2 * self.width());
        self.direct((position / BASE * BASE) as f64, first);
        self.direct((position % BASE) as f64, second);
        product(Turn::of(first), Turn::of(second), to);
    }

    /// As [`below_run`](Self::below_run), for all of them, with as few sines as there are parts.
    fn table(&self) -> &[f64] {
        self.table.get_or_init(|| {
            let row = 2 * self.width();
            let (mut first, mut second) = (vec![0.0; row], vec![0.0; BASE * row]);
            for (l, to) in second.chunks_exact_mut(row).enumerate() {
                self.direct(l as f64, to);
            }
            let mut table = vec![0.0; RUN * row];
            for (m, rows) in table.chunks_exact_mut(BASE * row).enumerate() {
                self.direct((m * BASE) as f64, &mut first);
                for (to, second) in rows.chunks_exact_mut(row).zip(second.chunks_exact(row)) {
                    product(Turn::of(&first), Turn::of(second), to);
                }
            }
            table
        })
    }
}

/// Goes from position to position.
pub struct Cursor<'a> {
    turns: &'a Turns,
    /// Position of `first`, if it is that of a run.
    at: f64,
    first: Vec<f64>,
    rest: Vec<f64>,
    parts: Vec<f64>,
    one: Vec<f64>,
}

impl<'a> Cursor<'a> {
    pub fn new(turns: &'a Turns) -> Self {
        let row = 2 * turns.width();
        let mut one = vec![0.0; row];
        one[..row / 2].fill(1.0);
        let rest = vec![0.0; if turns.many { 0 } else { row }];
        Self { turns, at: f64::NAN, first: vec![0.0; row], rest, parts: vec![0.0; 2 * row], one }
    }

    /// Two turns that follow each other. The second is nothing where a position is not whole.
    #[inline(always)]
    pub fn turns(&mut self, position: f64) -> (Turn<'_>, Turn<'_>) {
        let mut below = position - self.at;
        if !(0.0 <= below && below < RUN as f64 && f64::from(below as u32) == below) {
            self.go(position);
            below = position - self.at;
        }
        let (row, whole) = (2 * self.turns.width(), below >= 0.0);
        let rest = if !whole {
            &self.one[..]
        } else if self.turns.many {
            let below = below as usize;
            &self.turns.table()[below * row..(below + 1) * row]
        } else {
            self.turns.below_run(below as usize, &mut self.parts, &mut self.rest);
            &self.rest[..]
        };
        (Turn::of(&self.first), Turn::of(rest))
    }

    /// Takes the first part of another position.
    #[cold]
    #[inline(never)]
    fn go(&mut self, position: f64) {
        let whole = position.fract() == 0.0 && position.abs() <= WHOLE;
        let first = if whole { (position / RUN as f64).floor() * RUN as f64 } else { position };
        self.turns.direct(first, &mut self.first);
        self.at = if whole { first } else { f64::NAN };
    }
}

/// Cosine and sine of `position * frequency`.
fn turn(position: f64, frequency: f64) -> (f64, f64) {
    const SMALL: f64 = 1.0 / (1 << 27) as f64;
    let hi = position * frequency;
    let lo = position.mul_add(frequency, -hi);
    let (sin, cos) = hi.sin_cos();
    if lo.abs() < SMALL {
        return (cos - lo * sin, sin + lo * cos);
    }
    let (s, c) = lo.sin_cos();
    (cos * c - sin * s, sin * c + cos * s)
}

/// One turn after another.
fn product(a: Turn<'_>, b: Turn<'_>, to: &mut [f64]) {
    let (cos, sin) = to.split_at_mut(a.cos.len());
    for j in 0..cos.len() {
        cos[j] = a.cos[j] * b.cos[j] - a.sin[j] * b.sin[j];
        sin[j] = a.sin[j] * b.cos[j] + a.cos[j] * b.sin[j];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREQUENCIES: [f64; 4] = [1.0, 0.316_227_766_016_837_94, 0.01, 1.333_521_432_163_324e-4];

    fn turns_of(turns: &Turns, position: f64) -> Vec<f64> {
        let mut cursor = Cursor::new(turns);
        let (first, rest) = cursor.turns(position);
        let mut to = vec![0.0; 2 * turns.width()];
        product(first, rest, &mut to);
        to
    }

    /// Sine and cosine of `p w`, reduced in integers: `w = m 2^-e`, `2 pi` to 2^-110 or so.
    fn exact(position: i64, frequency: f64) -> (f64, f64) {
        let bits = frequency.to_bits();
        let (exponent, mantissa) =
            ((bits >> 52) as i32 - 1075, i128::from(bits & ((1 << 52) - 1) | 1 << 52));
        // In units of 2^-70: the product has at most 53 + 40 bits, and is shifted to them.
        let product = i128::from(position) * mantissa;
        let shift = exponent + 70;
        let angle = if shift >= 0 { product << shift } else { product >> -shift };
        // 2 pi 2^70, rounded down; so many turns are off by as many units.
        let turn: i128 = 7_417_875_925_070_973_790_601;
        let rest = angle.rem_euclid(turn);
        let x = rest as f64 / (1_u128 << 70) as f64;
        x.sin_cos()
    }

    #[test]
    fn turns_are_right_to_a_few_units() {
        for position in [0, 1, 15, 16, 255, 256, 4097, 65_535, 1_000_003, -1, -300, -1_000_000] {
            let turns = Turns::new(&FREQUENCIES, 1);
            let found = turns_of(&turns, position as f64);
            for (j, w) in FREQUENCIES.into_iter().enumerate() {
                let (sin, cos) = exact(position, w);
                let off = (found[j] - cos).hypot(found[4 + j] - sin);
                assert!(off <= 1.6e-15, "position {position}, frequency {w}: off by {off:e}");
            }
        }
    }

    #[test]
    fn a_table_changes_nothing() {
        let (few, many) = (Turns::new(&FREQUENCIES, 1), Turns::new(&FREQUENCIES, 1000));
        for position in [0.0, 7.0, 255.0, 256.0, 99_999.0, -5.0, 0.5, 1e17] {
            assert_eq!(turns_of(&few, position), turns_of(&many, position), "{position}");
        }
    }

    #[test]
    fn positions_between_and_beyond_are_taken_as_they_are() {
        let turns = Turns::new(&FREQUENCIES, 1);
        for position in [0.5, -12.25, 1e17, 3e200] {
            let found = turns_of(&turns, position);
            for (j, w) in FREQUENCIES.into_iter().enumerate() {
                assert_eq!((found[j], found[4 + j]), turn(position, w));
            }
        }
    }

    #[test]
    fn rounding_of_a_large_angle_is_not_lost() {
        // Powers of two scale a frequency without rounding; three times one does not.
        let (one, three) = (2_f64.powi(51), 3.0 * 2_f64.powi(51));
        assert!(three.mul_add(0.1, -(three * 0.1)).abs() > 1e-3);
        let (c, s) = turn(one, 0.1);
        let once = [c, s];
        let (mut twice, mut thrice) = ([0.0; 2], [0.0; 2]);
        product(Turn::of(&once), Turn::of(&once), &mut twice);
        product(Turn::of(&once), Turn::of(&twice), &mut thrice);
        let (c, s) = turn(three, 0.1);
        assert!((c - thrice[0]).hypot(s - thrice[1]) <= 2e-15);
    }
}
