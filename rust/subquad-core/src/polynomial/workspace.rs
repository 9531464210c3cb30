//! What the passes over features work with.

use super::features::{BLOCK, Features, TILE};
use super::monomials::Monomials;
use super::state::ROWS;
use crate::scratch::Buffer;
use crate::simd::Float;

/// What a task works with besides: one block of features, and where it is among them.
pub struct Workspace<T> {
    pub(super) features: Features<T>,
    pub(super) block: Buffer<T>,
    pub(super) slopes: Buffer<T>,
    /// What is rounded to bf16 of a block and of the values of a tile; empty where nothing is.
    pub(super) narrow: Buffer<u32>,
    pub(super) value_pairs: Buffer<u32>,
    /// So many features are not rounded.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(super) exact: usize,
}

impl<T: Float> Workspace<T> {
    pub fn new(monomials: &Monomials) -> Self {
        let rows = BLOCK + ROWS;
        Self {
            features: Features::new(monomials.words()),
            block: Buffer::new(rows * TILE),
            slopes: Buffer::new(rows * TILE),
            narrow: Buffer::new(0),
            value_pairs: Buffer::new(0),
            exact: monomials.len(),
        }
    }

    /// With room for what is rounded to bf16 beside values of so many columns: all features but the first `exact`.
    pub fn rounding(mut self, columns: usize, exact: usize) -> Self {
        self.narrow = Buffer::new((BLOCK + ROWS) * TILE / 2);
        self.value_pairs = Buffer::new(TILE / 2 * columns);
        Self { exact, ..self }
    }
}
