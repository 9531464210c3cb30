//! Aligned workspace, kept from task to task within one call.

use std::sync::{Mutex, PoisonError};

use memmap2::MmapMut;

/// Bytes in a cache line, and in the widest vector.
const LINE: usize = 64;

/// Bytes of a huge page.
const PAGE: usize = 2 << 20;

/// Zeros that come from the system in whole pages: huge ones if it can, for walking through megabytes in small ones
/// is slower, and so is having them zeroed one by one.
pub struct Pages {
    map: MmapMut,
    first: usize,
}

impl Pages {
    /// Bytes from which on this is better than the heap.
    pub const LARGE: usize = 2 * PAGE;

    /// At least so many bytes; nothing if the system refuses.
    pub fn zeroed(bytes: usize) -> Option<Self> {
        let map = MmapMut::map_anon(bytes.checked_add(PAGE)?).ok()?;
        #[cfg(target_os = "linux")]
        // A system without huge pages refuses, and is only slower.
        let _ = map.advise(memmap2::Advice::HugePage);
        let first = map.as_ptr().align_offset(PAGE).min(PAGE);
        Some(Self { map, first })
    }

    /// The first byte, at the beginning of a huge page.
    pub fn ptr(&mut self) -> *mut u8 {
        self.map.as_mut_ptr().wrapping_add(self.first)
    }

    fn as_ptr(&self) -> *const u8 {
        self.map.as_ptr().wrapping_add(self.first)
    }
}

/// Numbers that are zero if all of their bytes are.
///
/// # Safety
/// They must be, and zero their default.
pub unsafe trait Zeroable: Copy + Default {}

// SAFETY: the positive zero of IEEE formats has no bit set.
unsafe impl Zeroable for f32 {}
// SAFETY: as above.
unsafe impl Zeroable for f64 {}
// SAFETY: an integer.
unsafe impl Zeroable for u32 {}

/// Zeroed numbers that begin at a cache line, followed by a line of slack for vectors that reach
/// beyond the end.
pub struct Buffer<T> {
    home: Home<T>,
    len: usize,
}

enum Home<T> {
    Heap { data: Vec<T>, first: usize },
    System(Pages),
}

impl<T: Zeroable> Buffer<T> {
    pub fn new(len: usize) -> Self {
        let slack = LINE / size_of::<T>();
        let bytes = len.saturating_add(slack).saturating_mul(size_of::<T>());
        let pages = if bytes < Pages::LARGE { None } else { Pages::zeroed(bytes) };
        let home = pages.map_or_else(
            || {
                let data = vec![T::default(); len + 2 * slack];
                let first = data.as_ptr().align_offset(LINE).min(slack);
                Home::Heap { data, first }
            },
            Home::System,
        );
        Self { home, len }
    }

    pub fn ptr(&mut self) -> *mut T {
        // Not a slice of the data: that would end the validity of pointers handed out before.
        match &mut self.home {
            Home::Heap { data, first } => data.as_mut_ptr().wrapping_add(*first),
            Home::System(pages) => pages.ptr().cast(),
        }
    }

    pub fn as_ptr(&self) -> *const T {
        match &self.home {
            Home::Heap { data, first } => data.as_ptr().wrapping_add(*first),
            Home::System(pages) => pages.as_ptr().cast(),
        }
    }

    /// How many numbers it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The first `len` numbers.
    pub fn slice(&mut self, len: usize) -> &mut [T] {
        assert!(len <= self.len);
        // SAFETY: so many numbers are there, all initialised, and they are ours.
        unsafe { std::slice::from_raw_parts_mut(self.ptr(), len) }
    }
}

/// Workspaces of one call: as many as tasks run at the same time, freed with the call.
pub struct Pool<S> {
    free: Mutex<Vec<S>>,
}

impl<S> Pool<S> {
    pub fn new() -> Self {
        Self { free: Mutex::new(Vec::new()) }
    }

    /// Runs `work` with a workspace, made by `make` if none is free.
    pub fn with<R>(&self, make: impl FnOnce() -> S, work: impl FnOnce(&mut S) -> R) -> R {
        let lock = || self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = lock().pop();
        let mut scratch = taken.unwrap_or_else(make);
        let result = work(&mut scratch);
        lock().push(scratch);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_zero_and_have_a_line_of_slack() {
        for len in [0, 1, 1000, Pages::LARGE / 4 - 16, Pages::LARGE / 4 + 3, Pages::LARGE] {
            let mut buffer = Buffer::<f32>::new(len);
            assert_eq!((buffer.len(), buffer.ptr().align_offset(LINE)), (len, 0));
            assert_eq!(buffer.as_ptr(), buffer.ptr().cast_const());
            assert!(buffer.slice(len).iter().all(|x| x.to_bits() == 0));
            buffer.slice(len).fill(1.0);
            // SAFETY: the slack.
            assert!((len..len + 16).all(|i| unsafe { buffer.as_ptr().add(i).read() } == 0.0));
        }
    }
}
