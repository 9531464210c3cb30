//! What leaves fast memory.

use super::super::bits::Bits;
use super::super::random::Random;
use super::engine::BLUE;
use super::schedule::{FIRST, Schedule};

/// Who is told of what is in fast memory, and chooses what leaves it.
pub(super) trait Rule {
    /// Does it look at future uses?
    const FORESEES: bool = false;
    /// Does it want to know of every use?
    const LOOKS_BACK: bool = false;

    /// A value is about to be used, and is there.
    fn touch(&mut self, _value: u32) {}

    /// A value is there.
    fn enter(&mut self, _value: u32) {}

    /// A value that is there will be used then.
    fn expect(&mut self, _this: u32) {}

    /// A value that would have been used then, if ever, is no longer there.
    fn leave(&mut self, _value: u32, _expected: Option<u32>) {}

    /// A value that is there and whose next use is not before `limit`.
    fn victim(&mut self, schedule: &Schedule, state: &[u32], limit: u32) -> Option<u32>;
}

/// Foresight; of the furthest `WINDOW`, what needs no store goes first.
///
/// The set holds the next use of every value that is there, and uses that have come: those are smaller than any
/// that may be asked for.
pub(super) struct Belady<const WINDOW: usize> {
    uses: Bits,
}

impl<const WINDOW: usize> Belady<WINDOW> {
    pub(super) fn new(uses: usize) -> Self {
        Self { uses: Bits::new(uses) }
    }

    /// Of operands of the same step, which are used last, one that needs no store.
    fn clean_sibling(&self, schedule: &Schedule, state: &[u32], last: u32) -> Option<u32> {
        // Enough for what has few operands; and nobody waits for a long search.
        const SIBLINGS: u32 = 8;
        let mut this = last;
        for _ in 0..SIBLINGS {
            if schedule.operands[this as usize] & FIRST != 0 {
                break;
            }
            this -= 1;
            let value = schedule.value(this);
            if self.uses.contains(this as usize) && state[value as usize] & BLUE != 0 {
                return Some(value);
            }
        }
        None
    }

    fn clean_of_several(
        &self,
        schedule: &Schedule,
        state: &[u32],
        last: u32,
        limit: u32,
    ) -> Option<u32> {
        let mut this = last;
        for _ in 1..WINDOW {
            this = self.uses.before(this as usize)? as u32;
            if this < limit {
                return None;
            }
            let value = schedule.value(this);
            if state[value as usize] & BLUE != 0 {
                return Some(value);
            }
        }
        None
    }
}

impl<const WINDOW: usize> Rule for Belady<WINDOW> {
    const FORESEES: bool = true;

    #[inline]
    fn expect(&mut self, this: u32) {
        self.uses.insert(this as usize);
    }

    #[inline]
    fn leave(&mut self, _value: u32, expected: Option<u32>) {
        if let Some(this) = expected {
            self.uses.remove(this as usize);
        }
    }

    #[inline]
    fn victim(&mut self, schedule: &Schedule, state: &[u32], limit: u32) -> Option<u32> {
        let last = self.uses.last()? as u32;
        if last < limit {
            return None;
        }
        let furthest = schedule.value(last);
        if state[furthest as usize] & BLUE != 0 {
            return Some(furthest);
        }
        let clean = if WINDOW > 1 {
            self.clean_of_several(schedule, state, last, limit)
        } else {
            self.clean_sibling(schedule, state, last)
        };
        Some(clean.unwrap_or(furthest))
    }
}

/// Values in a ring, the first to leave last; `renew` moves what is used to the front.
pub(super) struct Queue {
    /// For every value, and for the head, which is last: what is behind and before it.
    links: Vec<[u32; 2]>,
    renew: bool,
}

const BEHIND: usize = 0;
const BEFORE: usize = 1;

impl Queue {
    pub(super) fn new(values: usize, renew: bool) -> Self {
        Self { links: vec![[values as u32; 2]; values + 1], renew }
    }

    fn head(&self) -> u32 {
        (self.links.len() - 1) as u32
    }

    fn unlink(&mut self, value: u32) {
        let [behind, before] = self.links[value as usize];
        self.links[behind as usize][BEFORE] = before;
        self.links[before as usize][BEHIND] = behind;
    }
}

impl Rule for Queue {
    const LOOKS_BACK: bool = true;

    fn touch(&mut self, value: u32) {
        if self.renew {
            self.unlink(value);
            self.enter(value);
        }
    }

    fn enter(&mut self, value: u32) {
        let head = self.head();
        let first = self.links[head as usize][BEHIND];
        self.links[value as usize] = [first, head];
        self.links[head as usize][BEHIND] = value;
        self.links[first as usize][BEFORE] = value;
    }

    fn leave(&mut self, value: u32, _expected: Option<u32>) {
        self.unlink(value);
    }

    fn victim(&mut self, _schedule: &Schedule, state: &[u32], limit: u32) -> Option<u32> {
        let head = self.head();
        let mut value = self.links[head as usize][BEFORE];
        while value != head && super::engine::expected(state[value as usize]) < limit {
            value = self.links[value as usize][BEFORE];
        }
        (value != head).then_some(value)
    }
}

/// Chance.
pub(super) struct Lottery {
    random: Random,
    there: Vec<u32>,
    /// Where in `there` a value is.
    places: Vec<u32>,
}

impl Lottery {
    pub(super) fn new(values: usize, seed: u64) -> Self {
        Self { random: Random::new(seed), there: vec![], places: vec![0; values] }
    }
}

impl Rule for Lottery {
    fn enter(&mut self, value: u32) {
        self.places[value as usize] = self.there.len() as u32;
        self.there.push(value);
    }

    fn leave(&mut self, value: u32, _expected: Option<u32>) {
        let place = self.places[value as usize];
        self.there.swap_remove(place as usize);
        if let Some(&moved) = self.there.get(place as usize) {
            self.places[moved as usize] = place;
        }
    }

    fn victim(&mut self, _schedule: &Schedule, state: &[u32], limit: u32) -> Option<u32> {
        // Operands of what is computed stay: draw again, and where nearly all are, look at all.
        let may = |&value: &u32| super::engine::expected(state[value as usize]) >= limit;
        for _ in 0..16 {
            let drawn = self.there.get(self.random.below(self.there.len()))?;
            if may(drawn) {
                return Some(*drawn);
            }
        }
        let others: Vec<u32> = self.there.iter().copied().filter(may).collect();
        others.get(self.random.below(others.len())).copied()
    }
}
