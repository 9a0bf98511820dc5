//! The storage of log and projection. Backends store and read; they decide nothing.

mod folded_state;
pub(crate) mod folder;
mod memory;
pub(crate) mod process;
mod slice;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

pub(crate) use folded_state::FoldedState;
pub(crate) use memory::Memory;
pub(crate) use process::Process;
pub(crate) use slice::{Linked, Slice};

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::error::{Result, StateError};
use crate::key::KeyRange;
use crate::log::{Change, ChangeView, Hash, Head, StoreId, Timestamp, Tip, Until};
use crate::seq::Seq;
use crate::state::{Entry, Floor, Forgotten, KeyVersion, KeysBelow, RowView, Thinning};

/// A storage that batches are recorded in.
pub(crate) trait Backend: Send {
    /// One storage transaction.
    type Transaction<'a>: Transaction
    where
        Self: 'a;

    /// Begins a storage transaction. Until it ends, no other writer of the store can begin one.
    fn begin(&mut self) -> Result<Self::Transaction<'_>>;
}

/// What batches are decided on.
pub(crate) trait DecisionView {
    /// The end of the log.
    fn tip(&self) -> Tip;

    /// The floor of the log.
    fn floor(&self) -> Result<Floor>;

    /// The last change of the key, also if it is forgotten and its row is still there.
    fn key_version(&self, key: &str) -> Result<Option<KeyVersion>>;

    /// The keys under the prefix, without forgotten ones. Counting may stop above `limit`.
    fn below(&self, prefix: &str, limit: usize) -> Result<KeysBelow>;

    /// Visits the entries of the keys under the prefix, in the order of keys, until `visit` breaks.
    fn entries(&self, prefix: &str, visit: &mut Visit<'_, Entry>) -> Result<()>;

    /// The first and the last change of the commit with this id; it may lie at or below the floor.
    fn remembered(&self, commit_id: &str) -> Result<Option<(Seq, Seq)>>;

    /// The changes from `first` to `last`.
    fn recorded(&self, first: Seq, last: Seq) -> Result<Vec<Change>>;
}

/// A storage transaction of the writer. If it is dropped without commit, it leaves no trace.
pub(crate) trait Transaction: DecisionView {
    /// Appends sealed changes to the log: those of one commit, or a part of them.
    fn append(&mut self, changes: &[Change]) -> Result<()>;

    /// Appends changes at or below the floor, in order, to a log that is being loaded.
    fn append_base(&mut self, base: &[Linked]) -> Result<()>;

    /// Folds the last change of a key into the projection; `before` is the key's version when the transaction
    /// began. If the change begins the key anew, `before` was forgotten, and its row may be gone already.
    fn project(&mut self, change: &Change, before: Option<KeyVersion>) -> Result<()>;

    /// Sets the floor of the log.
    fn set_floor(&mut self, floor: &Floor) -> Result<()>;

    /// Drops what a slice of the compaction names; false, and nothing is dropped, if the compaction is not where the slice
    /// begins.
    fn drop_slice(&mut self, slice: &Slice) -> Result<bool>;

    /// The thinning that goes on.
    fn thinning(&self) -> Result<Option<Thinning>>;

    /// Sets the thinning that goes on, or that none does.
    fn set_thinning(&mut self, thinning: Option<&Thinning>) -> Result<()>;

    /// Drops salts and values of changes at these positions, in order, where they are there; false, and nothing is dropped,
    /// if another thinning goes on than this one, or none.
    fn thin(&mut self, thinning: &Thinning, seqs: &[Seq]) -> Result<bool>;

    /// Erases salts and values of changes at these positions, in order, where they are there: the storage overwrites them.
    fn erase(&mut self, seqs: &[Seq]) -> Result<()>;

    /// Makes all of it visible to readers, and durable if the store is.
    fn commit(self) -> Result<(), CommitError>;
}

/// Why a storage transaction did not commit.
#[derive(Debug)]
pub(crate) enum CommitError {
    /// Nothing was recorded.
    NotRecorded(StateError),
    /// Either all of it was recorded or nothing; it is not known which.
    Unknown(StateError),
}

/// The projection in one state of a store. Every method answers from the same state.
pub(crate) trait View {
    /// The store's identity.
    fn store_id(&self) -> StoreId;

