//! Arrays as an index keeps them: aligned, readable a little beyond their end, owned or part of a
//! file.
//!
//! A [`Buf`] is a slice to its readers. It begins at a cache line, large ones at a huge page, so that
//! a scan neither splits lines nor waits for the page table; and [`SLACK`] bytes behind its end can
//! be read, so that the last load of a kernel needs no special case. What has been loaded from a
//! file is a view of the file's pages until it is changed, which copies it.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::sync::Arc;

use memmap2::Mmap;

use crate::{Error, Result};

mod block;

use block::Block;
pub(super) use block::SLACK;

/// Numbers that can be viewed as bytes and back.
///
/// # Safety
///
/// There is no padding, every pattern of bits is a value, zero bits are the default, and the size
/// divides that of a cache line.
pub(super) unsafe trait Pod: Copy + Default + Send + Sync + 'static {}

macro_rules! pod {
    ($($number:ty),*) => {$(
        // SAFETY: a primitive number of 1, 2, 4 or 8 bytes; zero bits are 0.
        unsafe impl Pod for $number {}
    )*};
}
pod!(u8, i8, u16, u32, u64, i64, f32, f64);

/// A growable array of numbers.
///
/// Functions named `try_` refuse what exceeds the memory; others panic.
pub(super) struct Buf<T> {
    /// Owned blocks hold zeros behind the values, so that growing within one needs no filling.
    block: Block,
    len: usize,
    life: PhantomData<T>,
}

impl<T: Pod> Buf<T> {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self { block: Block::empty(), len: 0, life: PhantomData }
    }

    /// `len` zeros.
    pub fn try_with_len(len: usize) -> Result<Self> {
        Ok(Self { block: Block::zeroed(bytes_of::<T>(len)?)?, len, life: PhantomData })
    }

    /// A copy of `values`.
    pub fn try_from_slice(values: &[T]) -> Result<Self> {
        let mut copy = Self::try_with_len(values.len())?;
        copy.owned_mut().copy_from_slice(values);
        Ok(copy)
    }

    /// The values in some bytes of a mapped file, or nothing if they are not as the type's
    /// description demands: aligned, a whole number of values, with [`SLACK`] bytes behind.
    pub fn of_file(map: &Arc<Mmap>, bytes: Range<usize>) -> Option<Self> {
        let len = bytes.len() / size_of::<T>();
        let whole = bytes.len().is_multiple_of(size_of::<T>());
        let block = whole.then(|| Block::of_file(map, bytes)).flatten()?;
        Some(Self { block, len, life: PhantomData })
    }

    /// Are these the pages of a file?
    pub fn is_mapped(&self) -> bool {
        !self.block.is_owned()
    }

    /// The first value; so many values and [`SLACK`] bytes behind them can be read from here.
    pub fn ptr(&self) -> *const T {
        self.block.ptr().cast()
    }

    /// The values as they lie in memory.
    pub fn bytes(&self) -> &[u8] {
        as_bytes(self)
    }

    /// As [`bytes`](Self::bytes), to be changed; any bytes are values.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let bytes = size_of_val(self.to_mut());
        // SAFETY: the block is owned now, and its values have no padding.
        unsafe { std::slice::from_raw_parts_mut(self.block.ptr_mut(), bytes) }
    }

    /// The values, to be changed; pages of a file are copied first.
    pub fn to_mut(&mut self) -> &mut [T] {
        must(self.try_reserve(0));
        self.owned_mut()
    }

    /// Makes room for `more` values, in memory of its own: adding so many, or changing what is
    /// there, will not fail.
    pub fn try_reserve(&mut self, more: usize) -> Result<()> {
        let total = self.len.checked_add(more).ok_or(TOO_LONG)?;
        let (old, needed) = (self.bytes().len(), bytes_of::<T>(total)?);
        if self.block.is_owned() && needed <= self.block.room() {
            return Ok(());
        }
        let goal = if needed > old { needed.max(old.saturating_mul(2)) } else { needed };
        let mut block = Block::zeroed(goal)?;
        // SAFETY: the new block is owned, another, and has room for more than the values.
        unsafe { block.ptr_mut().copy_from_nonoverlapping(self.block.ptr(), old) };
        self.block = block;
        Ok(())
    }

    /// Cuts off what is beyond `len` values, or adds zeros.
    pub fn resize(&mut self, len: usize) {
        must(self.try_resize(len));
    }

    /// Cuts off what is beyond `len` values, or adds zeros.
    pub fn try_resize(&mut self, len: usize) -> Result<()> {
        self.try_reserve(len.saturating_sub(self.len))?;
        if let Some(cut) = self.owned_mut().get_mut(len..) {
            cut.fill(T::default());
        }
        self.len = len;
        Ok(())
    }

    /// Adds a copy of `values` at the end.
    pub fn extend_from_slice(&mut self, values: &[T]) {
        must(self.try_extend_from_slice(values));
    }

    /// Adds a copy of `values` at the end.
    pub fn try_extend_from_slice(&mut self, values: &[T]) -> Result<()> {
        let begin = self.len;
        self.try_resize(begin + values.len())?;
        self.owned_mut()[begin..].copy_from_slice(values);
        Ok(())
    }

    /// As `clone`: pages of a file stay shared.
    pub fn try_clone(&self) -> Result<Self> {
        match self.block.share() {
            Some(block) => Ok(Self { block, ..*self }),
            None => Self::try_from_slice(self),
        }
    }

    /// The values of an owned block.
    fn owned_mut(&mut self) -> &mut [T] {
        // SAFETY: the block is owned, aligned and holds `len` values.
        unsafe { std::slice::from_raw_parts_mut(self.block.ptr_mut().cast(), self.len) }
    }
}

impl<T: Pod> Deref for Buf<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: the block is aligned and holds `len` values; any bits are one.
        unsafe { std::slice::from_raw_parts(self.block.ptr().cast(), self.len) }
    }
}

impl<T: Pod> Clone for Buf<T> {
    fn clone(&self) -> Self {
        must(self.try_clone())
    }
}

impl<T: Pod> Default for Buf<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Pod> fmt::Debug for Buf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buf")
            .field("len", &self.len)
            .field("is_mapped", &self.is_mapped())
            .finish_non_exhaustive()
    }
}

/// Numbers as they lie in memory.
pub(super) fn as_bytes<T: Pod>(values: &[T]) -> &[u8] {
    // SAFETY: numbers are initialised bytes without padding.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// More than the address space holds.
const TOO_LONG: Error = Error::Memory { bytes: usize::MAX };

/// Bytes of `len` values.
fn bytes_of<T>(len: usize) -> Result<usize> {
    len.checked_mul(size_of::<T>()).ok_or(TOO_LONG)
}

/// What a growing vector does: give up where there is no memory.
fn must<R>(result: Result<R>) -> R {
    result.unwrap_or_else(|err| panic!("{err}"))
}

#[cfg(test)]
mod tests;
