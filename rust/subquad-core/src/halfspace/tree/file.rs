//! Trees in a file.

use super::layout::{FAN, Layout, MAX_DIM, reach_row};
use super::node::Scale;
use super::{Forest, TAIL, Tree};
use crate::halfspace::LARGEST;
use crate::halfspace::store::{Reader, Writer, damaged};
use crate::{Error, Result};

/// More trees than any forest has: each is at least twice as large as the next.
const MOST_TREES: usize = 64;

impl Forest {
    /// Puts the trees into a file to be.
    pub fn write<'a>(&'a self, to: &mut Writer<'a>) {
        let trees = || self.trees.iter().chain([&self.tail]);
        to.put_copy("trees", &trees().map(|tree| tree.layout.len as u64).collect::<Vec<_>>());
        trees().enumerate().for_each(|(i, tree)| tree.write(i, to));
    }

    /// What [`write`](Self::write) wrote, over the slots `0 .. n`.
    pub fn read(from: &Reader<'_>, dim: usize, n: usize) -> Result<Self> {
        let lengths = from.take::<u64>("trees", None)?;
        let refuse = || damaged(format!("trees of {:?} of {n} keys", &lengths[..]));
        let known = |&len: &u64| usize::try_from(len).ok().filter(|&len| len <= n);
        let (Some(tail), Some(trees)) = (
            lengths.last().and_then(known).filter(|&tail| tail <= TAIL),
            lengths.split_last().filter(|(_, trees)| trees.len() <= MOST_TREES),
        ) else {
            return Err(refuse());
        };
        if !(1..=MAX_DIM).contains(&dim) || n > LARGEST {
            return Err(damaged(format!("trees of {n} keys in {dim} dimensions")));
        }
        let (mut forest, mut first) = (Self::new(dim), 0);
        for (i, len) in trees.1.iter().map(known).enumerate() {
            let len = len.filter(|&len| len > 0 && len <= n - first).ok_or_else(refuse)?;
            forest.trees.push(Tree::read(from, i, first, Layout::new(dim, len), true)?);
            first += len;
        }
        if first + tail != n {
            return Err(refuse());
        }
        forest.tail = Tree::read(from, trees.1.len(), first, Layout::new(dim, tail), false)?;
        Ok(forest)
    }
}

impl Tree {
    pub fn write<'a>(&'a self, i: usize, to: &mut Writer<'a>) {
        to.put(&format!("t{i}order"), &self.order);
        to.put(&format!("t{i}leaf"), &self.leaves);
        to.put(&format!("t{i}box"), &self.boxes);
        if let Some(Scale { centre, weight }) = self.scale {
            to.put_copy(&format!("t{i}scale"), &[centre, weight].concat());
        }
    }

    fn read(
        from: &Reader<'_>,
        i: usize,
        first: usize,
        layout: Layout,
        scaled: bool,
    ) -> Result<Self> {
        let order = from.take::<u32>(&format!("t{i}order"), Some(layout.len))?;
        if !is_permutation(&order, first) {
            return Err(damaged("a tree that does not hold every key once"));
        }
        let times = |n: usize, size| n.checked_mul(size).ok_or(Error::Memory { bytes: usize::MAX });
        let size = times(layout.leaves(), layout.leaf_size())?;
        let leaves = from.take(&format!("t{i}leaf"), Some(size))?;
        let size = times(layout.packs(), layout.pack_size())?;
        let boxes = from.take(&format!("t{i}box"), Some(size))?;
        let scale = if scaled {
            let all: [f32; 2 * MAX_DIM] = from.array(&format!("t{i}scale"))?;
            let half = |from: usize| std::array::from_fn(|j| all[from + j]);
            Some(Scale { centre: half(0), weight: half(MAX_DIM) })
        } else {
            None
        };
        Ok(Self { first, layout, order, leaves, boxes, scale })
    }

    /// The squared distance of no key from the centre is larger.
    pub fn reach(&self) -> f64 {
        let root = self.layout.level(self.layout.levels - 1).start * self.layout.pack_size();
        let row = &self.boxes[root + reach_row(self.layout.dim) * FAN..][..FAN];
        row.iter().fold(0.0, |most, &x| f64::max(most, -f64::from(x)))
    }
}

/// Are these `first .. first + len` in any order?
fn is_permutation(slots: &[u32], first: usize) -> bool {
    let mut seen = vec![false; slots.len()];
    slots.iter().all(|&slot| {
        let place = (slot as usize).checked_sub(first).and_then(|i| seen.get_mut(i));
        place.is_some_and(|seen| !std::mem::replace(seen, true))
    })
}
