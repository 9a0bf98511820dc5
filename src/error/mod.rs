//! The errors of the store, sorted by what a caller does next.

mod at_path;
mod fault;
mod foreign;
mod rejection;

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use crate::limits::Exceeded;
use crate::seq::Seq;

#[cfg(feature = "sqlite")]
pub(crate) use at_path::has_no_descriptor;
pub use fault::Fault;
pub(crate) use foreign::Panicked;
pub use rejection::{FailedCondition, Rejection};

/// A result whose error is a [`StateError`], unless another type is named.
pub type Result<T, E = StateError> = std::result::Result<T, E>;

/// The error of every operation. Messages name keys and positions, never values.
///
/// [`kind`](StateError::kind) sorts the variants by what to do next;
/// [`is_retryable`](StateError::is_retryable) says whether reading again and retrying may succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateError {
    /// `compare_and_set`, or a check of `transaction`, found another version. Read the key again, then retry.
    VersionConflict {
        /// The version that the caller expected; 0 means absent.
        expected: u64,
        /// The version that the key has; 0 means absent.
        found: u64,
    },
    /// `create_if_not_exists` was called for a key that exists.
    AlreadyExists(String),
    /// The batch was refused, because conditions do not hold. The rejection lists all that failed.
    Rejected(Rejection),

    /// Somebody else opened this consumer, reset it or removed it, so this one can record nothing any more. Open it again
    /// if it should be this one.
    Fenced(String),

    /// What would be dropped is still needed: by a consumer that is not done with it, for a mark, or as the value of a key
    /// that exists. The message names them. Nothing was dropped.
    Held(String),

    /// A limit of the store is exceeded. If [`of_input`](Exceeded::of_input) is true, the input is too large.
    /// If it is false, a condition would have to look at too many keys of the store.
    LimitExceeded(Exceeded),
    /// A batch with the same `commit_id`, but with other keys or kinds of writes, was recorded before.
    CommitIdReused(String),
    /// A key, a prefix or a pattern breaks the rules. The message says which rule.
    InvalidKey(String),
    /// An argument is invalid: a cursor or a head does not parse, an option is out of its range or has no
    /// effect here, or the input of an import is not an export.
    InvalidArgument(String),
    /// A value cannot be encoded or decoded. The message gives the place, not the content.
    SerializationError(String),
    /// A key does not exist. Nothing in this crate returns it: reads return `None`. It is for programs that
    /// treat an absent key as an error.
    KeyNotFound(String),
    /// Code that the program gave to the store panicked: a clock, a source of randomness, a progress
    /// function, a reader, a writer, or the function of a consumer. The call recorded nothing, and the store remains
    /// usable.
    Panicked(&'static str),

    /// The store was opened read-only, so it cannot be written.
    ReadOnly,
    /// This store does not support the operation, whatever the arguments are. The message says why, and what
    /// to use instead.
    Unsupported(String),
    /// A newer version of univrs-state wrote this, and this version must not read it. Nothing was done: use a newer
    /// version. The message says what was found.
    UpgradeNeeded(String),
    /// This process was made by `fork` in a process that has a store open. It must not use that store, nor
    /// open another one: call `fork` before opening a store, or start a new program.
    Forked,

    /// Changes after the requested position were dropped from the log, so reading cannot start there.
    Compacted {
        /// The requested position.
        requested: Seq,
        /// The oldest position that reading can start from.
        oldest: Seq,
    },
    /// A cursor is not a position of this log: it is of another store, beyond the end of the log, or of a
    /// history that this log does not have, for example because an older copy of the file was restored.
    CursorDiverged(String),
    /// A point lies inside a commit. A commit leads from one state to the next in one step, so there was no state
    /// there: name one of the two neighbours.
    InsideCommit {
        /// The position of the point.
        requested: Seq,
        /// The end of the commit before; 0 if there is none.
        before: Seq,
        /// The end of the commit that the position is inside of.
        last: Seq,
    },

    /// A value or a change was erased, redacted, or withheld from an export. Only its hash is known.
    Erased(String),

    /// The batch may or may not have been recorded. Retry it with the same `commit_id`.
    OutcomeUnknown(String),

    /// Stored data contradict their checksum, their hash or the format. Run a verification to see what is
    /// damaged.
    Corrupted(String),

    /// The disk or a quota is full, or a file reached its size limit. Nothing of the batch was recorded.
    StorageFull(String),
    /// The storage failed. Nothing of the batch was recorded. If a file of the store was moved, replaced or
    /// removed, the message names it, and every later call on the store returns the same error: close the store
    /// and open it again.
    Storage(Fault),
    /// The operating system gave no thread or no random bytes. Nothing was recorded.
    Unavailable(Fault),
    /// The clock leapt ahead by over a day while the store was open. Nothing was recorded, because all later changes
    /// would get times after that. Set the clock right and try again, or open the store again if the clock is right.
    ClockLeapt(String),
    /// Another process held the write lock for longer than the busy timeout. Nothing was recorded.
    Busy(String),
    /// The store could not be opened for a cause that may pass. Try again.
    ConnectionError(String),
    /// The path cannot be opened, and trying again does not help: there is no store, or one of an unknown
    /// format, the permissions forbid it, or something already exists where a new file should be made.
    CannotOpen {
        /// The path: of the database, or of a file beside it.
        path: PathBuf,
        /// What is wrong with the path, and what to do.
        why: Fault,
    },
    /// The transaction logic of a program failed. Nothing in this crate returns it; it is for programs.
    TransactionFailed(String),
    /// The store was closed.
    Closed,
}

