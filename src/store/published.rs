//! What is published: how far the log has come, and what of the projection is kept in memory.

use std::fmt;
use std::sync::{Arc, Weak};

#[cfg(feature = "sqlite")]
pub(super) use crate::backend::sqlite::Token;
use crate::backend::{Folded, View};
use crate::error::Result;
use crate::log::{Change, Head};
use crate::state::{Entry, Latest, Slot};

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
            Self::Some(cache) => cache.get(key).map(|last| last.entry()),
        }
    }

    /// The last change of a key, if it is known.
    pub(super) fn slot(&self, key: &str) -> Option<Result<Option<Slot>>> {
        match self {
            Self::All(folded) => Some(folded.slot(key)),
            Self::Some(cache) => cache.get(key).map(|last| Ok(Some(last.slot))),
        }
    }

    /// What is kept after these changes, and what they left of each key if all of it is: only while it
    /// fits the budget. A spare state saves copying what the published one shares with it.
    pub(super) fn followed_by(
        &self,
        changes: &[Change],
        spare: Option<Spare>,
        budget: usize,
    ) -> (Self, Vec<Arc<Latest>>) {
        match self {
            Self::Some(cache) => {
                let mut cache = cache.clone();
                for change in changes {
                    cache.follow(change);
                }
                (Self::Some(cache), Vec::new())
            }
            Self::All(folded) => {
                let spare = spare.and_then(|spare| spare.at(folded.head));
                let mut folded = spare.unwrap_or_else(|| folded.clone());
                let mut left = Vec::with_capacity(changes.len());
                for change in changes {
                    let latest = Arc::new(Latest::of(change));
                    folded.projection.put(latest.clone());
                    folded.head = Head { seq: change.seq, hash: change.hash };
                    left.push(latest);
                }
                if folded.projection.bytes() <= budget {
                    (Self::All(folded), left)
                } else {
                    (Self::Some(Cache::new(budget)), Vec::new())
                }
            }
        }
    }
}

/// The state that was published before. Brought forward in place, it is published next: two trees take
/// turns, and no node is copied that no reader holds.
#[derive(Debug)]
pub(super) enum Spare {
    /// As it was, with what leads from it to the published one.
    Behind {
        state: Arc<Published>,
        left: Vec<Arc<Latest>>,
        /// The end of what leads on.
        head: Head,
    },
    /// The published state once more.
    Level(Folded),
}

impl Spare {
    /// Brings it forward, unless somebody reads it still.
    pub(super) fn brought_forward(self) -> Self {
        let Self::Behind { state, left, head } = self else { return self };
        match Arc::try_unwrap(state) {
            Ok(Published { kept: Kept::All(mut folded), .. }) => {
                for latest in left {
                    folded.projection.put(latest);
                }
                folded.head = head;
                Self::Level(folded)
            }
            Ok(state) => Self::Behind { state: Arc::new(state), left, head },
            Err(state) => Self::Behind { state, left, head },
        }
    }

    /// The state at this head, in nodes that it alone has; none if it is of another, or read still.
    fn at(self, head: Head) -> Option<Folded> {
        match self.brought_forward() {
            Self::Level(folded) if folded.head == head => Some(folded),
            _ => None,
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
