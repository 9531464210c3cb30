//! Reuse distances: one pass over a trace, and the traffic of every size of an LRU cache.
//!
//! The distance of an access is how many other lines were used since its line was used last. A cache of C least
//! recently used lines has it if and only if the distance is below C (Mattson et al. 1970). A line that was written
//! is written back between that write and the next one to it if it leaves in between, that is if one of the distances up to
//! the next write is C or more; and once after the last write. So three histograms tell everything.
//!
//! Where each line was used last is marked on a line of time, and the distance is the number of marks after the last use.
//! Marks are counted by words where the use is near, and by a tree of partial sums (Fenwick 1994) where it is
//! not; the line of time is pushed together when it ends. O(log lines) per access, O(lines) memory.

use super::super::simulate::on_this_thread;
use super::lines::Lines;
use super::{Trace, Traffic, for_each};
use crate::{Error, Par, Result};

/// How many accesses have which distance, in lines; index d counts distance d.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distances {
    /// Words of a line.
    pub line: u64,
    /// Of reads.
    pub reads: Vec<u64>,
    /// Of writes.
    pub writes: Vec<u64>,
    /// Of writes that follow a write to the same line: the largest of the distances since.
    pub rewrites: Vec<u64>,
    /// Lines whose first access is a read.
    pub first_reads: u64,
    /// Lines whose first access is a write.
    pub first_writes: u64,
    /// Lines that were written.
    pub written: u64,
}

impl Distances {
    /// What a fully associative LRU cache of that many words moves: the same as [`replay`](super::replay), all that
    /// was written being wanted at the end. O(distances).
    ///
    /// # Errors
    ///
    /// [`Error::TooSmall`].
    pub fn traffic(&self, capacity: u64, fetch_on_write: bool) -> Result<Traffic> {
        if capacity < self.line {
            return Err(Error::TooSmall { name: "capacity", least: self.line, found: capacity });
        }
        let lines = usize::try_from(capacity / self.line).unwrap_or(usize::MAX);
        let beyond = |of: &[u64]| of.iter().skip(lines).sum::<u64>();
        let all = |of: &[u64]| of.iter().sum::<u64>();
        let reads = beyond(&self.reads) + self.first_reads;
        let writes = beyond(&self.writes) + self.first_writes;
        let first = self.first_reads + self.first_writes;
        Ok(Traffic {
            accesses: all(&self.reads) + all(&self.writes) + first,
            misses: reads + writes,
            fetches: reads + if fetch_on_write { writes } else { 0 },
            write_backs: beyond(&self.rewrites) + self.written,
            line: self.line,
        })
    }
}

/// The reuse distances of a trace, for lines of `line` words, a power of two.
///
/// # Errors
///
/// [`Error::Domain`] for the line, [`Error::Stopped`].
pub fn reuse_distances(trace: &Trace, line: u64, par: Par) -> Result<Distances> {
    if !line.is_power_of_two() {
        let found = line as f64;
        return Err(Error::Domain { name: "line", requires: "a power of two", found });
    }
    on_this_thread(par, |pulse| {
        let shift = line.trailing_zeros();
        let lines = Lines::of(trace, shift);
        let mut pass = Pass::new(lines.count(), line);
        match lines.numbers() {
            None => for_each(&trace.accesses, pulse, |_, access| {
                pass.access((access >> 1 >> shift) as usize, access & 1 != 0);
            })?,
            Some(numbers) => for_each(&trace.accesses, pulse, |i, access| {
                pass.access(numbers[i] as usize, access & 1 != 0);
            })?,
        }
        Ok(pass.end())
    })
}

/// What is known of a line.
#[derive(Clone, Copy)]
struct Line {
    /// When it was used last, [`NEVER`] before that.
    used: u32,
    /// The largest distance since it was written, [`NEVER`] before that.
    largest: u32,
}

const NEVER: u32 = u32::MAX;

struct Pass {
    lines: Vec<Line>,
    marks: Marks,
    distances: Distances,
}

impl Pass {
    fn new(lines: usize, line: u64) -> Self {
        let distances = Distances {
            line,
            reads: vec![0; lines],
            writes: vec![0; lines],
            rewrites: vec![0; lines],
            first_reads: 0,
            first_writes: 0,
            written: 0,
        };
        let unknown = Line { used: NEVER, largest: NEVER };
        Self { lines: vec![unknown; lines], marks: Marks::new(lines), distances }
    }

