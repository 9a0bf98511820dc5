//! The operations of a store that this process has open.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::consumer::{self, ConsumerInfo, ConsumerRequest};
use super::history::{Mark, Point, Restore};
use super::marks;
use super::receipt::Receipt;
use super::restoring::plan;
use super::state_store::StateStore;
use super::stats::Stats;
use super::transfer::{Export, Exported};
use super::verify::Verify;
use crate::audit::VerifyReport;
use crate::error::{Result, StateError};
use crate::key::CLOCK_KEY;
use crate::log::{Anchor, Cursor, Head, Meta, StoreId, cause};
use crate::state::Batch;

/// What is recorded when the clock is accepted. When, by whom and why, the change itself says.
const CLOCK_RECORD: &str = r#"{"v":1}"#;

/// The operations of a store that this process has open, beside those of [`StateStore`]: verify, export,
/// statistics, marks, the clock, and close.
///
/// [`SqliteStore`](crate::SqliteStore), [`MemoryStore`](crate::MemoryStore) and
/// [`Archive`](crate::archive::Archive) implement it, and so do `Arc`, `Box`, references and
/// [`WithMeta`](crate::WithMeta) of them. The trait is object safe; on a bare `&dyn LocalStore` call
/// `export` and `export_to` through one more reference. Nothing outside of this crate can implement it.
///
/// ```
/// use univrs_state::{LocalStore, MemoryStore, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// store.set("/a", b"1".to_vec()).await?;
/// assert!(store.verify().await?.is_intact());
/// store.close().await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// Every method that returns a result returns [`StateError::Closed`](crate::StateError::Closed) after the
/// store was closed, and [`StateError::Storage`](crate::StateError::Storage) when the storage fails. What
/// else a method returns, it says.
#[async_trait]
pub trait LocalStore: StateStore + sealed::Opened {
    /// The store's identity, which is drawn when it is created.
    fn store_id(&self) -> StoreId {
        self.opened().0.shared.store
    }

    /// The floor of the log: the position that it begins after, and the chain hash there. It is 0 unless the log was
    /// [compacted](crate::retain::Retention::compact), or is that of an export which begins later.
    ///
    /// # Errors
    /// See the trait.
    async fn floor(&self) -> Result<Head> {
        self.opened().0.read_snapshot(|snapshot| Ok(snapshot.floor()?.head)).await
    }

    /// Counts since the store was opened, the write-ahead log, what is in memory, and how far each watch
    /// lags.
    ///
    /// # Errors
    /// See the trait.
    async fn stats(&self) -> Result<Stats> {
        self.opened().0.stats().await
    }

    /// Checks the whole log against its hashes, every row against its checksum, and the
    /// projection against the log. Reads one state throughout: the write-ahead log of a store on disk is
    /// not started over while it runs.
    ///
    /// # Errors
    /// See the trait. Contradictions are no errors: they are in the report.
    async fn verify(&self) -> Result<VerifyReport> {
        self.opened().0.verify(Verify::full()).await
    }

    /// Verifies as the request says: at a level, against anchors, with a progress function.
    ///
    /// # Errors
    /// Those of [`verify`](Self::verify); [`StateError::Panicked`](crate::StateError::Panicked) if the
    /// progress function panics.
    async fn verify_with(&self, verify: Verify) -> Result<VerifyReport> {
        self.opened().0.verify(verify).await
    }

    /// The head of the log with the id of the store, as one line to be kept in another place.
    ///
    /// # Errors
    /// See the trait.
    async fn anchor(&self) -> Result<Anchor> {
        self.opened().0.anchor().await
    }

