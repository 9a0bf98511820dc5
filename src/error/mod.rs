//! The errors of the store, sorted by what the caller does next.

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

/// A result whose error is a [`StateError`] unless another is named.
pub type Result<T, E = StateError> = std::result::Result<T, E>;

/// What went wrong. Messages name keys and positions, never values.
///
/// [`kind`](StateError::kind) sorts the variants by what to do next;
/// [`is_retryable`](StateError::is_retryable) says whether the same call may succeed later.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateError {
    /// `compare_and_set` or a check in `transaction` met another version. Read again, then retry.
    VersionConflict {
        /// The version that the caller expected (0: absent).
        expected: u64,
        /// The version that is there (0: absent).
        found: u64,
    },
    /// `create_if_not_exists` met an existing key.
    AlreadyExists(String),
    /// A batch was refused; every failed condition is listed.
    Rejected(Rejection),

    /// Something is larger than a limit of the store: what was given, or, if it is not
    /// [of the input](Exceeded::of_input), what the store holds.
    LimitExceeded(Exceeded),
    /// A `commit_id` was used before, for other keys or kinds of writes.
    CommitIdReused(String),
    /// A key, prefix or pattern breaks the rules; the message says which.
    InvalidKey(String),
    /// A cursor or head does not parse, an option is out of its range or means nothing here, or what is
    /// given as an export is none.
    InvalidArgument(String),
    /// A value could not be encoded or decoded; gives the place, not the content.
    SerializationError(String),
    /// For programs that treat an absent key as an error; the stores return `None` instead.
    KeyNotFound(String),
    /// Code that the program gave to the store panicked: the clock, the source of randomness, a progress
    /// function, a reader or a writer. Nothing of the call was recorded; the store goes on.
    Panicked(&'static str),

    /// The store was opened read-only.
    ReadOnly,
    /// This store cannot do it, whatever the arguments are; the message says why and what can.
    Unsupported(String),
    /// This process is a fork of one that has a store open, and must use neither that store nor another.
    Forked,

    /// The log no longer reaches back to the position asked for.
    Compacted {
        /// The position asked for.
        requested: Seq,
        /// The oldest position that can be resumed from.
        oldest: Seq,
    },
    /// A cursor is not a position of this log: another store, the future, or a fork.
    CursorDiverged(String),

    /// A value or change was erased, redacted, or withheld from an export: there is a hash of it, and no more.
    Erased(String),

    /// The batch may or may not be recorded. Retry with the same `commit_id` to learn which.
    OutcomeUnknown(String),

    /// Stored data contradicts its checksum, its hash or the format. Run a verification.
    Corrupted(String),

    /// No room: the disk, a quota or a file size limit. Nothing of this batch was recorded.
    StorageFull(String),
    /// Storage failed. Nothing of this batch was recorded.
    Storage(Fault),
    /// The operating system had no thread, or no random bytes, for it. Nothing was recorded.
    Unavailable(Fault),
    /// Another process held the write lock for longer than the busy timeout.
    Busy(String),
    /// A store could not be opened this time; nothing is wrong with its file as far as is known.
    ConnectionError(String),
    /// A path cannot be opened or made, and that stays so until somebody changes what is there: it is no
    /// store, has another format, may not be read, or exists where something new was to be made.
    CannotOpen {
        /// The path: of the database, or of what lies beside it.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: Fault,
    },
    /// For programs that report a failure of their own transaction logic.
    TransactionFailed(String),
    /// The store was closed.
    Closed,
}

