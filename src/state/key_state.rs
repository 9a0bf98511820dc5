//! The last change of a key, as the projection keeps it.

use std::fmt;
use std::sync::Arc;

use super::node::Keyed;
use super::{Entry, KeyVersion, Life};
use crate::error::Result;
use crate::log::{Change, Timestamp, Until};

/// The last change of a key: its version and place, its time, and its value unless the key was deleted or the value
/// erased. `Debug` does not show the value.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyState {
    pub(crate) key: Arc<str>,
    pub(crate) key_version: KeyVersion,
    pub(crate) at: Timestamp,
    pub(crate) until: Option<Until>,
    pub(crate) value: Option<Arc<[u8]>>,
}

/// Bytes that a key takes in memory beside its key and value: the struct, the counts of its three
/// allocations and what they are rounded up by, and its share of the tree, whose nodes are two thirds full.
const BESIDE: usize = 192;

impl KeyState {
    pub(crate) fn from_change(change: &Change) -> Self {
        let Change { key, at, until, value, .. } = change;
        let (key_version, value) = (KeyVersion::from_change(change), value.clone());
        Self { key: key.clone(), key_version, at: *at, until: *until, value }
    }

    /// The last change of the key of an entry.
    pub(crate) fn from_entry(entry: &Entry) -> Self {
        let life = Life::Live { created_at: entry.created_at.into() };
        let key_version = KeyVersion { version: entry.version, seq: entry.seq, life };
        let (key, value) = (entry.key.as_str().into(), Some(entry.value.as_slice().into()));
        Self { key, key_version, at: entry.updated_at.into(), until: entry.until, value }
    }

    /// The key's entry after the change; `None` if the change deleted the key, and an error if its value was
    /// erased.
    pub(crate) fn entry(&self) -> Result<Option<Entry>> {
        let Some(created_at) = self.key_version.created_at() else { return Ok(None) };
        let value = self.value.as_deref().ok_or_else(|| Entry::erased(&self.key, self.key_version.seq))?;
        Ok(Some(Entry {
            key: self.key.as_ref().to_owned(),
            value: value.to_vec(),
            version: self.key_version.version,
            created_at: created_at.into(),
            updated_at: self.at.into(),
            seq: self.key_version.seq,
            until: self.until,
        }))
    }

    /// About how many bytes this takes in memory, with its share of the projection's tree.
    pub(crate) fn size(&self) -> usize {
        BESIDE + self.key.len() + self.value.as_ref().map_or(0, |value| value.len())
    }
}

impl fmt::Debug for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.value.as_ref().map(|value| value.len());
        let mut shown = f.debug_struct("KeyState");
        shown.field("key", &self.key).field("key_version", &self.key_version).field("at", &self.at);
        shown.field("until", &self.until);
        shown.field("value_bytes", &bytes).finish()
    }
}

impl Keyed for KeyState {
    fn key(&self) -> &Arc<str> {
        &self.key
    }
}
