//! The keys of an index, row after row in the type they came in, and which of them are gone.

use half::{bf16, f16};

use super::KeyType;
use super::buffer::Buf;
use super::predicate::SURE;
use super::store::{Reader, Writer, damaged};
use crate::mat::{self, MatRef};
use crate::simd::{Element, touch};
use crate::{Error, Result};

/// Rows of `dim` numbers. Slots count rows from 0; kernels may read 64 bytes beyond the last.
#[derive(Clone)]
pub(super) struct Keys {
    kind: KeyType,
    dim: usize,
    len: usize,
    bytes: Buf<u8>,
}

/// Rows that a stage reads here and there.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub first: *const u8,
    pub stride: usize,
}

impl Rows {
    /// Candidates whose rows are on their way at a time.
    const AHEAD: usize = 16;

    /// Asks for the rows of the first candidates.
    #[inline(always)]
    pub fn touch_first(self, slots: &[u32]) {
        slots.iter().take(Self::AHEAD).for_each(|&slot| self.touch(slot));
    }

    /// Asks for the row of the candidate that is looked at so much later than the i-th.
    #[inline(always)]
    pub fn touch_later(self, slots: &[u32], i: usize) {
        if let Some(&later) = slots.get(i + Self::AHEAD)
            // A stream needs no asking.
            && later != slots[i].wrapping_add(Self::AHEAD as u32)
        {
            self.touch(later);
        }
    }

    /// What is sure is not looked at.
    #[inline(always)]
    fn touch(self, slot: u32) {
        if slot & SURE == 0 {
            touch(self.first.wrapping_add(slot as usize * self.stride), self.stride);
        }
    }
}

/// Evaluates `$call` with `$t` standing for the element type of keys.
macro_rules! with_key_type {
    ($kind:expr, $t:ident => $call:expr) => {
        match $kind {
            $crate::halfspace::KeyType::F32 => {
                type $t = f32;
                $call
            }
            $crate::halfspace::KeyType::F16 => {
                type $t = half::f16;
                $call
            }
            $crate::halfspace::KeyType::Bf16 => {
                type $t = half::bf16;
                $call
            }
        }
    };
}
pub(super) use with_key_type;

/// An element type of keys.
pub(super) trait Key: Element + Send + Sync + 'static {
    /// Exact value.
    fn widen(self) -> f32;
}

impl Key for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Key for f16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }
}

impl Key for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }
}

impl Keys {
    /// No keys yet.
    pub fn new(kind: KeyType, dim: usize) -> Self {
        Self { kind, dim, len: 0, bytes: Buf::new() }
    }

    pub fn kind(&self) -> KeyType {
        self.kind
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub fn is_mapped(&self) -> bool {
        self.bytes.is_mapped()
    }

    /// Bytes from one row to the next.
    pub fn stride(&self) -> usize {
        self.dim * self.kind.size()
    }

    /// Where a row begins. Elements must be of the type `E`.
    #[inline(always)]
    pub fn row<E: Key>(&self, slot: usize) -> *const E {
        debug_assert!(slot < self.len && size_of::<E>() == self.kind.size());
        self.first::<E>().wrapping_add(slot * self.dim)
    }

    /// Where the first row begins; rows follow each other without gaps.
    #[inline(always)]
    #[allow(clippy::cast_ptr_alignment)] // a buffer begins at a cache line
    fn first<E: Key>(&self) -> *const E {
        self.bytes.ptr().cast()
    }

    /// Where up to `count` rows from `slot` on are, and their bytes.
    pub fn block(&self, slot: usize, count: usize) -> (*const u8, usize) {
        let count = count.min(self.len.saturating_sub(slot));
        (self.bytes.ptr().wrapping_add(slot * self.stride()), count * self.stride())
    }

    /// Where the rows are.
    pub fn rows(&self) -> Rows {
        Rows { first: self.bytes.ptr(), stride: self.stride() }
    }

    /// Are two rows the same, bit by bit?
    pub fn same(&self, a: usize, b: usize) -> bool {
        let row = |slot: usize| &self.bytes[slot * self.stride()..][..self.stride()];
        row(a) == row(b)
    }

    /// A row, exactly.
    pub fn widen(&self, slot: usize, out: &mut [f32]) {
        assert!(slot < self.len && out.len() == self.dim);
        with_key_type!(self.kind, E => {
            // SAFETY: the slot exists, and rows are aligned to their elements.
            let row = unsafe { std::slice::from_raw_parts(self.row::<E>(slot), self.dim) };
            for (x, &y) in out.iter_mut().zip(row) {
                *x = Key::widen(y);
            }
        });
    }

    /// Appends rows of the same type.
    ///
    /// # Errors
    ///
    /// [`Error::NonFinite`], [`Error::Shape`], [`Error::Type`]; nothing is appended then.
    pub fn extend(&mut self, name: &'static str, rows: &mat::Rows<'_>) -> Result<()> {
        Error::unless_equal(name, "d", self.dim, rows.cols())?;
        match (self.kind, rows) {
            (KeyType::F32, mat::Rows::F32(view)) => self.append(name, view, f32::is_finite),
            (KeyType::F16, mat::Rows::F16(view)) => self.append(name, view, f16::is_finite),
            (KeyType::Bf16, mat::Rows::Bf16(view)) => self.append(name, view, bf16::is_finite),
            _ => {
                let found = KeyType::of(rows).map_or("float64", KeyType::name);
                Err(Error::Type { name, requires: self.kind.name(), found })
            }
        }
    }

    fn append<E: Key>(
        &mut self,
        name: &'static str,
        view: &MatRef<'_, E>,
        finite: impl Fn(E) -> bool,
    ) -> Result<()> {
        let (old, stride) = (self.len, self.stride());
        let total = old.checked_add(view.rows()).filter(|&n| n <= super::LARGEST);
        let Some(total) = total else {
            let found = old as f64 + view.rows() as f64;
            return Err(Error::Domain { name, requires: "at most 2^31 - 2 rows in all", found });
        };
        let bytes = total.checked_mul(stride).ok_or(Error::Memory { bytes: usize::MAX })?;
        self.bytes.try_resize(bytes)?;
        #[allow(clippy::cast_ptr_alignment)] // as in `row`
        let to = self.bytes.to_mut()[old * stride..].as_mut_ptr().cast::<E>();
        for i in 0..view.rows() {
            // SAFETY: there is room for the new rows, aligned to their elements.
            let to = unsafe { std::slice::from_raw_parts_mut(to.add(i * self.dim), self.dim) };
            if view.has_contiguous_rows() {
                to.copy_from_slice(view.row(i));
            } else {
                (0..self.dim).for_each(|j| to[j] = view.get(i, j));
            }
            if !to.iter().fold(true, |all, &x| all & finite(x)) {
                let column = to.iter().position(|&x| !finite(x)).unwrap_or(0);
                self.bytes.resize(old * stride);
                return Err(Error::NonFinite { name, row: i, column });
            }
        }
        self.len = total;
        Ok(())
    }

    /// Forgets the rows from slot `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.resize(len * self.stride());
        self.len = len;
    }

