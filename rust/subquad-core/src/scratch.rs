//! Aligned workspace, kept from task to task within one call.

use std::sync::{Mutex, PoisonError};

/// Bytes in a cache line, and in the widest vector.
const LINE: usize = 64;

/// Zeroed numbers that begin at a cache line, followed by a line of slack for vectors that reach
/// beyond the end.
pub struct Buffer<T> {
    data: Vec<T>,
    first: usize,
}

impl<T: Copy + Default> Buffer<T> {
    pub fn new(len: usize) -> Self {
        let slack = LINE / size_of::<T>();
        let data = vec![T::default(); len + 2 * slack];
        let first = data.as_ptr().align_offset(LINE).min(slack);
        Self { data, first }
    }

    pub fn ptr(&mut self) -> *mut T {
        // Not a slice of the data: that would end the validity of pointers handed out before.
        self.data.as_mut_ptr().wrapping_add(self.first)
    }

    pub fn as_ptr(&self) -> *const T {
        self.data.as_ptr().wrapping_add(self.first)
    }

    /// How many numbers it has.
    pub fn len(&self) -> usize {
        self.data.len().saturating_sub(2 * (LINE / size_of::<T>()))
    }

    /// The first `len` numbers.
    pub fn slice(&mut self, len: usize) -> &mut [T] {
        &mut self.data[self.first..self.first + len]
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
