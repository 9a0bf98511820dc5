//! The verbs of what leaves the log, on every store that this process has open.

use async_trait::async_trait;

use super::local_store::LocalStore;
use super::policy::schedule::Schedule;
use super::policy::{Retained, RetentionPlan, Scheduled};
use super::retain::{
    Compact, Compacted, CompactionPlan, Erase, Erasure, ErasurePlan, Purged, Thin, Thinned, ThinningPlan,
};
use crate::error::Result;
use crate::state::{Batch, Policy};

/// What leaves the log of a store that this process has open: compactions, thinnings and erasures. Every [`LocalStore`] has these
/// methods.
///
/// ```
/// use univrs_state::retain::{Compact, Retention};
/// use univrs_state::{LocalStore, MemoryStore, Seq, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// for value in ["1", "2", "3"] {
///     store.set("/a", value.into()).await?;
/// }
/// store.compact(Compact::before(Seq::new(2)).force()).await?; // forced, because it is younger than ten minutes
/// assert_eq!(store.floor().await?.seq, Seq::new(2));
/// # Ok(()) }
/// ```
///
/// # Errors
/// Those that every method of [`LocalStore`] has. What else a method returns, it says.
#[async_trait]
pub trait Retention: LocalStore {
    /// Drops from the log what was superseded at a point, so that a store can be lived with for years. The log begins after
    /// that point from then on; [`Compact`] says what is left.
    ///
    /// Everything up to the point is checked first, and nothing is dropped from a log that contradicts itself. Then one
    /// commit moves the floor, in slices of some milliseconds the changes are dropped behind the batches that wait, a second
    /// commit names the digest of what is left, and the free pages are given back to the file system. Reads, writes and
    /// watches go on meanwhile. If it is cut off, or its future is dropped, what is dropped is dropped:
    /// [`resume_compaction`](Self::resume_compaction) goes on, in whichever process.
    ///
    /// Who, why and when, the two changes of the key `/.univrs/compaction` say.
    ///
    /// # Errors
    /// Those of [`StateStore::at`](crate::StateStore::at) for the point;
    /// [`StateError::InvalidArgument`](crate::StateError::InvalidArgument) for a point at or before the floor, or one that is
    /// younger than ten minutes and not forced;
    /// [`StateError::Busy`](crate::StateError::Busy) if another compaction is not finished or began meanwhile;
    /// [`StateError::Corrupted`](crate::StateError::Corrupted) if the log contradicts itself: verify it; those of
    /// [`StateStore::commit`](crate::StateStore::commit).
    async fn compact(&self, compact: Compact) -> Result<Compacted> {
        let batch = self.stamped(Batch::new());
        let store = self.opened().0;
        let _turn = store.shared.turn().await;
        store.compact(compact, batch).await
    }

    /// Says what [`compact`](Self::compact) would do, and who would be in its way: nothing is written. It reads and checks
    /// everything up to the point, as a compaction does, and refuses what that would refuse, but for consumers and marks:
    /// these are listed. What others do meanwhile may change the answer.
    ///
    /// ```
    /// use univrs_state::retain::{Compact, Retention};
    /// use univrs_state::{LocalStore, MemoryStore, Seq, StateStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
    /// let store = MemoryStore::new();
    /// for value in ["1", "2", "3"] {
    ///     store.set("/a", value.into()).await?;
    /// }
    /// let plan = store.plan_compaction(Compact::before(Seq::new(2)).force()).await?;
    /// assert_eq!((plan.dropped, plan.left), (1, 1)); // the change 1 would go, 2 would be the base
    /// assert!(plan.consumers.is_empty() && plan.marks.is_empty());
    /// assert_eq!(store.floor().await?.seq, Seq::ZERO);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`compact`](Self::compact) before it writes, but for consumers and marks;
    /// [`StateError::Unsupported`](crate::StateError::Unsupported) for an export that withholds changes or begins after the
    /// first change of its log without its base.
    async fn plan_compaction(&self, compact: Compact) -> Result<CompactionPlan> {
        self.opened().0.plan_compaction(compact).await
    }

