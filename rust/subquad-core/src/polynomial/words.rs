//! The words of indices that stand for monomials, and the walk through them.
//!
//! A word is `l_1 <= l_2 <= ... <= l_t`. Coordinates are in two blocks, the leading ones before the trailing
//! ones: of its t factors a word may have `m(t) = min(h, g - t)` trailing ones, so the first `t - m(t)` indices
//! are leading and nothing more is asked. In one block all coordinates lead.

use std::ops::Range;

use super::monomials::MOST;
use crate::{Error, Result};

/// Which words there are: k leading and u trailing factors with `k + 2 u <= degree` and `u <= trailing`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    /// Number of coordinates, and of those that lead.
    pub dim: usize,
    pub lead: usize,
    pub degree: usize,
    /// At most half of the degree, and zero where no coordinate trails.
    trailing: usize,
}

impl Words {
    /// # Errors
    ///
    /// [`Error::Domain`] if more coordinates lead than there are, or beyond degree 64.
    pub fn new(dim: usize, lead: usize, degree: usize, trailing: usize) -> Result<Self> {
        for (name, requires, found, most) in [
            ("degree", "at most 64", degree, MOST),
            ("lead", "at most the number of coordinates", lead, dim),
        ] {
            if found > most {
                return Err(Error::Domain { name, requires, found: found as f64 });
            }
        }
        let trailing = if lead == dim { 0 } else { trailing.min(degree / 2) };
        Ok(Self { dim, lead, degree, trailing })
    }

    /// Most trailing factors in a word of t.
    fn trailing(&self, t: usize) -> usize {
        self.trailing.min(self.degree - t)
    }

    /// Where each degree begins, and where the last ends.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] if there are more words than addresses.
    pub fn starts(&self) -> Result<Vec<usize>> {
        let count = || {
            let leading = multisets(self.lead, self.degree)?;
            let trailing = multisets(self.dim - self.lead, self.trailing)?;
            let (mut starts, mut sum) = (vec![0], 0_u128);
            for t in 0..=self.degree {
                for u in 0..=self.trailing(t).min(t) {
                    sum = sum.checked_add(leading[t - u].checked_mul(trailing[u])?)?;
                }
                starts.push(usize::try_from(sum).ok().filter(|&n| n <= isize::MAX as usize / 8)?);
            }
            Some(starts)
        };
        count().ok_or(Error::Memory { bytes: usize::MAX })
    }
}

/// How many ways there are to choose t of n things with repetition, `C(n + t - 1, t)`, for t up to `most`.
fn multisets(n: usize, most: usize) -> Option<Vec<u128>> {
    let mut counts = vec![1_u128];
    for t in 1..=most as u128 {
        let ways = counts.last()?.checked_mul(n as u128 + t - 1)? / t;
        counts.push(ways);
    }
    Some(counts)
}

/// Goes through the words by degree, then as they are ordered, in runs that share all indices but the last.
#[derive(Clone)]
pub(super) struct Walk {
    words: Words,
    /// Degree of the run.
    pub degree: usize,
    /// Indices at the front that must be leading.
    leading: usize,
    prefix: [usize; MOST],
}

impl Walk {
    /// At the constant.
    pub fn new(words: Words) -> Self {
        Self { words, degree: 0, leading: 0, prefix: [0; MOST] }
    }

    /// All indices but the last, and the range of that.
    pub fn run(&self) -> (&[usize], Range<usize>) {
        if self.degree == 0 {
            return (&[], 0..1);
        }
        let prefix = &self.prefix[..self.degree - 1];
        (prefix, prefix.last().copied().unwrap_or(0)..self.cut(prefix.len()))
    }

    /// Where the indices of a level end. Never before those of the level above: a prefix has a word.
    fn cut(&self, level: usize) -> usize {
        if level < self.leading { self.words.lead } else { self.words.dim }
    }

    /// The next run. Gives the number of indices at the front that stay, or nothing at the end.
    pub fn advance(&mut self) -> Option<usize> {
        let len = self.degree.saturating_sub(1);
        for level in (0..len).rev() {
            let next = self.prefix[level] + 1;
            if next < self.cut(level) {
                self.prefix[level..len].fill(next);
                return Some(level);
            }
        }
        // Where none leads, all factors of a word trail.
        let most = if self.words.lead == 0 { self.words.trailing } else { self.words.degree };
        if self.degree == most {
            return None;
        }
        self.degree += 1;
        self.leading = self.degree.saturating_sub(self.words.trailing(self.degree));
        self.prefix.fill(0);
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All ascending words of t indices, in their order.
    fn ascending(dim: usize, t: usize) -> Vec<Vec<usize>> {
        let Some(t) = t.checked_sub(1) else { return vec![vec![]] };
        let from = |word: Vec<usize>| {
            let first = word.last().copied().unwrap_or(0);
            (first..dim).map(move |l| [&word[..], &[l]].concat())
        };
        ascending(dim, t).into_iter().flat_map(from).collect()
    }

    /// The words of every degree, as the walk has them.
    fn walked(words: Words) -> Vec<Vec<Vec<usize>>> {
        let mut found = vec![vec![]; words.degree + 1];
        let mut walk = Walk::new(words);
        loop {
            let (prefix, last) = walk.run();
            assert!(!last.is_empty());
            for l in last {
                let word = if walk.degree == 0 { vec![] } else { [prefix, &[l]].concat() };
                found[walk.degree].push(word);
            }
            let before = prefix.to_vec();
            match walk.advance() {
                Some(stay) => assert_eq!(walk.run().0[..stay], before[..stay]),
                None => return found,
            }
        }
    }

    #[test]
    fn two_blocks_have_the_words_of_the_definition() {
        for dim in 0..=5 {
            for (lead, degree) in (0..=dim).flat_map(|lead| (0..=6).map(move |g| (lead, g))) {
                for trailing in 0..=degree + 1 {
                    let allowed = |word: &Vec<usize>| {
                        let u = word.iter().filter(|&&l| l >= lead).count();
                        word.len() + u <= degree && u <= trailing
                    };
                    let expected: Vec<Vec<_>> = (0..=degree)
                        .map(|t| ascending(dim, t).into_iter().filter(allowed).collect())
                        .collect();
                    let words = Words::new(dim, lead, degree, trailing).unwrap();
                    assert_eq!(walked(words), expected, "{words:?}");
                    let starts = words.starts().unwrap();
                    let counts: Vec<_> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
                    let expected: Vec<_> = expected.iter().map(Vec::len).collect();
                    assert_eq!(counts, expected, "{words:?}");
                }
            }
        }
    }

    #[test]
    fn what_no_memory_holds_is_refused() {
        for (dim, lead) in [(usize::MAX, usize::MAX), (usize::MAX, 0), (1 << 40, 1 << 20)] {
            let refused = Words::new(dim, lead, 64, 32).unwrap().starts();
            assert_eq!(refused, Err(Error::Memory { bytes: usize::MAX }));
        }
        assert!(Words::new(3, 4, 2, 1).is_err() && Words::new(3, 2, 65, 1).is_err());
    }
}
