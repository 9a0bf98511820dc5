//! Where log and projection live. Backends store and read; they decide nothing.

mod folded_state;
mod memory;
pub(crate) mod process;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

pub(crate) use folded_state::FoldedState;
pub(crate) use memory::Memory;
pub(crate) use process::Process;

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::error::{Result, StateError};
use crate::key::KeyRange;
use crate::log::{Change, ChangeView, Hash, Head, StoreId, Timestamp, Tip};
use crate::seq::Seq;
use crate::state::{Entry, KeyVersion, KeysBelow, RowView};

/// Where batches are recorded.
pub(crate) trait Backend: Send {
    /// One storage transaction.
    type Transaction<'a>: Transaction
    where
        Self: 'a;

    /// Begins a storage transaction, alone among all writers of the store.
    fn begin(&mut self) -> Result<Self::Transaction<'_>>;
}

/// A storage transaction of the writer; dropped without commit, it leaves no trace.
pub(crate) trait Transaction {
    /// The end of the log.
    fn tip(&self) -> Tip;

    /// The last change of the key.
    fn key_version(&self, key: &str) -> Result<Option<KeyVersion>>;

    /// What is under the prefix, where no more keys than `limit` need be counted.
    fn below(&self, prefix: &str, limit: usize) -> Result<KeysBelow>;

    /// The first and the last change of the commit with this id.
    fn remembered(&self, commit_id: &str) -> Result<Option<(Seq, Seq)>>;

    /// The changes from `first` to `last`.
    fn recorded(&self, first: Seq, last: Seq) -> Result<Vec<Change>>;

    /// Appends sealed changes of one commit, or of a part of one, to the log.
    fn append(&mut self, changes: &[Change]) -> Result<()>;

    /// Folds the last change of a key into the projection; `before` is what the key was when the transaction began.
    fn project(&mut self, change: &Change, before: Option<KeyVersion>) -> Result<()>;

    /// Makes it all visible, and durable where the store is.
    fn commit(self) -> Result<(), CommitError>;
}

/// Why a storage transaction did not commit.
#[derive(Debug)]
pub(crate) enum CommitError {
    /// Nothing of it was recorded.
    NotRecorded(StateError),
    /// All of it was recorded, or nothing; nobody knows.
    Unknown(StateError),
}

/// What exists in one state of a store, and since when. Every method answers from the same state.
pub(crate) trait View {
    /// The store's identity.
    fn store_id(&self) -> StoreId;

    /// The end of the log that this is the fold of.
    fn head(&self) -> Result<Head>;

    /// The current entry of the key.
    fn entry(&self, key: &str) -> Result<Option<Entry>>;

    /// The last change of the key, deletions included.
    fn key_version(&self, key: &str) -> Result<Option<KeyVersion>>;

    /// Whether the key exists.
    fn exists(&self, key: &str) -> Result<bool> {
        Ok(self.key_version(key)?.is_some_and(|key_version| key_version.is_live()))
    }

    /// The last change of the keys in the range after `after`, in the order of keys, until
    /// `visit` breaks. Deleted keys come only if `deleted` asks for them.
    fn rows(
        &self,
        range: &KeyRange,
        after: Option<&str>,
        deleted: bool,
        visit: &mut Visit<'_, Row>,
    ) -> Result<()>;

    /// The keys that exist in the range, in order, until `visit` breaks.
    fn keys(&self, range: &KeyRange, visit: &mut VisitKey<'_>) -> Result<()>;
}

/// The log of a store up to one state. Every method answers from the same state.
pub(crate) trait LogView {
    /// The end of the log.
    fn tip(&self) -> Result<Tip>;

    /// The change at a position.
    fn change(&self, seq: Seq) -> Result<Option<Change>>;

    /// The links of the change at a position, as they stand there: nothing but the columns is checked.
    fn link(&self, seq: Seq) -> Result<Option<Link>>;