/// A class of errors: what a caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The current state does not allow the write; nothing was recorded. Read again, and decide anew. A consumer that was
    /// taken over is to be opened again.
    Refused,
    /// The request, or code that came with it, is wrong. The same request never succeeds: correct the program.
    InvalidInput,
    /// This store, or this process, does not support the operation, whatever the arguments are.
    Unsupported,
    /// Reading cannot resume from this position. Read the current state, then follow the log from there.
    HistoryGone,
    /// The batch may or may not have been recorded. Retry it with the same `commit_id`.
    OutcomeUnknown,
    /// Stored data are damaged. Stop writing, run a verification, and restore from a copy.
    Corrupted,
    /// The disk, the clock or the operating system failed, or another process holds a lock. Nothing was recorded: look at
    /// the machine, then try again.
    Storage,
    /// The path is wrong, or must not be used. The message says why; trying again does not help.
    CannotOpen,
    /// This program closed the store.
    Closed,
}

impl StateError {
    /// The class of this error: what to do next.
    ///
    /// ```
    /// use univrs_state::{ErrorKind, StateError};
    /// assert_eq!(StateError::AlreadyExists("/a".into()).kind(), ErrorKind::Refused);
    /// ```
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::VersionConflict { .. }
            | Self::AlreadyExists(_)
            | Self::Rejected(_)
            | Self::Fenced(_)
            | Self::Held(_) => ErrorKind::Refused,
            Self::LimitExceeded(exceeded) if !exceeded.of_input => ErrorKind::Refused,
            Self::LimitExceeded(_)
            | Self::CommitIdReused(_)
            | Self::InvalidKey(_)
            | Self::InvalidArgument(_)
            | Self::SerializationError(_)
            | Self::KeyNotFound(_)
            | Self::InsideCommit { .. }
            | Self::Panicked(_) => ErrorKind::InvalidInput,
            Self::ReadOnly | Self::Unsupported(_) | Self::UpgradeNeeded(_) | Self::Forked => {
                ErrorKind::Unsupported
            }
            Self::Compacted { .. } | Self::CursorDiverged(_) | Self::Erased(_) => ErrorKind::HistoryGone,
            Self::OutcomeUnknown(_) => ErrorKind::OutcomeUnknown,
            Self::Corrupted(_) => ErrorKind::Corrupted,
            Self::StorageFull(_)
            | Self::Storage(_)
            | Self::Unavailable(_)
            | Self::ClockLeapt(_)
            | Self::Busy(_)
            | Self::ConnectionError(_)
            | Self::TransactionFailed(_) => ErrorKind::Storage,
            Self::CannotOpen { .. } => ErrorKind::CannotOpen,
            Self::Closed => ErrorKind::Closed,
        }
    }

    /// Whether the call can succeed if the program reads again and retries, without anybody changing anything.
    ///
    /// [`OutcomeUnknown`](Self::OutcomeUnknown) counts as retryable, because a `commit_id` makes the retry safe.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::VersionConflict { .. }
                | Self::Rejected(_)
                | Self::OutcomeUnknown(_)
                | Self::Unavailable(_)
                | Self::Busy(_)
                | Self::ConnectionError(_)
                | Self::TransactionFailed(_)
        )
    }

    /// A stable name of the variant for machines, such as `version_conflict`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::VersionConflict { .. } => "version_conflict",
            Self::AlreadyExists(_) => "already_exists",
            Self::Rejected(_) => "rejected",
            Self::Held(_) => "held",
            Self::Fenced(_) => "fenced",
            Self::LimitExceeded(_) => "limit_exceeded",
            Self::CommitIdReused(_) => "commit_id_reused",
            Self::InvalidKey(_) => "invalid_key",
            Self::InvalidArgument(_) => "invalid_argument",
            Self::SerializationError(_) => "serialization_error",
            Self::KeyNotFound(_) => "key_not_found",
            Self::Panicked(_) => "panicked",
            Self::ReadOnly => "read_only",
            Self::Unsupported(_) => "unsupported",
            Self::UpgradeNeeded(_) => "upgrade_needed",
            Self::Forked => "forked",
            Self::Compacted { .. } => "compacted",
            Self::CursorDiverged(_) => "cursor_diverged",
            Self::InsideCommit { .. } => "inside_commit",
            Self::Erased(_) => "erased",
            Self::OutcomeUnknown(_) => "outcome_unknown",
            Self::Corrupted(_) => "corrupted",
            Self::StorageFull(_) => "storage_full",
            Self::Storage(_) => "storage_error",
            Self::Unavailable(_) => "unavailable",
            Self::ClockLeapt(_) => "clock_leapt",
            Self::Busy(_) => "busy",
            Self::ConnectionError(_) => "connection",
            Self::CannotOpen { .. } => "cannot_open",
            Self::TransactionFailed(_) => "transaction_failed",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VersionConflict { expected, found } => {
                write!(f, "version conflict: expected {expected}, found {found}")
            }
            Self::AlreadyExists(key) => write!(f, "key already exists: {key}"),
            Self::Rejected(rejection) => write!(f, "batch refused: {rejection}"),
            Self::Fenced(why) => write!(f, "fenced: {why}"),
            Self::Held(what) => write!(f, "held back: {what}"),
            Self::LimitExceeded(exceeded) => exceeded.fmt(f),
            Self::CommitIdReused(id) => {
                write!(f, "commit id {id:?} was used before for other writes; use a new id for a new batch")
            }
            Self::InvalidKey(why) => write!(f, "invalid key: {why}"),
            Self::InvalidArgument(why) => write!(f, "invalid argument: {why}"),
            Self::SerializationError(why) => write!(f, "serialization error: {why}"),
            Self::KeyNotFound(key) => write!(f, "key not found: {key}"),
            Self::Panicked(whose) => write!(f, "{whose} that the program gave to the store panicked"),
            Self::ReadOnly => write!(f, "the store was opened read-only"),
            Self::Unsupported(why) => write!(f, "not supported: {why}"),
            Self::UpgradeNeeded(what) => write!(f, "a newer version of univrs-state is needed: {what}"),
            Self::Forked => write!(
                f,
                "this process is a fork of one that has a store open, and must not use that store or open \
                 another: fork first, or start another program"
            ),
            Self::Compacted { requested, oldest } => {
                write!(f, "history up to {requested} was compacted; the oldest position left is {oldest}")
            }
            Self::CursorDiverged(why) => write!(f, "cursor diverged: {why}"),
            Self::InsideCommit { requested, before, last } => write!(
                f,
                "position {requested} is inside a commit, where no state was: name {before}, the end of the commit \
                 before, or {last}, the end of this one"
            ),
            Self::Erased(what) => write!(f, "erased: {what}"),
            Self::OutcomeUnknown(why) => {
                write!(f, "outcome unknown: {why}; retry with the same commit id, or read the log")
            }
            Self::Corrupted(what) => write!(f, "corrupted: {what}"),
            Self::StorageFull(what) => write!(f, "storage full: {what}"),
            Self::Storage(fault) => write!(f, "storage error: {fault}"),
            Self::Unavailable(fault) => write!(f, "unavailable: {fault}"),
            Self::ClockLeapt(why) => write!(f, "the clock leapt: {why}"),
            Self::Busy(why) => write!(f, "busy: {why}"),
            Self::ConnectionError(why) => write!(f, "connection error: {why}"),
            Self::CannotOpen { path, why } => write!(f, "cannot open {}: it {why}", path.display()),
            Self::TransactionFailed(why) => write!(f, "transaction failed: {why}"),
            Self::Closed => write!(f, "the store is closed"),
        }
    }
}