    /// Writes the log to a writer, checked on the way. Reads one state throughout. It ends soon after its future was
    /// dropped, or when the writer fails.
    ///
    /// # Errors
    /// Those of [`StateStore::at`] for its points; the error of the writer;
    /// [`StateError::Corrupted`](crate::StateError::Corrupted) if the log contradicts itself. What was written
    /// until then lacks the end line, so every reader refuses it.
    async fn export<W>(&self, export: Export, write: W) -> Result<Exported>
    where
        Self: Sized,
        W: Write + Send + 'static,
    {
        self.opened().0.export(export, write).await
    }

    /// Writes the log to a file, which must not exist yet. The file is made for its owner alone, and is
    /// there only when it is complete and on disk. If the future is dropped before that, nothing is left.
    ///
    /// # Errors
    /// Those of [`export`](Self::export); [`StateError::CannotOpen`](crate::StateError::CannotOpen) if
    /// something is there, or nothing can be made there.
    async fn export_to<P>(&self, export: Export, path: P) -> Result<Exported>
    where
        Self: Sized,
        P: AsRef<Path> + Send,
    {
        StateError::check_names_file(path.as_ref(), "an export")?;
        self.opened().0.export_to(export, path.as_ref()).await
    }

    /// What [`commit`](StateStore::commit) would answer to this batch now, without recording it: the version of each
    /// written key. The batch is checked, decided and sealed on the newest state, as a commit would be, so it is refused
    /// with the same error. A store that was opened read-only rehearses, too.
    ///
    /// What others write meanwhile may change the answer, and so may a disk that is full.
    ///
    /// ```
    /// use univrs_state::{Batch, LocalStore, MemoryStore, StateError, StateStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
    /// let store = MemoryStore::new();
    /// store.set("/a", b"1".to_vec()).await?;
    /// let batch = Batch::new().expect("/a", 1).set("/a", "2").delete("/b");
    /// assert_eq!(store.rehearse(batch).await?, [2, 0]);
    /// let refused = store.rehearse(Batch::new().expect("/a", 7).set("/a", "2")).await;
    /// assert!(matches!(refused, Err(StateError::Rejected(_))));
    /// assert_eq!(store.head().await?.seq, 1.into());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`StateStore::commit`], but [`StateError::ReadOnly`](crate::StateError::ReadOnly).
    async fn rehearse(&self, batch: Batch) -> Result<Vec<u64>> {
        let batch = self.stamped(batch);
        self.opened().0.rehearse(batch).await
    }

    /// The batch that [`restore`](StateStore::restore) would commit now: to be looked at, rehearsed, or committed.
    ///
    /// # Errors
    /// Those of [`StateStore::restore`], but those of the commit.
    async fn batch_of(&self, restore: Restore) -> Result<Batch> {
        plan(self, restore).await
    }

    /// Gives a point a name. The mark is a change of the log, with the metadata of the handle, so it goes with an export
    /// and has a history. If the name has this point already, nothing is recorded.
    ///
    /// ```
    /// use univrs_state::history::Point;
    /// use univrs_state::{LocalStore, MemoryStore, Meta, StateError, StateStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
    /// let store = MemoryStore::new();
    /// store.set("/config/rate", b"7".to_vec()).await?;
    /// let alice = store.with_meta(Meta::new().actor("alice").reason("rollout 88"));
    /// alice.mark("before-88", Point::Head).await?;
    /// store.set("/config/rate", b"0".to_vec()).await?;
    ///
    /// let mark = store.marked("before-88").await?.unwrap();
    /// assert_eq!(store.at((&mark).into()).await?.get("/config/rate").await?.unwrap().value, b"7");
    /// let taken = store.mark("before-88", Point::Head).await;
    /// assert!(matches!(taken, Err(StateError::AlreadyExists(_))));
    /// assert!(store.unmark("before-88").await?);
    /// assert!(store.marks().await?.is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`StateError::InvalidArgument`](crate::StateError::InvalidArgument) for a name that breaks a rule of
    /// [`Mark::validate_name`]; those of [`StateStore::at`] for the point;
    /// [`StateError::AlreadyExists`](crate::StateError::AlreadyExists) if the name has another point, see
    /// [`move_mark`](Self::move_mark); those of [`StateStore::commit`].
    async fn mark(&self, name: &str, point: Point) -> Result<Mark> {
        marks::mark(self, name, point, false).await
    }

