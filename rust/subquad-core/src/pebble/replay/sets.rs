//! A cache of sets, in each the least recently used line leaves.

use super::{Cache, Traffic};

/// A way without a line: no address of 62 bits, doubled, is this.
const EMPTY: u64 = u64::MAX;

/// O(ways) per access.
pub(super) struct Sets {
    /// Of every set, from the newest to the oldest: twice a line, and one more if it was written.
    ways: Vec<u64>,
    per_set: usize,
    count: u64,
    fetch_on_write: bool,
}

impl Sets {
    pub(super) fn new(cache: &Cache, per_set: usize) -> Self {
        let sets = cache.lines() / per_set;
        let fetch_on_write = cache.fetch_on_write;
        Self { ways: vec![EMPTY; sets * per_set], per_set, count: sets as u64, fetch_on_write }
    }

    #[inline]
    pub(super) fn access(&mut self, line: u64, write: bool, traffic: &mut Traffic) {
        let sets = self.count;
        // A division takes longer than all else.
        let set = if sets.is_power_of_two() { line & (sets - 1) } else { line % sets };
        let first = set as usize * self.per_set;
        let ways = &mut self.ways[first..first + self.per_set];
        let found = ways.iter().position(|&way| way >> 1 == line);
        let place = found.unwrap_or(ways.len() - 1);
        let mut way = ways[place];
        if found.is_none() {
            traffic.misses += 1;
            traffic.fetches += u64::from(!write || self.fetch_on_write);
            traffic.write_backs += u64::from(way != EMPTY && way & 1 != 0);
            way = line << 1;
        }
        ways.copy_within(..place, 1);
        ways[0] = way | u64::from(write);
    }

    /// Writes back what is wanted at the end.
    pub(super) fn flush(&self, cache: &Cache, traffic: &mut Traffic) {
        let dirty = self.ways.iter().filter(|&&way| way != EMPTY && way & 1 != 0);
        traffic.write_backs += dirty.filter(|&&way| cache.wanted(way >> 1)).count() as u64;
    }
}
