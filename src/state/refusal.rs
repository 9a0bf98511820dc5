//! Why a batch is refused.

use crate::error::{Rejection, StateError};
use crate::limits::Exceeded;

/// Why a batch is refused. It follows from the batch and the state before it alone, so every machine
/// that has the same log comes to the same one. What this machine cannot do is a failure instead, and
/// a [`StateError`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Conditions do not hold.
    Rejected(Rejection),
    /// A condition on a prefix would have to look at more keys than its limit.
    LimitExceeded(Exceeded),
    /// The commit id was used before, for other writes.
    CommitIdReused(String),
}

impl From<Refusal> for StateError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Rejected(rejection) => Self::Rejected(rejection),
            Refusal::LimitExceeded(exceeded) => Self::LimitExceeded(exceeded),
            Refusal::CommitIdReused(id) => Self::CommitIdReused(id),
        }
    }
}
