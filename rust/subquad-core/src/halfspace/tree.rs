//! Few dimensions: boxes of boxes around the keys, d <= 12.
//!
//! A kd tree whose nodes have 16 children: keys are halved along their widest axis until 64 are left,
//! and every fourth halving makes a node. A node knows the smallest box around its keys and how far
//! they are from a centre. The bounds of all 16 children are computed together: what cannot reach
//! the threshold is passed over, what cannot miss it is reported as a whole, and only the leaves
//! between are looked at, key by key. For 64 keys out of 2^14 to 2^20 normally distributed ones, the
//! bytes read grow like n^0.1 in 4 dimensions and n^0.2 in 6 (`benches/suite/bench_halfspace.py`); the
//! structure with a proof, that of Agarwal, Eppstein and Matousek, promises n^0.5 and n^0.67. Beyond 8
//! dimensions most leaves are between, and codes win.
//!
//! **The distance from the centre is one more axis.** Far out, boxes are large and say little: of a
//! tree without it, half-spaces that report little visit three to five times as many leaves in 3 to
//! 8 dimensions. With it, the far keys are in shells of their own, and what follows bounds a shell.
//!
//! **Ball.** Let `y_j = w_j (x_j - c_j)` be the keys in the units of their spread, `q'_j = q_j / w_j`,
//! and `b' = b - q . c`, so that `q . x >= b` means `q' . y >= b'`. For a key inside of a node of
//! radius R, i.e. |y| <= R, with b' > 0, any number lambda >= 0 and any vector `g = lambda q' + e`,
//!
//! > |y - g|^2 = |y|^2 - 2 g . y + |g|^2 <= R^2 + T,  T = |g|^2 - 2 lambda b' + 2 |e| R.
//!
//! So if the distance D of the node's box from g exceeds that, D^2 > R^2 + T, no key of it is inside.
//! lambda = b' / |q'|^2 makes T least: g is then the foot of the perpendicular from the centre, and
//! T the negated square of its length. e is the rounding of `p_j = w_j c_j + g_j` to float32. For
//! b' < 0 the same holds, with lambda < 0, of the keys that are *not* inside: a node that is farther
//! away lies inside.
//!
//! **Rounding.** u = 2^-24, and m roundings are a factor within 1 + 1.01 m u, for the m that occur
//! here. A multiply-add may round once or twice. Underflow takes up to 2^-150 from a product, and
//! nothing from a sum.
//!
//! *Query.* It is scaled by a power of two so that 1/2 <= |q| < 1, and b with it. That is exact but for
//! parts that fall below 2^-126, by 2^-150 each.
//!
//! *Scores.* For every box a C is stored that is no less than the length of its longest vector. So the
//! sum of `|q_j x_j|` is C at most, for all keys and corners of the box, and scores and bounds, as
//! sums of d products, are off by 1.01 d u C + d 2^-149 at most. Where C < 2^126, nothing overflows.
//! They are compared with `lo = out - epsilon C` and `hi = inside + epsilon C`, where
//! epsilon = 1.01 (d + 9) u, and `out` and `inside` are float32 below and above b by more than
//! (d + 4) 2^-148. If |lo| <= 4 C, its two roundings cost 6 u C at most: so a score that is not above
//! lo is below b in truth. Otherwise a score is on the same side of lo as of b, whatever the
//! roundings, as no score exceeds C. The same holds for hi, and for bounds to which epsilon C
//! has been added. Where C is larger, infinity is stored, and then no comparison excludes or settles
//! anything: all are such that NaN does not. The keys of such a leaf are decided one by one.
//!
//! *Balls.* T is computed in float64, with 1e-12 of the sum of its parts added, |b'| lessened by what
//! it may be off, and |e| enlarged by 2^-50 of what it is the difference of. The weights are powers
//! of two, so that `w_j x_j` is exact, or off by 2^-150. The differences between box and p round
//! once, their squares and sums d + 2 times: as computed, D^2 is at most (1 + 1.01 (d + 4) u) D^2 + 2^-90,
//! and alpha D^2 is at most D^2 + 2^-90 for alpha = 1 - 32 u, its own rounding included. R^2 is rounded up.
//! So if D^2 <= R^2 + T, then `alpha D^2 - R^2`, rounded, is at most T + 2 u (|T| + R^2) + 2^-89 for the
//! largest R, that of the root. The limit, which adds twice that, is not reached. None of this overflows:
//! balls are used only where R and all parts of g and p are below 2^50. A node with a larger R
//! stores infinity, which is never reached either.
//!
//! **New keys** wait in the leaves of one pack, in the order they came, until 1024 have. Then they become
//! a tree, together with the trees before them that are not at least twice as large (Bentley and
//! Saxe's logarithmic method): so there are at most log2 n trees, over consecutive slots, and a key is built
//! into one about log2 n times. Removed keys stay in their tree until the index is compacted.

use super::Info;
use super::buffer::Buf;
use super::keys::{Dead, Keys};
use super::predicate::Plane;
use crate::simd::default_float_mode;
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
        assert!(keys.dim() == self.dim && (self.len()..=keys.len()).contains(&upto));
        if upto - self.tail.first <= TAIL {
            return default_float_mode(|| self.tail.append(keys, upto));
        }
        // Trees that are not much larger than what comes are built anew with it: so a key is built into
        // a tree at most some log n times, and there are at most log n trees.
        let (mut first, mut kept) = (self.tail.first, self.trees.len());
        while kept > 0 && self.trees[kept - 1].layout.len < 2 * (upto - first) {
            kept -= 1;
            first = self.trees[kept].first;
        }
        let tree = default_float_mode(|| Tree::build(keys, first, upto - first, par))?;
        self.trees.truncate(kept);
        self.trees.push(tree);
        self.tail = Tree::tail(self.dim, upto);
        Ok(())
    }

    /// Adds the slots whose keys are inside and not dead to `out`, ascending; but gives up where more than
    /// about `most` keys would have to be looked at one by one, and adds nothing then, but to `info`. Did it
    /// finish? To be called in the default floating-point mode.
    pub fn report(
        &self,
        most: usize,
        plane: &Plane,
        keys: &Keys,
        dead: &Dead,
        out: &mut Vec<u32>,
        info: &mut Info,
    ) -> bool {
        let (query, before) = (Query::new(plane), out.len());
        let mut hits = Hits::new(plane, keys, dead, out, info, most);
        for tree in self.trees.iter().chain([&self.tail]).filter(|tree| tree.layout.len > 0) {
            let begin = hits.slots().len();
            let finished = match &query {
                Some(query) => search::search(plane.isa(), tree, query, &mut hits),
                // Every score is zero.
                None if plane.threshold < 0.0 || (plane.threshold == 0.0 && !plane.strict) => {
                    hits.all(tree, 0..tree.layout.len);
                    true
                }
                None => true,
            };
            if !finished {
                hits.slots().truncate(before);
                return false;
            }
            sorted::sort(&mut hits.slots()[begin..], tree.first, tree.layout.len);
        }
        true
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
