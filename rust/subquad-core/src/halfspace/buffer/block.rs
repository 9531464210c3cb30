//! Aligned memory, from the heap, from the system, or of a file.

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::Mmap;

use crate::scratch::Pages;
use crate::{Error, Result};

/// Bytes that can be read behind the end of whatever is kept in a block: the widest vector.
pub(in super::super) const SLACK: usize = 64;

/// A cache line, which is also the widest vector.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

const ZEROS: Line = Line([0; 64]);

static NOTHING: Line = ZEROS;

/// Memory that begins at a cache line: `room` bytes, and [`SLACK`] more that can be read.
pub(super) struct Block {
    ptr: NonNull<u8>,
    room: usize,
    /// Frees what `ptr` points to; never used otherwise.
    home: Home,
}

enum Home {
    /// Nobody has to.
    Nothing,
    Heap {
        _lines: Vec<Line>,
    },
    System {
        _pages: Pages,
    },
    File {
        map: Arc<Mmap>,
    },
}

// SAFETY: a block owns its memory like a vector, or shares memory that nobody writes.
unsafe impl Send for Block {}
// SAFETY: as above; writing takes `&mut`.
unsafe impl Sync for Block {}

impl Block {
    /// No room at all.
    pub const fn empty() -> Self {
        Self { ptr: NonNull::from_ref(&NOTHING).cast(), room: 0, home: Home::Nothing }
    }

    /// At least `room` bytes, all zero, slack included.
    pub fn zeroed(room: usize) -> Result<Self> {
        if room == 0 {
            return Ok(Self::empty());
        }
        let refused = || Error::Memory { bytes: room };
        let lines = (room.div_ceil(SLACK)).checked_add(1).ok_or_else(refused)?;
        let size = lines.checked_mul(SLACK).ok_or_else(refused)?;
        let block =
            if size < Pages::LARGE { Self::from_heap(lines) } else { Self::from_system(size) };
        block.ok_or_else(refused)
    }

    fn from_heap(count: usize) -> Option<Self> {
        let mut lines = Vec::new();
        lines.try_reserve_exact(count).ok()?;
        lines.resize(count, ZEROS);
        let ptr = NonNull::new(lines.as_mut_ptr())?.cast();
        Some(Self { ptr, room: (count - 1) * SLACK, home: Home::Heap { _lines: lines } })
    }

    fn from_system(size: usize) -> Option<Self> {
        let mut pages = Pages::zeroed(size)?;
        let ptr = NonNull::new(pages.ptr())?;
        Some(Self { ptr, room: size - SLACK, home: Home::System { _pages: pages } })
    }

    /// These bytes of a mapped file, if they begin at a cache line and have [`SLACK`] bytes behind.
    pub fn of_file(map: &Arc<Mmap>, bytes: Range<usize>) -> Option<Self> {
        map.get(bytes.start..bytes.end.checked_add(SLACK)?)?;
        let ptr = NonNull::new(map.as_ptr().wrapping_add(bytes.start).cast_mut())?;
        let home = Home::File { map: Arc::clone(map) };
        ptr.cast::<Line>().is_aligned().then_some(Self { ptr, room: bytes.len(), home })
    }

    /// Another view of the same bytes of a file; nothing if they are owned.
    pub fn share(&self) -> Option<Self> {
        let Home::File { map } = &self.home else { return None };
        Some(Self { home: Home::File { map: Arc::clone(map) }, ..*self })
    }

    /// May it be written?
    pub fn is_owned(&self) -> bool {
        !matches!(self.home, Home::File { .. })
    }

    /// Bytes that can be written if it is owned, read otherwise; [`SLACK`] more can be read.
    pub fn room(&self) -> usize {
        self.room
    }

    #[inline(always)]
    pub fn ptr(&self) -> *const u8 {
        self.ptr.as_ptr()
    }

    /// Where an owned block can be written.
    pub fn ptr_mut(&mut self) -> *mut u8 {
        debug_assert!(self.is_owned());
        self.ptr.as_ptr()
    }
}