    /// The head of the log that this is the fold of.
    fn head(&self) -> Result<Head>;

    /// The current entry of the key.
    fn entry(&self, key: &str) -> Result<Option<Entry>>;

    /// The last change of the key, deletions included but for forgotten ones.
    fn key_version(&self, key: &str) -> Result<Option<KeyVersion>>;

    /// Whether the key exists.
    fn exists(&self, key: &str) -> Result<bool> {
        Ok(self.key_version(key)?.is_some_and(|key_version| key_version.is_live()))
    }

    /// Visits the rows of the keys in the range that are greater than `after`, in the order of keys, until
    /// `visit` breaks. Deleted keys are visited only if `deleted` is set.
    fn rows(
        &self,
        range: &KeyRange,
        after: Option<&str>,
        deleted: bool,
        visit: &mut Visit<'_, Row>,
    ) -> Result<()>;

    /// Visits the entries of the keys with a prefix, in the order of keys, until `visit` breaks.
    fn entries(&self, prefix: &str, visit: &mut Visit<'_, Entry>) -> Result<()> {
        self.rows(&KeyRange::prefix(prefix), None, false, &mut |row| match row.entry()? {
            Some(entry) => visit(entry),
            None => Ok(ControlFlow::Continue(())),
        })
    }

    /// Visits the keys that exist in the range, in order, until `visit` breaks.
    fn keys(&self, range: &KeyRange, visit: &mut VisitKey<'_>) -> Result<()>;
}

/// The log of a store up to one state. Every method answers from the same state.
pub(crate) trait LogView {
    /// The end of the log.
    fn tip(&self) -> Result<Tip>;

    /// The change at a position; [`StateError::Compacted`] if it was dropped from the log.
    fn change(&self, seq: Seq) -> Result<Option<Change>>;

    /// The links of the change at a position. Only the types of the columns are checked.
    fn link(&self, seq: Seq) -> Result<Option<Link>>;

