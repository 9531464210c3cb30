//! Sets of few vertices, as bits of a fixed number of words.

use std::ops::{BitAnd, BitOr, Not, Sub};

/// A set of numbers below `64 * N`. Sets are ordered as the numbers that their bits spell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mask<const N: usize>([u64; N]);

impl<const N: usize> Mask<N> {
    /// Nothing.
    pub const EMPTY: Self = Self([0; N]);

    /// One number.
    pub fn one(i: usize) -> Self {
        let mut mask = Self::EMPTY;
        mask.insert(i);
        mask
    }

    /// The numbers below `n`.
    pub fn first(n: usize) -> Self {
        (0..n).collect()
    }

    pub fn insert(&mut self, i: usize) {
        self.0[i / 64] |= 1 << (i % 64);
    }

    pub fn has(&self, i: usize) -> bool {
        self.0[i / 64] >> (i % 64) & 1 == 1
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    pub fn within(&self, other: &Self) -> bool {
        (*self - *other).is_empty()
    }

    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Its members, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().enumerate().flat_map(|(k, mut word)| {
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros() as usize;
                word &= word.wrapping_sub(1);
                (bit < 64).then_some(k * 64 + bit)
            })
        })
    }

    /// The words, the least significant first.
    pub fn words(&self) -> &[u64; N] {
        &self.0
    }
}

impl<const N: usize> FromIterator<usize> for Mask<N> {
    fn from_iter<I: IntoIterator<Item = usize>>(items: I) -> Self {
        let mut mask = Self::EMPTY;
        items.into_iter().for_each(|i| mask.insert(i));
        mask
    }
}

impl<const N: usize> PartialOrd for Mask<N> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<const N: usize> Ord for Mask<N> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }
}

impl<const N: usize> BitAnd for Mask<N> {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(std::array::from_fn(|k| self.0[k] & other.0[k]))
    }
}

impl<const N: usize> BitOr for Mask<N> {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(std::array::from_fn(|k| self.0[k] | other.0[k]))
    }
}

/// What is in the first set only.
impl<const N: usize> Sub for Mask<N> {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(std::array::from_fn(|k| self.0[k] & !other.0[k]))
    }
}

impl<const N: usize> Not for Mask<N> {
    type Output = Self;
    fn not(self) -> Self {
        Self(std::array::from_fn(|k| !self.0[k]))
    }
}
