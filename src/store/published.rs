//! What is published: how far the log has come, and what of the projection is kept in memory.

use std::fmt;
use std::sync::{Arc, Weak};

#[cfg(feature = "sqlite")]
pub(super) use crate::backend::sqlite::Token;
use crate::backend::{Folded, View};
use crate::error::Result;
use crate::log::{Change, Head};
use crate::state::{Entry, Slot};

use super::cache::Cache;
use super::shared::Shared;

/// Names a commit of a store on disk; a store without other writers needs none.
#[cfg(not(feature = "sqlite"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {}

/// One published state. It is never changed, only followed by another.
#[derive(Debug)]
pub(super) struct Published {
    /// The end of the log.
    pub(super) head: Head,
    /// What is visible in the storage while this is the newest state; none where that is unknown.
    pub(super) token: Option<Token>,
    pub(super) kept: Kept,
}

/// What of the projection is in memory.
#[derive(Debug, Clone)]
pub(super) enum Kept {
    /// The entries that were read last.
    Some(Cache),
    /// All of it.
    All(Folded),
}

impl Kept {
    /// The whole projection, if it is kept.
    pub(super) fn all(&self) -> Option<&Folded> {
        match self {
            Self::All(folded) => Some(folded),
            Self::Some(_) => None,
        }
    }

    /// About the bytes that it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::All(folded) => folded.projection.bytes(),
            Self::Some(cache) => cache.bytes(),
        }
    }

    /// The entry of a key, if it is known.
    pub(super) fn entry(&self, key: &str) -> Option<Result<Option<Entry>>> {
        match self {
            Self::All(folded) => Some(folded.entry(key)),
            Self::Some(cache) => cache.get(key).map(|last| Ok(last.entry())),
        }
    }

    /// The last change of a key, if it is known.
    pub(super) fn slot(&self, key: &str) -> Option<Result<Option<Slot>>> {
        match self {
            Self::All(folded) => Some(folded.slot(key)),
            Self::Some(cache) => cache.get(key).map(|last| Ok(Some(last.slot))),
        }
    }

    /// What is kept after these changes; all of it only while it fits the budget.
    pub(super) fn followed_by(&self, changes: &[Change], budget: usize) -> Self {
        match self {
            Self::Some(cache) => {
                let mut cache = cache.clone();
                for change in changes {
                    cache.follow(change);
                }
                Self::Some(cache)
            }
            Self::All(folded) => {
                let mut folded = folded.clone();
                for change in changes {
                    folded.fold(change);
                }
                if folded.projection.bytes() <= budget {
                    Self::All(folded)
                } else {
                    Self::Some(Cache::new(budget))
                }
            }
        }
    }
}

/// A published state that a scan goes on reading, so that all its pages are one state.
#[derive(Clone)]
pub(super) struct Pinned {
    pub(super) published: Arc<Published>,
    /// The open store that published it.
    pub(super) by: Weak<Shared>,
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
