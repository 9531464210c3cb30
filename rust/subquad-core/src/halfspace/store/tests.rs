use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::table::{ENTRY, Table, tag};
use super::{Reader, Writer, atomic};
use crate::halfspace::buffer::SLACK;
use crate::{Error, Result};

/// An empty folder, removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("subquad-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Sections of several types; of no, one, and more than one line.
struct Content {
    bytes: Vec<u8>,
    wide: Vec<f64>,
}

impl Content {
    fn new() -> Self {
        let wide = (0..20).map(|i| f64::from(i) - 0.5).collect();
        Self { bytes: (1..=64).collect(), wide }
    }

    fn writer(&self) -> Writer<'_> {
        let mut writer = Writer::new();
        writer.put("bytes", &self.bytes);
        writer.put::<i64>("empty", &[]);
        writer.put_copy("counts", &[3_u64, u64::MAX]);
        writer.put("longest!", &self.wide);
        writer
    }

    fn encoded(&self) -> Vec<u8> {
        self.writer().to_bytes().unwrap()
    }
}

/// Takes everything that [`Content`] has.
fn read(reader: &Reader<'_>) -> Result<Content> {
    assert_eq!(reader.take::<i64>("empty", None)?.len(), 0);
    assert_eq!(reader.array::<u64, 2>("counts")?, [3, u64::MAX]);
    let (bytes, wide) = (reader.take("bytes", Some(64))?, reader.take("longest!", None)?);
    Ok(Content { bytes: bytes.to_vec(), wide: wide.to_vec() })
}

fn read_bytes(bytes: &[u8]) -> Result<Content> {
    read(&Reader::from_bytes(bytes)?)
}

fn refusal(bytes: &[u8]) -> String {
    match read_bytes(bytes) {
        Err(err @ Error::Format { .. }) => err.to_string(),
        Err(err) => panic!("{err}"),
        Ok(_) => panic!("was read"),
    }
}

/// Gives a changed header or table the checksum that belongs to it.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let count = u32::from_ne_bytes(bytes[24..28].try_into().unwrap()) as usize;
    let front = (ENTRY * (count + 1)).next_multiple_of(64).min(bytes.len());
    bytes[28..32].fill(0);
    let checksum = crc32fast::hash(&bytes[..front]);
    bytes[28..32].copy_from_slice(&checksum.to_ne_bytes());
    bytes
}

#[test]
fn what_is_saved_is_loaded() {
    let (folder, content) = (Folder::new("round"), Content::new());
    let path = folder.0.join("file");
    content.writer().save(&path).unwrap();
    let encoded = content.encoded();
    assert_eq!(fs::read(&path).unwrap(), encoded);
    for reader in [
        Reader::from_bytes(&encoded).unwrap(),
        Reader::open(&path, false).unwrap(),
        Reader::open(&path, true).unwrap(),
    ] {
        let found = read(&reader).unwrap();
        assert_eq!(found.bytes, content.bytes);
        assert_eq!(found.wide, content.wide);
        assert!(reader.has("bytes") && !reader.has("byte"));
    }
    assert_eq!(folder.files(), [path]);
}

#[test]
fn mapped_sections_are_the_files_pages_as_kernels_need_them() {
    let (folder, content) = (Folder::new("map"), Content::new());
    let path = folder.0.join("file");
    content.writer().save(&path).unwrap();
    let reader = Reader::open(&path, true).unwrap();
    let (bytes, wide) = (reader.take::<u8>("bytes", None), reader.take::<f64>("longest!", None));
    let (bytes, wide) = (bytes.unwrap(), wide.unwrap());
    drop(reader);
    // Another file of the name is another file.
    Writer::new().save(&path).unwrap();
    assert!(bytes.is_mapped() && wide.is_mapped());
    assert_eq!((&bytes[..], &wide[..]), (&content.bytes[..], &content.wide[..]));
    for (begin, len) in [(bytes.ptr(), bytes.len()), (wide.ptr().cast(), wide.bytes().len())] {
        assert!(begin.addr().is_multiple_of(64));
        // SAFETY: so many bytes behind the values can be read.
        let behind = unsafe { begin.add(len).cast::<[u8; SLACK]>().read() };
        assert_eq!(behind, [0; SLACK]);
    }
    assert!(!Reader::open(&path, false).unwrap().has("bytes"));
}

#[test]
fn no_bit_may_change_unnoticed() {
    let sound = Content::new().encoded();
    for bit in 0..8 * sound.len() {
        let mut damaged = sound.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        refusal(&damaged);
    }
}

#[test]
fn no_length_but_its_own_is_accepted() {
    let sound = Content::new().encoded();
    for len in 0..sound.len() {
        refusal(&sound[..len]);
    }
    refusal(&[&sound[..], &[0]].concat());
    refusal(&[&sound[..], &[0; 64]].concat());
}

