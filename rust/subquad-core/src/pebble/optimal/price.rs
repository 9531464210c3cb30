//! Costs of plays: words moved, and computations at a price.
//!
//! The price is a number of any size, so costs are compared as the integers they are multiples of: a price is
//! `mantissa * 2^exponent`, and a cost that many times `2^exponent`, exactly.

/// What a play costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Words loaded and stored.
    pub words: u64,
    /// Values computed.
    pub computations: u64,
}

impl Cost {
    /// The cost of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let computations = self.computations + other.computations;
        Self { words: self.words + other.words, computations }
    }

    /// As a number, at a price for each computation.
    pub fn total(self, compute_cost: f64) -> f64 {
        self.words as f64 + compute_cost * self.computations as f64
    }
}

/// How costs compare. Words must stay below 2^50, computations below 2^22: searches end long before.
#[derive(Clone, Copy)]
pub enum Price {
    /// A cost is `words << shift` and `mantissa` for each computation.
    Exact { mantissa: u128, shift: u32 },
    /// All computations together cost less than one word.
    Tiny,
    /// One computation costs more than all words together.
    Huge,
}

impl Price {
    /// Of a finite price that is not negative.
    pub fn new(compute_cost: f64) -> Self {
        if compute_cost == 0.0 {
            return Self::Exact { mantissa: 0, shift: 0 };
        }
        if compute_cost >= (1u64 << 50) as f64 {
            return Self::Huge;
        }
        if compute_cost < 1.0 / (1u64 << 22) as f64 {
            return Self::Tiny;
        }
        // At most 52 bits after the first, which is at least 2^-22: 2^74 times the price is a whole number.
        let shift = 74;
        let scaled = compute_cost * 2f64.powi(shift);
        Self::Exact { mantissa: scaled as u128, shift: shift as u32 }
    }

    /// A number that orders costs.
    pub fn key(self, cost: Cost) -> u128 {
        let (words, computations) = (u128::from(cost.words), u128::from(cost.computations));
        match self {
            Self::Exact { mantissa, shift } => (words << shift) + mantissa * computations,
            Self::Tiny => words << 64 | computations,
            Self::Huge => computations << 64 | words,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_compare_as_real_numbers_do() {
        let key =
            |price: f64, words, computations| Price::new(price).key(Cost { words, computations });
        assert_eq!(key(0.5, 1, 2), key(0.5, 2, 0));
        assert!(key(0.1, 1, 10) > key(0.1, 2, 0), "0.1 is a little more than a tenth");
        assert!(key(0.3, 1, 9) < key(0.3, 0, 13));
        assert!(key(1e-300, 1, 1 << 21) < key(1e-300, 2, 0));
        assert!(key(1e300, 1 << 40, 1) < key(1e300, 0, 2));
        assert_eq!(key(0.0, 3, 7), key(0.0, 3, 1));
    }
}
