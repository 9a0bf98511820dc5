//! Reading a past state.

use std::fmt;
use std::sync::Arc;

use super::as_of;
use crate::backend::Snapshot;
use crate::error::Result;
use crate::key::{validate_key, validate_prefix};
use crate::limits::Exceeded;
use crate::log::{Cursor, Head, Timestamp};
use crate::seq::Seq;
use crate::state::{Entry, KeyVersion};
use crate::store::open_store::OpenStore;
use crate::store::read::{DeletedKey, Page, Scan, current, key_history};

/// A store as it was at a point of its history: a handle for reading. Made by
/// [`StateStore::at`](crate::StateStore::at).
///
/// Every method answers from the same state, even if the store goes on. A key is found through its history, by
/// pointers that skip changes: a read takes some microseconds, and reads at most 60 rows however far back it
/// goes. The handle keeps the store open.
///
/// ```
/// use univrs_state::{MemoryStore, Scan, Seq, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// store.set("/config/rate", b"7".to_vec()).await?;
/// store.delete("/config/rate").await?;
///
/// let past = store.at(Seq::new(1).into()).await?;
/// assert_eq!(past.get("/config/rate").await?.unwrap().value, b"7");
/// assert_eq!(past.list("/config/").await?, ["/config/rate"]);
/// assert_eq!(store.list("/config/").await?.len(), 0);
/// # Ok(()) }
/// ```
///
/// # Errors
/// Every method returns [`StateError::InvalidKey`](crate::StateError::InvalidKey) for a key that
/// breaks the rules, [`StateError::Erased`](crate::StateError::Erased) where a value is gone,
/// [`StateError::Closed`](crate::StateError::Closed) after the store was closed, and
/// [`StateError::Storage`](crate::StateError::Storage) or
/// [`StateError::Corrupted`](crate::StateError::Corrupted) when the storage fails.
#[derive(Clone)]
pub struct Past {
    core: Arc<OpenStore>,
    cursor: Cursor,
    head: Head,
    at: Option<Timestamp>,
}

impl Past {
    pub(crate) fn new(core: Arc<OpenStore>, head: Head, at: Option<Timestamp>) -> Self {
        let cursor = Cursor::new(core.shared.store, head);
        Self { core, cursor, head, at }
    }

    /// The position as a cursor. A watch that resumes from it delivers every later change.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The head of the log at the point.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The position of the last change of this state: the end of a commit.
    pub fn seq(&self) -> Seq {
        self.head.seq
    }

    /// The time of the last commit of this state; `None` before the first commit.
    pub fn at(&self) -> Option<Timestamp> {
        self.at
    }

    /// The entry of a key; `None` if it was absent.
    ///
    /// # Errors
    /// See the type.
    pub async fn get(&self, key: &str) -> Result<Option<Entry>> {
        validate_key(key)?;
        let (key, at) = (key.to_owned(), self.seq());
        let read = move |snapshot: &dyn Snapshot| as_of::entry(snapshot, &key, at);
        self.core.read_snapshot(read).await
    }

    /// The entries of several keys, in the order of `keys`. Absent keys are left out.
    ///
    /// # Errors
    /// [`StateError::LimitExceeded`](crate::StateError::LimitExceeded) for more keys than a page may have entries.
    pub async fn get_many(&self, keys: &[&str]) -> Result<Page> {
        Exceeded::check_limit(keys.len(), self.core.limits().page_entries, "keys", || "get_many".into())?;
        keys.iter().try_for_each(|key| validate_key(key))?;
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let (cursor, at) = (self.cursor, self.seq());
        let read = move |snapshot: &dyn Snapshot| {
            let entries = keys.iter().filter_map(|key| as_of::entry(snapshot, key, at).transpose());
            Ok(Page { entries: entries.collect::<Result<_>>()?, ..Page::at(cursor) })
        };
        self.core.read_snapshot(read).await
    }

    /// A page of the entries whose keys start with a prefix.
    ///
    /// # Errors
    /// [`StateError::LimitExceeded`](crate::StateError::LimitExceeded) for a larger page than the store's limit.
    pub async fn scan(&self, scan: Scan) -> Result<Page> {
        validate_prefix(&scan.prefix)?;
        let scan = Scan { as_of: Some(self.cursor), ..scan };
        let limits = self.core.limits().clone();
        self.core.read_snapshot(move |snapshot| current::scan(snapshot, &limits, &scan)).await
    }

    /// All keys that start with these bytes (never a pattern), in the order of bytes.
    ///
    /// # Errors
    /// See the type.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        validate_prefix(prefix)?;
        let (prefix, at) = (prefix.to_owned(), self.seq());
        self.core.read_snapshot(move |snapshot| as_of::list(snapshot, &prefix, at)).await
    }

    /// The keys with this prefix that had been deleted, in the order of bytes.
    ///
    /// # Errors
    /// See the type.
    pub async fn list_deleted(&self, prefix: &str) -> Result<Vec<DeletedKey>> {
        validate_prefix(prefix)?;
        let (prefix, at) = (prefix.to_owned(), self.seq());
        self.core.read_snapshot(move |snapshot| as_of::list_deleted(snapshot, &prefix, at)).await
    }

    /// Whether a key existed.
    ///
    /// # Errors
    /// See the type.
    pub async fn exists(&self, key: &str) -> Result<bool> {
        Ok(self.version(key).await? > 0)
    }

    /// The version of a key; 0 if it was absent.
    ///
    /// # Errors
    /// See the type.
    pub async fn version(&self, key: &str) -> Result<u64> {
        validate_key(key)?;
        let (key, at) = (key.to_owned(), self.seq());
        let version = move |snapshot: &dyn Snapshot| {
            let change = key_history::last_at(snapshot, &key, at)?;
            Ok(change.map_or(0, |change| KeyVersion::from_change(&change).live_version()))
        };
        self.core.read_snapshot(version).await
    }
}

impl fmt::Debug for Past {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Past").field("cursor", &self.cursor).field("at", &self.at).finish_non_exhaustive()
    }
}