#[test]
fn strangers_are_told_what_they_are() {
    let sound = Content::new().encoded();
    let with = |at: usize, value: &[u8]| {
        let mut bytes = sound.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        refusal(&sealed(bytes))
    };
    assert!(with(0, b"\x93NUMPY").contains("another kind"));
    assert!(with(8, &[1, 2, 3, 4]).contains("byte order") == cfg!(target_endian = "little"));
    assert!(with(12, &2_u32.to_ne_bytes()).contains("version 2"));
    assert!(with(16, &7_u64.to_ne_bytes()).contains(&format!("{} of 7 bytes", sound.len())));
    assert!(with(24, &u32::MAX.to_ne_bytes()).contains("exceeds"));
    assert!(refusal(b"").contains("0 bytes"));
    assert!(refusal(&[b'q'; 500]).contains("another kind"));
}

#[test]
fn a_table_that_is_sealed_but_impossible_is_refused() {
    let sound = Content::new().encoded();
    let sections = Table::decode(&sound[..192], sound.len()).unwrap().sections;
    assert_eq!(sections[1].tag, tag("empty"));
    let (begin, bytes) = (2 * ENTRY + 8, 2 * ENTRY + 16);
    let elsewhere = [sections[0].begin, sections[1].begin + 64, sound.len(), usize::MAX - 63];
    let cases = elsewhere.map(|value| (begin, value)).into_iter();
    for (at, value) in cases.chain([64, 4096, usize::MAX].map(|value| (bytes, value))) {
        let mut table = sound.clone();
        table[at..at + 8].copy_from_slice(&(value as u64).to_ne_bytes());
        assert!(refusal(&sealed(table)).contains("table of contents"), "{value} at {at}");
    }
    // A length that moves no other section is for whoever takes the section to refuse.
    let mut table = sound.clone();
    table[2 * ENTRY - 16..][..8].copy_from_slice(&63_u64.to_ne_bytes());
    assert!(refusal(&sealed(table)).contains("`bytes` of 63 bytes"));
}

#[test]
fn sections_are_taken_as_what_they_are() {
    let encoded = Content::new().encoded();
    let reader = Reader::from_bytes(&encoded).unwrap();
    let said = |result: Result<()>| result.unwrap_err().to_string();
    assert!(said(reader.take::<u8>("other", None).map(drop)).contains("no section `other`"));
    assert!(said(reader.take::<u8>("bytes", Some(63)).map(drop)).contains("64 bytes"));
    assert!(said(reader.array::<u64, 3>("counts").map(drop)).contains("16 bytes"));
    let mut odd = Writer::new();
    odd.put_copy("odd", &[1_u8; 7]);
    let encoded = odd.to_bytes().unwrap();
    let reader = Reader::from_bytes(&encoded).unwrap();
    assert!(said(reader.take::<u32>("odd", None).map(drop)).contains("7 bytes"));
}

#[test]
fn what_fails_leaves_what_was_there() {
    let folder = Folder::new("fails");
    let path = folder.0.join("file");
    let fail = |path: &Path| {
        let full = |mut file: &fs::File| {
            file.write_all(b"half of it")?;
            Err(io::ErrorKind::StorageFull.into())
        };
        atomic::replace(path, full).unwrap_err()
    };
    let Error::Io { path: named, code: None, .. } = fail(&path) else { panic!() };
    assert_eq!(Path::new(&named), path);
    assert!(folder.files().is_empty());
    fs::write(&path, "before").unwrap();
    fail(&path);
    assert_eq!(fs::read(&path).unwrap(), b"before");
    assert_eq!(folder.files(), [path]);
}

#[test]
fn what_cannot_be_a_file_is_refused_with_the_systems_words() {
    let folder = Folder::new("refused");
    let writer = Writer::new();
    for path in [&folder.0, Path::new(""), Path::new("/"), &folder.0.join("absent/file")] {
        assert!(matches!(writer.save(path), Err(Error::Io { .. })), "{}", path.display());
        assert!(Reader::open(path, true).is_err(), "{}", path.display());
    }
    assert!(folder.files().is_empty());
    let absent = folder.0.join("absent");
    let Err(Error::Io { path, code: Some(_), message }) = Reader::open(&absent, true).map(drop)
    else {
        panic!()
    };
    assert_eq!(Path::new(&path), absent);
    assert!(!message.contains("os error"), "{message}");
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_permissions_kept() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let folder = Folder::new("links");
    let (file, link) = (folder.0.join("file"), folder.0.join("link"));
    fs::write(&file, "before").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("file", &link).unwrap();
    Writer::new().save(&link).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(Reader::open(&file, true).is_ok());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
}

#[cfg(unix)]
#[test]
fn a_device_is_left_alone() {
    let refused = atomic::replace(Path::new("/dev/null"), |_| panic!("was opened"));
    assert!(refused.unwrap_err().to_string().contains("not a regular file"));
}
