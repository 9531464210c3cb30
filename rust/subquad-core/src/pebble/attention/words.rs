//! Words by what they hold: numbers of different kinds may have different widths.

use std::ops::{Add, AddAssign, Mul};

/// What a word holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A number of an input or of an output; stored scores and weights are such numbers too.
    Operand,
    /// A sum that is being computed.
    Accumulator,
    /// A number for a row: the largest score, the sum of its exponentials, the logarithm of that.
    Statistic,
}

/// How many words of each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Words(pub [u64; 3]);

impl Words {
    /// So many operands, accumulators and statistics.
    pub fn new(operands: usize, accumulators: usize, statistics: usize) -> Self {
        Self([operands as u64, accumulators as u64, statistics as u64])
    }

    /// Operands alone.
    pub(super) fn operands(words: u64) -> Self {
        Self([words, 0, 0])
    }

    /// Statistics alone.
    pub(super) fn statistics(words: u64) -> Self {
        Self([0, 0, words])
    }

    #[inline]
    pub(super) fn add(&mut self, class: Class, words: u64) {
        self.0[class as usize] += words;
    }

    /// All classes together.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl Add for Words {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }
}

impl AddAssign for Words {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Mul<u64> for Words {
    type Output = Self;
    fn mul(self, times: u64) -> Self {
        Self(self.0.map(|words| words * times))
    }
}

/// What a word of each class takes: 1 each if memory is measured in words, else bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Widths(pub [u64; 3]);

impl Widths {
    /// Memory is measured in words.
    pub const WORDS: Self = Self([1; 3]);

    #[inline]
    pub(super) fn of(self, class: Class) -> u64 {
        self.0[class as usize]
    }

    /// What these words take.
    pub fn size(self, words: Words) -> u64 {
        self.0.iter().zip(words.0).map(|(width, words)| width * words).sum()
    }
}
