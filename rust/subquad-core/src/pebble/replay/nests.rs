//! What loop nests of attention access, word by word.
//!
//! Q, K and V are n by d matrices, row by row, and so is the output O; every array begins at a multiple of 16
//! words. Registers are not modelled: a value that an inner loop sums up is written once, at its end.

use std::ops::Range;

use super::super::simulate::on_this_thread;
use super::{PATIENCE, Trace};
use crate::par::Pulse;
use crate::{Error, Par, Result};

/// A program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Nest {
    /// Three kernels: scores, written to an n by n array; their exponentials, row by row, in place; products with V.
    Naive {
        /// Rows, of queries and of keys.
        n: usize,
        /// Columns.
        d: usize,
    },
    /// The order of FlashAttention-2: for a block of queries, sums that stay; for a block of keys, scores in
    /// a small array, their exponentials, and what they add to the sums. L, logarithms of sums, is an output too.
    Blocked {
        /// Rows, of queries and of keys.
        n: usize,
        /// Columns.
        d: usize,
        /// Queries of a block.
        rows: usize,
        /// Keys of a block.
        columns: usize,
    },
}

/// Where arrays begin.
struct Layout(u64);

impl Layout {
    fn array(&mut self, words: usize) -> Array {
        let first = self.0;
        self.0 += words.next_multiple_of(16) as u64;
        Array(first)
    }
}

#[derive(Clone, Copy)]
struct Array(u64);

impl Array {
    fn at(self, i: usize) -> u64 {
        self.0 + i as u64
    }
}

/// A reader and writer that can be stopped.
struct Tape<'a, F> {
    access: F,
    pulse: &'a Pulse<'a>,
    since: usize,
}

impl<F: FnMut(u64, bool)> Tape<'_, F> {
    fn read(&mut self, address: u64) {
        (self.access)(address, false);
    }

    fn write(&mut self, address: u64) {
        (self.access)(address, true);
    }

    /// Asks whether to go on, now and then.
    fn pause(&mut self, accesses: usize) -> Result<()> {
        self.since += accesses;
        if self.since < PATIENCE {
            return Ok(());
        }
        self.since = 0;
        if self.pulse.stopped() { Err(Error::Stopped) } else { Ok(()) }
    }
}

impl Nest {
    /// The addresses of what is wanted at the end.
    ///
    /// # Errors
    ///
    /// As for [`trace`](Self::trace).
    pub fn live_out(&self) -> Result<Range<u64>> {
        self.check()?;
        let (n, d) = self.shape();
        let first = 3 * (n * d).next_multiple_of(16) as u64;
        let mut layout = Layout(first);
        let outputs = layout.array(n * d).at(n * d);
        Ok(first..match self {
            Self::Naive { .. } => outputs,
            Self::Blocked { .. } => layout.array(n).at(n),
        })
    }

    pub(super) fn shape(&self) -> (usize, usize) {
        match *self {
            Self::Naive { n, d } | Self::Blocked { n, d, .. } => (n, d),
        }
    }

    /// How many accesses: a float, for sizes beyond all integers.
    pub fn accesses(&self) -> f64 {
        let (n, d) = self.shape();
        let (n, d) = (n as f64, d as f64);
        match *self {
            Self::Naive { .. } => n * n * (4.0 * d + 4.0) + n * d,
            Self::Blocked { .. } => n * n * (5.0 * d + 4.0) + n * (3.0 * d + 1.0),
        }
    }

    /// Words of all arrays, if the sizes are sizes.
    pub(super) fn check(&self) -> Result<u64> {
        let (n, d) = self.shape();
        let mut sizes = vec![("n", n), ("d", d)];
        let mut scores = n as f64 * n as f64;
        if let Self::Blocked { rows, columns, .. } = *self {
            sizes.extend([("rows", rows), ("columns", columns)]);
            scores = rows.min(n) as f64 * (columns.min(n) as f64 + d as f64) + n as f64;
        }
        for (name, size) in sizes {
            if size == 0 {
                return Err(Error::Domain { name, requires: "at least 1", found: 0.0 });
            }
        }
        let words = 4.0 * n as f64 * d as f64 + scores + 128.0;
        if words > f64::from(1 << 30) {
            let requires = "so small that all arrays have at most 2^30 words";
            return Err(Error::Domain { name: "n", requires, found: n as f64 });
        }
        Ok(words as u64)
    }

