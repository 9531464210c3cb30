//! Sums of floating-point numbers without rounding.

/// An exact sum: components that do not overlap, smallest first (Shewchuk 1997).
pub(super) struct Expansion(Vec<f64>);

impl Expansion {
    /// The exact sum of finite numbers.
    pub fn of(terms: impl Iterator<Item = f64>) -> Self {
        let mut sum = Self(Vec::with_capacity(16));
        terms.for_each(|x| sum.add(x));
        sum
    }

    /// Adds a finite number.
    pub fn add(&mut self, mut x: f64) {
        let mut kept = 0;
        for i in 0..self.0.len() {
            let (sum, error) = two_sum(x, self.0[i]);
            if error != 0.0 {
                self.0[kept] = error;
                kept += 1;
            }
            x = sum;
        }
        self.0.truncate(kept);
        if x != 0.0 {
            self.0.push(x);
        }
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.0.last().map_or(0, |&x| if x > 0.0 { 1 } else { -1 })
    }

    /// The nearest float32, ties to even, infinite beyond the range as IEEE 754 has it.
    pub fn round(self) -> f32 {
        let mut y = (self.0.iter().sum::<f64>() + 0.0) as f32;
        if y.is_nan() {
            return y;
        }
        // The sum in float64 is within an ulp or so; walk to where neither neighbour is nearer.
        loop {
            if self.is_beyond(y, y.next_up()) {
                y = y.next_up();
            } else if self.is_beyond(y, y.next_down()) {
                y = y.next_down();
            } else {
                return y;
            }
        }
    }

    /// Is the sum nearer to `to` than to its neighbour `from`, or as near and `to` the even one?
    fn is_beyond(&self, from: f32, to: f32) -> bool {
        if from == to {
            return false;
        }
        let finite =
            |x: f32| if x.is_infinite() { 2_f64.powi(128).copysign(x.into()) } else { x.into() };
        let mut gap = Self(self.0.clone());
        gap.add(-f64::midpoint(finite(from), finite(to)));
        let side = if to > from { gap.sign() } else { -gap.sign() };
        match side {
            0 => to.to_bits() & 1 == 0,
            _ => side > 0,
        }
    }
}

/// Rounded sum and its error (Knuth).
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_part = sum - a;
    (sum, (a - (sum - b_part)) + (b - b_part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cancels_leaves_what_was_too_small() {
        let sum = Expansion::of([1e300, 1e-300, -1e300].into_iter());
        assert_eq!((sum.sign(), sum.0.as_slice()), (1, [1e-300].as_slice()));
        assert_eq!(Expansion::of([0.1, -0.1].into_iter()).sign(), 0);
        assert_eq!(Expansion::of([5e-324, -1e308, 1e308, -1e-323].into_iter()).sign(), -1);
    }

    #[test]
    fn rounding_sees_bits_far_below() {
        // Half way between 1 and the next float32, and a little more or less.
        let half = 1.0 + 2_f64.powi(-24);
        let round = |terms: &[f64]| Expansion::of(terms.iter().copied()).round();
        assert_eq!(round(&[half]), 1.0);
        assert_eq!(round(&[half, 1e-300]), 1.0_f32.next_up());
        assert_eq!(round(&[half, -1e-300]), 1.0);
        assert_eq!(
            round(&[1.0_f32.next_up().into(), 2_f64.powi(-24)]),
            1.0_f32.next_up().next_up()
        );
        assert_eq!(round(&[-half, -1e-200]), -1.0_f32.next_up());
        assert_eq!(round(&[]).to_bits(), 0);
        assert!(round(&[f64::NAN]).is_nan());
    }

    #[test]
    fn rounding_at_the_ends_of_the_range() {
        let round = |terms: &[f64]| Expansion::of(terms.iter().copied()).round();
        let (max, ulp) = (f64::from(f32::MAX), 2_f64.powi(104));
        assert_eq!(round(&[max, 0.4 * ulp]), f32::MAX);
        assert_eq!(round(&[max, 0.5 * ulp, -1e-300]), f32::MAX);
        assert_eq!(round(&[max, 0.5 * ulp]), f32::INFINITY);
        assert_eq!(round(&[1e60, -3.0]), f32::INFINITY);
        let tiny = f64::from(f32::from_bits(1));
        assert_eq!(round(&[tiny / 2.0]), 0.0);
        assert_eq!(round(&[tiny / 2.0, 1e-300]), f32::from_bits(1));
    }
}
