//! Which keys a row sees: all, those up to its own position, or what a mask of blocks leaves.
//!
//! Rows are queries. Where several heads share their keys, the rows of a position follow each other, so that rows
//! that see the same keys are together.

use std::ops::Range;

/// Blocks of pairs that are computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Queries and keys of a block.
    pub block: usize,
    /// For each block of queries, which blocks of keys it sees.
    pub blocks: Vec<Vec<bool>>,
}

impl Mask {
    /// Of the entries of a matrix with so many columns, row by row.
    pub fn new(block: usize, columns: usize, entries: &[bool]) -> Self {
        Self { block, blocks: entries.chunks(columns.max(1)).map(<[bool]>::to_vec).collect() }
    }
}

/// Which row sees which key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visible {
    /// Positions of queries.
    pub queries: usize,
    /// Keys.
    pub keys: usize,
    /// Query heads that share the keys: each position has as many rows.
    pub group: usize,
    /// Are only keys up to the query's position seen?
    pub causal: bool,
    /// What else limits them.
    pub mask: Option<Mask>,
}

/// What is seen in a block of rows and keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Pairs of a row and a key that it sees.
    pub pairs: u64,
    /// Rows that see some of the keys.
    pub rows: u64,
    /// Keys that some of the rows see.
    pub keys: u64,
}

impl Visible {
    /// Rows of all heads.
    pub fn rows(&self) -> usize {
        self.queries * self.group
    }

    /// Does every row see every key?
    pub fn all(&self) -> bool {
        !self.causal && self.mask.is_none()
    }

    /// Does this row see this key?
    pub fn sees(&self, row: usize, key: usize) -> bool {
        let query = row / self.group;
        let open = |mask: &Mask| mask.blocks[query / mask.block][key / mask.block];
        (!self.causal || key <= query) && self.mask.as_ref().is_none_or(open)
    }

    /// What is seen in a block. O(1), with a mask O(blocks of the mask).
    #[inline]
    pub fn look(&self, rows: Range<usize>, keys: Range<usize>) -> Look {
        match &self.mask {
            None if !self.causal => {
                let (r, k) = (rows.len() as u64, keys.len() as u64);
                if r == 0 || k == 0 {
                    return Look::default();
                }
                Look { pairs: r * k, rows: r, keys: k }
            }
            None => self.below(rows, keys),
            Some(mask) => self.look_through(mask, rows, keys),
        }
    }

    /// A row sees a key up to its position, and what it sees of the keys is their beginning.
    fn below(&self, rows: Range<usize>, keys: Range<usize>) -> Look {
        if !self.causal {
            let (r, k) = (rows.len() as u64, keys.len() as u64);
            return Look { pairs: r * k, rows: r, keys: k };
        }
        let first = rows.start.max(keys.start * self.group);
        if first >= rows.end || keys.is_empty() {
            return Look::default();
        }
        // Rows from `whole` on see all of the keys.
        let whole = rows.end.min(first.max((keys.end - 1) * self.group));
        let some = self.positions_before(whole) - self.positions_before(first);
        let pairs = some + (whole - first) as u64 - (whole - first) as u64 * keys.start as u64
            + ((rows.end - whole) * keys.len()) as u64;
        let last = (rows.end - 1) / self.group + 1;
        let keys = (last.min(keys.end) - keys.start) as u64;
        Look { pairs, rows: (rows.end - first) as u64, keys }
    }

    /// The sum of the positions of the rows before this one.
    fn positions_before(&self, row: usize) -> u64 {
        let (whole, group) = ((row / self.group) as u64, self.group as u64);
        group * (whole * whole.saturating_sub(1) / 2) + whole * (row as u64 - whole * group)
    }

    /// Of the rows of a block of the mask, the last see most; of its keys, the first are seen by most.
    fn look_through(&self, mask: &Mask, rows: Range<usize>, keys: Range<usize>) -> Look {
        let mut look = Look::default();
        if rows.is_empty() || keys.is_empty() {
            return look;
        }
        let tall = mask.block * self.group;
        let across = keys.start / mask.block..keys.end.div_ceil(mask.block);
        let mut seen = vec![0; across.len()];
        for i in rows.start / tall..rows.end.div_ceil(tall) {
            let part = rows.start.max(i * tall)..rows.end.min((i + 1) * tall);
            let mut most = 0;
            for j in across.clone().filter(|&j| mask.blocks[i][j]) {
                let these = keys.start.max(j * mask.block)..keys.end.min((j + 1) * mask.block);
                let here = self.below(part.clone(), these);
                look.pairs += here.pairs;
                most = most.max(here.rows);
                let before = &mut seen[j - across.start];
                *before = here.keys.max(*before);
            }
            look.rows += most;
        }
        look.keys = seen.iter().sum();
        look
    }