    /// All accesses, stored.
    ///
    /// # Errors
    ///
    /// [`Error::Domain`] for sizes that there are not, [`Error::Stopped`].
    pub fn trace(&self, par: Par) -> Result<Trace> {
        self.check()?;
        on_this_thread(par, |pulse| {
            let mut trace = Trace::default();
            self.visit(pulse, |address, write| trace.push(address, write))?;
            Ok(trace)
        })
    }

    /// Calls `access` for every access.
    pub(super) fn visit(&self, pulse: &Pulse, access: impl FnMut(u64, bool)) -> Result<()> {
        let tape = Tape { access, pulse, since: 0 };
        match *self {
            Self::Naive { n, d } => naive(tape, n, d),
            Self::Blocked { n, d, rows, columns } => blocked(tape, [n, d], [rows, columns]),
        }
    }
}

fn naive(mut tape: Tape<impl FnMut(u64, bool)>, n: usize, d: usize) -> Result<()> {
    let mut layout = Layout(0);
    let [q, k, v, o] = [(); 4].map(|()| layout.array(n * d));
    let s = layout.array(n * n);
    for i in 0..n {
        for j in 0..n {
            for c in 0..d {
                tape.read(q.at(i * d + c));
                tape.read(k.at(j * d + c));
            }
            tape.write(s.at(i * n + j));
        }
        tape.pause(2 * n * d)?;
    }
    for i in 0..n {
        // Their maximum first.
        (0..n).for_each(|j| tape.read(s.at(i * n + j)));
        for j in 0..n {
            tape.read(s.at(i * n + j));
            tape.write(s.at(i * n + j));
        }
        tape.pause(3 * n)?;
    }
    for i in 0..n {
        for c in 0..d {
            for j in 0..n {
                tape.read(s.at(i * n + j));
                tape.read(v.at(j * d + c));
            }
            tape.write(o.at(i * d + c));
        }
        tape.pause(2 * n * d)?;
    }
    Ok(())
}

fn blocks(length: usize, block: usize) -> impl Iterator<Item = Range<usize>> {
    (0..length).step_by(block).map(move |first| first..length.min(first.saturating_add(block)))
}

fn blocked(
    mut tape: Tape<impl FnMut(u64, bool)>,
    [n, d]: [usize; 2],
    [rows, columns]: [usize; 2],
) -> Result<()> {
    let mut layout = Layout(0);
    let [q, k, v, o] = [(); 4].map(|()| layout.array(n * d));
    let l = layout.array(n);
    let sums = layout.array(rows.min(n) * d);
    let width = columns.min(n);
    let scores = layout.array(rows.min(n) * width);
    for queries in blocks(n, rows) {
        let count = queries.len();
        (0..count * d).for_each(|x| tape.write(sums.at(x)));
        for keys in blocks(n, columns) {
            for (y, j) in keys.clone().enumerate() {
                for (x, i) in queries.clone().enumerate() {
                    for c in 0..d {
                        tape.read(q.at(i * d + c));
                        tape.read(k.at(j * d + c));
                    }
                    tape.write(scores.at(x * width + y));
                }
            }
            for x in 0..count {
                for y in 0..keys.len() {
                    tape.read(scores.at(x * width + y));
                    tape.write(scores.at(x * width + y));
                }
            }
            for (y, j) in keys.clone().enumerate() {
                for x in 0..count {
                    tape.read(scores.at(x * width + y));
                    for c in 0..d {
                        tape.read(v.at(j * d + c));
                        tape.read(sums.at(x * d + c));
                        tape.write(sums.at(x * d + c));
                    }
                }
            }
            tape.pause(5 * count * keys.len() * d)?;
        }
        for (x, i) in queries.enumerate() {
            for c in 0..d {
                tape.read(sums.at(x * d + c));
                tape.write(o.at(i * d + c));
            }
            tape.write(l.at(i));
        }
    }
    Ok(())
}
