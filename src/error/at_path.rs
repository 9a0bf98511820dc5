//! The system's errors about a path.

use std::io;
use std::path::Path;

use super::{Fault, StateError};

/// The numbers, on every Unix, of what passes when files are closed: the system, or this process, has as
/// many open as it may.
const NO_DESCRIPTORS: [i32; 2] = [23, 24];
/// The number of links that lead to themselves, whose kind has no stable name.
const LOOP: i32 = if cfg!(target_os = "linux") { 40 } else { 62 };

/// Whether there was no descriptor to open a file with.
pub(crate) fn has_no_descriptor(error: &io::Error) -> bool {
    cfg!(unix) && error.raw_os_error().is_some_and(|number| NO_DESCRIPTORS.contains(&number))
}

/// Whether it stays so until somebody changes what is at the path.
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
    /// That a path is not what it should be; `why` goes on after its name, as in `is a directory`.
    pub(crate) fn cannot_open(path: &Path, why: impl Into<Fault>) -> Self {
        Self::CannotOpen { path: path.to_owned(), why: why.into() }
    }

    /// That no file can be opened by now.
    pub(crate) fn no_descriptor(path: &Path, error: &io::Error) -> Self {
        Self::ConnectionError(format!(
            "{} cannot be opened now, as too many files are open: {error}; close some, or raise the limit (ulimit -n)",
            path.display()
        ))
    }

    /// What became of something that was done to a path, such as `cannot be created`.
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
