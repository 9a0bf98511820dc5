//! Files that appear complete or not at all.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::backend::folder;
#[cfg(feature = "sqlite")]
use crate::backend::sqlite::SideFile;
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;

/// Why nothing is made at a path.
pub(super) const EXISTS: &str = "exists, and is not written over; choose another path";

/// A file that is written under a temporary name and gets its final name when it is complete. The temporary
/// file, and the files that SQLite makes beside it, are removed in any case.
#[derive(Debug)]
pub(super) struct AtomicFile {
    temporary: PathBuf,
    place: PathBuf,
    made: Folders,
}

/// The folders that were made for a file, the innermost first. Those that are empty at the end are removed.
#[derive(Debug, Default)]
struct Folders(Vec<PathBuf>);

impl AtomicFile {
    /// Makes an empty temporary file, with permissions for its owner alone, for a path that must not exist yet.
    /// Makes the folder if it is missing.
    pub(super) fn in_folder(place: &Path) -> Result<Self> {
        let made = Folders(place.parent().map_or_else(|| Ok(Vec::new()), folder::make)?);
        let mut staged = Self::beside(place)?;
        staged.made = made;
        Ok(staged)
    }

    /// Makes an empty temporary file, with permissions for its owner alone, for a path that must not exist yet.
    pub(super) fn beside(place: &Path) -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let Some(name) = place.file_name() else {
            return Err(StateError::cannot_open(place, "does not name a file"));
        };
        if fs::symlink_metadata(place).is_ok() {
            return Err(StateError::cannot_open(place, EXISTS));
        }
        loop {
            // A file that an earlier process with the same id left is not used.
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let mut temporary = name.to_owned();
            temporary.push(format!(".{}-{count}.partial", std::process::id()));
            let temporary = place.with_file_name(temporary);
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let staged = Self { temporary, place: place.to_owned(), made: Folders::default() };
            match options.open(&staged.temporary) {
                Ok(_) => return Ok(staged),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => std::mem::forget(staged),
                Err(error) => return Err(staged.fault(error)),
            }
        }
    }

    /// The temporary path.
    pub(super) fn path(&self) -> &Path {
        &self.temporary
    }

    /// The file, for writing.
    pub(super) fn open(&self) -> Result<File> {
        OpenOptions::new().write(true).open(&self.temporary).map_err(|error| self.fault(error))
    }

    /// Gives the file its final name, and syncs it and the folder. A file that another process made there meanwhile
    /// is not replaced.
    pub(super) fn publish(self) -> Result<()> {
        if !failpoint("file_not_synced") {
            File::open(&self.temporary)
                .and_then(|file| file.sync_all())
                .map_err(|error| self.fault(error))?;
        }
        match folder::publish(&self.temporary, &self.place) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let why = "was made by another process meanwhile; choose another path";
                Err(StateError::cannot_open(&self.place, why))
            }
            published => published.map_err(|error| self.fault(error)),
        }
    }

    fn fault(&self, error: io::Error) -> StateError {
        StateError::at_path(&self.place, "cannot be written", error)
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        for folder in &self.0 {
            let _ = fs::remove_dir(folder);
        }
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temporary);
        #[cfg(feature = "sqlite")]
        for side in SideFile::ALL {
            let _ = fs::remove_file(side.beside(&self.temporary));
        }
    }
}
