//! The errors of the store, sorted by what the caller does next.

use std::fmt;

use crate::limits::Exceeded;
use crate::seq::Seq;

/// A result whose error is a [`StateError`] unless another is named.
pub type Result<T, E = StateError> = std::result::Result<T, E>;

/// What went wrong. Messages name keys and positions, never values.
///
/// [`kind`](StateError::kind) sorts the variants by what to do next;
/// [`is_retryable`](StateError::is_retryable) says whether the same call may succeed later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// `compare_and_set` or a check in `transaction` met another version. Read again, then retry.
    #[error("version conflict: expected {expected}, found {found}")]
    VersionConflict {
        /// The version that the caller expected (0: absent).
        expected: u64,
        /// The version that is there (0: absent).
        found: u64,
    },
    /// `create_if_not_exists` met an existing key.
    #[error("key already exists: {0}")]
    AlreadyExists(String),
    /// A batch was refused; every failed condition is listed.
    #[error("batch refused: {0}")]
    Rejected(Rejection),
    /// Something is larger than a limit of the store.
    #[error("{0}")]
    LimitExceeded(Exceeded),
    /// A `commit_id` was used before, for other keys or kinds of writes.
    #[error("commit id {0:?} was used before for other writes; use a new id for a new batch")]
    CommitIdReused(String),
    /// The store was opened read-only.
    #[error("the store was opened read-only")]
    ReadOnly,

    /// A key, prefix or pattern breaks the rules; the message says which.
    #[error("invalid key: {0}")]
    InvalidKey(String),
    /// A cursor or head does not parse, or an option is out of its range.
    #[error("invalid argument: {0}")]
    InvalidArgument(String),
    /// A value could not be encoded or decoded; gives the place, not the content.
    #[error("serialization error: {0}")]
    SerializationError(String),
    /// For programs that treat an absent key as an error; the stores return `None` instead.
    #[error("key not found: {0}")]
    KeyNotFound(String),

    /// The log no longer reaches back to the position asked for.
    #[error("history up to {requested} was compacted; the oldest position left is {oldest}")]
    Compacted {
        /// The position asked for.
        requested: Seq,
        /// The oldest position that can be resumed from.
        oldest: Seq,
    },
    /// A cursor is not a position of this log: another store, the future, or a fork.
    #[error("cursor diverged: {0}")]
    CursorDiverged(String),

    /// A value or change was erased, redacted, or withheld from an export: there is a hash of it, and no more.
    #[error("erased: {0}")]
    Erased(String),

    /// The batch may or may not be recorded. Retry with the same `commit_id` to learn which.
    #[error("outcome unknown: {0}; retry with the same commit id, or read the log")]
    OutcomeUnknown(String),

    /// Stored data contradicts its checksum, its hash or the format. Run a verification.
    #[error("corrupted: {0}")]
    Corrupted(String),

    /// No room: the disk, a quota or a file size limit. Nothing of this batch was recorded.
    #[error("storage full: {0}")]
    StorageFull(String),
    /// Storage failed. Nothing of this batch was recorded.
    #[error("storage error: {0}")]
    Storage(String),
    /// Another process held the write lock for longer than the busy timeout.
    #[error("busy: {0}")]
    Busy(String),
    /// The store cannot be opened: the path, the file or its format is not right.
    #[error("cannot open the store: {0}")]
    ConnectionError(String),
    /// For programs that report a failure of their own transaction logic.
    #[error("transaction failed: {0}")]
    TransactionFailed(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// What a caller does next about a [`StateError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A rule of the request did not hold; nothing was recorded. Read again and decide anew.
    Refused,
    /// The request itself is wrong; the same request never succeeds.
    InvalidInput,
    /// The position cannot be resumed from. Read the current state, then follow from there.
    HistoryGone,
    /// Recorded or not, nobody knows. Retry with the same `commit_id`.
    OutcomeUnknown,
    /// Stored bytes are wrong. Stop, verify, restore.
    Corrupted,
    /// The disk, the file or another process. Nothing was recorded; look at the machine.
    Storage,
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
            Self::VersionConflict { .. }
            | Self::AlreadyExists(_)
            | Self::Rejected(_)
            | Self::LimitExceeded(_)
            | Self::CommitIdReused(_)
            | Self::ReadOnly => ErrorKind::Refused,
            Self::InvalidKey(_)
            | Self::InvalidArgument(_)
            | Self::SerializationError(_)
            | Self::KeyNotFound(_) => ErrorKind::InvalidInput,
            Self::Compacted { .. } | Self::CursorDiverged(_) | Self::Erased(_) => ErrorKind::HistoryGone,
            Self::OutcomeUnknown(_) => ErrorKind::OutcomeUnknown,
            Self::Corrupted(_) => ErrorKind::Corrupted,
            Self::StorageFull(_)
            | Self::Storage(_)
            | Self::Busy(_)
            | Self::ConnectionError(_)
            | Self::TransactionFailed(_) => ErrorKind::Storage,
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
            Self::ReadOnly => "read_only",
            Self::InvalidKey(_) => "invalid_key",
            Self::InvalidArgument(_) => "invalid_argument",
            Self::SerializationError(_) => "serialization_error",
            Self::KeyNotFound(_) => "key_not_found",
            Self::Compacted { .. } => "compacted",
            Self::CursorDiverged(_) => "cursor_diverged",
            Self::Erased(_) => "erased",
            Self::OutcomeUnknown(_) => "outcome_unknown",
            Self::Corrupted(_) => "corrupted",
            Self::StorageFull(_) => "storage_full",
            Self::Storage(_) => "storage_error",
            Self::Busy(_) => "busy",
            Self::ConnectionError(_) => "cannot_open",
            Self::TransactionFailed(_) => "transaction_failed",
            Self::Closed => "closed",
        }
    }
}

/// Why a batch was refused: all conditions that did not hold, in the order of the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The failed conditions; never empty.
    pub failed: Vec<FailedCondition>,
}

/// One condition of a batch that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailedCondition {
    /// The key was expected at another version.
    Version {
        /// The key.
        key: String,
        /// The version that the batch expected (0: absent).
        expected: u64,
        /// The version that is there (0: absent).
        found: u64,
    },
    /// Something under the prefix changed after the position that the batch named.
    ChangedSince {
        /// The prefix.
        prefix: String,
        /// The position after which nothing should have changed.
        expected: Seq,
        /// The newest change under the prefix, or the head where the position lies beyond it.
        found: Seq,
        /// The key of that change; none where the position lies beyond the head.
        key: Option<String>,
    },
}

impl fmt::Display for FailedCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { key, expected: 0, found } => {
                write!(f, "{key} was expected to be absent, found version {found}")
            }
            Self::Version { key, expected, found: 0 } => {
                write!(f, "{key} was expected at version {expected}, found none")
            }
            Self::Version { key, expected, found } => {
                write!(f, "{key} was expected at version {expected}, found {found}")
            }
            Self::ChangedSince { prefix, expected, found, key: Some(key) } => {
                write!(f, "{prefix} was expected unchanged since {expected}, but {key} changed at {found}")
            }
            Self::ChangedSince { prefix, expected, found, key: None } => {
                write!(f, "{prefix} was expected unchanged since {expected}, but the log ends at {found}")
            }
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, failed) in self.failed.iter().enumerate() {
            write!(f, "{}{failed}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
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
        match error.kind() {
            std::io::ErrorKind::StorageFull
            | std::io::ErrorKind::QuotaExceeded
            | std::io::ErrorKind::FileTooLarge => Self::StorageFull(error.to_string()),
            _ => Self::Storage(error.to_string()),
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