    /// The rows of some slots, in their order.
    pub fn gather(&self, slots: impl Iterator<Item = u32>) -> Result<Self> {
        let mut kept = Self::new(self.kind, self.dim);
        let stride = self.stride();
        for slot in slots.map(|slot| slot as usize) {
            kept.bytes.try_extend_from_slice(&self.bytes[slot * stride..(slot + 1) * stride])?;
            kept.len += 1;
        }
        Ok(kept)
    }

    pub fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.put("keys", &self.bytes);
    }

    pub fn read(from: &Reader<'_>, kind: KeyType, dim: usize, len: usize) -> Result<Self> {
        let bytes = len
            .checked_mul(dim)
            .and_then(|x| x.checked_mul(kind.size()))
            .ok_or(Error::Memory { bytes: usize::MAX })?;
        let keys = Self { kind, dim, len, bytes: from.take("keys", Some(bytes))? };
        let finite = with_key_type!(kind, E => {
            // SAFETY: there are so many numbers, aligned to their type.
            let all = unsafe { std::slice::from_raw_parts(keys.first::<E>(), len * dim) };
            all.iter().fold(true, |finite, &x| finite & Key::widen(x).is_finite())
        });
        if finite { Ok(keys) } else { Err(damaged("keys that are not finite")) }
    }
}

/// The slots whose keys have been removed and are still stored: tombstones.
#[derive(Clone)]
pub(super) struct Dead {
    /// One bit per slot, 64 to a word.
    words: Buf<u64>,
    count: usize,
}

impl Dead {
    pub fn none() -> Self {
        Self { words: Buf::new(), count: 0 }
    }

    /// Number of tombstones.
    pub fn count(&self) -> usize {
        self.count
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    #[inline(always)]
    pub fn contains(&self, slot: usize) -> bool {
        self.words.get(slot / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    /// Makes room for the first `len` slots, in memory of its own.
    pub fn reserve(&mut self, len: usize) -> Result<()> {
        let words = len.div_ceil(64).max(self.words.len());
        self.words.try_resize(words)
    }

    /// Marks one of the slots that there is room for.
    pub fn insert(&mut self, slot: usize) {
        let bit = 1 << (slot % 64);
        let word = &mut self.words.to_mut()[slot / 64];
        self.count += usize::from(*word & bit == 0);
        *word |= bit;
    }

    pub fn bytes(&self) -> u64 {
        8 * self.words.len() as u64
    }

    pub fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.put("dead", &self.words);
    }

    /// Tombstones among `len` slots.
    pub fn read(from: &Reader<'_>, len: usize) -> Result<Self> {
        let words: Buf<u64> = from.take("dead", None)?;
        let beyond = words.len() > len.div_ceil(64)
            || (words.len() == len.div_ceil(64)
                && !len.is_multiple_of(64)
                && words.last().is_some_and(|word| word >> (len % 64) != 0));
        if beyond {
            return Err(damaged("a tombstone beyond the last key"));
        }
        let count = words.iter().map(|word| word.count_ones() as usize).sum();
        Ok(Self { words, count })
    }
}