// Written out, as the cause lies within a fault: a derive takes it from a field of its own alone.
impl Error for StateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Storage(fault) | Self::Unavailable(fault) | Self::CannotOpen { why: fault, .. } => {
                fault.source()
            }
            _ => None,
        }
    }
}

impl From<Rejection> for StateError {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<Exceeded> for StateError {
    fn from(exceeded: Exceeded) -> Self {
        Self::LimitExceeded(exceeded)
    }
}

impl From<serde_json::Error> for StateError {
    /// Keeps the category and the place of the error, and not its message, because `serde_json` quotes values.
    fn from(error: serde_json::Error) -> Self {
        use serde_json::error::Category;
        let what = match error.classify() {
            Category::Io => "JSON could not be written",
            Category::Syntax => "not JSON",
            Category::Data => "JSON of another type than expected",
            Category::Eof => "JSON that ends too early",
        };
        Self::SerializationError(format!("{what} (line {}, column {})", error.line(), error.column()))
    }
}

impl From<std::io::Error> for StateError {
    fn from(error: std::io::Error) -> Self {
        if let Some(Panicked(whose)) = Panicked::within(&error) {
            return Self::Panicked(whose);
        }
        match error.kind() {
            std::io::ErrorKind::StorageFull
            | std::io::ErrorKind::QuotaExceeded
            | std::io::ErrorKind::FileTooLarge => Self::StorageFull(error.to_string()),
            _ => Self::Storage(Fault::caused(error.to_string(), error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_error_never_quotes_the_value() {
        let secret = "hunter2-and-more";
        let error = serde_json::from_str::<u32>(&format!("{secret:?}")).unwrap_err();
        assert!(error.to_string().contains(secret), "the premise: serde_json quotes");
        let ours = StateError::from(error);
        assert!(!format!("{ours} {ours:?}").contains(secret), "{ours}");
        assert!(ours.to_string().contains("line 1"), "{ours}");
    }

    #[test]
    fn a_rejection_names_every_failed_condition() {
        let rejection = Rejection {
            failed: vec![
                FailedCondition::Version { key: "/a".into(), expected: 0, found: 3 },
                FailedCondition::Version { key: "/b".into(), expected: 2, found: 0 },
                FailedCondition::ChangedSince {
                    prefix: "/c/".into(),
                    expected: Seq::new(7),
                    found: Seq::new(9),
                    key: Some("/c/x".into()),
                },
            ],
        };
        let text = StateError::from(rejection).to_string();
        for part in ["/a was expected to be absent, found version 3", "/b", "version 2", "/c/x changed at 9"]
        {
            assert!(text.contains(part), "{text} lacks {part}");
        }
    }
}
