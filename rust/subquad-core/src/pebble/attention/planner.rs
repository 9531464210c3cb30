//! The best sizes of blocks, by enumeration.
//!
//! Panels of r rows load the keys that each sees: ceil(n / r) times all of them, if every row sees every key. So of the sizes with
//! one number of panels the smallest is best: it takes least memory, and a causal panel sees least. There are at most
//! 2 sqrt(n) of them. Panels of c keys load fewer rows the larger c is, so of these all sizes count. A mask has
//! borders of its own, and multiples of its block are tried besides; there, the best of these is not always the best of all.

use super::problem::{Problem, widest};
use super::visible::Visible;
use super::words::{Widths, Words};

/// Sizes of panels, ascending, with what they cost.
struct Axis {
    sizes: Vec<usize>,
    costs: Vec<u64>,
    /// For each, which of those up to it costs least.
    best: Vec<usize>,
}

impl Axis {
    fn new(mut sizes: Vec<usize>, cost: impl Fn(usize) -> u64) -> Self {
        sizes.sort_unstable();
        sizes.dedup();
        let costs: Vec<u64> = sizes.iter().map(|&size| cost(size)).collect();
        let mut least = 0;
        let best = (0..sizes.len())
            .map(|i| {
                if costs[i] < costs[least] {
                    least = i;
                }
                least
            })
            .collect();
        Self { sizes, costs, best }
    }

    /// The cheapest size that fits, if all that fit are smaller than all that do not.
    fn cheapest(&self, fits: impl Fn(usize) -> bool) -> Option<(usize, u64)> {
        let fitting = self.sizes.partition_point(|&size| fits(size));
        let at = self.best[fitting.checked_sub(1)?];
        Some((self.sizes[at], self.costs[at]))
    }
}

/// The smallest size for each number of panels of `len`.
fn distinct(len: usize) -> Vec<usize> {
    let (mut sizes, mut size) = (Vec::new(), len);
    while size > 0 {
        sizes.push(size);
        // As many panels as the next smaller size has, and the smallest size that has no more.
        size = if size > 1 { len.div_ceil(len.div_ceil(size - 1)) } else { 0 };
    }
    sizes
}

/// What blocks are sought for.
pub struct Search<'a> {
    /// The problem.
    pub problem: &'a Problem,
    /// Fast memory, in the unit of `widths`.
    pub memory: u64,
    /// What words take.
    pub widths: Widths,
    axes: &'a Axes<'a>,
}

/// Sizes of panels of keys.
enum KeyAxis<'a> {
    Listed(Axis),
    /// All sizes: the larger, the fewer rows they load.
    Falling(&'a Visible),
}

impl KeyAxis<'_> {
    fn cheapest(&self, fits: impl Fn(usize) -> bool) -> Option<(usize, u64)> {
        match self {
            Self::Listed(axis) => axis.cheapest(fits),
            Self::Falling(visible) => {
                let size = widest(visible.keys, fits)?;
                Some((size, visible.rows_of_panels(size)))
            }
        }
    }
}

/// Sizes of panels of a problem.
pub struct Axes<'a> {
    rows: Axis,
    keys: KeyAxis<'a>,
}

impl<'a> Axes<'a> {
    /// Those of a problem.
    pub fn new(p: &'a Problem) -> Self {
        let v = &p.visible;
        let multiples = |step: usize, len: usize| (step..=len).step_by(step);
        let (mut rows, mut keys) = (distinct(v.rows()), distinct(v.keys));
        if let Some(mask) = &v.mask {
            rows.extend(multiples(mask.block * v.group, v.rows()));
            keys.extend(multiples(mask.block, v.keys));
        }
        let rows = Axis::new(rows, |size| v.keys_of_panels(size));
        let keys = if v.mask.is_none() && v.causal {
            KeyAxis::Falling(v)
        } else {
            KeyAxis::Listed(Axis::new(keys, |size| v.rows_of_panels(size)))
        };
        Self { rows, keys }
    }
}

impl<'a> Search<'a> {
    /// For `memory` of fast memory.
    pub fn new(problem: &'a Problem, axes: &'a Axes<'a>, memory: u64, widths: Widths) -> Self {
        Self { problem, memory, widths, axes }
    }

    /// Do all these moments fit?
    pub(super) fn fits(&self, moments: &[Words]) -> bool {
        super::phases::fit(moments, self.widths, self.memory)
    }

    /// The height of panels of rows that fits and loads fewest keys, and how many.
    pub(super) fn rows(&self, fits: impl Fn(usize) -> bool) -> Option<(usize, u64)> {
        self.axes.rows.cheapest(fits)
    }

    /// The width of panels of keys that fits and loads fewest rows, and how many.
    pub(super) fn keys(&self, fits: impl Fn(usize) -> bool) -> Option<(usize, u64)> {
        self.axes.keys.cheapest(fits)
    }

    /// All heights of panels of rows, and the keys that they load.
    pub(super) fn heights(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.axes.rows.sizes.iter().copied().zip(self.axes.rows.costs.iter().copied())
    }

    /// What words moved cost.
    pub(super) fn cost(&self, words: Words) -> u64 {
        self.widths.size(words)
    }

    /// Widths of columns with different numbers of passes over d.
    pub(super) fn columns(&self) -> Vec<usize> {
        distinct(self.problem.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_panels_has_its_smallest_size() {
        for len in 1..200_usize {
            let mut expected: Vec<usize> = Vec::new();
            for size in (1..=len).rev() {
                match expected.last_mut() {
                    Some(last) if len.div_ceil(*last) == len.div_ceil(size) => *last = size,
                    _ => expected.push(size),
                }
            }
            assert_eq!(distinct(len), expected);
        }
    }
}
