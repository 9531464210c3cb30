//! Header and table of a file.

use super::damaged;
use crate::halfspace::buffer::SLACK;
use crate::{Error, Result};

/// The first byte is no character, so that no text begins like this.
const MAGIC: [u8; 8] = *b"\x89subquad";

/// Read as another number on a machine of the other byte order.
const ORDER: u32 = 0x0102_0304;

/// Version of the format that is written. To be raised with any change of what a section means.
const VERSION: u32 = 1;

/// Bytes of the header, and of an entry of the table.
pub(super) const ENTRY: usize = 32;

/// Where the header has its checksum.
const CHECKSUM: usize = 28;

/// Sections begin at multiples of this, and have at least as many zeros behind them.
const LINE: usize = SLACK;

/// The name of a section: up to eight visible characters, and zeros.
pub(super) type Tag = [u8; 8];

/// `name` as it stands in a table.
///
/// # Panics
///
/// If it is not of that form.
pub(super) fn tag(name: &str) -> Tag {
    let fits = (1..=size_of::<Tag>()).contains(&name.len());
    assert!(fits && name.bytes().all(|c| (b' '..=b'~').contains(&c)), "{name:?} names no section");
    let mut tag = Tag::default();
    tag[..name.len()].copy_from_slice(name.as_bytes());
    tag
}

/// An entry of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Section {
    pub tag: Tag,
    pub begin: usize,
    pub bytes: usize,
    pub checksum: u32,
}

impl Section {
    /// Zeros behind the values.
    pub fn zeros(&self) -> usize {
        self.bytes.next_multiple_of(LINE) - self.bytes + LINE
    }
}

/// What stands before the sections.
#[derive(Debug)]
pub(super) struct Table {
    pub sections: Vec<Section>,
    /// Bytes of the file.
    pub total: usize,
}

impl Table {
    /// The one table of sections of these names, lengths and checksums; nothing if the file would
    /// exceed the address space.
    pub fn of(parts: impl Iterator<Item = (Tag, usize, u32)>) -> Option<Self> {
        let mut sections: Vec<_> = parts
            .map(|(tag, bytes, checksum)| Section { tag, begin: 0, bytes, checksum })
            .collect();
        let mut total = front_bytes(sections.len())?;
        for section in &mut sections {
            section.begin = total;
            total = total.checked_add(section.bytes)?.checked_next_multiple_of(LINE)?;
            total = total.checked_add(LINE)?;
        }
        Some(Self { sections, total })
    }

    /// The front of the file, up to the first section.
    pub fn encode(&self) -> Vec<u8> {
        let mut front = MAGIC.to_vec();
        front.extend(ORDER.to_ne_bytes());
        front.extend(VERSION.to_ne_bytes());
        front.extend((self.total as u64).to_ne_bytes());
        front.extend((self.sections.len() as u32).to_ne_bytes());
        front.extend([0; ENTRY - CHECKSUM]);
        for section in &self.sections {
            front.extend(section.tag);
            front.extend((section.begin as u64).to_ne_bytes());
            front.extend((section.bytes as u64).to_ne_bytes());
            front.extend(section.checksum.to_ne_bytes());
            front.extend([0; 4]);
        }
        front.resize(front.len().next_multiple_of(LINE), 0);
        let checksum = crc32fast::hash(&front);
        front[CHECKSUM..ENTRY].copy_from_slice(&checksum.to_ne_bytes());
        front
    }

    /// Reads the `front` of a file of `total` bytes, of the length that [`front_of`] tells.
    pub fn decode(front: &[u8], total: usize) -> Result<Self> {
        let parts = front[ENTRY..].chunks_exact(ENTRY).take(u32_at(front, 24) as usize);
        let table = Self::of(parts.map(|entry| {
            let tag = entry.first_chunk().copied().unwrap_or_default();
            (tag, usize_at(entry, 16), u32_at(entry, 24))
        }));
        // No other bytes describe these sections.
        table
            .filter(|table| table.total == total && table.encode() == front)
            .ok_or_else(|| damaged("a table of contents that fails its checksum"))
    }
}

/// Bytes before the first section, according to the header of a file of `total` bytes.
pub(super) fn front_of(header: &[u8; ENTRY], total: usize) -> Result<usize> {
    if !header.starts_with(&MAGIC) {
        let (requires, found) = ("one that this package saved", "a file of another kind".into());
        return Err(Error::Format { requires, found });
    }
    if u32_at(header, 8) == ORDER.swap_bytes() {
        let (requires, found) = ("of this machine's byte order", "the other one".into());
        return Err(Error::Format { requires, found });
    }
    let version = u32_at(header, 12);
    if version != VERSION {
        let requires = "of a format version that this release can read";
        return Err(Error::Format { requires, found: format!("version {version}") });
    }
    let stated = usize_at(header, 16);
    if stated != total {
        return Err(damaged(format!("{total} of {stated} bytes")));
    }
    front_bytes(u32_at(header, 24) as usize)
        .filter(|&bytes| bytes <= total)
        .ok_or_else(|| damaged("a table of contents that exceeds the file"))
}

/// Bytes of header and table, up to where the first section begins.
fn front_bytes(sections: usize) -> Option<usize> {
    sections.checked_add(1)?.checked_mul(ENTRY)?.checked_next_multiple_of(LINE)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().copied().map_or(0, u32::from_ne_bytes)
}

/// A length; one beyond the address space as the largest within, which no file has.
fn usize_at(bytes: &[u8], at: usize) -> usize {
    let wide = bytes[at..].first_chunk().copied().map_or(0, u64::from_ne_bytes);
    usize::try_from(wide).unwrap_or(usize::MAX)
}
