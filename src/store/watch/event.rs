//! The events that a watch delivers.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::log::{Change, ChangeKind, Meta, Timestamp};
use crate::seq::Seq;
use crate::store::feed::Before;

/// A change, as a watch delivers it. `Debug` does not show values.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WatchEvent {
    /// The key that changed.
    pub key: String,
    /// What happened to it.
    pub event_type: ChangeKind,
    /// The value before the change; `None` if the key was absent.
    pub old_value: Option<Vec<u8>>,
    /// The value after the change; `None` if the key was deleted.
    pub new_value: Option<Vec<u8>>,
    /// The version that the key has after the change; 0 if it was deleted.
    pub new_version: u64,
    /// How many times the key has changed up to this change, deletions included.
    pub version: u64,
    /// The position of the change in the log.
    pub seq: Seq,
    /// The position of the last change of the same commit, which the pattern may not match.
    pub commit_seq: Seq,
    /// The commit time.
    pub at: Timestamp,
    /// Who wrote the change, and why.
    pub meta: Option<Arc<Meta>>,
    /// Whether `old_value` or `new_value` is `None` because the value was erased later.
    pub erased: bool,
}

impl WatchEvent {
    /// Decodes the new value as JSON; `None` if the key was deleted.
    ///
    /// # Errors
    /// [`StateError::SerializationError`](crate::StateError::SerializationError) if the value is not JSON, or
    /// not of the type `T`.
    pub fn value_json<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        Ok(self.new_value.as_deref().map(serde_json::from_slice).transpose()?)
    }

    /// The event of a change and the state that it replaced.
    pub(super) fn from_change(change: &Change, old: Option<&Before>) -> Self {
        Self {
            key: change.key.as_ref().to_owned(),
            event_type: change.kind,
            old_value: old.and_then(|old| old.value.as_deref()).map(<[u8]>::to_vec),
            new_value: change.value.as_deref().map(<[u8]>::to_vec),
            new_version: if change.kind == ChangeKind::Deleted { 0 } else { change.version },
            version: change.version,
            seq: change.seq,
            commit_seq: change.commit_seq,
            at: change.at,
            meta: change.meta.clone(),
            erased: change.is_erased() || old.is_some_and(|old| old.erased),
        }
    }
}

impl fmt::Debug for WatchEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |value: &Option<Vec<u8>>| value.as_ref().map(Vec::len);
        f.debug_struct("WatchEvent")
            .field("key", &self.key)
            .field("event_type", &self.event_type)
            .field("old_value_bytes", &bytes(&self.old_value))
            .field("new_value_bytes", &bytes(&self.new_value))
            .field("new_version", &self.new_version)
            .field("version", &self.version)
            .field("seq", &self.seq)
            .field("commit_seq", &self.commit_seq)
            .field("at", &self.at)
            .field("meta", &self.meta)
            .field("erased", &self.erased)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_an_event_is_read_as_json_if_it_has_one() {
        let event = |value: Option<&[u8]>| {
            let change = Change { value: value.map(Arc::from), ..Change::plain(1) };
            WatchEvent::from_change(&change, None)
        };
        assert_eq!(event(Some(b"[1,2]")).value_json::<Vec<u8>>(), Ok(Some(vec![1, 2])));
        assert_eq!(event(None).value_json::<Vec<u8>>(), Ok(None));
        assert!(event(Some(b"[1,")).value_json::<Vec<u8>>().is_err());
    }
}
