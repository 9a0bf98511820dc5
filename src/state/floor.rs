//! The floor of a log: the position that it begins after.

use std::sync::Arc;

use super::compaction::{Compaction, Forgotten, matches};
use super::{KeyVersion, Life};
use crate::error::{Result, StateError};
use crate::key::COMPACTION_KEY;
use crate::log::{Change, Head, StoreId, Timestamp, cause};
use crate::pattern::Pattern;
use crate::seq::Seq;

/// The floor of a log, and what is left at or below it: the *base*, which is the last change of each key up to there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Floor {
    /// The position that the log begins after, and the chain hash there.
    pub(crate) head: Head,
    /// The time of the commit that ends there; `None` if it is not known, or the floor is 0.
    pub(crate) at: Option<Timestamp>,
    /// Deleted keys that count as never written.
    pub(crate) forgotten: Option<Arc<Forgotten>>,
    /// The compaction that has not yet dropped everything below the floor.
    pub(crate) unfinished: Option<Arc<Unfinished>>,
}

/// A compaction that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unfinished {
    /// Everything up to this position is as it stays.
    pub(crate) reached: Seq,
    /// Keys whose history stays below the floor.
    pub(crate) keep: Vec<Pattern>,
}

impl Floor {
    /// The floor of a log that begins with its first change.
    pub(crate) fn genesis(store: StoreId) -> Self {
        Self::at(Head::genesis(store), None)
    }

    /// The floor of a log that begins after the end of a commit with this time, if that is known.
    pub(crate) fn at(head: Head, at: Option<Timestamp>) -> Self {
        Self { head, at, forgotten: None, unfinished: None }
    }

    /// The position.
    pub(crate) fn seq(&self) -> Seq {
        self.head.seq
    }

    /// The error of a position that the log no longer has.
    pub(crate) fn compacted(&self, requested: Seq) -> StateError {
        StateError::Compacted { requested, oldest: self.seq() }
    }

    /// Whether a change counts as gone, because a compaction that goes on will drop it: another change at or below the
    /// floor names it as the one before.
    pub(crate) fn drops_before(&self, change: &Change) -> bool {
        let going = self.unfinished.as_ref();
        change.seq <= self.seq() && going.is_some_and(|going| !matches(&going.keep, &change.key))
    }

    /// Whether the deletion of a key at a position is forgotten.
    pub(crate) fn forgets(&self, key: &str, seq: Seq) -> bool {
        self.forgotten.as_ref().is_some_and(|forgotten| forgotten.covers(key, seq))
    }

    /// The last change of a key as conditions and reads see it: none if it is forgotten.
    pub(crate) fn known(&self, key: &str, last: Option<KeyVersion>) -> Option<KeyVersion> {
        last.filter(|last| !is_forgotten(&self.forgotten, key, last))
    }

    /// The floor after a change; `None` if the change does not move it.
    ///
    /// # Errors
    /// The change says that it does, but its value is no record.
    pub(crate) fn moved_by(&self, change: &Change) -> Result<Option<Self>> {
        if &*change.key != COMPACTION_KEY || !change.has_cause(cause::COMPACTING) {
            return Ok(None);
        }
        let wrong = |what: &str| StateError::Corrupted(format!("change {} {what}", change.seq));
        let value =
            change.value.as_deref().ok_or_else(|| wrong("begins a compaction, but its value is gone"))?;
        let Compaction { floor: head, at, keep, forgotten, .. } = Compaction::decode(value)?;
        if head.seq >= change.seq {
            return Err(wrong("begins a compaction to a position that cannot be its floor"));
        }
        if head.seq <= self.seq() {
            // The log was exported after that, and begins with what the compaction left.
            return Ok((forgotten != self.forgotten).then(|| Self { forgotten, ..self.clone() }));
        }
        if self.unfinished.is_some() {
            return Err(StateError::Unsupported(format!(
                "change {} begins a compaction, and the one to {} has not dropped what lies before that: finish it first",
                change.seq,
                self.seq()
            )));
        }
        let unfinished = Some(Arc::new(Unfinished { reached: Seq::ZERO, keep }));
        Ok(Some(Self { head, at: Some(at), forgotten, unfinished }))
    }

    /// The position that the compaction to a floor has reached; `None` if it does not go on, or another one does.
    pub(crate) fn reached_on_way_to(&self, floor: Seq) -> Option<Seq> {
        self.unfinished.as_ref().filter(|_| floor == self.seq()).map(|going| going.reached)
    }

    /// The same floor when the compaction has reached a position.
    pub(crate) fn reached(&self, reached: Seq) -> Self {
        let keep = self.unfinished.as_ref().map(|going| going.keep.clone()).unwrap_or_default();
        Self { unfinished: Some(Arc::new(Unfinished { reached, keep })), ..self.clone() }
    }

    /// The same floor when the compaction has ended.
    pub(crate) fn finished(&self) -> Self {
        Self { unfinished: None, ..self.clone() }
    }
}

/// Whether the last change of a key is a deletion that is forgotten.
pub(crate) fn is_forgotten<'a>(
    forgotten: impl IntoIterator<Item = &'a Arc<Forgotten>>,
    key: &str,
    last: &KeyVersion,
) -> bool {
    last.life == Life::Deleted && forgotten.into_iter().any(|forgotten| forgotten.covers(key, last.seq))
}
