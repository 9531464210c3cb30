//! TODO

use super::Info;
use super::buffer::Buf;
use super::keys::{Dead, Keys};
use super::predicate::Plane;
use crate::{Par, Result};

mod block;
mod build;
mod emit;
mod file;
mod layout;
mod node;
mod query;
mod search;
mod sorted;
mod source;
mod split;
mod tail;

use emit::Hits;
use layout::{LEAF, Layout, MAX_DIM};
use node::Scale;
use query::Query;

/// Keys that wait for a tree. They fill the leaves of one pack.
const TAIL: usize = layout::LEAF * layout::FAN;

/// Trees over consecutive slots.
#[derive(Clone)]
pub(super) struct Forest {
    dim: usize,
    /// Each at least twice as large as the next.
    trees: Vec<Tree>,
    /// The keys behind those of the trees, in the order they came in.
    tail: Tree,
}

/// A tree of boxes over consecutive slots, see [`Layout`].
#[derive(Clone)]
struct Tree {
    /// The first slot.
    first: usize,
    layout: Layout,
    /// The slots in the order of the leaves, ascending in each.
    order: Buf<u32>,
    /// The keys, leaf after leaf, each with one coordinate after the other.
    leaves: Buf<f32>,
    boxes: Buf<f32>,
    /// None for keys in the order they came in.
    scale: Option<Scale>,
}

impl Forest {
    /// Over no keys yet.
    ///
    /// # Panics
    ///
    /// If the dimension is above 12.
    pub fn new(dim: usize) -> Self {
        assert!((1..=MAX_DIM).contains(&dim));
        Self { dim, trees: Vec::new(), tail: Tree::tail(dim, 0) }
    }

    /// Number of slots that have entered.
    pub fn len(&self) -> usize {
        self.tail.first + self.tail.layout.len
    }

    /// Takes in the slots from [`len`](Self::len) to `upto`. Where that fails, nothing has changed.
    pub fn extend(&mut self, keys: &Keys, upto: usize, par: Par<'_>) -> Result<()> {
        assert!(keys.dim() == self.dim && upto <= keys.len() && upto >= self.len());
        if upto - self.tail.first <= TAIL {
            return self.tail.append(keys, upto);
        }
        // Trees that are not much larger than what comes are built anew with it: so a key is built into
        // a tree at most some log n times, and there are at most log n trees.
        let (mut first, mut kept) = (self.tail.first, self.trees.len());
        while kept > 0 && self.trees[kept - 1].layout.len < 2 * (upto - first) {
            kept -= 1;
            first = self.trees[kept].first;
        }
        let tree = Tree::build(keys, first, upto - first, par)?;
        self.trees.truncate(kept);
        self.trees.push(tree);
        self.tail = Tree::tail(self.dim, upto);
        Ok(())
    }

    /// Adds the slots whose keys are inside and not dead to `out`, ascending.
    pub fn report(
        &self,
        plane: &Plane,
        keys: &Keys,
        dead: &Dead,
        out: &mut Vec<u32>,
        info: &mut Info,
    ) {
        let query = Query::new(plane);
        let mut hits = Hits::new(plane, keys, dead, out, info);
        for tree in self.trees.iter().chain([&self.tail]).filter(|tree| tree.layout.len > 0) {
            let begin = hits.slots().len();
            match &query {
                Some(query) => search::search(plane.isa(), tree, query, &mut hits),
                // Every score is zero.
                None if plane.threshold < 0.0 || (plane.threshold == 0.0 && !plane.strict) => {
                    hits.all(tree, 0..tree.layout.len);
                }
                None => {}
            }
            sorted::sort(&mut hits.slots()[begin..], tree.first, tree.layout.len);
        }
    }

    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        let of = |tree: &Tree| {
            size_of_val(&tree.order[..])
                + size_of_val(&tree.leaves[..])
                + size_of_val(&tree.boxes[..])
        };
        self.trees.iter().chain([&self.tail]).map(|tree| of(tree) as u64).sum()
    }
}

impl Tree {
    /// A key of a leaf, followed by zeros.
    fn key(&self, leaf: usize, lane: usize) -> [f32; MAX_DIM] {
        let leaf = &self.leaves[leaf * self.layout.leaf_size()..][..self.layout.leaf_size()];
        std::array::from_fn(|j| leaf.get(j * LEAF + lane).copied().unwrap_or(0.0))
    }
}

#[cfg(test)]
mod tests;
