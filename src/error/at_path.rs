//! The system's errors about a path.

use std::io;
use std::path::Path;

use super::{Fault, StateError};

/// ENFILE and EMFILE, the same numbers on every Unix: the system, or this process, has too many open files.
const NO_DESCRIPTORS: [i32; 2] = [23, 24];
/// ELOOP: symbolic links that lead in a circle. `std` has no stable name for this kind.
const LOOP: i32 = if cfg!(target_os = "linux") { 40 } else { 62 };

/// Whether a file could not be opened because too many are open.
pub(crate) fn has_no_descriptor(error: &io::Error) -> bool {
    cfg!(unix) && error.raw_os_error().is_some_and(|number| NO_DESCRIPTORS.contains(&number))
}

/// Whether the error stays until somebody changes the file, the folder or its permissions.
fn is_permanent(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    let permanent = [
        Kind::NotFound,
        Kind::PermissionDenied,
        Kind::AlreadyExists,
        Kind::NotADirectory,
        Kind::IsADirectory,
        Kind::ReadOnlyFilesystem,
        Kind::InvalidFilename,
        Kind::InvalidInput,
        Kind::Unsupported,
    ];
    permanent.contains(&error.kind()) || cfg!(unix) && error.raw_os_error() == Some(LOOP)
}

impl StateError {
    /// Refuses a path that cannot name a file, as it ends with a slash.
    pub(crate) fn check_names_file(path: &Path, what: &str) -> Result<(), Self> {
        if !path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Ok(());
        }
        Err(Self::cannot_open(path, format!("ends with '/', but {what} is a file")))
    }

    /// The error of a path that cannot be opened; `why` continues "it …", as in `is a directory`.
    pub(crate) fn cannot_open(path: &Path, why: impl Into<Fault>) -> Self {
        Self::CannotOpen { path: path.to_owned(), why: why.into() }
    }

    /// The error of a file that cannot be opened now, because too many are open.
    pub(crate) fn no_descriptor(path: &Path, error: &io::Error) -> Self {
        Self::ConnectionError(format!(
            "{} cannot be opened now, as too many files are open: {error}; close some, or raise the limit (ulimit -n)",
            path.display()
        ))
    }

    /// The error of an operation on a path; `done` says which failed, as in `cannot be created`.
    pub(crate) fn at_path(path: &Path, done: &str, error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let shown = path.display();
        match error.kind() {
            _ if has_no_descriptor(&error) => Self::no_descriptor(path, &error),
            Kind::WouldBlock => Self::Busy(format!("{shown} {done}: {error}")),
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => {
                Self::StorageFull(format!("{shown} {done}: {error}"))
            }
            Kind::Interrupted
            | Kind::TimedOut
            | Kind::OutOfMemory
            | Kind::ResourceBusy
            | Kind::StaleNetworkFileHandle => Self::ConnectionError(format!("{shown} {done}: {error}")),
            _ if is_permanent(&error) => {
                Self::cannot_open(path, Fault::caused(format!("{done}: {error}"), error))
            }
            _ => Self::Storage(Fault::caused(format!("{shown} {done}: {error}"), error)),
        }
    }
}