    /// All pairs that are seen.
    pub fn pairs(&self) -> u64 {
        self.look(0..self.rows(), 0..self.keys).pairs
    }

    /// Rows that see some key.
    pub fn seeing(&self) -> u64 {
        self.look(0..self.rows(), 0..self.keys).rows
    }

    /// The keys that panels of so many rows see, added up over the panels.
    pub fn keys_of_panels(&self, height: usize) -> u64 {
        let panels = self.rows().div_ceil(height);
        if self.all() {
            return panels as u64 * self.keys as u64;
        }
        if self.mask.is_none() {
            // A panel sees the keys up to the position of its last row.
            let whole = (self.rows() / height) as u64;
            let rest = if self.rows().is_multiple_of(height) { 0 } else { self.keys };
            let height = height as u64;
            let positions = sum_of_floors(whole, self.group as u64, height, height - 1);
            return positions + whole + rest as u64;
        }
        pieces(self.rows(), height).map(|rows| self.look(rows, 0..self.keys).keys).sum()
    }

    /// The rows that see some key of a panel of so many keys, added up over the panels.
    pub fn rows_of_panels(&self, width: usize) -> u64 {
        let panels = self.keys.div_ceil(width) as u64;
        if self.all() {
            return panels * self.rows() as u64;
        }
        if self.mask.is_none() {
            let step = (width * self.group) as u64;
            return panels * self.rows() as u64 - step * (panels * (panels - 1) / 2);
        }
        pieces(self.keys, width).map(|keys| self.look(0..self.rows(), keys).rows).sum()
    }
}

/// The sum of `(step i + first) / divisor`, rounded down, for i below `count`, as in the Euclidean algorithm.
fn sum_of_floors(count: u64, divisor: u64, step: u64, first: u64) -> u64 {
    if count == 0 {
        return 0;
    }
    let whole = (step / divisor) * (count * (count - 1) / 2) + (first / divisor) * count;
    let (step, first) = (step % divisor, first % divisor);
    let last = step * count + first;
    if last < divisor {
        return whole;
    }
    // Points below the line, counted by rows instead of by columns.
    whole + sum_of_floors(last / divisor, step, divisor, last % divisor)
}

/// Cuts a range from 0 into pieces of one length; the last may be shorter.
pub(super) fn pieces(len: usize, piece: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(piece.max(1)).map(move |start| start..len.min(start + piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_definition(v: &Visible, rows: Range<usize>, keys: Range<usize>) -> Look {
        let sees = |row, key| v.sees(row, key);
        let pairs =
            rows.clone().map(|i| keys.clone().filter(|&j| sees(i, j)).count()).sum::<usize>();
        let of_rows = rows.clone().filter(|&i| keys.clone().any(|j| sees(i, j))).count();
        let of_keys = keys.filter(|&j| rows.clone().any(|i| sees(i, j))).count();
        Look { pairs: pairs as u64, rows: of_rows as u64, keys: of_keys as u64 }
    }

    #[test]
    fn looks_count_what_is_seen() {
        let blocks = |n: usize, block| {
            let side = usize::div_ceil(n, block);
            (0..side).map(|i| (0..side).map(|j| (i * 7 + j * 5) % 3 > 0).collect()).collect()
        };
        for (n, group) in [(7, 1), (6, 3), (10, 2)] {
            for causal in [false, true] {
                for block in [0, 1, 2, 3, 4] {
                    let mask = (block > 0).then(|| Mask { block, blocks: blocks(n, block) });
                    let v = Visible { queries: n, keys: n, group, causal, mask };
                    for start in 0..v.rows() {
                        for end in start..=v.rows() {
                            for key in 0..n {
                                for last in key..=n {
                                    let found = v.look(start..end, key..last);
                                    let expected = by_definition(&v, start..end, key..last);
                                    assert_eq!(
                                        found, expected,
                                        "{v:?} {start}..{end} {key}..{last}"
                                    );
                                }
                            }
                        }
                    }
                    for size in 1..=v.rows() {
                        let panels = pieces(v.rows(), size);
                        let keys = panels.map(|rows| v.look(rows, 0..n).keys).sum::<u64>();
                        assert_eq!(v.keys_of_panels(size), keys);
                        if size <= n {
                            let panels = pieces(n, size);
                            let rows = panels.map(|keys| v.look(0..v.rows(), keys).rows);
                            assert_eq!(v.rows_of_panels(size), rows.sum::<u64>());
                        }
                    }
                }
            }
        }
    }
}
