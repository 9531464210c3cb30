//! Half-space reporting: which keys `k_i` have `q . k_i >= b`?
//!
//! The answer is exact over the real numbers (`predicate.rs`), so it does not depend on the order of
//! a sum, the instruction set, the number of threads, or how the index is built. How it is found does:
//!
//! | engine | reads | pays for |
//! |---|---|---|
//! | scan | every key | few keys |
//! | int8 | a byte per coordinate, and the keys near the threshold | anything |
//! | int4 | half a byte per coordinate, then more of the keys near the threshold | few keys reported |
//! | rotated | about a quarter byte per coordinate in a basis learnt from the keys | the same, on real keys |
//! | tree | boxes around clusters of keys | up to 12 dimensions |

#[cfg(target_endian = "big")]
compile_error!("codes are laid out for little-endian processors");

use crate::mat::Rows;

mod basis;
mod batch;
mod buffer;
mod coarse;
mod coder;
mod expansion;
mod ids;
mod index;
mod keys;
mod planes;
mod predicate;
mod quantized;
mod residual;
mod rotated;
mod scan;
mod single;
mod store;
#[cfg(test)]
mod tests;
mod tile;
mod topk;
mod tree;

pub use index::Index;

/// Most keys of one index, removed ones included.
const LARGEST: usize = (1 << 31) - 2;

/// Largest dimension.
const LARGEST_DIM: usize = 4096;

/// Largest dimension in which boxes prune.
const LARGEST_TREE: usize = 12;

/// How an index finds its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By what the keys and each query suggest.
    Auto,
    /// Every key in float32.
    Scan,
    /// Codes of 8 bits, and of 4 where few keys are expected.
    Quantized,
    /// Codes of 4 and 2 bits in a basis learnt from the keys.
    Rotated,
    /// Boxes of boxes.
    Tree,
}

impl Method {
    /// Every method, in the order of the documentation.
    pub const ALL: [Self; 5] = [Self::Auto, Self::Scan, Self::Quantized, Self::Rotated, Self::Tree];

    /// Its name for users.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Scan => "scan",
            Self::Quantized => "quantized",
            Self::Rotated => "rotated",
            Self::Tree => "tree",
        }
    }
}

/// Element type of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// float32
    F32,
    /// float16
    F16,
    /// bfloat16
    Bf16,
}

impl KeyType {
    /// That of a matrix; none for float64, whose products float64 does not hold.
    pub fn of(rows: &Rows<'_>) -> Option<Self> {
        match rows {
            Rows::F32(_) => Some(Self::F32),
            Rows::F16(_) => Some(Self::F16),
            Rows::Bf16(_) => Some(Self::Bf16),
            Rows::F64(_) => None,
        }
    }

    /// Its name in numpy.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// Bytes of an element.
    fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// What a query found.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Ids, ascending.
    pub ids: Vec<i64>,
    /// How they were found.
    pub info: Info,
}

/// What several queries found.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Query `i` found `ids[lims[i]..lims[i + 1]]`.
    pub lims: Vec<i64>,
    /// Ids, ascending for each query.
    pub ids: Vec<i64>,
    /// How they were found, all queries together.
    pub info: Info,
}

/// Counts of the work behind an answer. They may depend on the instruction set; answers do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Which engine answered.
    pub engine: &'static str,
    /// Bytes of the index that were read, also by a search that gave up.
    pub bytes_read: u64,
    /// Pairs of query and key that the first stage looked at.
    pub scanned: u64,
    /// Of these, those that it could not exclude.
    pub candidates: u64,
    /// Of the candidates, those that it proved to be in.
    pub sure: u64,
    /// Candidates that the second stage of codes looked at.
    pub residual: u64,
    /// Candidates decided in float32.
    pub f32: u64,
    /// Candidates decided in float64.
    pub f64: u64,
    /// Candidates decided exactly.
    pub exact: u64,
    /// Pairs reported.
    pub reported: u64,
}

impl Info {
    /// Adds the counts of another part of the same call.
    fn add(&mut self, other: &Self) {
        self.bytes_read += other.bytes_read;
        self.scanned += other.scanned;
        self.candidates += other.candidates;
        self.sure += other.sure;
        self.residual += other.residual;
        self.f32 += other.f32;
        self.f64 += other.f64;
        self.exact += other.exact;
        self.reported += other.reported;
    }
}

/// What an index consists of.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// Keys that can be reported.
    pub keys: u64,
    /// Removed keys that are still stored.
    pub removed: u64,
    /// Numbers in a key.
    pub dim: usize,
    /// Their type.
    pub key_type: KeyType,
    /// How answers are found.
    pub method: Method,
    /// The engines that are built.
    pub engines: Vec<&'static str>,
    /// Bytes of the keys themselves.
    pub bytes_keys: u64,
    /// Bytes of what the engines read instead.
    pub bytes_codes: u64,
    /// Bytes of ids and tombstones.
    pub bytes_other: u64,
    /// Is any of it in the pages of a file?
    pub mapped: bool,
    /// The id that the next key will get.
    pub next_id: i64,
}
