//! Building a tree.

use std::sync::{Mutex, PoisonError};

use super::Tree;
use super::block::{self, BLOCK, Parts};
use super::layout::{FAN, LEAF, Layout};
use super::node::Node;
use super::source::Source;
use super::split;
use crate::halfspace::buffer::Buf;
use crate::halfspace::keys::Keys;
use crate::simd::default_float_mode;
use crate::{Par, Result};

impl Tree {
    /// A tree of the slots `first .. first + len`.
    pub fn build(keys: &Keys, first: usize, len: usize, par: Par<'_>) -> Result<Self> {
        let layout = Layout::new(keys.dim(), len);
        let source = default_float_mode(|| Source::new(keys, first, len));
        let mut order = Buf::<u32>::try_with_len(len)?;
        for (i, slot) in order.to_mut().iter_mut().enumerate() {
            *slot = (first + i) as u32;
        }
        split::into_blocks(&source, order.to_mut(), par)?;

        let mut leaves = Buf::<f32>::try_with_len(layout.leaves() * layout.leaf_size())?;
        let mut boxes = Buf::<f32>::try_with_len(layout.packs() * layout.pack_size())?;
        let nodes = blocks(&source, &layout, &mut order, &mut leaves, &mut boxes, par)?;
        default_float_mode(|| above_blocks(&layout, nodes, boxes.to_mut()));
        Ok(Self { first, layout, order, leaves, boxes, scale: Some(source.scale) })
    }
}

/// Builds all blocks, and says what is known of each.
fn blocks(
    source: &Source<'_>,
    layout: &Layout,
    order: &mut Buf<u32>,
    leaves: &mut Buf<f32>,
    boxes: &mut Buf<f32>,
    par: Par<'_>,
) -> Result<Vec<Node>> {
    let size = layout.pack_size();
    let (packs, rest) = boxes.to_mut().split_at_mut(layout.level(0).len() * size);
    let above = if layout.levels > 1 { layout.level(1).len() } else { 0 };
    let mut above = rest[..above * size].chunks_mut(size);
    let mut leaves = leaves.to_mut().chunks_mut(BLOCK / LEAF * layout.leaf_size());
    let mut packs = packs.chunks_mut(BLOCK / LEAF / FAN * size);
    let mut blocks = Vec::new();
    for order in order.to_mut().chunks_mut(BLOCK) {
        let (leaves, packs) = (leaves.next(), packs.next());
        let (leaves, packs) = leaves.zip(packs).expect("every block has leaves and packs");
        blocks.push(Mutex::new(Parts { order, leaves, packs, above: above.next() }));
    }
    par.map(blocks.len(), |i, _| {
        let mut parts = blocks[i].lock().unwrap_or_else(PoisonError::into_inner);
        default_float_mode(|| block::build(source, &mut parts))
    })
}

/// Fills the packs above the blocks' own, given what is known of each block.
fn above_blocks(layout: &Layout, mut nodes: Vec<Node>, boxes: &mut [f32]) {
    let size = layout.pack_size();
    for level in 2..layout.levels {
        let packs = boxes[layout.level(level).start * size..].chunks_mut(size);
        let merged = nodes.chunks(FAN).zip(packs).map(|(nodes, pack)| {
            let mut whole = Node::EMPTY;
            for (lane, node) in nodes.iter().enumerate() {
                node.store(layout.dim, pack, lane);
                whole.merge(node);
            }
            whole
        });
        nodes = merged.collect();
    }
}