    /// Goes on with a compaction that was cut off, and ends it as it would have ended; `None` if there is none.
    ///
    /// ```
    /// use univrs_state::MemoryStore;
    /// use univrs_state::retain::Retention;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
    /// let store = MemoryStore::new();
    /// assert_eq!(store.resume_compaction().await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`compact`](Self::compact), but those of the point.
    async fn resume_compaction(&self) -> Result<Option<Compacted>> {
        let batch = self.stamped(Batch::new());
        let store = self.opened().0;
        let _turn = store.shared.turn().await;
        store.go_on(None, batch).await
    }

    /// Drops values that were superseded at a point from the log; [`Thin`] says which. The changes stay, and the hashes of
    /// their values.
    ///
    /// One commit says what goes, under the key `/.univrs/thinned/` with the position of the point behind it, so who, why and
    /// when stays in the log. Then the values are dropped in slices of some milliseconds, behind the batches that wait, and
    /// the free pages are given back to the file system. Reads, writes and watches go on meanwhile, and see a value until its
    /// slice; so does an export. If it is cut off, or its future is dropped, what is dropped is dropped:
    /// [`resume_thinning`](Self::resume_thinning) goes on, in whichever process.
    ///
    /// # Errors
    /// Those of [`StateStore::at`](crate::StateStore::at) for the point;
    /// [`StateError::InvalidArgument`](crate::StateError::InvalidArgument) for a pattern of keys of the store itself;
    /// [`StateError::Held`](crate::StateError::Held) if a consumer is not done with what lies before the point, and it is not
    /// forced; [`StateError::Busy`](crate::StateError::Busy) if another thinning is not finished or began meanwhile; those of
    /// [`StateStore::commit`](crate::StateStore::commit).
    async fn thin(&self, thin: Thin) -> Result<Thinned> {
        let batch = self.stamped(Batch::new());
        let store = self.opened().0;
        let _turn = store.shared.turn().await;
        store.thin(thin, batch).await
    }

    /// Says what [`thin`](Self::thin) would do, and who would be in its way: nothing is written. It reads everything up to the
    /// point, and refuses what a thinning would refuse, but for consumers: these are listed. What others do meanwhile may
    /// change the answer.
    ///
    /// ```
    /// use univrs_state::retain::{Retention, Thin};
    /// use univrs_state::{MemoryStore, Seq, StateStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
    /// let store = MemoryStore::new();
    /// for value in ["1", "2", "3"] {
    ///     store.set("/a", value.into()).await?;
    /// }
    /// let plan = store.plan_thinning(Thin::at(Seq::new(3), "/a".parse()?)).await?;
    /// assert_eq!((plan.values, plan.bytes), (2, 2)); // the values of 1 and 2 would go
    /// assert_eq!(store.head().await?.seq, Seq::new(3));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`thin`](Self::thin) before it writes, but for consumers.
    async fn plan_thinning(&self, thin: Thin) -> Result<ThinningPlan> {
        self.opened().0.plan_thinning(thin).await
    }

    /// Goes on with a thinning that was cut off, and ends it as it would have ended; `None` if there is none.
    ///
    /// ```
    /// use univrs_state::MemoryStore;
    /// use univrs_state::retain::Retention;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
    /// let store = MemoryStore::new();
    /// assert_eq!(store.resume_thinning().await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`thin`](Self::thin), but those of the point and the pattern.
    async fn resume_thinning(&self) -> Result<Option<Thinned>> {
        let store = self.opened().0;
        let _turn = store.shared.turn().await;
        store.go_on_thinning(None).await
    }

