//! Writing a file.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::atomic;
use super::table::{Table, Tag, tag};
use crate::halfspace::buffer::{Pod, as_bytes};
use crate::{Error, Result};

/// Zeros behind a section.
static ZEROS: [u8; 128] = [0; 128];

/// A file to be. It borrows what is put into it until it is written.
#[derive(Default)]
pub(in super::super) struct Writer<'a> {
    sections: Vec<(Tag, Cow<'a, [u8]>)>,
}

impl<'a> Writer<'a> {
    /// No sections yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A section, under a name of one to eight visible ASCII characters.
    pub fn put<T: Pod>(&mut self, name: &str, values: &'a [T]) {
        self.push(name, Cow::Borrowed(as_bytes(values)));
    }

    /// A section of a few numbers, which are copied.
    pub fn put_copy<T: Pod>(&mut self, name: &str, values: &[T]) {
        self.push(name, Cow::Owned(as_bytes(values).to_vec()));
    }

    fn push(&mut self, name: &str, bytes: Cow<'a, [u8]>) {
        let tag = tag(name);
        assert!(self.sections.iter().all(|(other, _)| *other != tag), "two sections {name:?}");
        self.sections.push((tag, bytes));
    }

    /// Makes or replaces a file. Where that fails, what was there is still there.
    pub fn save(&self, path: &Path) -> Result<()> {
        let table = self.table()?;
        atomic::replace(path, |file| {
            let mut file = BufWriter::with_capacity(1 << 20, file);
            self.write(&table, &mut file)?;
            file.flush()
        })
    }

    /// What [`save`](Self::save) writes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let (table, mut bytes) = (self.table()?, Vec::new());
        let refused = |_| Error::Memory { bytes: table.total };
        bytes.try_reserve_exact(table.total).map_err(refused)?;
        self.write(&table, &mut bytes).expect("a vector takes what it has room for");
        Ok(bytes)
    }

    fn table(&self) -> Result<Table> {
        let checked =
            |(tag, bytes): &(Tag, Cow<'_, [u8]>)| (*tag, bytes.len(), crc32fast::hash(bytes));
        Table::of(self.sections.iter().map(checked)).ok_or(Error::Memory { bytes: usize::MAX })
    }

    fn write(&self, table: &Table, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&table.encode())?;
        for (section, (_, bytes)) in table.sections.iter().zip(&self.sections) {
            to.write_all(bytes)?;
            to.write_all(&ZEROS[..section.zeros()])?;
        }
        Ok(())
    }
}
