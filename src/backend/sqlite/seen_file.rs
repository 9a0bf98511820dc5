//! The files of an open store: whether they are still those that were opened.
//!
//! SQLite checks only whether the database was moved, and only when it writes. A read goes on with the files
//! that it has open, whoever has put others in their place.

use std::io;
use std::path::{Path, PathBuf};

use super::Sqlite;
use super::config::{Contents, Location, Opening, SeenFile, SideFile, Was};
use super::path;
use crate::error::{Fault, Result, StateError};
use crate::failpoint::failpoint;

impl SeenFile {
    /// The file that is there now; `None` if there is none, or this system has no numbers for files.
    fn this(path: &Path) -> io::Result<Option<Self>> {
        let found = path::identity(path)?;
        Ok(found.map(|found| Self { path: path.to_owned(), was: Was::ThisFile(found) }))
    }

    /// The file, or that there is none, as what must not change.
    fn unchanged(path: PathBuf) -> io::Result<Self> {
        Ok(Self { was: Was::Unchanged(contents(&path)?), path })
    }

    fn is_there(&self) -> io::Result<bool> {
        Ok(match &self.was {
            Was::ThisFile(known) => path::identity(&self.path)? == Some(*known),
            Was::Unchanged(known) => contents(&self.path)? == *known,
        })
    }

    /// Whether another file has its path, or may have it.
    fn may_be_replaced(&self) -> bool {
        let Was::ThisFile(known) = self.was else { return false };
        path::identity(&self.path).map_or(true, |now| now.is_some_and(|now| now != known))
    }
}

#[cfg(unix)]
fn contents(path: &Path) -> io::Result<Option<Contents>> {
    use std::os::unix::fs::MetadataExt;
    let found = path::found(path)?;
    Ok(found
        .map(|found| Contents((found.dev(), found.ino()), found.len(), (found.mtime(), found.mtime_nsec()))))
}

#[cfg(not(unix))]
fn contents(path: &Path) -> io::Result<Option<Contents>> {
    let Some(found) = path::found(path)? else { return Ok(None) };
    let since = found.modified()?.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (seconds, nanos) = (i64::try_from(since.as_secs()).unwrap_or(0), i64::from(since.subsec_nanos()));
    Ok(Some(Contents((0, 0), found.len(), (seconds, nanos))))
}

impl Opening {
    /// Notes the files of the store, so that it is noticed if others take their places.
    pub(super) fn note_beside(&mut self) -> Result<()> {
        if let Location::File(file) = &self.location
            && self.is_real()
            && !self.immutable
        {
            let beside = [SideFile::Log, SideFile::Index].map(|side| side.beside(file));
            let files = std::iter::once(file).chain(&beside);
            let seen = files.filter_map(|file| {
                let seen = SeenFile::this(file).transpose()?;
                Some(seen.map_err(|error| not_seen(file, error)))
            });
            self.beside = seen.collect::<Result<_>>()?;
        }
        Ok(())
    }

    /// Notes the contents of the files of a store that is to be read as one that does not change.
    ///
    /// IMPORTANT: before anything is read from it.
    pub(super) fn note_contents(&mut self) -> Result<()> {
        if let Location::File(file) = &self.location {
            let beside = [SideFile::Log, SideFile::Journal].map(|side| side.beside(file));
            let seen = std::iter::once(file.clone()).chain(beside).map(SeenFile::unchanged);
            self.beside = seen.collect::<io::Result<_>>().map_err(|error| not_seen(file, error))?;
        }
        Ok(())
    }

    /// Refuses to go on if a file of the store is [lost](Self::lost_file), or none can be looked at.
    pub(crate) fn check_beside(&self) -> Result<()> {
        self.lost_file()?.map_or(Ok(()), Err)
    }

