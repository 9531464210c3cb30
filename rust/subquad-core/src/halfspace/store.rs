//! Files of named arrays: checked when they are read, replaced as a whole when they are written.
//!
//! ```text
//! header    magic (8), byte order (u32), version (u32), bytes of the file (u64),
//!           number of sections (u32), CRC-32 of all of header and table but itself (u32)
//! table     for each section: tag (8), begin (u64), bytes (u64), CRC-32 (u32), zero (u32);
//!           zeros up to a multiple of 64
//! sections  each with 64 to 127 zeros behind it, up to a multiple of 64
//! ```
//!
//! Numbers have the byte order of the machine, little-endian on all that matter; the header says
//! which, and a file of the other is refused. Sections follow each other without a gap in the order
//! of the table, and zeros are checked to be zeros: there is no byte that may change unnoticed, and
//! no two sections can overlap. A section that is mapped is aligned and readable behind its end as a
//! [`Buf`](super::buffer::Buf) must be.
//!
//! A checksum tells damage, not malice. Whoever reads a section takes its length from elsewhere or
//! checks it, and checks every index in it: a file made by hand may describe an index that nobody
//! saved, but not one that reads what it does not own.

use crate::Error;

mod atomic;
mod reader;
mod table;
mod writer;

pub(super) use reader::Reader;
pub(super) use writer::Writer;

/// Why a file is refused whose parts do not belong together.
pub(super) fn damaged(found: impl Into<String>) -> Error {
    Error::Format { requires: "complete and undamaged", found: found.into() }
}

#[cfg(test)]
mod tests;
