//! Which kernel a problem gets, and how it is cut into tasks: by shapes alone.

use std::ops::Range;

use super::{Compute, Problem};
use crate::simd::Isa;

/// Bytes of the second-level cache that a block of queries and its sums may take.
const BLOCK_BYTES: usize = 512 << 10;
/// Queries in a block at most: beyond that, packing keys and values costs nothing any more.
const MAX_ROWS: usize = 768;
/// One head alone is cut into this many tasks, if it has the rows.
const TASKS: usize = 8;
/// Queries in a block at least, else packing keys and values for each block costs too much.
const MIN_ROWS: usize = 128;

/// Queries of one head up to which reading keys and values dominates.
const FEW_ROWS: usize = 32;
/// Keys per query from which they do.
const MANY_KEYS: usize = 8;

/// How the products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Blocks of queries against blocks of keys.
    Tiled,
    /// All queries of a key head at once, keys and values read in one pass.
    Decode,
}

impl Kernel {
    /// The kernel for so many queries and keys.
    pub fn of(queries: usize, keys: usize) -> Self {
        let is_read_bound = queries <= FEW_ROWS && keys >= MANY_KEYS * queries;
        if is_read_bound { Self::Decode } else { Self::Tiled }
    }

    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiled => "tiled",
            Self::Decode => "decode",
        }
    }
}

/// What will be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The kernel.
    pub kernel: Kernel,
    /// Rows of a task.
    pub rows_per_task: usize,
    /// Floating-point operations of the pairs that see each other by position.
    pub flops: u64,
    /// Bytes of all keys and values.
    key_bytes: u64,
    heads: usize,
    rows: usize,
}

impl Plan {
    /// The plan for a problem, the same for every number of threads.
    pub fn new<T: Compute>(problem: &Problem<'_>, isa: Isa) -> Self {
        let heads = problem.heads.len();
        let head = problem.heads.first();
        let rows = head.map_or(0, |head| head.query.rows());
        let width = head.map_or(0, |head| head.query.cols() + head.value.cols());
        let strip = super::scores::STRIP_VECTORS * T::lanes(isa);
        let fits = BLOCK_BYTES / (size_of::<T>() * width.max(1));
        let shared = rows.div_ceil(TASKS.div_ceil(heads.max(1)));
        let rows_per_task = fits.min(MAX_ROWS).min(shared.max(MIN_ROWS)).max(strip);
        let rows_per_task = rows_per_task.next_multiple_of(strip).min(rows.max(1));
        let keys = head.map_or(0, |head| head.key.rows());
        let pairs = problem.visible.pairs(rows, keys) * heads as u64;
        let flops = 2 * pairs * width as u64;
        let key_bytes = head.map_or(0, |head| head.key.bytes(keys) + head.value.bytes(keys));
        let key_bytes = key_bytes * heads as u64;
        // Factors of the lags are for lanes of queries.
        let weighted = head.is_some_and(|head| head.weights.is_some());
        let kernel = if weighted { Kernel::Tiled } else { Kernel::of(rows, keys) };
        Self { kernel, rows_per_task, flops, key_bytes, heads, rows }
    }

    /// Operations, or as many as take the time of reading keys and values once.
    pub(super) fn work(&self) -> u64 {
        /// Operations of one core in the time in which it reads a byte from memory.
        const FLOPS_PER_BYTE: u64 = 3;
        self.flops.max(FLOPS_PER_BYTE * self.key_bytes)
    }

    /// Heads with rows of them. The last rows of a head come first: when causal they see most keys,
    /// and long tasks should not be the last ones to begin.
    pub(super) fn tasks(&self) -> Vec<(usize, Range<usize>)> {
        let block = self.rows_per_task;
        let rows = |b: usize| b * block..self.rows.min((b + 1) * block);
        (0..self.heads)
            .flat_map(|h| (0..self.rows.div_ceil(block)).rev().map(move |b| (h, rows(b))))
            .collect()
    }
}
