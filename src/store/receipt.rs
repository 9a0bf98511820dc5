//! Receipts: what a write returns.

use crate::log::{Change, ChangeKind, Head, Timestamp, Tip};
use crate::seq::Seq;
use crate::state::{Batch, Refusal, Write};

/// What a write returns: where the commit is in the log, and the new versions. When the receipt arrives, the
/// commit is on disk, unless the store is in memory or was created with `Durability::Buffered`.
///
/// ```
/// use univrs_state::{Batch, MemoryStore, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// let receipt = store.commit(Batch::new().set("/a", "1").set("/b", "2").delete("/c")).await?;
/// assert_eq!((receipt.first.as_u64(), receipt.last.as_u64()), (1, 2)); // "/c" was absent
/// assert_eq!(receipt.versions, [1, 1, 0]);
/// assert_eq!(receipt.head, store.head().await?);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The position of the first change; the position after `last` if nothing was recorded.
    pub first: Seq,
    /// The position of the last change; the position of the head if nothing was recorded.
    pub last: Seq,
    /// The commit time.
    pub at: Timestamp,
    /// The head of the log right after the commit.
    pub head: Head,
    /// For each write, in the order of the batch, the key's version after it; 0 after a deletion.
    pub versions: Vec<u64>,
}

impl Receipt {
    /// Whether nothing was recorded, because the batch had no writes, or only deletions of absent keys.
    pub fn is_empty(&self) -> bool {
        self.first > self.last
    }

    /// The receipt of a batch that was sealed between two tips.
    pub(super) fn between(versions: Vec<u64>, before: Tip, after: Tip) -> Self {
        Self { first: before.head.seq.next(), last: after.head.seq, at: after.at, head: after.head, versions }
    }

    /// The receipt of a recorded commit, for a batch that repeats its commit id.
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