    /// Gives a point a name, and takes the name from the point that it had. Fields of the mark that this version does
    /// not know are kept.
    ///
    /// # Errors
    /// Those of [`mark`](Self::mark), but the name may be taken.
    async fn move_mark(&self, name: &str, point: Point) -> Result<Mark> {
        marks::mark(self, name, point, true).await
    }

    /// The mark with a name; `None` if there is none.
    ///
    /// # Errors
    /// Those of [`marks`](Self::marks); [`StateError::InvalidArgument`](crate::StateError::InvalidArgument) for a name
    /// that breaks a rule.
    async fn marked(&self, name: &str) -> Result<Option<Mark>> {
        marks::marked(self, name).await
    }

    /// All marks, in the order of their names.
    ///
    /// # Errors
    /// See the trait; [`StateError::Unsupported`](crate::StateError::Unsupported) if a newer version made a mark of
    /// another format.
    async fn marks(&self) -> Result<Vec<Mark>> {
        marks::marks(self).await
    }

    /// Removes a mark; returns whether there was one. Its history stays in the log.
    ///
    /// # Errors
    /// [`StateError::InvalidArgument`](crate::StateError::InvalidArgument) for a name that breaks a rule; those of
    /// [`StateStore::commit`].
    async fn unmark(&self, name: &str) -> Result<bool> {
        marks::unmark(self, name).await
    }

    /// A consumer: a reader of the log whose position the store keeps under this name. The request says what it reads and
    /// from where, and opens it: see [`Consumer`](crate::consumer::Consumer).
    fn consumer(&self, name: &str) -> ConsumerRequest {
        ConsumerRequest::new(self.opened().0.clone(), stamp(self), name)
    }

    /// All consumers, in the order of their names.
    ///
    /// # Errors
    /// See the trait; [`StateError::UpgradeNeeded`](crate::StateError::UpgradeNeeded) if a newer version recorded one in
    /// another format; [`StateError::Panicked`](crate::StateError::Panicked) if the clock panics.
    async fn consumers(&self) -> Result<Vec<ConsumerInfo>> {
        consumer::list(self.opened().0).await
    }

    /// Moves a consumer to a point, forward or back: it goes on with the commits after it. Whoever has the consumer open is
    /// fenced, and opens it again. Returns the new position.
    ///
    /// # Errors
    /// [`StateError::InvalidArgument`](crate::StateError::InvalidArgument) for a name that no consumer has, or that breaks a
    /// rule; those of [`StateStore::at`] for the point; those of [`consumers`](Self::consumers); those of
    /// [`StateStore::commit`].
    async fn reset_consumer(&self, name: &str, to: Point) -> Result<Cursor> {
        consumer::reset(self.opened().0, &stamp(self), name, to).await
    }

    /// Removes a consumer; returns whether there was one. Whoever has it open is fenced. It no longer holds retention back,
    /// and its history stays in the log.
    ///
    /// # Errors
    /// [`StateError::InvalidArgument`](crate::StateError::InvalidArgument) for a name that breaks a rule; those of
    /// [`StateStore::commit`].
    async fn remove_consumer(&self, name: &str) -> Result<bool> {
        consumer::remove(self.opened().0, &stamp(self), name).await
    }

