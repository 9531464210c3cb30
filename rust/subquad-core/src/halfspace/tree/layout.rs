//! Where the parts of a tree lie.

use std::ops::Range;

/// Keys in a leaf.
pub const LEAF: usize = 64;

/// Children of a node, and nodes in a pack: a whole number of vectors on every machine.
pub const FAN: usize = 16;

/// Largest dimension.
pub const MAX_DIM: usize = 12;

/// Most levels of packs: 64 * 16^7 keys are more than an index holds.
pub const MAX_LEVELS: usize = 7;

/// Rows of a pack: for every coordinate the largest and the least number, then this one, of numbers not
/// below the longest vector of each box.
pub fn size_row(dim: usize) -> usize {
    2 * dim
}

/// The last row of a pack: the squared radius of each node, negated.
pub fn reach_row(dim: usize) -> usize {
    2 * dim + 1
}

/// A tree over `len` keys. Leaf `i` holds those at the places `64 i ..` of the tree's order; node `i`
/// of level 0 is leaf `i`, and node `i` of the next level has the nodes `16 i ..` as its children.
/// Siblings are stored together, as one pack, row after row of 16 numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub dim: usize,
    pub len: usize,
    /// Number of levels, the highest of which is one pack.
    pub levels: usize,
    /// The first pack of every level.
    first: [usize; MAX_LEVELS + 1],
}

impl Layout {
    pub fn new(dim: usize, len: usize) -> Self {
        let mut first = [0; MAX_LEVELS + 1];
        let mut nodes = len.div_ceil(LEAF);
        let mut levels = 0;
        while levels == 0 || nodes > 1 {
            nodes = nodes.div_ceil(FAN);
            first[levels + 1] = first[levels] + nodes;
            levels += 1;
        }
        Self { dim, len, levels, first }
    }

    /// Number of leaves.
    pub fn leaves(&self) -> usize {
        self.len.div_ceil(LEAF)
    }

    /// Numbers in a leaf: coordinate after coordinate.
    pub fn leaf_size(&self) -> usize {
        self.dim * LEAF
    }

    /// Number of packs of all levels.
    pub fn packs(&self) -> usize {
        self.first[self.levels]
    }

    /// Numbers in a pack.
    pub fn pack_size(&self) -> usize {
        FAN * (2 * self.dim + 2)
    }

    /// The packs of a level, counted from the first of all.
    pub fn level(&self, level: usize) -> Range<usize> {
        self.first[level]..self.first[level + 1]
    }

    /// Number of nodes of a level.
    pub fn nodes(&self, level: usize) -> usize {
        if level == 0 { self.leaves() } else { self.level(level - 1).len() }
    }

    /// The places of a node's keys.
    pub fn keys(&self, level: usize, node: usize) -> Range<usize> {
        let size = LEAF << (4 * level);
        node * size..self.len.min((node + 1) * size)
    }
}
