//! Why a batch is refused.

use crate::error::{Rejection, StateError};
use crate::limits::Exceeded;

/// Why a batch is refused. A refusal depends on the batch and the state before it alone, so every machine
/// that has the same log refuses the same batches. A failure of this machine, such as a full disk, is no
/// refusal but a [`StateError`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// At least one condition does not hold.
    Rejected(Rejection),
    /// More keys have the prefix of a condition than its limit allows.
    LimitExceeded(Exceeded),
    /// A batch with the same commit id and other writes was recorded before.
    CommitIdReused(String),
    /// The newest commit has the latest time that the file format can hold.
    EndOfTime,
}

impl From<Refusal> for StateError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Rejected(rejection) => Self::Rejected(rejection),
            Refusal::LimitExceeded(exceeded) => Self::LimitExceeded(exceeded),
            Refusal::CommitIdReused(id) => Self::CommitIdReused(id),
            Refusal::EndOfTime => Self::Unsupported(
                "the newest commit has the latest time that the file format can hold, so only one that accepts the clock can \
                 follow it: set the clock right, then accept the clock, and times go on from its time"
                    .into(),
            ),
        }
    }
}
