//! Why a store's file cannot be opened. SQLite only says that it cannot.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ffi::{Error as Failure, SQLITE_READONLY_DIRECTORY};
use rusqlite::{Connection, ErrorCode};

use super::config::{Location, Opening, SideFile};
use super::{fault, ffi};
use crate::error::{Fault, StateError, has_no_descriptor};

/// What somebody must permit before another attempt can succeed.
const FORBIDDEN: [io::ErrorKind; 2] = [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem];
/// ENODEV, the same number on every Unix: a file system without shared mappings. `std` has no kind for it.
const NO_DEVICE: i32 = 19;

impl Opening {
    /// The error of opening a connection, or of the first statements on it.
    pub(super) fn fault(&self, conn: Option<&Connection>, error: rusqlite::Error) -> StateError {
        let failure = error.sqlite_error().copied();
        match (failure, fault::storage(error)) {
            (Some(Failure { code: ErrorCode::NotADatabase, .. }), _) => self.refuse("is not a database"),
            (Some(failure), StateError::Storage(_))
                if matches!(
                    failure.code,
                    ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly
                ) || fault::no_index(failure) =>
            {
                // The number 0 says that SQLite kept none.
                let system = conn.map(ffi::system_error).filter(|error| error.raw_os_error() != Some(0));
                self.diagnose(failure, system)
            }
            (_, StateError::StorageFull(what)) => {
                StateError::StorageFull(format!("{}: {what}", self.shown().display()))
            }
            (_, StateError::Storage(fault)) => {
                StateError::Storage(fault.reworded(|what| format!("{}: {what}", self.shown().display())))
            }
            (_, error) => error,
        }
    }

    /// Finds out why SQLite could not open a file.
    ///
    /// IMPORTANT: this opens no file that SQLite may have open, because closing it would drop the locks that
    /// SQLite holds on it in this process.
    fn diagnose(&self, failure: Failure, system: Option<io::Error>) -> StateError {
        if let Location::File(file) = &self.location
            && self.is_real()
        {
            // If SQLite did not keep the system's error, opening another file shows whether descriptors are
            // used up.
            let failed = system.or_else(|| File::open("/dev/null").err());
            let forbidden = match failed {
                Some(error) if fault::no_index(failure) => return unmapped(file, failure, error),
                Some(error) if has_no_descriptor(&error) || error.kind() == io::ErrorKind::StorageFull => {
                    return StateError::at_path(file, "cannot be opened", error);
                }
                Some(error) if FORBIDDEN.contains(&error.kind()) => {
                    Some(format!("cannot be opened: {error}"))
                }
                _ if failure.extended_code == SQLITE_READONLY_DIRECTORY => {
                    Some("needs files beside it, but none may be made in its folder".into())
                }
                _ => None,
            };
            // What SQLite was refused although `access` finds nothing in the way: `access` asks for the user who
            // started the process, and knows no rules beside the permissions, such as those of SELinux.
            let forbidden = forbidden.map(|why| (file.clone(), why));
            if let Some((path, why)) = self.obstacle(file).or(forbidden) {
                return StateError::cannot_open(&path, Fault::caused(why, failure));
            }
        }
        let (path, code) = (self.shown().display(), failure.extended_code);
        let what = rusqlite::ffi::code_to_str(code);
        StateError::ConnectionError(format!("{path} cannot be opened now: SQLite: {what} ({code})"))
    }

    /// The path that is in the way, and what is wrong with it: the file, a file beside it, or their folder.
    fn obstacle(&self, file: &Path) -> Option<(PathBuf, String)> {
        let is_there = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.len() > 0);
        let [log, index, journal] =
            [SideFile::Log, SideFile::Index, SideFile::Journal].map(|side| side.beside(file));
        let sides = [&log, &index, &journal].into_iter().filter(|side| is_there(side));
        for path in std::iter::once(file).chain(sides.map(PathBuf::as_path)) {
            if let Err(error) = ffi::access(path, !self.read_only) {
                return Some((path.to_owned(), self.forbidden(path, &error)));
            }
        }
        if self.read_only && super::path::is_hot(&journal) {
            let why = format!(
                "was left in the middle of a change, which {} undoes: open it once with a program that may write",
                journal.display()
            );
            return Some((file.to_owned(), why));
        }
        let folder = file.parent()?;
        let error = ffi::access(folder, true).err()?;
        let why = if is_there(&log) && !is_there(&index) {
            format!(
                "has a write-ahead log that cannot be recovered here, as {} cannot be made: {error}; open it with a \
                 program that may write, or copy {} and {} to a folder that may be written",
                index.display(),
                file.display(),
                log.display()
            )
        } else {
            format!("needs files beside it, but {} cannot be written: {error}", folder.display())
        };
        Some((file.to_owned(), why))
    }

    fn forbidden(&self, path: &Path, error: &io::Error) -> String {
        match error.kind() {
            io::ErrorKind::NotFound => "no longer exists".into(),
            _ if self.read_only || ffi::access(path, false).is_err() => format!("cannot be read: {error}"),
            _ => format!("cannot be written: {error}; open the store read-only, or change the permissions"),
        }
    }
}

/// The error of an index of the write-ahead log that could not be made or mapped.
fn unmapped(file: &Path, failure: Failure, error: io::Error) -> StateError {
    let offers_none = cfg!(unix) && error.raw_os_error() == Some(NO_DEVICE)
        || matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported);
    // What is forbidden to this process may be permitted to another one.
    if !offers_none {
        return StateError::at_path(file, "cannot be opened", error);
    }
    let why = format!("needs memory that processes share, but its file system offers none: {error}");
    StateError::cannot_open(file, Fault::caused(why, failure))
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi::{SQLITE_IOERR_SHMMAP, SQLITE_IOERR_SHMOPEN};

    use super::*;

    #[test]
    fn an_index_that_can_never_be_mapped_is_told_apart_from_one_that_cannot_be_now() {
        let told = |number| {
            [SQLITE_IOERR_SHMMAP, SQLITE_IOERR_SHMOPEN].map(|code| {
                let error = io::Error::from_raw_os_error(number);
                unmapped(Path::new("/state.db"), Failure::new(code), error)
            })
        };
        for (number, nobody_can) in
            [(libc::ENODEV, true), (libc::EINVAL, true), (libc::EOPNOTSUPP, true), (libc::EPERM, false)]
        {
            for error in told(number) {
                assert!(matches!(error, StateError::CannotOpen { .. }), "{error}");
                assert_eq!(fault::is_unmapped(&error), nobody_can, "{error}");
            }
        }
        assert!(told(libc::ENOMEM).iter().all(|error| matches!(error, StateError::ConnectionError(_))));
        assert!(told(libc::ENOSPC).iter().all(|error| matches!(error, StateError::StorageFull(_))));
        assert!(told(libc::EIO).iter().all(|error| matches!(error, StateError::Storage(_))));
    }
}