/// What a caller does next about a [`StateError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The state did not allow it; nothing was recorded. Read again and decide anew.
    Refused,
    /// The request, or code that came with it, is wrong: the same request never succeeds. Correct the
    /// program.
    InvalidInput,
    /// This store, or this process, cannot do it, whatever the arguments are. Use another store.
    Unsupported,
    /// The position cannot be resumed from. Read the current state, then follow from there.
    HistoryGone,
    /// Recorded or not, nobody knows. Retry with the same `commit_id`.
    OutcomeUnknown,
    /// Stored bytes are wrong. Stop, verify, restore.
    Corrupted,
    /// The disk, the operating system, or another process that holds a lock. Nothing was recorded; look
    /// at the machine.
    Storage,
    /// What is at the path is not right, or may not be used. The message says what; trying again alone
    /// does not help.
    CannotOpen,
    /// The store was closed by this program.
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
            Self::VersionConflict { .. } | Self::AlreadyExists(_) | Self::Rejected(_) => ErrorKind::Refused,
            Self::LimitExceeded(exceeded) if !exceeded.of_input => ErrorKind::Refused,
            Self::LimitExceeded(_)
            | Self::CommitIdReused(_)
            | Self::InvalidKey(_)
            | Self::InvalidArgument(_)
            | Self::SerializationError(_)
            | Self::KeyNotFound(_)
            | Self::Panicked(_) => ErrorKind::InvalidInput,
            Self::ReadOnly | Self::Unsupported(_) | Self::Forked => ErrorKind::Unsupported,
            Self::Compacted { .. } | Self::CursorDiverged(_) | Self::Erased(_) => ErrorKind::HistoryGone,
            Self::OutcomeUnknown(_) => ErrorKind::OutcomeUnknown,
            Self::Corrupted(_) => ErrorKind::Corrupted,
            Self::StorageFull(_)
            | Self::Storage(_)
            | Self::Unavailable(_)
            | Self::Busy(_)
            | Self::ConnectionError(_)
            | Self::TransactionFailed(_) => ErrorKind::Storage,
            Self::CannotOpen { .. } => ErrorKind::CannotOpen,
            Self::Closed => ErrorKind::Closed,
        }
    }

    /// Whether reading again and retrying can succeed without anybody repairing anything.
    ///
    /// An unknown outcome counts as retryable only because a `commit_id` makes the retry safe.
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
            Self::LimitExceeded(_) => "limit_exceeded",
            Self::CommitIdReused(_) => "commit_id_reused",
            Self::InvalidKey(_) => "invalid_key",
            Self::InvalidArgument(_) => "invalid_argument",
            Self::SerializationError(_) => "serialization_error",
            Self::KeyNotFound(_) => "key_not_found",
            Self::Panicked(_) => "panicked",
            Self::ReadOnly => "read_only",
            Self::Unsupported(_) => "unsupported",
            Self::Forked => "forked",
            Self::Compacted { .. } => "compacted",
            Self::CursorDiverged(_) => "cursor_diverged",
            Self::Erased(_) => "erased",
            Self::OutcomeUnknown(_) => "outcome_unknown",
            Self::Corrupted(_) => "corrupted",
            Self::StorageFull(_) => "storage_full",
            Self::Storage(_) => "storage_error",
            Self::Unavailable(_) => "unavailable",
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
            Self::Forked => write!(
                f,
                "this process is a fork of one that has a store open, and must not use that store or open \
                 another: fork first, or start another program"
            ),
            Self::Compacted { requested, oldest } => {
                write!(f, "history up to {requested} was compacted; the oldest position left is {oldest}")
            }
            Self::CursorDiverged(why) => write!(f, "cursor diverged: {why}"),
            Self::Erased(what) => write!(f, "erased: {what}"),
            Self::OutcomeUnknown(why) => {
                write!(f, "outcome unknown: {why}; retry with the same commit id, or read the log")
            }
            Self::Corrupted(what) => write!(f, "corrupted: {what}"),
            Self::StorageFull(what) => write!(f, "storage full: {what}"),
            Self::Storage(fault) => write!(f, "storage error: {fault}"),
            Self::Unavailable(fault) => write!(f, "unavailable: {fault}"),
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
    /// Keeps the category and the place; the message of `serde_json` itself quotes values.
    fn from(error: serde_json::Error) -> Self {
        use serde_json::error::Category;
        let what = match error.classify() {
            Category::Io => "JSON could not be written",
            Category::Syntax => "not JSON",
            Category::Data => "JSON of another shape",
            Category::Eof => "JSON ends too early",
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
