//! Files that appear complete or not at all.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "sqlite")]
use crate::backend::sqlite::SideFile;
use crate::error::{Result, StateError};

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
        let missing = |folder: &&Path| fs::symlink_metadata(folder).is_err();
        let made = Folders(place.ancestors().skip(1).take_while(missing).map(Path::to_owned).collect());
        if let Some(folder) = made.0.first() {
            let made = fs::create_dir_all(folder);
            made.map_err(|error| StateError::at_path(folder, "cannot be made", error))?;
        }
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
        File::open(&self.temporary).and_then(|file| file.sync_all()).map_err(|error| self.fault(error))?;
        match fs::hard_link(&self.temporary, &self.place) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let why = "was made by another process meanwhile; choose another path";
                return Err(StateError::cannot_open(&self.place, why));
            }
            // A file system without hard links.
            Err(_) if fs::symlink_metadata(&self.place).is_err() => {
                fs::rename(&self.temporary, &self.place).map_err(|error| self.fault(error))?;
            }
            Err(error) => return Err(self.fault(error)),
        }
        sync_folder(&self.place).map_err(|error| self.fault(error))
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

#[cfg(unix)]
fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
