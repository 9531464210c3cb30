//! What is known of the keys below a node.

use super::layout::{FAN, MAX_DIM};

/// The box of some keys, and how far they are from the centre of the tree.
#[derive(Clone, Copy)]
pub struct Node {
    pub low: [f32; MAX_DIM],
    pub high: [f32; MAX_DIM],
    /// Not below the square of the largest distance, in the tree's [`Scale`].
    pub reach: f64,
}

impl Node {
    /// That of no keys.
    pub const EMPTY: Self =
        Self { low: [f32::INFINITY; MAX_DIM], high: [f32::NEG_INFINITY; MAX_DIM], reach: 0.0 };

    /// Takes in a key at a distance whose square is `reach` at most.
    #[inline(always)]
    pub fn insert(&mut self, key: &[f32], reach: f64) {
        for (j, &x) in key.iter().enumerate() {
            self.low[j] = self.low[j].min(x);
            self.high[j] = self.high[j].max(x);
        }
        self.reach = self.reach.max(reach);
    }

    /// Takes in the keys of another node.
    pub fn merge(&mut self, other: &Self) {
        for j in 0..MAX_DIM {
            self.low[j] = self.low[j].min(other.low[j]);
            self.high[j] = self.high[j].max(other.high[j]);
        }
        self.reach = self.reach.max(other.reach);
    }

    /// Puts this node, of `dim` coordinates, into a pack.
    pub fn store(&self, dim: usize, pack: &mut [f32], lane: usize) {
        let mut row = pack.chunks_exact_mut(FAN).map(|row| &mut row[lane]);
        let mut put = |x| *row.next().expect("a pack has 2 dim + 2 rows") = x;
        for j in 0..dim {
            put(self.high[j]);
            put(self.low[j]);
        }
        put(self.size(dim));
        put(-(if self.reach < LARGEST_REACH { above(self.reach) } else { f32::INFINITY }));
    }

    /// Not below the length of any vector of the box; infinite where a product may overflow.
    fn size(&self, dim: usize) -> f32 {
        let longest = |j: usize| f64::from(self.low[j].abs().max(self.high[j].abs()));
        let sum: f64 = (0..dim).map(|j| longest(j) * longest(j)).sum();
        // The root of a sum of 12 squares is off by 2^-48 at most, relatively.
        let size = sum.sqrt() * (1.0 + 1e-12);
        if size < LARGEST_SIZE { above(size) } else { f32::INFINITY }
    }
}

/// Boxes with longer vectors are not bounded: 2^126, half of what lies in reach of float32.
const LARGEST_SIZE: f64 = 8.507_059_173_023_462e37;

/// Nor are balls of a larger squared radius: 2^100, so that a distance does not overflow.
pub const LARGEST_REACH: f64 = 1.267_650_600_228_229_4e30;

/// A float32 that is not below a number, infinite beyond the range.
pub fn above(x: f64) -> f32 {
    let nearest = x as f32;
    if f64::from(nearest) < x { nearest.next_up() } else { nearest }
}

/// A float32 that is not above a number.
pub fn below(x: f64) -> f32 {
    -above(-x)
}

/// The units in which distances from the centre are measured.
#[derive(Clone, Copy)]
pub struct Scale {
    pub centre: [f32; MAX_DIM],
    /// Powers of two.
    pub weight: [f32; MAX_DIM],
}

impl Scale {
    /// Not below the squared distance of a key: `sum_j (w_j (x_j - c_j))^2`.
    #[inline(always)]
    pub fn reach(&self, key: &[f32]) -> f64 {
        let mut sum = 0.0;
        for (j, &x) in key.iter().enumerate() {
            let y = f64::from(self.weight[j]) * (f64::from(x) - f64::from(self.centre[j]));
            sum += y * y;
        }
        sum * (1.0 + 1e-12)
    }
}
