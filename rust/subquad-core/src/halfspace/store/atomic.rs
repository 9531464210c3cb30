//! Replacing a file as a whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Result};

/// Writes a file beside `path`, and puts it there once it is complete and on the disk. Until then,
/// and wherever anything fails, `path` is what it was. A link is followed, and a file that is
/// replaced hands its permissions on.
pub(super) fn replace(path: &Path, write: impl FnOnce(&File) -> io::Result<()>) -> Result<()> {
    try_replace(path, write).map_err(|err| io_error(path, &err))
}

fn try_replace(path: &Path, write: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let before = fs::metadata(&target).ok();
    if before.as_ref().is_some_and(|before| !before.is_file()) {
        // Renaming would put a file where a device is.
        return Err(io::Error::other("not a regular file"));
    }
    let (temporary, file) = Temporary::beside(&target)?;
    if let Some(before) = before {
        file.set_permissions(before.permissions())?;
    }
    write(&file)?;
    file.sync_all()?;
    drop(file);
    temporary.rename(&target)
}

/// What the system said about `path`.
pub(super) fn io_error(path: &Path, err: &io::Error) -> Error {
    let (code, said) = (err.raw_os_error(), err.to_string());
    let suffix = code.map_or_else(String::new, |code| format!(" (os error {code})"));
    let message = said.strip_suffix(&suffix).unwrap_or(&said).to_owned();
    Error::Io { path: path.display().to_string(), code, message }
}

/// A file that is removed unless it gets its name.
struct Temporary {
    path: PathBuf,
    folder: PathBuf,
}

impl Temporary {
    /// A new file in the folder of `target`: names change at once within a file system only.
    fn beside(target: &Path) -> io::Result<(Self, File)> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let folder = match target.parent() {
            Some(folder) if folder.as_os_str().is_empty() => PathBuf::from("."),
            Some(folder) if target.file_name().is_some() => folder.to_owned(),
            _ => return Err(io::ErrorKind::InvalidFilename.into()),
        };
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!(".subquad-{}-{count}.tmp", process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                // Left by a process of this number that did not come to its end.
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
                opened => return Ok((Self { path, folder }, opened?)),
            }
        }
    }

    fn rename(self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        // The file is complete whichever name survives a crash; a system that cannot promise which
        // one is no reason to fail.
        #[cfg(unix)]
        let _ = File::open(&self.folder).and_then(|folder| folder.sync_all());
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After renaming there is no such file.
        let _ = fs::remove_file(&self.path);
    }
}
