//! Reading a file.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Mmap, MmapOptions};

use super::atomic::io_error;
use super::damaged;
use super::table::{ENTRY, Section, Table, front_of, tag};
use crate::Result;
use crate::halfspace::buffer::{Buf, Pod, SLACK};

/// A file whose table of contents has been checked. Sections are checked as they are taken.
pub(in super::super) struct Reader<'a> {
    source: Source<'a>,
    sections: Vec<Section>,
}

enum Source<'a> {
    Bytes(&'a [u8]),
    File(File, PathBuf),
    Map(Arc<Mmap>),
}

impl<'a> Reader<'a> {
    /// A file, whose pages are to be used as they are if it is mapped. Then nobody may change them:
    /// another file of that name is none of our business, but one that is cut short crashes the
    /// process, and one that is written to reports what nobody can foresee.
    pub fn open(path: &Path, mmap: bool) -> Result<Self> {
        let failed = |err| io_error(path, &err);
        let file = File::open(path).map_err(failed)?;
        let total = usize::try_from(file.metadata().map_err(failed)?.len()).unwrap_or(usize::MAX);
        let mut opened = Self::new(Source::File(file, path.to_owned()), total)?;
        if let Source::File(file, _) = &opened.source
            && mmap
        {
            // SAFETY: nobody changes the file while it is mapped, says the contract.
            let map = unsafe { MmapOptions::new().len(total).map(file) }.map_err(failed)?;
            opened.source = Source::Map(Arc::new(map));
        }
        Ok(opened)
    }

    /// What [`Writer::to_bytes`](super::Writer::to_bytes) made.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self> {
        Self::new(Source::Bytes(bytes), bytes.len())
    }

    fn new(source: Source<'a>, total: usize) -> Result<Self> {
        if total < ENTRY {
            return Err(damaged(format!("{total} bytes")));
        }
        let mut header = [0; ENTRY];
        source.read(0, &mut header)?;
        let mut front = Buf::<u8>::try_with_len(front_of(&header, total)?)?;
        source.read(0, front.to_mut())?;
        Ok(Self { source, sections: Table::decode(&front, total)?.sections })
    }

    /// Is there such a section?
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// A section of `len` values, or of any number of them.
    pub fn take<T: Pod>(&self, name: &str, len: Option<usize>) -> Result<Buf<T>> {
        let section = self.find(name).ok_or_else(|| damaged(format!("no section `{name}`")))?;
        let (bytes, item) = (section.bytes, size_of::<T>());
        if !bytes.is_multiple_of(item) || len.is_some_and(|len| len != bytes / item) {
            return Err(damaged(format!("a section `{name}` of {bytes} bytes")));
        }
        let failed = || damaged(format!("a section `{name}` that fails its checksum"));
        let values = match &self.source {
            Source::Map(map) => {
                Buf::of_file(map, section.begin..section.begin + bytes).ok_or_else(failed)?
            }
            source => {
                let mut values = Buf::try_with_len(bytes / item)?;
                source.read(section.begin, values.bytes_mut())?;
                values
            }
        };
        let mut behind = [0; 2 * SLACK];
        let zeros = &mut behind[..section.zeros()];
        self.source.read(section.begin + bytes, zeros)?;
        let sound = crc32fast::hash(values.bytes()) == section.checksum;
        (sound && zeros.iter().all(|&byte| byte == 0)).then_some(values).ok_or_else(failed)
    }

    /// A section of a few numbers.
    pub fn array<T: Pod, const N: usize>(&self, name: &str) -> Result<[T; N]> {
        let values = self.take(name, Some(N))?;
        Ok(std::array::from_fn(|i| values[i]))
    }

    fn find(&self, name: &str) -> Option<&Section> {
        let tag = tag(name);
        self.sections.iter().find(|section| section.tag == tag)
    }
}

impl Source<'_> {
    /// Fills `to` with what is at `begin`.
    fn read(&self, begin: usize, to: &mut [u8]) -> Result<()> {
        let bytes: &[u8] = match self {
            Self::Bytes(bytes) => bytes,
            Self::Map(map) => map,
            Self::File(file, path) => {
                let mut file = file;
                let done =
                    file.seek(SeekFrom::Start(begin as u64)).and_then(|_| file.read_exact(to));
                return done.map_err(|err| match err.kind() {
                    ErrorKind::UnexpectedEof => damaged("less than was there a moment ago"),
                    _ => io_error(path, &err),
                });
            }
        };
        let found = begin.checked_add(to.len()).and_then(|end| bytes.get(begin..end));
        to.copy_from_slice(found.ok_or_else(|| damaged("less than its table says"))?);
        Ok(())
    }
}
