//! A set of small integers that finds its largest.

/// Numbers below a limit, one bit each, with a bit above for every word that is not empty, and so on: all
/// operations take O(log limit / 6) steps, most of them one.
pub(super) struct Bits {
    levels: Vec<Vec<u64>>,
    /// No word of the lowest level above this one has a bit.
    high: usize,
}

impl Bits {
    pub(super) fn new(limit: usize) -> Self {
        let mut levels = vec![];
        let mut length = limit;
        loop {
            length = length.div_ceil(64).max(1);
            levels.push(vec![0; length]);
            if length == 1 {
                return Self { levels, high: 0 };
            }
        }
    }

    pub(super) fn contains(&self, i: usize) -> bool {
        self.levels[0][i / 64] >> (i % 64) & 1 != 0
    }

    #[inline]
    pub(super) fn insert(&mut self, i: usize) {
        let word = &mut self.levels[0][i / 64];
        let before = *word;
        *word |= 1 << (i % 64);
        if before == 0 {
            self.raise(i / 64);
        }
    }

    /// A word of the lowest level is no longer empty.
    fn raise(&mut self, mut i: usize) {
        self.high = self.high.max(i);
        for level in &mut self.levels[1..] {
            let before = level[i / 64];
            level[i / 64] |= 1 << (i % 64);
            if before != 0 {
                break;
            }
            i /= 64;
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, mut i: usize) {
        for level in &mut self.levels {
            level[i / 64] &= !(1 << (i % 64));
            if level[i / 64] != 0 {
                break;
            }
            i /= 64;
        }
    }

    /// The largest.
    #[inline]
    pub(super) fn last(&mut self) -> Option<usize> {
        if self.levels[0][self.high] == 0 {
            let top = self.levels.len() - 1;
            self.high = self.below(top, 0)? / 64;
        }
        Some(self.high * 64 + highest(self.levels[0][self.high])?)
    }

    /// The largest below one that may be contained.
    pub(super) fn before(&self, i: usize) -> Option<usize> {
        let mut i = i;
        for (level, words) in self.levels.iter().enumerate() {
            let lower = words[i / 64] & ((1 << (i % 64)) - 1);
            if let Some(bit) = highest(lower) {
                let found = i / 64 * 64 + bit;
                return if level == 0 { Some(found) } else { self.below(level - 1, found) };
            }
            i /= 64;
        }
        None
    }

    /// The largest in a word of some level.
    fn below(&self, level: usize, word: usize) -> Option<usize> {
        let mut word = word;
        for words in self.levels[..=level].iter().rev() {
            word = word * 64 + highest(words[word])?;
        }
        Some(word)
    }
}

fn highest(word: u64) -> Option<usize> {
    word.checked_ilog2().map(|bit| bit as usize)
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    #[test]
    fn it_is_the_set_that_a_tree_is() {
        for limit in [1, 64, 65, 5000, 300_000] {
            let (mut bits, mut tree) = (Bits::new(limit), std::collections::BTreeSet::new());
            let mut random = Random::new(limit as u64);
            for round in 0..4000 {
                let i = random.below(limit);
                // Grows, then shrinks.
                if random.below(4000) > round {
                    bits.insert(i);
                    tree.insert(i);
                } else if let Some(&i) = tree.range(i..).next() {
                    bits.remove(i);
                    tree.remove(&i);
                }
                assert_eq!(bits.last(), tree.last().copied());
                assert_eq!(bits.before(i), tree.range(..i).next_back().copied());
                assert_eq!(bits.contains(i), tree.contains(&i));
            }
        }
    }
}