    /// Accepts the clock: records that it is right, so that the times of later commits go on from its time, also if that
    /// is before the time of the newest commit.
    ///
    /// Commit times strictly increase, so one commit that was made while the clock was wrong, years ahead, would give
    /// all later ones times just after it. Set the clock right, then call this once. It is also the way on if the clock
    /// leapt ahead and that is right ([`StateError::ClockLeapt`](crate::StateError::ClockLeapt)).
    ///
    /// The record is a change of the key `/.univrs/clock` alone, with the cause `clock_accepted`, and stays in the log.
    /// It is the only kind of commit that may have an earlier time than the one before. A time as a
    /// [`Point`] then means the newest of the commits at or before it.
    ///
    /// ```
    /// use univrs_state::{LocalStore, MemoryStore, Meta, StateStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
    /// let store = MemoryStore::new();
    /// store.set("/a", b"1".to_vec()).await?;
    /// let said = Meta::new().actor("operator").reason("the clock of n7 was in 2099");
    /// let accepted = store.clone().with_meta(said).accept_clock().await?;
    /// assert_eq!(accepted.head, store.head().await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`StateStore::commit`].
    async fn accept_clock(&self) -> Result<Receipt> {
        let batch = Batch::new().set(CLOCK_KEY, CLOCK_RECORD).may_write(CLOCK_KEY);
        self.commit(batch.caused(cause::CLOCK_ACCEPTED)).await
    }

    /// Closes the store for all its handles: what was ordered is recorded, the write-ahead log is
    /// moved into the database, watches end, and later calls return
    /// [`StateError::Closed`](crate::StateError::Closed). Reads that run are interrupted and return it, too.
    /// Closing a closed store does nothing, and tells how it closed. Other processes that have the file open are in nobody's way: what
    /// cannot be moved because of them stays in the log.
    ///
    /// Other openings of the same file in this process go on: this closes the handles and watches of its own
    /// opening, and the last opening that is closed moves the write-ahead log.
    ///
    /// # Errors
    /// The store is closed, and everything acknowledged is recorded, whatever this returns.
    /// [`StateError::Storage`](crate::StateError::Storage) if the write-ahead log could not be moved;
    /// [`StateError::Busy`](crate::StateError::Busy) if code of the program that a read runs, such as the writer
    /// of an export, has not returned after 30 seconds: it keeps the files open until it does.
    async fn close(&self) -> Result<()> {
        self.opened().0.close().await
    }
}

impl<S: LocalStore + ?Sized> LocalStore for Arc<S> {}
impl<S: LocalStore + ?Sized> LocalStore for Box<S> {}
impl<S: LocalStore + ?Sized> LocalStore for &S {}

/// The metadata that a handle adds to its batches.
fn stamp<S: LocalStore + ?Sized>(store: &S) -> Arc<Meta> {
    store.stamped(Batch::new()).recorded_meta().unwrap_or_default()
}

/// Keeps the trait to the stores of this crate: only they have what its methods ask.
pub(crate) mod sealed {
    use std::sync::Arc;

    use crate::state::Batch;
    use crate::store::open_store::OpenStore;

    /// The open store behind a handle.
    #[expect(missing_debug_implementations, reason = "nobody outside of this crate can have one")]
    pub struct Handle<'a>(pub(crate) &'a Arc<OpenStore>);

    /// What has an open store.
    pub trait Opened {
        /// The open store.
        fn opened(&self) -> Handle<'_>;

        /// The batch as the handle would commit it.
        fn stamped(&self, batch: Batch) -> Batch {
            batch
        }
    }

    impl<S: Opened + ?Sized> Opened for Arc<S> {
        fn opened(&self) -> Handle<'_> {
            (**self).opened()
        }

        fn stamped(&self, batch: Batch) -> Batch {
            (**self).stamped(batch)
        }
    }

    impl<S: Opened + ?Sized> Opened for Box<S> {
        fn opened(&self) -> Handle<'_> {
            (**self).opened()
        }

        fn stamped(&self, batch: Batch) -> Batch {
            (**self).stamped(batch)
        }
    }

    impl<S: Opened + ?Sized> Opened for &S {
        fn opened(&self) -> Handle<'_> {
            (**self).opened()
        }

        fn stamped(&self, batch: Batch) -> Batch {
            (**self).stamped(batch)
        }
    }
}