    /// Visits the changes after a position, in order, until `visit` breaks.
    fn changes(&self, after: Seq, visit: &mut Visit<'_, Change>) -> Result<()>;

    /// Visits the changes that there are after a position, up to another one, in order, until `visit` breaks. At or below
    /// the floor this is the base, and what an unfinished compaction has not yet dropped.
    fn linked(&self, after: Seq, to: Seq, visit: &mut Visit<'_, Linked>) -> Result<()>;

    /// Visits the positions of the changes that there are after a position, up to another one, in order, each with that of
    /// the change that it replaced, until `visit` breaks.
    fn replaced(&self, after: Seq, to: Seq, visit: &mut Visit<'_, (Seq, Seq)>) -> Result<()>;

    /// Visits the changes after a position, up to another one, whose value is there, in order, until `visit` breaks. Values
    /// are not read, and only the types of the columns are checked.
    fn valued(&self, after: Seq, to: Seq, visit: &mut Visit<'_, Valued>) -> Result<()>;

    /// Visits the changes of the keys with a prefix after a position, up to another one, in order, until
    /// `visit` breaks. Each is checked against the chain hash of the change before it in the log.
    fn changes_below(
        &self,
        prefix: &str,
        after: Seq,
        until: Seq,
        visit: &mut Visit<'_, Change>,
    ) -> Result<()>;

    /// Visits the changes after a position, in order and borrowed, until `visit` breaks.
    fn views(&self, after: Seq, visit: &mut VisitView<'_>) -> Result<()>;

    /// The hash of the header of the change at a position, if that change is withheld.
    fn withheld(&self, _seq: Seq) -> Option<Hash> {
        None
    }

    /// Whether the log is complete: it begins with the first change or has its base, and no change is withheld.
    fn is_whole(&self) -> bool {
        true
    }

    /// Whether the log was read from an export, which ends where it says while the log of its store may go on.
    fn is_export(&self) -> bool {
        false
    }

    /// The floor: the position that the log begins after.
    fn floor(&self) -> Result<Floor>;

    /// The thinning that goes on. An export has none.
    fn thinning(&self) -> Result<Option<Thinning>> {
        Ok(None)
    }

    /// The largest position at or below `seq` that ends a commit, and the chain hash there.
    fn commit_end(&self, seq: Seq) -> Result<Head>;

    /// The chain hash at a position; at the floor that of the floor.
    fn hash_at(&self, seq: Seq) -> Result<Option<Hash>>;
}

/// One state of a store: its projection, its log up to there, and what is stored around both.
pub(crate) trait Snapshot: View + LogView {
    /// Visits every row of the projection, in the order of the storage and borrowed.
    fn every_row(&self, visit: &mut VisitRow<'_>) -> Result<()>;

    /// Visits the rows of the deleted keys in the range, in the order of keys, until `visit` breaks.
    fn tombstones(&self, range: &KeyRange, visit: &mut Visit<'_, Row>) -> Result<()>;

    /// Visits the remembered commit ids above the floor with the first and the last change of their commits, until `visit`
    /// breaks.
    fn commit_ids(&self, visit: &mut Visit<'_, (String, Seq, Seq)>) -> Result<()>;

    /// The first and the last change of the commit with this id; it may lie at or below the floor.
    fn remembered(&self, commit_id: &str) -> Result<Option<(Seq, Seq)>>;

    /// Visits the flaws of the file that no row shows, in the words of the storage, until `visit` breaks.
    fn flaws(&self, _visit: &mut Visit<'_, String>) -> Result<()> {
        Ok(())
    }

    /// An error if what was read may be of several states, because somebody has changed a file that is read as
    /// one that nobody changes.
    fn check_unchanged(&self) -> Result<()> {
        Ok(())
    }
}

/// A function that a read calls with each item. Breaking ends the read.
pub(crate) type Visit<'a, T> = dyn FnMut(T) -> Result<ControlFlow<()>> + 'a;

/// A function that a read calls with each key, borrowed. Breaking ends the read.
pub(crate) type VisitKey<'a> = dyn FnMut(&str) -> Result<ControlFlow<()>> + 'a;

/// The links of a change to the earlier changes of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) seq: Seq,
    pub(crate) at: Timestamp,
    pub(crate) key: Arc<str>,
    pub(crate) version: u64,
    /// The key's previous change; zero for its first.
    pub(crate) prev: Seq,
    /// The jump pointer: an earlier change of the key. It is derived and not hashed, so it may be wrong in a
    /// damaged file.
    pub(crate) jump: Seq,
}

/// A change whose value is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Valued {
    pub(crate) seq: Seq,
    pub(crate) key: Arc<str>,
    /// The length of the value.
    pub(crate) bytes: u64,
}

/// A function that a read calls with each change, borrowed. Breaking ends the read.
pub(crate) type VisitView<'a> = dyn for<'v> FnMut(&ChangeView<'v>) -> Result<ControlFlow<()>> + 'a;

/// A function that a read calls with each row, borrowed. Breaking ends the read.
pub(crate) type VisitRow<'a> = dyn for<'v> FnMut(&RowView<'v>) -> Result<ControlFlow<()>> + 'a;

/// A row of the projection.
#[derive(Debug)]
pub(crate) enum Row {
    /// A key that exists.
    Live(Entry),
    /// A key that exists, but whose value was erased.
    Erased {
        key: String,
        version: u64,
        created_at: Timestamp,
        updated_at: Timestamp,
        seq: Seq,
        until: Option<Until>,
    },
    /// A key that was deleted.
    Deleted { key: String, version: u64, seq: Seq },
    /// A row that does not match its checksum or the schema. The key is empty if it cannot be read.
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

    /// Whether it is of a deleted key that is forgotten.
    pub(crate) fn is_forgotten(&self, forgotten: Option<&Forgotten>) -> bool {
        match self {
            Self::Deleted { key, seq, .. } => forgotten.is_some_and(|forgotten| forgotten.covers(key, *seq)),
            _ => false,
        }
    }

    /// The key and the position of its last change; an error if the row is damaged.
    pub(crate) fn place(&self) -> Result<(&str, Seq)> {
        match self {
            Self::Live(entry) => Ok((&entry.key, entry.seq)),
            Self::Deleted { key, seq, .. } | Self::Erased { key, seq, .. } => Ok((key, *seq)),
            Self::Damaged { what, .. } => Err(StateError::Corrupted(what.clone())),
        }
    }
}

/// The error of a change that the log must have and lacks.
pub(crate) fn missing(seq: Seq) -> StateError {
    StateError::Corrupted(format!("change {seq} is missing from the log"))
}
