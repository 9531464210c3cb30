//! A block: the subtree of two levels that one task builds, 16 384 keys.

use super::layout::{FAN, LEAF};
use super::node::Node;
use super::source::{Source, ordered, widest};

/// Keys below a pack of the second level.
pub const BLOCK: usize = LEAF * FAN * FAN;

/// Keys below a pack of leaves.
const PACK: usize = LEAF * FAN;

/// Rows that tell along what to split.
const SAMPLE: usize = 1024;

/// Where a block puts its parts.
pub struct Parts<'a> {
    /// On entry the slots, ascending; then in the order of the leaves, ascending in each.
    pub order: &'a mut [u32],
    pub leaves: &'a mut [f32],
    /// The packs of leaves.
    pub packs: &'a mut [f32],
    /// The pack above them, if the tree has one.
    pub above: Option<&'a mut [f32]>,
}

/// Fills the parts, and says what is known of all their keys.
pub fn build(source: &Source<'_>, parts: &mut Parts<'_>) -> Node {
    let (dim, width) = (source.dim, source.width());
    let len = parts.order.len();
    let mut rows = vec![0.0; width * len];
    for (&slot, row) in parts.order.iter().zip(rows.chunks_exact_mut(width)) {
        source.row(slot, row);
    }
    let mut places: Vec<u32> = (0..len as u32).collect();
    halve(&rows, width, &mut places, &mut vec![0; len]);

    let slots = parts.order.to_vec();
    for (to, &place) in parts.order.iter_mut().zip(&places) {
        *to = slots[place as usize];
    }
    let pack_size = parts.packs.len() / len.div_ceil(PACK);
    let mut leaves = parts.leaves.chunks_mut(dim * LEAF);
    let mut whole = Node::EMPTY;
    for (i, places) in places.chunks(PACK).enumerate() {
        let pack = &mut parts.packs[i * pack_size..][..pack_size];
        let mut node = Node::EMPTY;
        for (lane, (places, leaf)) in places.chunks(LEAF).zip(&mut leaves).enumerate() {
            let keys = places.iter().map(|&place| &rows[place as usize * width..][..dim]);
            let small = fill(source, keys, leaf);
            small.store(dim, pack, lane);
            node.merge(&small);
        }
        if let Some(above) = &mut parts.above {
            node.store(dim, above, i);
        }
        whole.merge(&node);
    }
    whole
}

/// Puts keys into a leaf.
fn fill<'a>(source: &Source<'_>, keys: impl Iterator<Item = &'a [f32]>, leaf: &mut [f32]) -> Node {
    let mut node = Node::EMPTY;
    for (lane, key) in keys.enumerate() {
        node.insert(key, source.scale.reach(key));
        for (j, &x) in key.iter().enumerate() {
            leaf[j * LEAF + lane] = x;
        }
    }
    node
}

/// Orders the places of rows so that consecutive 64 are close to each other, and so are consecutive
/// 1024: halves what is there along the axis of the largest extent, where a node ends, again and again.
/// Ties go by place, so that there is one result.
fn halve(rows: &[f32], width: usize, places: &mut [u32], pairs: &mut [u64]) {
    let n = places.len();
    if n <= LEAF {
        places.sort_unstable();
        return;
    }
    let row = |place: u32| &rows[place as usize * width..][..width];
    let sample = places.iter().step_by(n.div_ceil(SAMPLE)).map(|&place| row(place));
    let axis = widest(width, sample);
    for (pair, &place) in pairs.iter_mut().zip(&*places) {
        *pair = u64::from(ordered(row(place)[axis])) << 32 | u64::from(place);
    }
    let middle = middle(n, LEAF);
    pairs[..n].select_nth_unstable(middle);
    for (place, &pair) in places.iter_mut().zip(&*pairs) {
        *place = pair as u32;
    }
    let (left, right) = places.split_at_mut(middle);
    halve(rows, width, left, pairs);
    halve(rows, width, right, pairs);
}

/// Where to split `n > smallest` keys: as near to the middle as nodes of `smallest * 16^i` keys end.
pub fn middle(n: usize, smallest: usize) -> usize {
    let mut size = smallest;
    while size * FAN < n {
        size *= FAN;
    }
    n.div_ceil(size) / 2 * size
}
