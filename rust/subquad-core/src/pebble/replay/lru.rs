//! A fully associative cache of least recently used lines: a ring of slots.

use super::lines::Lines;
use super::{Cache, Traffic};

/// A line that is in no slot.
const NOWHERE: u32 = u32::MAX;

/// O(1) per access.
pub(super) struct Lru {
    /// The slot of a line.
    slots: Vec<u32>,
    ring: Vec<Slot>,
    /// The slot that was used last; the one before it in the ring was used first.
    newest: u32,
    /// Slots that are not used yet are taken in order.
    capacity: usize,
    fetch_on_write: bool,
}

#[derive(Clone, Copy)]
struct Slot {
    older: u32,
    newer: u32,
    line: u32,
    dirty: bool,
}

impl Lru {
    /// For lines below `lines`.
    pub(super) fn new(lines: usize, cache: &Cache) -> Self {
        // More slots than lines are of no use.
        let capacity = cache.lines().min(lines);
        let fetch_on_write = cache.fetch_on_write;
        let ring = Vec::with_capacity(capacity);
        Self { slots: vec![NOWHERE; lines], ring, newest: 0, capacity, fetch_on_write }
    }

    #[inline(always)]
    pub(super) fn access(&mut self, line: u32, write: bool, traffic: &mut Traffic) {
        let slot = self.slots[line as usize];
        if slot == NOWHERE {
            self.miss(line, write, traffic);
        } else if slot != self.newest {
            self.renew(slot);
        }
        if write {
            self.ring[self.newest as usize].dirty = true;
        }
    }

    /// Moves a slot to the front.
    #[inline(always)]
    fn renew(&mut self, slot: u32) {
        let Slot { older, newer, .. } = self.ring[slot as usize];
        let newest = self.newest as usize;
        let oldest = self.ring[newest].newer;
        if slot != oldest {
            self.ring[older as usize].newer = newer;
            self.ring[newer as usize].older = older;
            self.ring[slot as usize].older = self.newest;
            self.ring[slot as usize].newer = oldest;
            self.ring[newest].newer = slot;
            self.ring[oldest as usize].older = slot;
        }
        self.newest = slot;
    }

    #[inline(never)]
    fn miss(&mut self, line: u32, write: bool, traffic: &mut Traffic) {
        traffic.misses += 1;
        traffic.fetches += u64::from(!write || self.fetch_on_write);
        let slot = self.ring.len() as u32;
        if self.ring.len() < self.capacity {
            // Between the newest and the oldest, which are neighbours.
            let oldest = self.ring.get(self.newest as usize).map_or(0, |newest| newest.newer);
            self.ring.push(Slot { older: self.newest, newer: oldest, line, dirty: false });
            self.ring[self.newest as usize].newer = slot;
            self.ring[oldest as usize].older = slot;
            self.newest = slot;
        } else {
            self.newest = self.ring[self.newest as usize].newer;
            let slot = &mut self.ring[self.newest as usize];
            traffic.write_backs += u64::from(slot.dirty);
            self.slots[slot.line as usize] = NOWHERE;
            slot.line = line;
            slot.dirty = false;
        }
        self.slots[line as usize] = self.newest;
    }

    /// Writes back what is wanted at the end.
    pub(super) fn flush(&self, cache: &Cache, lines: &Lines, traffic: &mut Traffic) {
        let dirty = self.ring.iter().filter(|slot| slot.dirty);
        let wanted = dirty.filter(|slot| cache.wanted(lines.line(slot.line as usize)));
        traffic.write_backs += wanted.count() as u64;
    }
}
