//! A tree of one pack, filled key by key.

use super::Tree;
use super::layout::{LEAF, Layout};
use super::node::Node;
use crate::Result;
use crate::halfspace::buffer::Buf;
use crate::halfspace::keys::Keys;

impl Tree {
    /// A tree of no keys, which will begin at a slot.
    pub fn tail(dim: usize, first: usize) -> Self {
        Self {
            first,
            layout: Layout::new(dim, 0),
            order: Buf::new(),
            leaves: Buf::new(),
            boxes: Buf::new(),
            scale: None,
        }
    }

    /// Takes in the slots behind its own, up to `upto`.
    pub fn append(&mut self, keys: &Keys, upto: usize) -> Result<()> {
        let (dim, old) = (self.layout.dim, self.layout.len);
        let layout = Layout::new(dim, upto - self.first);
        self.order.try_reserve(layout.len - old)?;
        self.leaves.try_reserve(layout.leaves() * layout.leaf_size() - self.leaves.len())?;
        self.boxes.try_reserve(layout.packs() * layout.pack_size() - self.boxes.len())?;
        self.order.resize(layout.len);
        self.leaves.resize(layout.leaves() * layout.leaf_size());
        self.boxes.resize(layout.packs() * layout.pack_size());
        for place in old..layout.len {
            let mut key = [0.0; super::MAX_DIM];
            keys.widen(self.first + place, &mut key[..dim]);
            self.order.to_mut()[place] = (self.first + place) as u32;
            let (leaf, lane) = (place / LEAF, place % LEAF);
            let leaf = &mut self.leaves.to_mut()[leaf * layout.leaf_size()..][..layout.leaf_size()];
            (0..dim).for_each(|j| leaf[j * LEAF + lane] = key[j]);
        }
        for leaf in old / LEAF..layout.leaves() {
            let mut node = Node::EMPTY;
            for lane in 0..layout.keys(0, leaf).len() {
                node.insert(&self.key(leaf, lane)[..dim], f64::INFINITY);
            }
            node.store(dim, self.boxes.to_mut(), leaf);
        }
        self.layout = layout;
        Ok(())
    }
}
