//! A bias that depends on the lag `i - j` alone: `L + S - 1` numbers of a head instead of `L x S`.
//!
//! Queries are the lanes of the tiled kernels, and keys those of the decoding kernel. Either way the
//! bias of one key, or of one query, with all lanes is a vector of consecutive lags.

use std::ops::Range;

use super::Problem;
use super::scores::STRIP_VECTORS;
use crate::mat::{MatCell, Rows};
use crate::scratch::Buffer;
use crate::simd::{Float, Lanes, unroll};

/// Zeros at both ends: lanes beyond the last query and keys beyond the last one of a tile are read.
const PAD: usize = 64;

/// Lags of so many queries and keys.
pub fn count(queries: usize, keys: usize) -> usize {
    (queries + keys).saturating_sub(1)
}

/// The biases of all heads in the compute type, one copy of what several share.
pub struct Tables<T> {
    distinct: Vec<Vec<T>>,
    of_head: Vec<usize>,
    /// Where lag 0 is.
    origin: usize,
}

impl<T: Float> Tables<T> {
    /// In the order of the lags, or of the keys.
    pub fn new(problem: &Problem<'_>, along_keys: bool) -> Self {
        let mut distinct: Vec<Rows<'_>> = Vec::new();
        let mut of_head = Vec::new();
        for lags in problem.heads.iter().filter_map(|head| head.lags) {
            let known = distinct.iter().position(|other| other.is_same_view(&lags));
            of_head.push(known.unwrap_or(distinct.len()));
            if known.is_none() {
                distinct.push(lags);
            }
        }
        let distinct = distinct.iter().map(|lags| padded(lags, along_keys)).collect();
        let (queries, keys) =
            problem.heads.first().map_or((0, 0), |head| (head.query.rows(), head.key.rows()));
        let before = if along_keys { queries } else { keys };
        Self { distinct, of_head, origin: PAD + before.saturating_sub(1) }
    }

    /// The bias of lag 0 of a head, which others surround; null without.
    ///
    /// That of query `i` and key `j` is `i - j` after it, or in the order of the keys `j - i`.
    pub fn of(&self, h: usize) -> *const T {
        let table = self.of_head.get(h).map(|&t| self.distinct[t].as_ptr());
        table.map_or(std::ptr::null(), |table| table.wrapping_add(self.origin))
    }
}

fn padded<T: Float>(lags: &Rows<'_>, reverse: bool) -> Vec<T> {
    let mut table = vec![T::ZERO; lags.rows() + 2 * PAD];
    let inside = &mut table[PAD..][..lags.rows()];
    for (m, x) in inside.iter_mut().enumerate() {
        *x = T::narrow(lags.get(m, 0));
    }
    if reverse {
        inside.reverse();
    }
    table
}

/// Gradients of the logits of a pair of blocks, summed over pairs of the same lag.
///
/// A table for every key of a tile: vectors of neighbouring keys overlap in all lanes but one, and in
/// one table every load would wait for the store before it.
pub struct Sums<T> {
    tables: Buffer<T>,
    /// Numbers of a table, and where its lag 0 is.
    len: usize,
    origin: usize,
    most_tables: usize,
}

impl<T: Float> Sums<T> {
    /// For blocks of so many rows and keys, and tiles of so many keys.
    pub fn new(rows: usize, keys: usize, tile: usize) -> Self {
        let len = rows + keys + PAD;
        Self { tables: Buffer::new(tile * len), len, origin: keys, most_tables: tile }
    }

    /// Nothing to sum.
    pub fn none() -> Self {
        Self::new(0, 0, 0)
    }

    /// Where lag 0 of the first key of a tile is, and the numbers from one key to the next.
    pub fn place(&mut self) -> (*mut T, usize) {
        (self.tables.ptr().wrapping_add(self.origin), self.len)
    }

    /// Adds what was summed in the tables of `used` keys to a column of `to` and forgets it.
    ///
    /// Sums are those of `rows` and `keys`; the first of `to` is the lag of the first row and the last
    /// key of `all`.
    ///
    /// # Safety
    /// The instruction set of `V` must be enabled, and `to` belong to this task.
    #[inline(always)]
    pub unsafe fn flush<V: Lanes<T = T>>(
        &mut self,
        used: usize,
        (rows, keys): (&Range<usize>, &Range<usize>),
        all: (&Range<usize>, &Range<usize>),
        (to, column): (&MatCell<'_, f64>, usize),
    ) {
        assert!(used <= self.most_tables && keys.len() <= self.origin);
        let lowest = self.origin + 1 - keys.len();
        let count = count(rows.len(), keys.len());
        let first = rows.start - all.0.start + (all.1.end - keys.end);
        assert!(lowest + count <= self.len && first + count <= to.rows());
        // SAFETY: the tables have these numbers and a line of slack, and `to` has the lags.
        unsafe {
            for c in (0..count).step_by(V::N) {
                let from = self.tables.ptr().add(lowest + c);
                let mut total = V::splat(T::ZERO);
                for r in 0..used {
                    total = total.add(V::load(from.add(r * self.len)));
                    V::splat(T::ZERO).store(from.add(r * self.len));
                }
                let mut lanes = [T::ZERO; 16];
                total.store(lanes.as_mut_ptr());
                for (m, x) in (c..count).zip(&lanes[..V::N]) {
                    *to.at(first + m, column) += x.to_f64();
                }
            }
        }
    }
}

/// Adds a tile of gradients of the logits, `KR` keys by a strip of rows, to [`Sums`]; `to` is where the
/// first row and the first key meet in the first table.
///
/// # Safety
/// The instruction set of `V` must be enabled, and the tables have room for the tile.
#[inline(always)]
pub unsafe fn add_tile<V: Lanes, const KR: usize>(
    acc: &[[V; STRIP_VECTORS]; KR],
    (to, stride): (*mut V::T, usize),
) {
    // SAFETY: passed on.
    unsafe {
        unroll!(KR, r => {
            let to = to.wrapping_add(r * stride).wrapping_sub(r);
            for u in 0..STRIP_VECTORS {
                let at = to.wrapping_add(u * V::N);
                V::load(at).add(acc[r][u]).store(at);
            }
        });
    }
}
