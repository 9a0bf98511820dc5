//! SQLite's errors as errors of the store.

use std::error::Error;

use rusqlite::ErrorCode;
use rusqlite::ffi;
use rusqlite::types::Type;

use crate::error::{Fault, StateError};

/// A row that only a newer version understands.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Newer(&'static str);

/// The error of a row that only a newer version understands.
pub(super) fn newer(what: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, Box::new(Newer(what)))
}

/// The error of an operation on an open store.
pub(super) fn storage(error: rusqlite::Error) -> StateError {
    let Some(failure) = error.sqlite_error() else {
        if let rusqlite::Error::FromSqlConversionFailure(_, _, source) = &error
            && let Some(Newer(what)) = source.downcast_ref()
        {
            return StateError::UpgradeNeeded((*what).to_owned());
        }
        // Conversion errors may quote values, so only their kind is kept.
        return StateError::Corrupted(match error {
            rusqlite::Error::InvalidColumnType(column, name, _) => {
                let column = if name.is_empty() { format!("number {}", column + 1) } else { name };
                format!("column {column} of what was read does not have the type that the schema requires")
            }
            _ => "a row does not have the columns that the schema requires".into(),
        });
    };
    match (failure.code, failure.extended_code) {
        (ErrorCode::DiskFull, _) => StateError::StorageFull("the disk or a quota is full".into()),
        // The second is a write that would enlarge the index of the write-ahead log.
        (_, ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_SHMSIZE) => StateError::StorageFull(
            "a write was refused: the file reached a size limit, a quota is full, or the disk is failing"
                .into(),
        ),
        // SQLite reports a locking protocol failure if another process takes too long to recover the
        // write-ahead log.
        (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed, _) => {
            StateError::Busy(
                "another process, or another opening of the file, holds the store; try again, or raise the busy timeout"
                    .into(),
            )
        }
        // Closing interrupts what is read; nothing else does.
        (ErrorCode::OperationInterrupted, _) => StateError::Closed,
        (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, code) => {
            StateError::Corrupted(format!("SQLite cannot read the database file: {}", ffi::code_to_str(code)))
        }
        (ErrorCode::TooBig, _) => {
            StateError::Corrupted("a row is longer than the longest that a store writes".into())
        }
        (_, code) => {
            let what = format!("SQLite: {} ({code})", ffi::code_to_str(code));
            StateError::Storage(Fault::caused(what, *failure))
        }
    }
}

/// Whether a failed COMMIT certainly recorded nothing: its frames could not be written, so neither was the
/// last frame, which marks the commit.
pub(super) fn not_recorded(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|failure| {
        matches!(failure.code, ErrorCode::DiskFull | ErrorCode::DatabaseBusy)
            || failure.extended_code == ffi::SQLITE_IOERR_WRITE
    })
}

/// Whether SQLite could not make or map the index of the write-ahead log.
pub(super) fn no_index(failure: ffi::Error) -> bool {
    matches!(failure.extended_code, ffi::SQLITE_IOERR_SHMMAP | ffi::SQLITE_IOERR_SHMOPEN)
}

/// Whether a store cannot be opened because no process can map the index of its log.
pub(super) fn is_unmapped(error: &StateError) -> bool {
    error.source().and_then(|cause| cause.downcast_ref()).copied().is_some_and(no_index)
}
