//! An index as a file, or as the bytes of one.

use std::path::Path;

use super::{Index, Parts};
use crate::Result;
use crate::halfspace::ids::Ids;
use crate::halfspace::keys::{Dead, Keys};
use crate::halfspace::quantized::Quantized;
use crate::halfspace::rotated::Rotated;
use crate::halfspace::store::{Reader, Writer, damaged};
use crate::halfspace::tree::Forest;
use crate::halfspace::{KeyType, LARGEST, LARGEST_DIM, LARGEST_TREE, Method};

/// Element types in the order of their numbers in a file.
const KINDS: [KeyType; 3] = [KeyType::F32, KeyType::F16, KeyType::Bf16];

impl Index {
    /// Writes the index to a file, which is replaced as a whole: where that fails, or is interrupted,
    /// what was there before is still there. Afterwards the file is on the disk.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io).
    pub fn save(&self, path: &Path) -> Result<()> {
        self.writer().save(path)
    }

    /// What [`save`](Self::save) writes.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`](crate::Error::Memory).
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.writer().to_bytes()
    }

    /// Reads what [`save`](Self::save) wrote, all of it once, for its checksums. With `mmap` the index
    /// then uses the pages of the file until it is changed, and several processes share them.
    ///
    /// A mapped file may be replaced by another, as `save` does, but neither written to nor cut short:
    /// that is undefined behaviour, and most likely the end of the process.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io); [`Error::Format`](crate::Error::Format) for a file that is
    /// foreign, damaged, or of another version; [`Error::Memory`](crate::Error::Memory).
    pub fn load(path: &Path, mmap: bool) -> Result<Self> {
        Self::read(&Reader::open(path, mmap)?)
    }

    /// Reads what [`to_bytes`](Self::to_bytes) made.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), but for the system's.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::read(&Reader::from_bytes(bytes)?)
    }

    fn writer(&self) -> Writer<'_> {
        let mut writer = Writer::new();
        let kind = KINDS.iter().position(|&kind| kind == self.key_type()).unwrap_or(0);
        let method = Method::ALL.iter().position(|&method| method == self.method).unwrap_or(0);
        let head = [kind, method, self.dim(), self.parts.keys.len()].map(|number| number as u64);
        writer.put_copy("index", &head);
        self.parts.keys.write(&mut writer);
        self.parts.dead.write(&mut writer);
        self.ids.write(&mut writer);
        if let Some(quantized) = &self.parts.quantized {
            quantized.write(&mut writer);
        }
        if let Some(rotated) = &self.parts.rotated {
            rotated.write(&mut writer);
        }
        if let Some(forest) = &self.parts.forest {
            forest.write(&mut writer);
        }
        writer
    }

    fn read(from: &Reader<'_>) -> Result<Self> {
        let head = from.array::<u64, 4>("index")?;
        let wrong = || damaged(format!("an index of type, method, dimension and length {head:?}"));
        let [kind, method, dim, len] =
            head.map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        let kind = *KINDS.get(kind).ok_or_else(wrong)?;
        let method = *Method::ALL.get(method).ok_or_else(wrong)?;
        let tree = method == Method::Tree && dim > LARGEST_TREE;
        if !(1..=LARGEST_DIM).contains(&dim) || len > LARGEST || tree {
            return Err(wrong());
        }
        let mut parts = Parts::new(Keys::read(from, kind, dim, len)?);
        parts.dead = Dead::read(from, len)?;
        if from.has("longest") {
            parts.quantized = Some(Quantized::read(from, dim, len)?);
        }
        if from.has("turn") && parts.quantized.is_some() {
            parts.rotated = Some(Rotated::read(from, dim, len)?);
        }
        if from.has("trees") {
            parts.forest = Some(Forest::read(from, dim, len)?);
        }
        parts.chosen_for = len;
        let buried = |slot: usize| {
            parts.quantized.as_ref().is_none_or(|codes| codes.is_buried(slot))
                && parts.rotated.as_ref().is_none_or(|codes| codes.planes.is_buried(slot))
        };
        if !(0..len).filter(|&slot| parts.dead.contains(slot)).all(buried) {
            return Err(damaged("codes of keys that are gone"));
        }
        Ok(Self { method, ids: Ids::read(from, len)?, parts })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::Par;
    use crate::mat::{MatRef, Rows};

    /// Keys of which some are gone: ids that are not slots, and tombstones.
    fn index(method: Method) -> Index {
        let keys: Vec<f32> = (0..60 * 5).map(|i| ((i * i) % 19) as f32 - 9.0).collect();
        let rows = |range: std::ops::Range<usize>| {
            let len = range.len();
            Rows::F32(MatRef::from_slice(&keys[range.start * 5..range.end * 5], len, 5))
        };
        let mut index = Index::new(rows(0..40), None, method, Par::seq()).unwrap();
        index.remove(&[0, 7, 39]).unwrap();
        index.compact(Par::seq()).unwrap();
        index.add(rows(40..60), Par::seq()).unwrap();
        index.remove(&[8, 59]).unwrap();
        index
    }

    /// What it reports, and what it says of itself.
    fn answers(index: &Index) -> (Vec<i64>, String) {
        let found = index.report(&[1.0, -0.5, 0.25, 2.0, -1.0], 3.0, false, Par::seq()).unwrap();
        let stats = crate::halfspace::Stats { mapped: false, ..index.stats() };
        (found.ids, format!("{stats:?}"))
    }

    fn temporary(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("subquad-index-{}-{name}", std::process::id()))
    }

    #[test]
    fn an_index_comes_back_as_it_was() {
        let path = temporary("back");
        for method in Method::ALL {
            let index = index(method);
            let expected = answers(&index);
            assert!(!expected.0.is_empty());
            let bytes = index.to_bytes().unwrap();
            assert_eq!(answers(&Index::from_bytes(&bytes).unwrap()), expected);
            index.save(&path).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
            for mmap in [false, true] {
                let mut loaded = Index::load(&path, mmap).unwrap();
                assert_eq!(loaded.stats().mapped, mmap);
                assert_eq!(answers(&loaded), expected);
                assert_eq!(loaded.to_bytes().unwrap(), bytes);
                // The next key gets the next id, though the last one is gone.
                let row = Rows::F32(MatRef::from_slice(&[1.0; 5], 1, 5));
                assert_eq!(loaded.add(row, Par::seq()).unwrap(), 60..61);
            }
        }
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn changing_a_mapped_index_leaves_file_and_copies_alone() {
        let path = temporary("alone");
        index(Method::Auto).save(&path).unwrap();
        let saved = fs::read(&path).unwrap();
        let expected = answers(&index(Method::Auto)).0;
        let mut changed = Index::load(&path, true).unwrap();
        let copy = changed.clone();
        changed.remove(&expected).unwrap();
        changed.add(Rows::F32(MatRef::from_slice(&[9.0; 50], 10, 5)), Par::seq()).unwrap();
        changed.compact(Par::seq()).unwrap();
        assert!(copy.stats().mapped && !changed.stats().mapped);
        assert_eq!(answers(&copy).0, expected);
        // Onto the file that the copy is a view of.
        changed.save(&path).unwrap();
        assert_eq!(answers(&copy).0, expected);
        assert_eq!(copy.to_bytes().unwrap(), saved);
        assert_eq!(fs::read(&path).unwrap(), changed.to_bytes().unwrap());
        fs::remove_file(path).unwrap();
    }
}
