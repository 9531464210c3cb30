//! What a cache moves when a program runs: word addresses in, words moved out.
//!
//! The game of pebbles lets a program say what stays in fast memory. A cache decides that by itself, by what was used
//! last, in sets, or, as a yardstick, by looking at the future. Word counts of both are comparable: a fetch is a
//! load, a line that is written back a store.

mod distances;
mod lines;
mod lru;
mod nests;
mod opt;
mod sets;

use std::ops::Range;

use super::simulate::on_this_thread;
use crate::par::Pulse;
use crate::{Error, Par, Result};
pub use distances::{Distances, reuse_distances};
use lines::Lines;
use lru::Lru;
pub use nests::Nest;
use sets::Sets;

/// Accesses between two questions whether to stop.
const PATIENCE: usize = 1 << 18;

/// Reads and writes of words, in order, 8 bytes each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Twice the address, and one more for a write.
    accesses: Vec<u64>,
    /// The largest address.
    last: u64,
}

impl Trace {
    /// Of addresses, in words, and of which accesses are writes; none are if not given.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`], or [`Error::Domain`] for an address of 2^62 or more.
    pub fn new(addresses: &[u64], writes: Option<&[bool]>) -> Result<Self> {
        let count = addresses.len();
        Error::unless_equal("writes", "N", count, writes.map_or(count, <[bool]>::len))?;
        if let Some(&found) = addresses.iter().find(|&&address| address >> 62 != 0) {
            let found = found as f64;
            return Err(Error::Domain { name: "addresses", requires: "below 2^62", found });
        }
        let access = |(i, address)| address << 1 | u64::from(writes.is_some_and(|w: &[bool]| w[i]));
        let last = addresses.iter().copied().max().unwrap_or(0);
        Ok(Self { accesses: addresses.iter().copied().enumerate().map(access).collect(), last })
    }

    /// Appends an access.
    fn push(&mut self, address: u64, write: bool) {
        self.accesses.push(address << 1 | u64::from(write));
        self.last = self.last.max(address);
    }

    /// How many accesses.
    pub fn len(&self) -> usize {
        self.accesses.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.accesses.is_empty()
    }

    /// Addresses and whether they are written.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u64, bool)> + '_ {
        self.accesses.iter().map(|&access| (access >> 1, access & 1 != 0))
    }
}

/// What leaves a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// The line that has not been used for longest.
    Lru,
    /// The same among the `ways` lines of a set; the number of a line, modulo the number of sets, is its set.
    SetAssociative {
        /// Lines of a set.
        ways: usize,
    },
    /// The line whose next use is furthest in the future, and at once what is not used again: the fewest misses of
    /// all caches (Belady 1966), though not the fewest words where written lines cost twice.
    Opt {
        /// A word that is written before it is read again is dead: it need not be written back. Only for lines of one
        /// word, and caches that do not fetch what is written.
        discard: bool,
    },
}

/// A cache between a program and its memory. Lines that were written are written back when they leave, and at
/// the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Words that fit.
    pub capacity: u64,
    /// Words of a line, a power of two.
    pub line: u64,
    /// What leaves it.
    pub replacement: Replacement,
    /// Is a line fetched when a word of it is written that is not there? Hardware does, unless it is told that all of
    /// the line will be written.
    pub fetch_on_write: bool,
    /// The addresses that are wanted at the end; what else was written is not written back then. All, if not
    /// given.
    pub live_out: Option<Range<u64>>,
}

/// What a cache has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Reads and writes of words.
    pub accesses: u64,
    /// Those whose line was not there.
    pub misses: u64,
    /// Lines read from memory.
    pub fetches: u64,
    /// Lines written to memory.
    pub write_backs: u64,
    /// Words of a line.
    pub line: u64,
}

impl Traffic {
    /// Words moved.
    pub fn words(&self) -> u64 {
        (self.fetches + self.write_backs) * self.line
    }
}

impl Cache {
    /// A cache of least recently used words, as hardware has them.
    pub fn lru(capacity: u64) -> Self {
        let replacement = Replacement::Lru;
        Self { capacity, line: 1, replacement, fetch_on_write: true, live_out: None }
    }

    /// Lines that fit.
    fn lines(&self) -> usize {
        (self.capacity / self.line.max(1)) as usize
    }

    /// Address to line.
    fn shift(&self) -> u32 {
        self.line.trailing_zeros()
    }

    /// Is what was written to a line wanted at the end?
    fn wanted(&self, line: u64) -> bool {
        let first = line << self.shift();
        let touches = |range: &Range<u64>| range.start < first + self.line && first < range.end;
        self.live_out.as_ref().is_none_or(touches)
    }

