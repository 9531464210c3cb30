//! What a search finds.

use std::ops::Range;

use super::Tree;
use super::layout::{LEAF, MAX_DIM};
use crate::halfspace::Info;
use crate::halfspace::keys::{Dead, Keys};
use crate::halfspace::predicate::Plane;

/// The slots found so far, and what decides about others.
pub struct Hits<'a> {
    plane: &'a Plane,
    keys: &'a Keys,
    dead: &'a Dead,
    out: &'a mut Vec<u32>,
    info: &'a mut Info,
    /// The last key that was decided exactly, and how: its duplicates lie in the same leaf.
    last: Option<([f32; MAX_DIM], bool)>,
    /// How many more keys may be looked at.
    left: usize,
}

impl<'a> Hits<'a> {
    pub fn new(
        plane: &'a Plane,
        keys: &'a Keys,
        dead: &'a Dead,
        out: &'a mut Vec<u32>,
        info: &'a mut Info,
        most: usize,
    ) -> Self {
        Self { plane, keys, dead, out, info, last: None, left: most }
    }

    /// The slots, to be put into order.
    pub fn slots(&mut self) -> &mut Vec<u32> {
        self.out
    }

    /// How many more keys may be looked at one by one.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Counts what a search has read, and the keys it has looked at one by one.
    pub fn count(&mut self, bytes: usize, keys: usize) {
        self.info.bytes_read += bytes as u64;
        self.info.scanned += keys as u64;
        self.left = self.left.saturating_sub(keys);
    }

    /// All keys at some places.
    #[cold]
    #[inline(never)]
    pub fn all(&mut self, tree: &Tree, places: Range<usize>) {
        self.info.bytes_read += 4 * places.len() as u64;
        self.info.candidates += places.len() as u64;
        self.info.sure += places.len() as u64;
        let slots = &tree.order[places];
        if self.dead.is_empty() {
            self.out.extend_from_slice(slots);
        } else {
            self.out.extend(slots.iter().filter(|&&slot| !self.dead.contains(slot as usize)));
        }
    }

    /// Of a leaf those keys whose bits are set in `some`; those in `sure` are known to be inside.
    ///
    /// # Safety
    ///
    /// The leaf must exist, and `some` have bits of its keys only.
    #[inline(always)]
    pub unsafe fn leaf(&mut self, tree: &Tree, leaf: usize, some: u64, sure: u64) {
        let found = u64::from(some.count_ones());
        self.info.candidates += found;
        self.info.bytes_read += 4 * found;
        if some & !sure != 0 || !self.dead.is_empty() {
            self.careful(tree, leaf, some, sure);
            return;
        }
        self.info.sure += found;
        self.out.reserve(LEAF);
        let begin = self.out.len();
        // SAFETY: there is room for as many slots as a leaf has; the keys exist, says the caller.
        unsafe {
            let mut to = self.out.as_mut_ptr().add(begin);
            let slots = tree.order.as_ptr().add(leaf * LEAF);
            let mut left = some;
            while left != 0 {
                *to = *slots.add(left.trailing_zeros() as usize);
                to = to.add(1);
                left &= left - 1;
            }
            self.out.set_len(begin + found as usize);
        }
    }

    /// As [`leaf`](Self::leaf), key by key.
    #[cold]
    #[inline(never)]
    fn careful(&mut self, tree: &Tree, leaf: usize, some: u64, sure: u64) {
        let mut left = some;
        while left != 0 {
            let i = left.trailing_zeros() as usize;
            left &= left - 1;
            let slot = tree.order[leaf * LEAF + i];
            let is_sure = sure >> i & 1 == 1;
            self.info.sure += u64::from(is_sure);
            if !self.dead.contains(slot as usize)
                && (is_sure || self.holds(tree.key(leaf, i), slot as usize))
            {
                self.out.push(slot);
            }
        }
    }

    /// Decides about a key exactly.
    fn holds(&mut self, key: [f32; MAX_DIM], slot: usize) -> bool {
        if let Some((last, inside)) = self.last
            && last == key
        {
            return inside;
        }
        let inside = self.plane.holds(self.keys, slot, self.info);
        self.last = Some((key, inside));
        inside
    }
}
