//! The record of one mutation.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Hash, Head, Meta, Timestamp, Until, hash};
use crate::seq::Seq;

/// The version of the header's layout; its first element.
pub(super) const FORMAT: u64 = 1;

/// Bytes that decoded metadata counts as in memory: its default limit.
const MOST_META: usize = 1024;

/// The length of the salt that is hashed with a value, in bytes.
pub const SALT_BYTES: usize = 16;

/// What a change did to its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChangeKind {
    /// The key was absent before.
    Created,
    /// The key existed and was given a value, which may equal the old one.
    Updated,
    /// The key is absent afterwards.
    Deleted,
}

impl ChangeKind {
    /// The number that the log stores for this kind.
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
    /// The position of the change in the log.
    pub seq: Seq,
    /// The position of the last change of the same commit; equal to `seq` for the last change itself.
    pub commit_seq: Seq,
    /// The commit time: the same for all changes of a commit, and later than that of every commit before, unless the
    /// clock was accepted in between: see [`accept_clock`](crate::LocalStore::accept_clock).
    pub at: Timestamp,
    /// What the change did to the key.
    pub kind: ChangeKind,
    /// The key.
    pub key: Arc<str>,
    /// The key's version after the change: how many times it has changed, deletions included.
    pub version: u64,
    /// When the key was created; a key that was deleted and set again was created then.
    pub created_at: Timestamp,
    /// The position of the key's previous change; zero for its first.
    pub prev: Seq,
    /// When the value ends by itself; `None` if it does not, and for a deletion.
    pub until: Option<Until>,
    /// The value after the change; `None` for a deletion, and where the value was erased.
    pub value: Option<Arc<[u8]>>,
    /// Random bytes that are hashed with the value, so that nobody can find an erased value by hashing
    /// guesses. The salt is erased together with the value.
    pub salt: Option<[u8; SALT_BYTES]>,
    /// The hash of salt and value, which remains when the value is erased; `None` for a deletion.
    pub value_hash: Option<Hash>,
    /// Who wrote the change, and why.
    pub meta: Option<Arc<Meta>>,
    /// The chain hash: of the header of this change and the chain hash of the change before.
    pub hash: Hash,
}

impl Change {
    /// Whether this is the last change of its commit.
    pub fn closes_commit(&self) -> bool {
        self.seq == self.commit_seq
    }

    /// The head of the log right after this change.
    pub fn head(&self) -> Head {
        Head { seq: self.seq, hash: self.hash }
    }

    /// Whether the change set a value that has been erased since.
    pub fn is_erased(&self) -> bool {
        self.value.is_none() && self.value_hash.is_some()
    }

    /// The header, which is what the hash chain covers, in deterministic CBOR (RFC 8949, section 4.2).
    ///
    /// It is the array `[format, seq, commit_seq, at, kind, key, version, created_at, prev, value_hash,
    /// meta]`, with `until` before `value_hash` if the change has an end; `value_hash` and `meta` are null where the
    /// change has none.
    pub fn header(&self) -> Vec<u8> {
        let meta = self.meta.as_ref().map(|meta| meta.encode());
        self.view(meta.as_deref()).header()
    }

    /// The hash of the header.
    pub fn header_hash(&self) -> Hash {
        hash::header(&self.header())
    }

    /// The chain hash of this change, computed from the chain hash of the change before.
    pub fn chained_onto(&self, before: Hash) -> Hash {
        hash::link(before, self.header_hash())
    }

    /// Whether the store itself wrote the change, for this cause.
    pub(crate) fn has_cause(&self, cause: &str) -> bool {
        self.meta.as_ref().is_some_and(|meta| meta.has_cause(cause))
    }

    /// Whether the value matches its hash; true if the change has no value.
    pub(crate) fn has_its_value(&self) -> bool {
        self.view(None).has_its_value()
    }

    /// About how many bytes the change takes in memory.
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

#[cfg(test)]
impl Change {
    /// A first change at a position: it creates `/a` with an empty value, alone in its commit. Its hashes are not true.
    pub(crate) fn plain(seq: u64) -> Self {
        Self {
            seq: Seq::new(seq),
            commit_seq: Seq::new(seq),
            at: Timestamp::EPOCH,
            kind: ChangeKind::Created,
            key: "/a".into(),
            version: 1,
            created_at: Timestamp::EPOCH,
            prev: Seq::ZERO,
            until: None,
            value: Some(Arc::default()),
            salt: None,
            value_hash: None,
            meta: None,
            hash: Hash::from_bytes([1; 32]),
        }
    }
}
