//! Numbers for the lines of a trace, without gaps.

use super::Trace;

/// A line that is not in the table: no address of 62 bits is one.
const NOTHING: u64 = u64::MAX;

/// Lines of a trace are their own numbers if those are not much larger than there are accesses, else they are
/// numbered as they come.
pub(super) struct Lines {
    count: usize,
    named: Option<Named>,
}

struct Named {
    /// The number of the line of every access.
    numbers: Vec<u32>,
    /// The line of every number.
    lines: Vec<u64>,
}

impl Lines {
    pub(super) fn of(trace: &Trace, shift: u32) -> Self {
        let count = (trace.last >> shift) + 1;
        if count <= 4 * trace.len() as u64 + (1 << 16) && count < u64::from(u32::MAX) {
            return Self::all(count as usize);
        }
        let named = Named::new(trace, shift);
        Self { count: named.lines.len(), named: Some(named) }
    }

    /// All lines below a number.
    pub(super) fn all(count: usize) -> Self {
        Self { count, named: None }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The number of the line of every access, if it is not the line itself.
    pub(super) fn numbers(&self) -> Option<&[u32]> {
        self.named.as_ref().map(|named| &named.numbers[..])
    }

    /// The line of a number.
    pub(super) fn line(&self, number: usize) -> u64 {
        self.named.as_ref().map_or(number as u64, |named| named.lines[number])
    }
}

impl Named {
    /// A table with open addressing, at most half full.
    fn new(trace: &Trace, shift: u32) -> Self {
        let mut named = Self { numbers: Vec::with_capacity(trace.len()), lines: vec![] };
        let mut table: Vec<(u64, u32)> = vec![(NOTHING, 0); 1 << 16];
        for access in &trace.accesses {
            let line = access >> 1 >> shift;
            if 2 * named.lines.len() >= table.len() {
                table = vec![(NOTHING, 0); 2 * table.len()];
                for (number, &line) in named.lines.iter().enumerate() {
                    let place = place(&table, line);
                    table[place] = (line, number as u32);
                }
            }
            let place = place(&table, line);
            if table[place].0 == NOTHING {
                table[place] = (line, named.lines.len() as u32);
                named.lines.push(line);
            }
            named.numbers.push(table[place].1);
        }
        named
    }
}

/// Where a line is in a table, or should be.
fn place(table: &[(u64, u32)], line: u64) -> usize {
    let mask = table.len() - 1;
    let mut place = (line.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize & mask;
    while table[place].0 != NOTHING && table[place].0 != line {
        place = (place + 1) & mask;
    }
    place
}