    fn check(&self) -> Result<()> {
        let domain =
            |name, requires, found: u64| Err(Error::Domain { name, requires, found: found as f64 });
        if !self.line.is_power_of_two() {
            return domain("line", "a power of two", self.line);
        }
        let mut least = self.line;
        match self.replacement {
            Replacement::SetAssociative { ways } => {
                if ways == 0 {
                    return domain("ways", "at least 1", 0);
                }
                least = least.saturating_mul(ways as u64);
                if self.capacity >= least && !self.capacity.is_multiple_of(least) {
                    return domain("capacity", "a multiple of `ways` lines", self.capacity);
                }
            }
            Replacement::Opt { discard: true } if self.line > 1 => {
                return domain("line", "1 if words are discarded", self.line);
            }
            Replacement::Opt { discard: true } if self.fetch_on_write => {
                return domain("fetch_on_write", "false if words are discarded", 1);
            }
            _ => {}
        }
        if self.capacity < least {
            let found = self.capacity;
            return Err(Error::TooSmall { name: "capacity", least, found });
        }
        Ok(())
    }

    fn traffic(&self, accesses: usize) -> Traffic {
        Traffic { accesses: accesses as u64, line: self.line, ..Traffic::default() }
    }
}

/// Replays a trace. O(N), for [`Replacement::SetAssociative`] times the ways, for [`Replacement::Opt`] with 4
/// bytes more per access.
///
/// # Errors
///
/// [`Error::Domain`] or [`Error::TooSmall`] for the cache, [`Error::Domain`] for 2^32 accesses or more with
/// [`Replacement::Opt`], [`Error::Stopped`].
pub fn replay(trace: &Trace, cache: &Cache, par: Par) -> Result<Traffic> {
    cache.check()?;
    on_this_thread(par, |pulse| {
        let shift = cache.shift();
        let mut traffic = cache.traffic(trace.len());
        if let Replacement::SetAssociative { ways } = cache.replacement {
            let mut sets = Sets::new(cache, ways);
            for_each(&trace.accesses, pulse, |_, access| {
                sets.access(access >> 1 >> shift, access & 1 != 0, &mut traffic);
            })?;
            sets.flush(cache, &mut traffic);
            return Ok(traffic);
        }
        let lines = Lines::of(trace, shift);
        if let Replacement::Opt { discard } = cache.replacement {
            return opt::replay(trace, cache, &lines, discard, pulse);
        }
        let mut lru = Lru::new(lines.count(), cache);
        match lines.numbers() {
            None => for_each(&trace.accesses, pulse, |_, access| {
                lru.access((access >> 1 >> shift) as u32, access & 1 != 0, &mut traffic);
            })?,
            Some(numbers) => for_each(&trace.accesses, pulse, |i, access| {
                lru.access(numbers[i], access & 1 != 0, &mut traffic);
            })?,
        }
        lru.flush(cache, &lines, &mut traffic);
        Ok(traffic)
    })
}

/// Replays what a loop nest accesses, without storing it: O(lines) memory. Not for [`Replacement::Opt`], which
/// must see the future.
///
/// # Errors
///
/// As for [`replay`].
pub fn replay_nest(nest: &Nest, cache: &Cache, par: Par) -> Result<Traffic> {
    cache.check()?;
    let words = nest.check()?;
    if let Replacement::Opt { .. } = cache.replacement {
        return replay(&nest.trace(par)?, cache, par);
    }
    on_this_thread(par, |pulse| {
        let shift = cache.shift();
        let mut traffic = cache.traffic(0);
        if let Replacement::SetAssociative { ways } = cache.replacement {
            let mut sets = Sets::new(cache, ways);
            nest.visit(pulse, |address, write| {
                traffic.accesses += 1;
                sets.access(address >> shift, write, &mut traffic);
            })?;
            sets.flush(cache, &mut traffic);
        } else {
            let lines = Lines::all((words >> shift) as usize + 1);
            let mut lru = Lru::new(lines.count(), cache);
            nest.visit(pulse, |address, write| {
                traffic.accesses += 1;
                lru.access((address >> shift) as u32, write, &mut traffic);
            })?;
            lru.flush(cache, &lines, &mut traffic);
        }
        Ok(traffic)
    })
}

/// All accesses, with questions whether to stop in between.
fn for_each(accesses: &[u64], pulse: &Pulse, mut work: impl FnMut(usize, u64)) -> Result<()> {
    for (block, part) in accesses.chunks(PATIENCE).enumerate() {
        if pulse.stopped() {
            return Err(Error::Stopped);
        }
        for (i, &access) in part.iter().enumerate() {
            work(block * PATIENCE + i, access);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