    /// The changes after a position, in order, until `visit` breaks.
    fn changes(&self, after: Seq, visit: &mut Visit<'_, Change>) -> Result<()>;

    /// The changes after a position, up to another one, of the keys that start with a prefix, in order,
    /// each checked against the hash of the one before it, until `visit` breaks.
    fn changes_below(
        &self,
        prefix: &str,
        after: Seq,
        until: Seq,
        visit: &mut Visit<'_, Change>,
    ) -> Result<()>;

    /// The changes after a position, in order and without copies, until `visit` breaks.
    fn views(&self, after: Seq, visit: &mut VisitView<'_>) -> Result<()>;

    /// The hash of the header of the change at a position, where that is all there is of it.
    fn withheld(&self, _seq: Seq) -> Option<Hash> {
        None
    }

    /// Whether there is all of the log: from its first change on, with none withheld.
    fn is_whole(&self) -> bool {
        true
    }

    /// The position that the log begins after, and the hash there; the genesis of the store, unless it is a
    /// part of a log.
    fn floor(&self) -> Head;

    /// The largest position at or below `seq` that ends a commit, and the hash there.
    fn commit_end(&self, seq: Seq) -> Result<Head>;

    /// The hash at a position; at the floor that of the floor.
    fn hash_at(&self, seq: Seq) -> Result<Option<Hash>>;
}

/// One state of a store: its projection, its log up to there, and what is stored around both.
pub(crate) trait Snapshot: View + LogView {
    /// Every row of the projection, in the order of the storage, without copies.
    fn every_row(&self, visit: &mut VisitRow<'_>) -> Result<()>;

    /// The rows of the deleted keys in the range, in the order of keys, until `visit` breaks.
    fn tombstones(&self, range: &KeyRange, visit: &mut Visit<'_, Row>) -> Result<()>;

    /// The remembered commit ids with the first and last change of their commits, until `visit` breaks.
    fn commit_ids(&self, visit: &mut Visit<'_, (String, Seq, Seq)>) -> Result<()>;

    /// What is wrong with the file around the rows, in the words of the storage, until `visit` breaks.
    fn flaws(&self, _visit: &mut Visit<'_, String>) -> Result<()> {
        Ok(())
    }

    /// How much of the write-ahead log is in use, in bytes; zero where there is none.
    fn wal_bytes(&self) -> Result<u64> {
        Ok(0)
    }
}

/// What a reader calls with each item; breaking ends the read.
pub(crate) type Visit<'a, T> = dyn FnMut(T) -> Result<ControlFlow<()>> + 'a;

/// The same for keys, which are only borrowed.
pub(crate) type VisitKey<'a> = dyn FnMut(&str) -> Result<ControlFlow<()>> + 'a;

/// Where a change stands among the changes of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) seq: Seq,
    pub(crate) at: Timestamp,
    pub(crate) key: Arc<str>,
    pub(crate) version: u64,
    /// The key's change before; zero for its first.
    pub(crate) prev: Seq,
    /// An earlier change of the key, to shorten the way back. Derived and not hashed, so it may be
    /// anything in a damaged file.
    pub(crate) jump: Seq,
}

/// What a reader calls with each change that stays where it is.
pub(crate) type VisitView<'a> = dyn for<'v> FnMut(&ChangeView<'v>) -> Result<ControlFlow<()>> + 'a;

/// What a reader calls with each row that stays where it is.
pub(crate) type VisitRow<'a> = dyn for<'v> FnMut(&RowView<'v>) -> Result<ControlFlow<()>> + 'a;

/// A row of the projection.
#[derive(Debug)]
pub(crate) enum Row {
    /// A key that exists.
    Live(Entry),
    /// A key that exists, but whose value is gone.
    Erased { key: String, version: u64, created_at: Timestamp, updated_at: Timestamp, seq: Seq },
    /// A key that was deleted.
    Deleted { key: String, version: u64, seq: Seq },
    /// A row that contradicts its checksum or the schema; the key is empty if it cannot be read.
    Damaged { key: String, what: String },
}

impl Row {
    /// The entry, if the key exists.
    pub(crate) fn entry(self) -> Result<Option<Entry>> {
        match self {
            Self::Live(entry) => Ok(Some(entry)),
            Self::Erased { key, seq, .. } => Err(Entry::erased(&key, seq)),
            Self::Deleted { .. } | Self::Damaged { .. } => Ok(None),
        }
    }

    /// The key and the seq of its last change; an error if the row is damaged.
    pub(crate) fn place(&self) -> Result<(&str, Seq)> {
        match self {
            Self::Live(entry) => Ok((&entry.key, entry.seq)),
            Self::Deleted { key, seq, .. } | Self::Erased { key, seq, .. } => Ok((key, *seq)),
            Self::Damaged { what, .. } => Err(StateError::Corrupted(what.clone())),
        }
    }
}

/// The log has no change where it must have one.
pub(crate) fn missing(seq: Seq) -> StateError {
    StateError::Corrupted(format!("change {seq} is missing from the log"))
}
