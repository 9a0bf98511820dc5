//! What a write returns.

use crate::log::{Change, ChangeKind, Head, Timestamp, Tip};
use crate::seq::Seq;
use crate::state::{Batch, Refusal, Write};

/// What a commit came to. When it arrives, the commit is recorded as durably as the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The position of its first change; one after `last` if it changed nothing.
    pub first: Seq,
    /// The position of its last change; that of the head if it changed nothing.
    pub last: Seq,
    /// When it was recorded.
    pub at: Timestamp,
    /// The head right after it.
    pub head: Head,
    /// For each write the key's version after it, in the order of the batch; 0 for a deletion.
    pub versions: Vec<u64>,
}

impl Receipt {
    /// Whether nothing was recorded: the batch had no writes, or only deletions of absent keys.
    pub fn is_empty(&self) -> bool {
        self.first > self.last
    }

    /// The receipt of a batch that was sealed between two tips.
    pub(super) fn between(versions: Vec<u64>, before: Tip, after: Tip) -> Self {
        Self { first: before.head.seq.next(), last: after.head.seq, at: after.at, head: after.head, versions }
    }

    /// The receipt that a recorded commit gave, for a batch that repeats its id.
    pub(super) fn again(batch: &Batch, changes: &[Change]) -> Result<Self, Refusal> {
        let reused = || Refusal::CommitIdReused(batch.id().unwrap_or_default().to_owned());
        let mut recorded = changes.iter().peekable();
        let mut versions = Vec::with_capacity(batch.len());
        for write in batch.writes() {
            let same = recorded.next_if(|change| {
                change.key == *write.key()
                    && matches!(write, Write::Delete { .. }) == (change.kind == ChangeKind::Deleted)
            });
            versions.push(match (write, same) {
                (Write::Set { .. }, Some(change)) => change.version,
                (Write::Set { .. }, None) => return Err(reused()),
                (Write::Delete { .. }, _) => 0,
            });
        }
        match (changes.first(), changes.last(), recorded.next()) {
            (Some(first), Some(last), None) => {
                Ok(Self { first: first.seq, last: last.seq, at: last.at, head: last.head(), versions })
            }
            _ => Err(reused()),
        }
    }
}
