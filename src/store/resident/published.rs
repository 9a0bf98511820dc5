//! A published state: the head of the log, and the part of the projection that is in memory.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "sqlite")]
pub(crate) use crate::backend::sqlite::Token;
use crate::backend::{FoldedState, View};
use crate::error::Result;
use crate::log::{Change, Head};
use crate::state::{Entry, KeyState, KeyVersion};

use super::entry_cache::EntryCache;

/// The token of a commit of a store on disk. A build without SQLite has no other writers, and no tokens.
#[cfg(not(feature = "sqlite"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {}

/// A published state. It is never changed; the next one replaces it.
#[derive(Debug)]
pub(crate) struct Published {
    /// The end of the log.
    pub(crate) head: Head,
    /// The token of the storage while this is the newest state; `None` if it is unknown.
    pub(crate) token: Option<Token>,
    pub(crate) in_memory: InMemory,
}

/// The part of the projection that is in memory.
#[derive(Debug, Clone)]
pub(crate) enum InMemory {
    /// The entries that were read last.
    Some(EntryCache),
    /// The whole projection.
    All(FoldedState),
}

impl InMemory {
    /// The whole projection, if it is in memory.
    pub(crate) fn all(&self) -> Option<&FoldedState> {
        match self {
            Self::All(folded) => Some(folded),
            Self::Some(_) => None,
        }
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::All(folded) => folded.projection.bytes(),
            Self::Some(cache) => cache.bytes(),
        }
    }

    /// The entry of a key, if it is known.
    pub(crate) fn entry(&self, key: &str) -> Option<Result<Option<Entry>>> {
        match self {
            Self::All(folded) => Some(folded.entry(key)),
            Self::Some(cache) => cache.get(key).map(|last| last.entry()),
        }
    }

    /// The last change of a key, if it is known.
    pub(crate) fn key_version(&self, key: &str) -> Option<Result<Option<KeyVersion>>> {
        match self {
            Self::All(folded) => Some(folded.key_version(key)),
            Self::Some(cache) => cache.get(key).map(|last| Ok(Some(last.key_version))),
        }
    }

    /// The part of the projection in memory after these changes, and, if that is all of it, the state that they
    /// left of each key. If the projection outgrows the budget, an empty cache replaces it. `standby` is the same
    /// state in a tree that no reader shares, so that no node must be copied.
    pub(super) fn followed_by(
        &self,
        changes: &[Change],
        standby: Option<FoldedState>,
        budget: usize,
    ) -> (Self, Vec<Arc<KeyState>>) {
        match self {
            Self::Some(cache) => {
                let mut cache = cache.clone();
                for change in changes {
                    cache.follow(change);
                }
                (Self::Some(cache), Vec::new())
            }
            Self::All(folded) => {
                let mut folded = standby.unwrap_or_else(|| folded.clone());
                let mut left = Vec::with_capacity(changes.len());
                for change in changes {
                    let latest = Arc::new(KeyState::from_change(change));
                    folded.projection.put(latest.clone());
                    folded.head = change.head();
                    left.push(latest);
                }
                if folded.projection.bytes() <= budget {
                    (Self::All(folded), left)
                } else {
                    (Self::Some(EntryCache::new(budget)), Vec::new())
                }
            }
        }
    }
}

/// Identifies an open store within the process. A file that is opened twice has two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InstanceId(u64);

impl InstanceId {
    /// A new id.
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The published state that the next page of a scan reads, so that all pages are of one state.
#[derive(Clone)]
pub(crate) struct Pinned {
    pub(crate) published: Arc<Published>,
    /// The open store that published it.
    pub(crate) by: InstanceId,
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned").field("head", &self.published.head).finish_non_exhaustive()
    }
}

impl PartialEq for Pinned {
    /// Always true: a pinned state only saves work. The position of a scan says which state it reads.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Pinned {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::StoreId;

    #[test]
    fn requests_are_equal_whatever_state_they_hold_in_memory() {
        let pinned = |budget| {
            let head = Head::genesis(StoreId::from_bytes([1; 16]));
            let in_memory = InMemory::Some(EntryCache::new(budget));
            let published = Arc::new(Published { head, token: None, in_memory });
            Pinned { published, by: InstanceId::new() }
        };
        assert_eq!(pinned(1), pinned(2));
    }
}
