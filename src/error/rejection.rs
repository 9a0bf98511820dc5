//! Rejections: the conditions of a batch that do not hold.

use std::fmt;

use crate::seq::Seq;

/// All conditions of a refused batch that do not hold, in the order of the batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", listed(failed))]
pub struct Rejection {
    /// The failed conditions; never empty.
    pub failed: Vec<FailedCondition>,
}

/// A condition of a batch that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailedCondition {
    /// The key has another version than the batch expected.
    Version {
        /// The key.
        key: String,
        /// The version that the batch expected; 0 means absent.
        expected: u64,
        /// The version that the key has; 0 means absent.
        found: u64,
    },
    /// A key with the prefix changed after the position that the batch named, or that position is beyond the
    /// end of the log.
    ChangedSince {
        /// The prefix.
        prefix: String,
        /// The position after which nothing should have changed.
        expected: Seq,
        /// The position of the newest change under the prefix; the end of the log if the expected position is
        /// beyond it.
        found: Seq,
        /// The key of that change; `None` if the expected position is beyond the end of the log.
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

/// The conditions, one after the other.
fn listed(failed: &[FailedCondition]) -> String {
    failed.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
