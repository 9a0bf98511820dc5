//! The record of one mutation.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Hash, Head, Meta, Timestamp, hash};
use crate::seq::Seq;

/// The version of the header's layout; its first element.
pub(super) const FORMAT: u64 = 1;

/// What decoded metadata is counted as: its usual limit.
const MOST_META: usize = 1024;

/// Bytes of the salt that goes with a value.
pub const SALT_BYTES: usize = 16;

/// What a change did to its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChangeKind {
    /// The key was absent before.
    Created,
    /// The key existed and has a new value (equal ones count).
    Updated,
    /// The key is absent afterwards.
    Deleted,
}

impl ChangeKind {
    /// The number that stands in the log.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Created => 1,
            Self::Updated => 2,
            Self::Deleted => 3,
        }
    }

    pub(crate) fn from_code(code: i64) -> Option<Self> {
        match code {
            1 => Some(Self::Created),
            2 => Some(Self::Updated),
            3 => Some(Self::Deleted),
            _ => None,
        }
    }
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
        })
    }
}

/// The record of one mutation: a row of the log. Clones share key, value and metadata.
/// `Debug` does not show the value.
#[derive(Clone, PartialEq, Eq)]
pub struct Change {
    /// Its place in the log.
    pub seq: Seq,
    /// The place of the last change of its commit; equal to `seq` where it closes the commit.
    pub commit_seq: Seq,
    /// When it was recorded; the same for all changes of a commit, later than all before.
    pub at: Timestamp,
    /// What it did.
    pub kind: ChangeKind,
    /// The key.
    pub key: Arc<str>,
    /// The key's version: its count of changes, deletions included.
    pub version: u64,
    /// When this life of the key began.
    pub created_at: Timestamp,
    /// The key's previous change; zero for its first.
    pub prev: Seq,
    /// The value; none for a deletion, and where it was erased.
    pub value: Option<Arc<[u8]>>,
    /// What makes the value's hash unguessable; erased with the value.
    pub salt: Option<[u8; SALT_BYTES]>,
    /// The commitment to the value; stays when the value goes. None for a deletion.
    pub value_hash: Option<Hash>,
    /// Who wrote it, and why.
    pub meta: Option<Arc<Meta>>,
    /// The chain up to this change.
    pub hash: Hash,
}

impl Change {
    /// Whether it is the last change of its commit.
    pub fn closes_commit(&self) -> bool {
        self.seq == self.commit_seq
    }

    /// The end of the log as it was when this was its last change.
    pub fn head(&self) -> Head {
        Head { seq: self.seq, hash: self.hash }
    }

    /// Whether it once carried a value that is gone.
    pub fn is_erased(&self) -> bool {
        self.value.is_none() && self.value_hash.is_some()
    }

    /// The header in deterministic CBOR: what the chain commits to.
    ///
    /// The array `[format, seq, commit_seq, at, kind, key, version, created_at, prev, value_hash,
    /// meta]`; `value_hash` and `meta` are null where there is none.
    pub fn header(&self) -> Vec<u8> {
        let meta = self.meta.as_ref().map(|meta| meta.encode());
        self.view(meta.as_deref()).header()
    }

    /// The hash of the header.
    pub fn header_hash(&self) -> Hash {
        hash::header(&self.header())
    }

    /// The chain up to this change, computed from the hash of the change before.
    pub fn chained_onto(&self, before: Hash) -> Hash {
        hash::link(before, self.header_hash())
    }

    /// Whether the value matches its hash; true where there is none to check.
    pub(crate) fn has_its_value(&self) -> bool {
        self.view(None).has_its_value()
    }

    /// About the bytes that it takes in memory.
    pub(crate) fn size(&self) -> usize {
        let meta = if self.meta.is_some() { MOST_META } else { 0 };
        size_of::<Self>() + self.key.len() + self.value.as_ref().map_or(0, |value| value.len()) + meta
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("seq", &self.seq)
            .field("commit_seq", &self.commit_seq)
            .field("at", &self.at)
            .field("kind", &self.kind)
            .field("key", &self.key)
            .field("version", &self.version)
            .field("created_at", &self.created_at)
            .field("prev", &self.prev)
            .field("value_bytes", &self.value.as_ref().map(|value| value.len()))
            .field("value_hash", &self.value_hash)
            .field("meta", &self.meta)
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}