    /// Erases values that nothing refers to any more; [`Erase`] says which, and what it cannot reach. The changes stay, and the
    /// hashes of their values.
    ///
    /// It is judged which values go in one state, the newest. Then commits say so, under keys below `/.univrs/erasures/`, by
    /// the positions of the changes alone, so who, why and when stays in the log, and not of which keys. The values are
    /// overwritten and dropped in slices of some milliseconds, behind the batches that wait; nobody is waited for, no consumer
    /// either. In the end the free pages are given back to the file system, and the file of the write-ahead log is emptied,
    /// because it has them, too. Reads, writes and watches go on meanwhile, and see a value until its slice; so does an export.
    ///
    /// Values that are written while it runs are left: stop whoever writes them first, or erase again. A watch of another
    /// process may deliver for some 50 ms what it had read before. While a reader keeps the write-ahead log above its cap, an
    /// erasure waits, as all work does that is no batch.
    ///
    /// If it is cut off after a commit of it, or its future is dropped, what is erased is erased:
    /// [`resume_erasure`](Self::resume_erasure) goes on, in whichever process. If no such commit was made, nothing was erased.
    ///
    /// # Errors
    /// [`StateError::InvalidArgument`](crate::StateError::InvalidArgument) for a pattern of keys of the store itself;
    /// [`StateError::Held`](crate::StateError::Held) if a key exists and its value is not to be left, and nothing is written
    /// then; [`StateError::Busy`](crate::StateError::Busy) if all values are erased, and a reader of this or another process
    /// keeps them in the file of the write-ahead log: call [`resume_erasure`](Self::resume_erasure) when it is gone;
    /// [`StateError::Corrupted`](crate::StateError::Corrupted) if the log contradicts itself: verify it; those of
    /// [`StateStore::commit`](crate::StateStore::commit).
    async fn erase(&self, erase: Erase) -> Result<Erasure> {
        let batch = self.stamped(Batch::new());
        let store = self.opened().0;
        let _turn = store.shared.turn().await;
        store.erase(erase, batch).await
    }

    /// Says what [`erase`](Self::erase) would do, and which keys would be in its way: nothing is written. It refuses what an
    /// erasure would refuse, but for keys that exist: these are listed. What others do meanwhile may change the answer.
    ///
    /// ```
    /// use univrs_state::retain::{Erase, Retention};
    /// use univrs_state::{LocalStore, MemoryStore, Seq, StateStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
    /// let store = MemoryStore::new();
    /// for value in ["1", "2", "3"] {
    ///     store.set("/a", value.into()).await?;
    /// }
    /// let plan = store.plan_erasure(Erase::of("/*".parse()?)).await?;
    /// assert_eq!((plan.values, plan.bytes), (2, 2)); // the values of 1 and 2 would go
    /// assert_eq!((plan.live, plan.live_keys), (1, vec!["/a".to_owned()])); // that of 3 is in the way
    /// assert_eq!(store.head().await?.seq, Seq::new(3));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`erase`](Self::erase) before it writes, but for keys that exist;
    /// [`StateError::Unsupported`](crate::StateError::Unsupported) for an export that withholds changes or begins after the
    /// first change of its log without its base.
    async fn plan_erasure(&self, erase: Erase) -> Result<ErasurePlan> {
        self.opened().0.plan_erasure(erase).await
    }

    /// Goes on with erasures that were cut off, and ends them as they would have ended; `None` if there is nothing to do. It
    /// goes over all records of erasures, erases the values that are still there, gives back free pages, and empties the
    /// write-ahead log if it has anything. A process that has done so once does it again only after another erasure.
    ///
    /// ```
    /// use univrs_state::MemoryStore;
    /// use univrs_state::retain::Retention;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
    /// let store = MemoryStore::new();
    /// assert_eq!(store.resume_erasure().await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`erase`](Self::erase), but those of the pattern and of keys that exist.
    async fn resume_erasure(&self) -> Result<Option<Erasure>> {
        let store = self.opened().0;
        let _turn = store.shared.turn().await;
        store.go_on_erasing().await
    }