    #[inline]
    fn access(&mut self, number: usize, write: bool) {
        if self.marks.is_full() {
            self.marks.push_together(&mut self.lines);
        }
        let now = self.marks.now;
        let line = &mut self.lines[number];
        let counts = &mut self.distances;
        if line.used == NEVER {
            let first = if write { &mut counts.first_writes } else { &mut counts.first_reads };
            *first += 1;
        } else {
            let distance = self.marks.after(line.used);
            let histogram = if write { &mut counts.writes } else { &mut counts.reads };
            histogram[distance as usize] += 1;
            if line.largest != NEVER {
                line.largest = line.largest.max(distance);
            }
            self.marks.remove(line.used);
        }
        if write {
            if line.largest == NEVER {
                counts.written += 1;
            } else {
                counts.rewrites[line.largest as usize] += 1;
            }
            line.largest = 0;
        }
        line.used = now;
        self.marks.append();
    }

    /// The histograms, as long as the largest distance needs.
    fn end(self) -> Distances {
        let mut distances = self.distances;
        for of in [&mut distances.reads, &mut distances.writes, &mut distances.rewrites] {
            let longest = of.iter().rposition(|&count| count > 0).map_or(0, |last| last + 1);
            of.truncate(longest);
        }
        distances
    }
}

/// Marks on a line of time.
struct Marks {
    /// One bit per moment.
    words: Vec<u64>,
    /// Sums over words, as a tree; the word of this moment is not in it yet.
    sums: Vec<u32>,
    now: u32,
    /// How many marks there are.
    count: u32,
}

impl Marks {
    /// For up to `lines` marks at a time.
    fn new(lines: usize) -> Self {
        // Pushing together takes a step per moment, so it may come after as many accesses as there are marks.
        let moments = (2 * lines).max(1 << 14).next_power_of_two();
        Self { words: vec![0; moments / 64], sums: vec![0; moments / 64], now: 0, count: 0 }
    }

    fn is_full(&self) -> bool {
        self.now as usize == 64 * self.words.len()
    }

    /// How many marks there are after a moment.
    #[inline]
    fn after(&self, moment: u32) -> u32 {
        /// Words that are counted one by one.
        const NEAR: usize = 16;
        let (word, bit) = (moment as usize / 64, moment % 64);
        let own = (self.words[word] >> bit >> 1).count_ones();
        let last = (self.now as usize / 64).min(self.words.len() - 1);
        if last - word <= NEAR {
            let others = self.words[word + 1..=last].iter().map(|word| word.count_ones());
            return own + others.sum::<u32>();
        }
        self.count - self.before(word) - (self.words[word].count_ones() - own)
    }

    /// How many marks there are in the words before one.
    fn before(&self, word: usize) -> u32 {
        let (mut node, mut sum) = (word, 0);
        while node > 0 {
            sum += self.sums[node - 1];
            node &= node - 1;
        }
        sum
    }

    #[inline]
    fn remove(&mut self, moment: u32) {
        self.words[moment as usize / 64] &= !(1 << (moment % 64));
        self.count -= 1;
        if moment / 64 != self.now / 64 {
            self.add(moment / 64, u32::MAX);
        }
    }

    /// A mark at this moment, the last so far.
    #[inline]
    fn append(&mut self) {
        let word = self.now / 64;
        self.words[word as usize] |= 1 << (self.now % 64);
        self.count += 1;
        self.now += 1;
        if self.now.is_multiple_of(64) {
            self.add(word, self.words[word as usize].count_ones());
        }
    }

    /// Adds to the sums that a word is part of, modulo 2^32.
    #[inline]
    fn add(&mut self, word: u32, change: u32) {
        let mut node = word as usize;
        while let Some(sum) = self.sums.get_mut(node) {
            *sum = sum.wrapping_add(change);
            node |= node + 1;
        }
    }

    /// Closes the gaps between marks.
    fn push_together(&mut self, lines: &mut [Line]) {
        // How many marks come before each word, then before each mark.
        let mut before = 0;
        let mut starts = Vec::with_capacity(self.words.len());
        for word in &self.words {
            starts.push(before);
            before += word.count_ones();
        }
        for line in lines.iter_mut().filter(|line| line.used != NEVER) {
            let (word, bit) = (line.used as usize / 64, line.used % 64);
            let lower = self.words[word] & ((1 << bit) - 1);
            line.used = starts[word] + lower.count_ones();
        }
        self.now = self.count;
        let marks = self.count as usize;
        for (i, word) in self.words.iter_mut().enumerate() {
            *word = match marks.saturating_sub(64 * i) {
                0 => 0,
                rest @ 1..64 => (1 << rest) - 1,
                _ => u64::MAX,
            };
        }
        for (node, sum) in self.sums.iter_mut().enumerate() {
            // Node i covers words from i + 1 without its lowest bit to i.
            let first = (node + 1) & node;
            let complete = marks / 64;
            *sum = 64 * ((node + 1).min(complete) - first.min(complete)) as u32;
        }
    }
}
