//! Which keys a query sees by its position alone.

use std::ops::Range;

/// Causal masking and sliding windows, as index arithmetic.
///
/// With `shift`, query `i` sees key `j` when `j <= i + shift`, and with `window` only the last
/// `window` of those. Both ranges grow with `i`, so whatever a block of queries sees begins where
/// its first query begins and ends where its last one ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visible {
    shift: Option<isize>,
    window: Option<usize>,
}

impl Visible {
    /// Every query sees every key.
    pub const ALL: Self = Self { shift: None, window: None };

    /// Query `i` sees keys up to `i + shift`; with a `window`, only the last `window` of those.
    pub fn causal(shift: isize, window: Option<usize>) -> Self {
        Self { shift: Some(shift), window }
    }

    /// The keys that query `i` sees, of `keys` in all.
    pub fn keys(&self, i: usize, keys: usize) -> Range<usize> {
        let Some(shift) = self.shift else { return 0..keys };
        let end = (i as isize).saturating_add(shift).saturating_add(1).clamp(0, keys as isize);
        let unclamped = (i as isize).saturating_add(shift).saturating_add(1);
        let start = self
            .window
            .map_or(0, |window| unclamped.saturating_sub_unsigned(window).clamp(0, end) as usize);
        start..end as usize
    }

    /// The keys that some query of `rows` sees.
    pub fn union(&self, rows: Range<usize>, keys: usize) -> Range<usize> {
        if rows.is_empty() {
            return 0..0;
        }
        let end = self.keys(rows.end - 1, keys).end;
        self.keys(rows.start, keys).start.min(end)..end
    }

    /// The keys that every query of `rows` sees.
    pub fn common(&self, rows: Range<usize>, keys: usize) -> Range<usize> {
        if rows.is_empty() {
            return 0..0;
        }
        let end = self.keys(rows.start, keys).end;
        self.keys(rows.end - 1, keys).start.min(end)..end
    }

    /// Of the queries `first, first + 1, ...`: which see key `j`, counted from `first`.
    #[inline(always)]
    pub fn lanes(&self, j: usize, first: usize) -> (i32, i32) {
        const FAR: i32 = 1 << 20;
        let Some(shift) = self.shift else { return (0, FAR) };
        let near = |x: isize| x.clamp(-(FAR as isize), FAR as isize) as i32;
        let from = (j as isize).saturating_sub(shift).saturating_sub(first as isize);
        let to = self.window.map_or(FAR, |window| near(from.saturating_add_unsigned(window)));
        (near(from), to)
    }

    /// The queries, of `queries` in all, that see some key of a range which is not empty.
    pub fn queries(&self, keys: Range<usize>, queries: usize) -> Range<usize> {
        let Some(shift) = self.shift else { return 0..queries };
        let bound = |x: isize| x.clamp(0, queries as isize) as usize;
        let start = bound((keys.start as isize).saturating_sub(shift));
        let end = self.window.map_or(queries, |window| {
            bound((keys.end as isize - 1).saturating_sub(shift).saturating_add_unsigned(window))
        });
        start.min(end)..end
    }

    /// Number of (query, key) pairs that see each other.
    pub fn pairs(&self, queries: usize, keys: usize) -> u64 {
        match self.shift {
            None => queries as u64 * keys as u64,
            Some(_) => (0..queries).map(|i| self.keys(i, keys).len() as u64).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sees(shift: isize, window: Option<usize>, i: usize, j: usize) -> bool {
        let last = i as isize + shift;
        j as isize <= last && window.is_none_or(|w| j as isize > last - w as isize)
    }

    #[test]
    fn ranges_and_lanes_agree_with_the_definition() {
        let (queries, keys) = (7, 9);
        for shift in -12..12 {
            for window in [None, Some(1), Some(3), Some(1 << 40)] {
                let visible = Visible::causal(shift, window);
                for i in 0..queries {
                    let expected: Vec<usize> =
                        (0..keys).filter(|&j| sees(shift, window, i, j)).collect();
                    assert_eq!(visible.keys(i, keys).collect::<Vec<_>>(), expected);
                    for j in 0..keys {
                        let (from, to) = visible.lanes(j, 2);
                        let lane = i as i32 - 2;
                        assert_eq!(from <= lane && lane < to, sees(shift, window, i, j));
                    }
                }
                for j in 0..keys {
                    let expected: Vec<usize> =
                        (0..queries).filter(|&i| sees(shift, window, i, j)).collect();
                    assert_eq!(visible.queries(j..j + 1, queries).collect::<Vec<_>>(), expected);
                }
            }
        }
    }

    #[test]
    fn union_covers_and_common_is_seen_by_all() {
        let visible = Visible::causal(2, Some(4));
        for rows in [0..3, 2..3, 1..6, 0..0] {
            let (union, common) = (visible.union(rows.clone(), 8), visible.common(rows.clone(), 8));
            for j in 0..8 {
                let seen = rows.clone().filter(|&i| visible.keys(i, 8).contains(&j)).count();
                assert!(seen == 0 || union.contains(&j));
                assert!(!common.contains(&j) || seen == rows.len());
            }
        }
        assert_eq!(visible.pairs(3, 8), 3 + 4 + 4);
    }
}
