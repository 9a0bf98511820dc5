//! The trait that programs depend on.

use std::ops::ControlFlow;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec::{conflict, decode_cbor, encode_cbor, json, last_version, of_key};
use super::history::{Diff, DiffPage, Past, Point, Restore};
use super::read::{DeletedKey, Page, Scan};
use super::receipt::Receipt;
use super::restoring::plan;
use super::update::Update;
use super::watch::{SnapshotWatch, WatchStream};
use super::with_meta::WithMeta;
use crate::error::{Result, StateError};
use crate::log::{Change, Commit, Cursor, Head, Meta};
use crate::seq::Seq;
use crate::state::{Batch, Entry, TransactionOp};

/// How many changes a replay reads at once.
const REPLAY_PAGE: usize = 1_000;

/// A store of versioned entries under hierarchical keys, whose source of truth is a log.
///
/// # Contract
/// Every implementation in this crate keeps these promises, and programs may rely on them.
///
/// **Strict serializability.** Operations of all tasks, handles and processes appear to take effect one
/// at a time, in real-time order: an operation that starts after another one has returned takes effect
/// after it. The order of writes is that of [`Seq`]. A read sees every write that had returned, and
/// everything that another read had returned, before it started, in whichever process. For a second at
/// most, files that were moved or changed behind a store's back are an exception: see `SqliteStore`.
///
/// **Atomicity.** A batch is recorded as a whole or not at all, and is seen as a whole or not at all by
/// readers and watches. A refused batch takes no position and leaves no trace.
///
/// **Durability at return.** A store on disk with `Durability::Synced`, which is the default, promises
/// this: when a write returns `Ok`, its changes are on disk, and what a read returns or a watch delivers
/// is on disk before. With `Durability::Buffered` the last commits may be lost when the machine
/// stops. A store in memory is gone with its last handle.
///
/// **Errors.** After any error but [`StateError::OutcomeUnknown`], nothing of the batch is or will be
/// recorded. After an unknown outcome the batch may or may not be recorded: retry it with the same
/// [`commit_id`](Batch::commit_id), which records it at most once, or read the log.
///
/// **Dropped futures.** A future may be dropped at any time. If a write has already reached the queue,
/// it is recorded or refused as if its caller had waited, and watches see it; else nothing happens.
/// The caller cannot tell the two apart, and treats a dropped write as an unknown outcome. Dropping a
/// read has no effect. Nothing is queued before the first poll of a future.
///
/// **Which state a method reads.**
///
/// | method | state |
/// |---|---|
/// | `get`, `exists`, `version`, `list`, `list_deleted`, `head`, `history` | the newest one at some moment between call and return |
/// | `get_many` | one state for all keys: the newest one at some moment between call and return |
/// | `scan` | the newest one for the first page; every page that follows by `next` is of that state, too |
/// | `diff` | the fixed states of its two points |
/// | `changes` | the log up to the newest commit, whole commits only |
/// | [`at`](Self::at) | the fixed state of the point; it does not change while the store goes on |
/// | conditions of a batch | the state right before the batch |
/// | `update_json`, `try_update_json`, `restore` | read first, then commit on condition that the keys have not changed since |
///
/// **Limits.** Sizes above [`Limits`](crate::Limits) are an error and never cut off. A page ends early
/// after 4 MiB. `list` has no limit: reading a million keys keeps the caller's thread busy meanwhile.
///
/// **Object safety.** `Arc<dyn StateStore>` has all methods, because the trait is implemented for
/// `Arc<S>`, `Box<S>` and `&S`. On a bare `&dyn StateStore` call the generic methods through one more
/// reference: `(&store).get_json(..)`. All futures are `Send`.
///
/// ```
/// use std::sync::Arc;
/// use univrs_state::{MemoryStore, Result, StateError, StateStore};
///
/// /// Takes a lease that nobody holds.
/// async fn lease(store: &Arc<dyn StateStore>, holder: &str) -> Result<bool> {
///     match store.create_if_not_exists("/leases/build", holder.into()).await {
///         Ok(_) => Ok(true),
///         Err(StateError::AlreadyExists(_)) => Ok(false),
///         Err(error) => Err(error),
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
/// let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
/// assert!(lease(&store, "n1").await?);
/// assert!(!lease(&store, "n2").await?);
/// # Ok(()) }
/// ```
///
/// # Errors
/// Every method returns [`StateError::InvalidKey`] for a key or pattern that breaks the rules,
/// [`StateError::Closed`] after the store was closed, and [`StateError::Storage`] or
/// [`StateError::Corrupted`] when the storage fails; writes also
/// [`StateError::LimitExceeded`], [`StateError::StorageFull`], [`StateError::Busy`],
/// [`StateError::ReadOnly`] and [`StateError::OutcomeUnknown`]. What else a method returns, it says.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// Records a batch, or refuses it whole.
    ///
    /// # Errors
    /// [`StateError::Rejected`] lists every condition that failed; [`StateError::CommitIdReused`].
    async fn commit(&self, batch: Batch) -> Result<Receipt>;

    /// The current entry of a key; `None` if it is absent.
    ///
    /// # Errors
    /// See the trait.
    async fn get(&self, key: &str) -> Result<Option<Entry>>;

    /// The entries of several keys in one state, in the order of `keys`. Absent keys are left out.
    ///
    /// # Errors
    /// [`StateError::LimitExceeded`] for more keys than a page may have entries.
    async fn get_many(&self, keys: &[&str]) -> Result<Page>;

    /// A page of the entries whose keys start with a prefix.
    ///
    /// # Errors
    /// [`StateError::LimitExceeded`] for a larger page than the store's limit.
    async fn scan(&self, scan: Scan) -> Result<Page>;

    /// All keys that start with these bytes (never a pattern), in the order of bytes.
    ///
    /// # Errors
    /// See the trait.
    async fn list(&self, prefix: &str) -> Result<Vec<String>>;

    /// Whether a key exists. Its row is checked, and its value is not copied.
    ///
    /// # Errors
    /// See the trait.
    async fn exists(&self, key: &str) -> Result<bool>;

    /// The version of a key; 0 if it is absent.
    ///
    /// # Errors
    /// See the trait.
    async fn version(&self, key: &str) -> Result<u64>;

    /// The end of the log.
    ///
    /// # Errors
    /// See the trait.
    async fn head(&self) -> Result<Head>;

    /// Whole commits after a position, in order. The answer ends with the commit that reaches `limit`
    /// changes or 4 MiB. If `after` lies inside a commit, that whole commit is the first.
    ///
    /// # Errors
    /// [`StateError::CursorDiverged`] for a position beyond the head; [`StateError::Compacted`].
    async fn changes(&self, after: Seq, limit: usize) -> Result<Vec<Commit>>;

    /// Changes of a key, deletions included, newest first, until `limit` changes or 4 MiB are reached.
    /// With a position, only changes before it: pass the position of the last change to get the next page.
    ///
    /// # Errors
    /// See the trait.
    async fn history(&self, key: &str, before: Option<Seq>, limit: usize) -> Result<Vec<Change>>;

    /// The store as it was at a point, for reading.
    ///
    /// # Errors
    /// [`StateError::CursorDiverged`] for a position beyond the head, another store or another hash;
    /// [`StateError::InsideCommit`] for a position inside a commit; [`StateError::InvalidArgument`] for a time before
    /// the first commit; [`StateError::Compacted`].
    async fn at(&self, point: Point) -> Result<Past>;

    /// A page of the differences between the states at two points: each key that differs, in order.
    ///
    /// # Errors
    /// Those of [`at`](Self::at); [`StateError::LimitExceeded`] for a larger page than the store's
    /// limit.
    async fn diff(&self, diff: Diff) -> Result<DiffPage>;

    /// The keys that start with these bytes and are deleted, in the order of bytes.
    ///
    /// # Errors
    /// See the trait.
    async fn list_deleted(&self, prefix: &str) -> Result<Vec<DeletedKey>>;

    /// The changes of matching keys from now on. A change that was acknowledged before the call, in
    /// whichever process, is not among them; every change that is committed after it is. The call looks
    /// for the newest position on the caller's thread. That takes microseconds, or milliseconds while this
    /// process reads what another one wrote.
    ///
    /// # Errors
    /// [`StateError::InvalidKey`] for a pattern that breaks the rules; [`StateError::Unsupported`] for an export that
    /// withholds changes or begins after the first change of its log.
    fn watch(&self, pattern: &str) -> Result<WatchStream>;

    /// The changes of matching keys after a position: resumes a watch. If the log does not have the
    /// position, the first poll returns the error.
    ///
    /// # Errors
    /// Those of [`watch`](Self::watch); [`StateError::CursorDiverged`] for a cursor of another store.
    fn watch_after(&self, pattern: &str, after: Cursor) -> Result<WatchStream>;

    /// The entries of matching keys in one state, then every change of matching keys after it. A program that holds a
    /// copy of a part of the store needs this.
    ///
    /// # Errors
    /// Those of [`watch`](Self::watch).
    fn watch_with_snapshot(&self, pattern: &str) -> Result<SnapshotWatch>;

    /// Sets a key to a value; returns the new version of the key.
    ///
    /// # Errors
    /// See the trait.
    async fn set(&self, key: &str, value: Vec<u8>) -> Result<u64> {
        let receipt = self.commit(Batch::new().set(key, value)).await?;
        Ok(last_version(&receipt))
    }

    /// Deletes a key. If it is absent, that is no error, and nothing is recorded.
    ///
    /// # Errors
    /// See the trait.
    async fn delete(&self, key: &str) -> Result<()> {
        self.commit(Batch::new().delete(key)).await.map(|_| ())
    }

    /// Sets a key if it has this version (0: if it is absent); returns the new version.
    ///
    /// # Errors
    /// [`StateError::VersionConflict`] if it has another version.
    async fn compare_and_set(&self, key: &str, expected_version: u64, value: Vec<u8>) -> Result<u64> {
        let batch = Batch::new().expect(key, expected_version).set(key, value);
        Ok(last_version(&self.commit(batch).await.map_err(conflict)?))
    }

    /// Sets a key that is absent; returns its version: 1, or one more than before if the key was deleted.
    ///
    /// # Errors
    /// [`StateError::AlreadyExists`].
    async fn create_if_not_exists(&self, key: &str, value: Vec<u8>) -> Result<u64> {
        match self.commit(Batch::new().expect_absent(key).set(key, value)).await {
            Err(StateError::Rejected(_)) => Err(StateError::AlreadyExists(key.to_owned())),
            receipt => receipt.map(|receipt| last_version(&receipt)),
        }
    }

    /// Restores keys to their values at a point, by new changes in one commit. What is restored does not end by itself.
    /// If nothing differs, nothing is recorded.
    ///
    /// # Errors
    /// Those of [`at`](Self::at); [`StateError::Rejected`] if one of the keys changes meanwhile;
    /// [`StateError::Erased`] if a value to restore was erased; [`StateError::LimitExceeded`] if a batch cannot hold
    /// all writes, or the 10 000 conditions that they need: restore narrower prefixes, or some keys, one by one.
    async fn restore(&self, restore: Restore) -> Result<Receipt> {
        self.commit(plan(self, restore).await?).await
    }

    /// Calls `visit` with each commit after one point and up to another, in order, until it breaks. Returns the
    /// position of the last commit that was visited, or that of the first point if there was none.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use univrs_state::history::Point;
    /// use univrs_state::{MemoryStore, Seq, StateStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
    /// let store = MemoryStore::new();
    /// for n in 1..=3 {
    ///     store.set("/a", vec![n]).await?;
    /// }
    /// let mut total = 0;
    /// let sum = |commit: univrs_state::log::Commit| {
    ///     total += commit.changes.iter().filter_map(|change| change.value.as_deref()).map(|v| v[0]).sum::<u8>();
    ///     Ok(ControlFlow::Continue(()))
    /// };
    /// store.replay(Seq::ZERO.into(), Point::Head, sum).await?;
    /// assert_eq!(total, 6);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`at`](Self::at), and what `visit` returns.
    async fn replay<F>(&self, after: Point, to: Point, mut visit: F) -> Result<Seq>
    where
        Self: Sized,
        F: FnMut(Commit) -> Result<ControlFlow<()>> + Send,
    {
        let (mut after, to) = (self.at(after).await?.seq(), self.at(to).await?.seq());
        while after < to {
            let page = self.changes(after, REPLAY_PAGE).await?;
            if page.is_empty() {
                break;
            }
            for commit in page {
                if commit.last > to {
                    return Ok(after);
                }
                after = commit.last;
                if visit(commit)?.is_break() {
                    return Ok(after);
                }
            }
        }
        Ok(after)
    }

    /// Records operations together, or none of them. Checks are judged against the state before the transaction,
    /// wherever they stand among the operations.
    ///
    /// # Errors
    /// [`StateError::VersionConflict`] of the first check that failed.
    async fn transaction(&self, ops: Vec<TransactionOp>) -> Result<Receipt> {
        self.commit(ops.into()).await.map_err(conflict)
    }

    /// The value of a key, decoded as JSON; `None` if the key is absent.
    ///
    /// # Errors
    /// [`StateError::SerializationError`] if the value is not JSON, or not of the type `T`.
    async fn get_json<T: DeserializeOwned + Send>(&self, key: &str) -> Result<Option<T>>
    where
        Self: Sized,
    {
        self.get(key).await?.map(|entry| entry.value_json().map_err(|error| of_key(key, error))).transpose()
    }

    /// The value of a key, decoded as JSON, and its version; `None` if the key is absent.
    ///
    /// # Errors
    /// [`StateError::SerializationError`] if the value is not JSON, or not of the type `T`.
    async fn get_json_versioned<T: DeserializeOwned + Send>(&self, key: &str) -> Result<Option<(T, u64)>>
    where
        Self: Sized,
    {
        let Some(entry) = self.get(key).await? else { return Ok(None) };
        let value = entry.value_json().map_err(|error| of_key(key, error))?;
        Ok(Some((value, entry.version)))
    }

    /// Sets a key to a value that is encoded as JSON; returns its new version.
    ///
    /// # Errors
    /// [`StateError::SerializationError`] if the value cannot be encoded.
    async fn set_json<T: Serialize + Send + Sync>(&self, key: &str, value: &T) -> Result<u64>
    where
        Self: Sized,
    {
        self.set(key, json(key, value)?).await
    }

    /// Sets a key to a value that is encoded as JSON, if the key has this version (0: if it is absent); returns the
    /// new version.
    ///
    /// # Errors
    /// [`StateError::VersionConflict`], [`StateError::SerializationError`].
    async fn compare_and_set_json<T: Serialize + Send + Sync>(
        &self,
        key: &str,
        expected_version: u64,
        value: &T,
    ) -> Result<u64>
    where
        Self: Sized,
    {
        self.compare_and_set(key, expected_version, json(key, value)?).await
    }

    /// Reads a key as JSON, and sets it, deletes it or leaves it alone, as `change` says. If somebody else wrote the
    /// key meanwhile, it starts again with what they wrote. `change` gets `None` for an absent key. If it returns an
    /// error, nothing is written. Returns the version that the key has afterwards; 0 if it is absent.
    ///
    /// ```
    /// use univrs_state::{MemoryStore, StateStore, Update};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
    /// let store = MemoryStore::new();
    /// for _ in 0..3 {
    ///     store.update_json("/hits", |hits: Option<u64>| Ok(Update::Set(hits.unwrap_or(0) + 1))).await?;
    /// }
    /// assert_eq!(store.get_json::<u64>("/hits").await?, Some(3));
    /// let keep_few = |hits: Option<u64>| Ok(if hits < Some(10) { Update::Keep } else { Update::Delete });
    /// assert_eq!(store.update_json("/hits", keep_few).await?, 3);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What `change` returns; [`StateError::SerializationError`] if the value is not JSON of the type `T`, or cannot be
    /// encoded.
    async fn update_json<T, F>(&self, key: &str, mut change: F) -> Result<u64>
    where
        Self: Sized,
        T: Serialize + DeserializeOwned + Send + Sync,
        F: FnMut(Option<T>) -> Result<Update<T>> + Send,
    {
        let update = self.try_update_json(key, |value| Ok((change(value)?, ()))).await;
        update.map(|((), version)| version)
    }

    /// Does what [`update_json`](Self::update_json) does, with results and errors of your own: `change` also returns a
    /// result, and may fail with any error that a [`StateError`] converts into. Returns the result of the last call of
    /// `change`, and the version that the key has afterwards; 0 if it is absent.
    ///
    /// ```
    /// use univrs_state::{MemoryStore, StateError, StateStore, Update};
    ///
    /// #[derive(Debug)]
    /// enum NotSold {
    ///     SoldOut,
    ///     Store(StateError),
    /// }
    ///
    /// impl From<StateError> for NotSold {
    ///     fn from(error: StateError) -> Self {
    ///         Self::Store(error)
    ///     }
    /// }
    ///
    /// /// Sells a ticket; returns how many are left.
    /// async fn sell(store: &MemoryStore) -> Result<u32, NotSold> {
    ///     let sell = |tickets: Option<u32>| match tickets {
    ///         Some(tickets @ 1..) => Ok((Update::Set(tickets - 1), tickets - 1)),
    ///         _ => Err(NotSold::SoldOut),
    ///     };
    ///     let (left, _version) = store.try_update_json("/tickets", sell).await?;
    ///     Ok(left)
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), NotSold> {
    /// let store = MemoryStore::new();
    /// store.set_json("/tickets", &1).await?;
    /// assert_eq!(sell(&store).await?, 0);
    /// assert!(matches!(sell(&store).await, Err(NotSold::SoldOut)));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`update_json`](Self::update_json).
    async fn try_update_json<T, R, E, F>(&self, key: &str, mut change: F) -> Result<(R, u64), E>
    where
        Self: Sized,
        T: Serialize + DeserializeOwned + Send + Sync,
        R: Send,
        E: From<StateError>,
        F: FnMut(Option<T>) -> Result<(Update<T>, R), E> + Send,
    {
        loop {
            let (value, version) = self.get_json_versioned(key).await?.unzip();
            let version = version.unwrap_or(0);
            let (update, result) = change(value)?;
            let Some(batch) = update.json_batch(key, version)? else { return Ok((result, version)) };
            match self.commit(batch).await {
                Err(StateError::Rejected(_)) => {}
                receipt => return Ok((result, last_version(&receipt?))),
            }
        }
    }

    /// The value of a key, decoded as CBOR; `None` if the key is absent.
    ///
    /// # Errors
    /// [`StateError::SerializationError`] if the value is not CBOR, or not of the type `T`.
    async fn get_cbor<T: DeserializeOwned + Send>(&self, key: &str) -> Result<Option<T>>
    where
        Self: Sized,
    {
        self.get(key)
            .await?
            .map(|entry| decode_cbor(&entry.value).map_err(|error| of_key(key, error)))
            .transpose()
    }

    /// Sets a key to a value that is encoded as CBOR; returns its new version.
    ///
    /// # Errors
    /// [`StateError::SerializationError`] if the value cannot be encoded as CBOR.
    async fn set_cbor<T: Serialize + Send + Sync>(&self, key: &str, value: &T) -> Result<u64>
    where
        Self: Sized,
    {
        self.set(key, encode_cbor(key, value)?).await
    }

    /// A handle that adds metadata to every batch. Fields that a batch sets itself are kept.
    ///
    /// ```
    /// use univrs_state::{MemoryStore, Meta, Seq, StateStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
    /// let store = MemoryStore::new();
    /// store.with_meta(Meta::new().actor("scheduler")).set("/a", b"1".to_vec()).await?;
    /// let commits = store.changes(Seq::ZERO, 1).await?;
    /// assert_eq!(commits[0].meta.as_ref().unwrap().actor.as_deref(), Some("scheduler"));
    /// # Ok(()) }
    /// ```
    fn with_meta(&self, meta: Meta) -> WithMeta<Self>
    where
        Self: Sized + Clone,
    {
        WithMeta::new(self.clone(), meta)
    }
}
