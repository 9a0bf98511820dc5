//! What is published: how far the log has come, and what of the projection is kept in memory.

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

/// Names a commit of a store on disk; a store without other writers needs none.
#[cfg(not(feature = "sqlite"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {}

/// One published state. It is never changed, only followed by another.
#[derive(Debug)]
pub(crate) struct Published {
    /// The end of the log.
    pub(crate) head: Head,
    /// What is visible in the storage while this is the newest state; none where that is unknown.
    pub(crate) token: Option<Token>,
    pub(crate) in_memory: InMemory,
}

/// What of the projection is in memory.
#[derive(Debug, Clone)]
pub(crate) enum InMemory {
    /// The entries that were read last.
    Some(EntryCache),
    /// All of it.
    All(FoldedState),
}

impl InMemory {
    /// The whole projection, if it is kept.
    pub(crate) fn all(&self) -> Option<&FoldedState> {
        match self {
            Self::All(folded) => Some(folded),
            Self::Some(_) => None,
        }
    }

    /// About the bytes that it takes in memory.
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

    /// What is kept after these changes, and what they left of each key if all of it is: only while it
    /// fits the budget. The same state in a tree of its own, where there is one, saves copying what the published one shares with it.
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

/// Tells open stores of one process apart, also those of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InstanceId(u64);

impl InstanceId {
    /// An id that no other has.
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A published state that a scan goes on reading, so that all its pages are one state.
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
    /// It only saves work: what a scan reads is said by its position.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Pinned {}
