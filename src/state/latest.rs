//! The last change of a key, as the projection keeps it.

use std::fmt;
use std::sync::Arc;

use super::node::Keyed;
use super::{Entry, Life, Slot};
use crate::error::Result;
use crate::log::{Change, Timestamp};

/// The last change of a key: its slot, its time, and its value unless the key was deleted or the value
/// erased. `Debug` does not show the value.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Latest {
    pub(crate) key: Arc<str>,
    pub(crate) slot: Slot,
    pub(crate) at: Timestamp,
    pub(crate) value: Option<Arc<[u8]>>,
}

/// What one takes in memory beside its key and value: itself, the counts of its three allocations
/// and what they are rounded up by, and its share of the tree, whose nodes are two thirds full.
const BESIDE: usize = 192;

impl Latest {
    pub(crate) fn of(change: &Change) -> Self {
        let Change { key, at, value, .. } = change;
        Self { key: key.clone(), slot: Slot::of(change), at: *at, value: value.clone() }
    }

    /// The last change of a key that has this entry.
    pub(crate) fn from_entry(entry: &Entry) -> Self {
        let life = Life::Live { created_at: entry.created_at.into() };
        let slot = Slot { version: entry.version, seq: entry.seq, life };
        let (key, value) = (entry.key.as_str().into(), Some(entry.value.as_slice().into()));
        Self { key, slot, at: entry.updated_at.into(), value }
    }

    /// The entry that the change left; none if it deleted the key, and an error if its value was erased.
    pub(crate) fn entry(&self) -> Result<Option<Entry>> {
        let Some(created_at) = self.slot.created_at() else { return Ok(None) };
        let value = self.value.as_deref().ok_or_else(|| Entry::erased(&self.key, self.slot.seq))?;
        Ok(Some(Entry {
            key: self.key.as_ref().to_owned(),
            value: value.to_vec(),
            version: self.slot.version,
            created_at: created_at.into(),
            updated_at: self.at.into(),
            seq: self.slot.seq,
        }))
    }

    /// About the bytes that it takes in memory, its place in the projection counted.
    pub(crate) fn size(&self) -> usize {
        BESIDE + self.key.len() + self.value.as_ref().map_or(0, |value| value.len())
    }
}

impl fmt::Debug for Latest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.value.as_ref().map(|value| value.len());
        let mut shown = f.debug_struct("Latest");
        shown.field("key", &self.key).field("slot", &self.slot).field("at", &self.at);
        shown.field("value_bytes", &bytes).finish()
    }
}

impl Keyed for Latest {
    fn key(&self) -> &Arc<str> {
        &self.key
    }
}