    /// Rebuilds the file of the store, so that nothing is in it but what the store has: no value that was replaced, erased or
    /// dropped, and no free page. SQLite leaves copies in the free space within pages when it moves rows, and a compaction, a
    /// thinning and an erasure leave those.
    ///
    /// Commits wait while it runs, about five seconds for each gigabyte, and it needs free space of twice the file: SQLite
    /// copies the file into a temporary one, which no other user can open and which has no name, in the folder that the
    /// variable `SQLITE_TMPDIR` names, or that of the system; and the write-ahead log takes it once more. Reads go on. If it is
    /// cut off, or there is no room, the file is as it was. A store in memory has nothing to rebuild.
    ///
    /// ```
    /// use univrs_state::retain::{Erase, Retention};
    /// use univrs_state::{LocalStore, SqliteStore, StateStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("state.db");
    /// let store = SqliteStore::open(&path).await?;
    /// store.set("/users/7/mail", "a@example.org".into()).await?;
    /// store.delete("/users/7/mail").await?;
    /// store.erase(Erase::of("/users/7/*".parse()?)).await?;
    /// store.purge().await?;
    /// store.close().await?;
    /// let file = std::fs::read(&path)?;
    /// assert!(!file.windows(13).any(|bytes| bytes == b"a@example.org"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`StateError::Busy`](crate::StateError::Busy) if another process writes for as long as
    /// [`busy_timeout`](crate::Options::busy_timeout), and nothing was done then; or if a reader keeps old pages in the
    /// write-ahead log: the file is rebuilt then, and the error says so. [`StateError::StorageFull`](crate::StateError::StorageFull)
    /// if there is no room.
    async fn purge(&self) -> Result<Purged> {
        let store = self.opened().0;
        let _turn = store.shared.turn().await;
        store.purge().await
    }

    /// The policy of the store; `None` if there is none, so everything is kept.
    ///
    /// # Errors
    /// [`StateError::UpgradeNeeded`](crate::StateError::UpgradeNeeded) if a newer version of this crate has set it.
    async fn policy(&self) -> Result<Option<Policy>> {
        self.opened().0.policy().await
    }

    /// Sets the policy, or removes it. Nothing leaves the log by that: [`retain`](Self::retain) applies it. Who, when and why
    /// is in the log, under the key `/.univrs/retention`.
    ///
    /// # Errors
    /// [`StateError::InvalidArgument`](crate::StateError::InvalidArgument) names what nobody can mean: an age below ten
    /// minutes, a pattern of keys of the store itself, or what to keep without an age; those of
    /// [`StateStore::commit`](crate::StateStore::commit).
    async fn set_policy(&self, policy: Option<Policy>) -> Result<()> {
        let batch = self.stamped(Batch::new());
        self.opened().0.set_policy(policy, batch).await
    }

    /// Says what [`retain`](Self::retain) would do, and what would hold it back: nothing is written. It reads and checks what
    /// would leave. What others do meanwhile may change the answer.
    ///
    /// # Errors
    /// Those of [`plan_compaction`](Self::plan_compaction) and [`plan_thinning`](Self::plan_thinning), and of
    /// [`policy`](Self::policy).
    async fn plan_retention(&self) -> Result<RetentionPlan> {
        self.opened().0.plan_retention().await
    }

    /// Drops what the policy says is due: compacts the log up to the newest commit of the policy's age, and thins values by
    /// its rules. What was cut off before is finished first. If nothing is due, nothing is written.
    ///
    /// Consumers that [hold](crate::consumer::ConsumerRequest::hold) what they are not done with, watches of this process, and
    /// marks if the policy spares them are not passed by: less leaves then, and the report names them. The first call after a
    /// policy was set confirms it, so that [schedules](crate::Options::retain_every) follow it from then on: look at
    /// [`plan_retention`](Self::plan_retention) before.
    ///
    /// ```
    /// use std::time::Duration;
    /// use univrs_state::retain::{Policy, Retention};
    /// use univrs_state::{MemoryStore, StateStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
    /// let store = MemoryStore::new();
    /// store.set("/a", b"1".to_vec()).await?;
    /// store.set_policy(Some(Policy::new().age(Duration::from_secs(3_600)))).await?;
    /// assert_eq!(store.plan_retention().await?.compaction, None); // nothing is an hour old
    /// let retained = store.retain().await?;
    /// assert!(retained.compacted.is_none() && retained.held_back.is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`compact`](Self::compact), [`thin`](Self::thin) and [`policy`](Self::policy).
    async fn retain(&self) -> Result<Retained> {
        let batch = self.stamped(Batch::new());
        self.opened().0.retain(batch).await
    }

    /// The last run of the schedule that this opening has by [`Options::retain_every`](crate::Options::retain_every); `None`
    /// if it has none, or did not run yet.
    fn last_retention(&self) -> Option<Scheduled> {
        self.opened().0.shared.kept::<Schedule>()?.last()
    }
}

impl<S: LocalStore + ?Sized> Retention for S {}