    /// The error of a store of which a file was moved, replaced or removed, or was changed although it is read
    /// as one that does not change. An error if that cannot be told now.
    ///
    /// SQLite checks only the database itself. Commits into a removed write-ahead log would be gone with the
    /// process, and another process that opens the store would make a new log.
    pub(crate) fn lost_file(&self) -> Result<Option<StateError>> {
        let mut lost = None;
        for seen in &self.beside {
            if !seen.is_there().map_err(|error| not_seen(&seen.path, error))? {
                lost = Some(seen);
                break;
            }
        }
        Ok(lost.map(|seen| match seen {
            SeenFile { path, was: Was::ThisFile(_) } => StateError::Storage(
                format!(
                    "{} was moved, replaced or removed while the store was open, so the store takes no commits and \
                     answers no reads: close it in all processes, put the files where they belong, and open it again",
                    path.display()
                )
                .into(),
            ),
            SeenFile { .. } => StateError::Storage(
                format!(
                    "{} is written by its owner, but was opened as a file that nobody changes, so the store answers \
                     no reads: close it and open it again",
                    self.shown().display()
                )
                .into(),
            ),
        }))
    }
}

/// The error of a file that cannot be looked at now.
fn not_seen(path: &Path, error: io::Error) -> StateError {
    let what = format!(
        "{} cannot be looked at now, so it is not known whether it is still the file that the store has open: {error}; \
         nothing was recorded",
        path.display()
    );
    StateError::Storage(Fault::caused(what, error))
}

impl Opening {
    /// Refuses to write while the file has another name, which it got since the store was opened.
    pub(super) fn check_only_name(&self) -> Result<()> {
        let Location::File(file) = &self.location else { return Ok(()) };
        let second = path::second_name(file).map_err(|error| not_seen(file, error))?;
        match second.filter(|_| self.is_real() && !failpoint("second_name_not_seen")) {
            None => Ok(()),
            Some(why) => Err(StateError::Storage(format!("{} {why}", file.display()).into())),
        }
    }
}

impl Sqlite {
    /// Refuses what was read from a file that should not change, if it has changed.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        if self.opening.immutable { self.opening.check_beside() } else { Ok(()) }
    }

    /// Refuses to write into the database if another file has taken the place of one of the store's.
    ///
    /// IMPORTANT: another process may have opened the files that are there now. What the log of this store holds
    /// must not be written over its pages, and its log must not be deleted.
    pub(super) fn check_own(&self) -> Result<()> {
        if self.opening.beside.iter().any(SeenFile::may_be_replaced) {
            self.opening.check_beside()
        } else {
            Ok(())
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::super::{Judge, WAL_CAP};
    use super::*;
    use crate::log::StoreId;

    fn opening(file: PathBuf) -> Opening {
        Opening {
            location: Location::File(file),
            create: true,
            read_only: false,
            durability: None,
            busy_timeout: Duration::from_secs(5),
            accept_loss: false,
            loss_meta: crate::log::Meta::new(),
            expected: None,
            new_store: StoreId::from_bytes([3; 16]),
            immutable: false,
            wal_cap: WAL_CAP,
            beside: Vec::new(),
            judge: Judge::new(|_| Ok(None)),
            vfs: None,
        }
    }

    #[test]
    fn what_is_read_while_somebody_changes_a_file_that_should_not_change_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.db");
        drop(opening(file.clone()).first().unwrap());
        // Times of files may be as coarse as some milliseconds.
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        fs::File::options().write(true).open(&file).unwrap().set_modified(long_ago).unwrap();
        let changes: [fn(&Path); 5] = [
            |file| drop(fs::write(SideFile::Log.beside(file), b"")),
            |file| drop(fs::write(SideFile::Journal.beside(file), b"")),
            |file| {
                let bytes = fs::read(file).unwrap();
                fs::write(file, bytes).unwrap();
            },
            |file| {
                let copy = file.with_extension("copy");
                fs::copy(file, &copy).unwrap();
                fs::rename(copy, file).unwrap();
            },
            |file| fs::remove_file(file).unwrap(),
        ];
        for change in changes {
            let mut still = Opening { read_only: true, immutable: true, ..opening(file.clone()) };
            still.note_contents().unwrap();
            let (conn, store, _) = still.connect().unwrap();
            let sqlite = Sqlite::new(conn, store, still);
            sqlite.read_head().unwrap();
            assert_eq!(sqlite.check_unchanged(), Ok(()), "reading changes nothing");
            change(&file);
            let refused = sqlite.check_unchanged().unwrap_err();
            assert!(refused.to_string().contains("is written by its owner"), "{refused}");
            for side in [SideFile::Log, SideFile::Journal] {
                let _ = fs::remove_file(side.beside(&file));
            }
        }
    }
}
