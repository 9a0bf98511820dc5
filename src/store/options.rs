//! How a store is opened.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::clock::{self, Clock};
use super::commit::Sources;
use super::entropy::{self, Entropy};
use super::feed::WATCH_BYTES;
use super::foreign::fill;
use super::open_store::OpenStore;
use super::policy::schedule;
#[cfg(feature = "sqlite")]
use super::verify::judge;
#[cfg(feature = "sqlite")]
use crate::audit::Progress;
#[cfg(feature = "sqlite")]
use crate::backend::sqlite::{Durability, Location, Opening, WAL_CAP};
use crate::error::{Result, StateError};
use crate::limits::Limits;
#[cfg(feature = "sqlite")]
use crate::log::Meta;
use crate::log::StoreId;

#[cfg(feature = "sqlite")]
mod checks;
#[cfg(feature = "sqlite")]
mod sharing;

/// How a store is opened. Every option has a default. Options are checked when the store is opened.
///
/// | option | default | meaning |
/// |---|---|---|
/// | `limits` | [`Limits::default`] | sizes above which something is refused |
/// | `clock` | [`SystemClock`](crate::options::SystemClock) | the source of commit times |
/// | `entropy` | [`OsEntropy`](crate::options::OsEntropy) | the source of salts and store ids |
/// | `store_id` | random | the id of a store that is created; that of an existing one must be the same |
/// | `retain_every` | never | how often the store applies its policy of what leaves the log |
/// | `watch_bytes` | 64 MiB | memory for what all watches of the store have read and not yet delivered |
/// | `durability` | that of the file; `Synced` when it is created | when a commit is acknowledged |
/// | `create` | yes | make the folder and the file if they are missing |
/// | `read_only` | no | open without writing anything |
/// | `busy_timeout` | 5 s | how long a commit waits for other processes |
/// | `wal_cap` | 256 MiB | the size of the write-ahead log above which commits are slowed down |
/// | `resident_bytes` | 64 MiB | memory for the current state, so that reads need no I/O |
/// | `accept_loss` | no | open a store that has lost recorded changes |
/// | `loss_meta` | none | who accepts a loss and why; recorded with it |
/// | `opening_progress` | none | told how far the verification is, if opening has to verify the store |
///
/// # Openings of one file
/// Openings of one file in one process share one store: its threads, connections and state in memory. Each has its
/// own `limits` and its own `read_only`, and each is closed for itself. They share where `clock`, `entropy`,
/// `busy_timeout`, `wal_cap`, `resident_bytes` and `watch_bytes` are equal or not set; what is not set is then as in
/// the first opening. Clocks and entropy sources are equal if they are those of the system, or if one `Options` was
/// cloned. Otherwise the opening gets a store of its own, as another process would. So does one with `accept_loss`, one
/// that can write beside a store that was opened read-only, one beside a file that was moved, replaced or removed, and
/// each on a system other than Unix.
///
/// ```
/// use univrs_state::{LocalStore, Options, SqliteStore, StateError, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("state.db");
/// let writer = SqliteStore::open(&path).await?;
/// let reader = Options::new().read_only(true).open(&path).await?; // the same threads and connections
/// writer.set("/a", b"1".to_vec()).await?;
/// assert_eq!(reader.version("/a").await?, 1);
/// assert_eq!(reader.delete("/a").await, Err(StateError::ReadOnly));
///
/// writer.close().await?;
/// assert_eq!(writer.get("/a").await, Err(StateError::Closed));
/// assert_eq!(reader.version("/a").await?, 1); // goes on
/// # Ok(()) }
/// ```
///
/// # Stores in memory
/// The last nine are for a store in a file. A store in memory refuses them with
/// [`StateError::InvalidArgument`], which names the option; only `busy_timeout` and `opening_progress` are
/// accepted, because they have no effect there.
///
/// ```
/// use univrs_state::{MemoryStore, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let mut limits = univrs_state::Limits::default();
/// limits.value_bytes = 16;
/// let store = MemoryStore::options().limits(limits).memory()?;
/// assert!(store.set("/a", vec![0; 17]).await.is_err());
/// # Ok(()) }
/// ```
#[cfg_attr(
    feature = "sqlite",
    expect(clippy::struct_excessive_bools, reason = "independent options of an opening")
)]
#[derive(Clone)]
pub struct Options {
    limits: Limits,
    clock: Option<Arc<dyn Clock>>,
    entropy: Option<Arc<dyn Entropy>>,
    store_id: Option<StoreId>,
    watch_bytes: Option<usize>,
    retain_every: Option<Duration>,
    #[cfg(feature = "sqlite")]
    durability: Option<Durability>,
    #[cfg(feature = "sqlite")]
    create: bool,
    #[cfg(feature = "sqlite")]
    read_only: bool,
    #[cfg(feature = "sqlite")]
    busy_timeout: Option<Duration>,
    #[cfg(feature = "sqlite")]
    wal_cap: Option<u64>,
    #[cfg(feature = "sqlite")]
    resident_bytes: Option<usize>,
    #[cfg(feature = "sqlite")]
    accept_loss: bool,
    #[cfg(feature = "sqlite")]
    loss_meta: Meta,
    #[cfg(feature = "sqlite")]
    opening_progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
    #[cfg(feature = "sqlite")]
    unshared: bool,
}

#[cfg(feature = "sqlite")]
const RESIDENT_BYTES: usize = 64 << 20;
#[cfg(feature = "sqlite")]
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

// Without the store on SQLite, every default is that of its type.
#[cfg_attr(not(feature = "sqlite"), allow(clippy::derivable_impls))]
impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            clock: None,
            entropy: None,
            store_id: None,
            watch_bytes: None,
            retain_every: None,
            #[cfg(feature = "sqlite")]
            durability: None,
            #[cfg(feature = "sqlite")]
            create: true,
            #[cfg(feature = "sqlite")]
            read_only: false,
            #[cfg(feature = "sqlite")]
            busy_timeout: None,
            #[cfg(feature = "sqlite")]
            wal_cap: None,
            #[cfg(feature = "sqlite")]
            resident_bytes: None,
            #[cfg(feature = "sqlite")]
            accept_loss: false,
            #[cfg(feature = "sqlite")]
            loss_meta: Meta::new(),
            #[cfg(feature = "sqlite")]
            opening_progress: None,
            #[cfg(feature = "sqlite")]
            unshared: false,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Options");
        shown
            .field("limits", &self.limits)
            .field("store_id", &self.store_id)
            .field("watch_bytes", &self.watch_bytes)
            .field("retain_every", &self.retain_every);
        #[cfg(feature = "sqlite")]
        shown
            .field("durability", &self.durability)
            .field("create", &self.create)
            .field("read_only", &self.read_only)
            .field("busy_timeout", &self.timeout())
            .field("wal_cap", &self.wal_cap)
            .field("resident_bytes", &self.resident_bytes)
            .field("accept_loss", &self.accept_loss);
        shown.finish_non_exhaustive()
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the sizes above which something is refused.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the source of commit times.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Some(clock::pointed_to(clock));
        self
    }

    /// Sets the source of salts and store ids.
    #[must_use]
    pub fn entropy(mut self, entropy: impl Entropy + 'static) -> Self {
        self.entropy = Some(entropy::pointed_to(entropy));
        self
    }

    /// Sets the id of a store that this opening creates. An existing store keeps its id: opening or importing a
    /// store with another id is refused.
    #[must_use]
    pub fn store_id(mut self, store: StoreId) -> Self {
        self.store_id = Some(store);
        self
    }

    /// Sets about how many bytes all watches of the store hold together: what they have read, or are reading, and have
    /// not yet delivered. It is shared fairly. If it is used up, what the slowest watches hold is dropped, and they
    /// read it again. A watch always gets its next change or commit, even if that alone is larger. With little memory,
    /// or many watches that lag, watches read smaller pages and so catch up more slowly. 0 is an error.
    #[must_use]
    pub fn watch_bytes(mut self, bytes: usize) -> Self {
        self.watch_bytes = Some(bytes);
        self
    }

    /// Sets when a commit is acknowledged. A file keeps the durability that it was created with: opening it with
    /// another one is refused.
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// Sets whether to make the folder and the file if they are missing.
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Sets whether to open without writing anything. Commits are refused then, and a path that does not exist is an
    /// error. If no write-ahead log can be made, for example because the folder cannot be written, and no process
    /// has the store open, it is read as a file that does not change, until somebody changes it: see
    /// [`SqliteStore::is_immutable`](crate::SqliteStore::is_immutable).
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Sets how long a commit waits for other processes that write. After that it returns [`StateError::Busy`].
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        // SQLite counts milliseconds in 31 bits: at most 24 days.
        self.busy_timeout = Some(timeout.min(Duration::from_millis(i32::MAX.unsigned_abs().into())));
        self
    }

    /// Sets how many bytes the write-ahead log may have before commits are slowed down; at least 1 MiB.
    ///
    /// A thread moves the log into the database while commits go on. If they write faster than that, the log grows.
    /// Above the cap, each group of commits waits for a moment, in proportion to the excess, until the log is moved
    /// and starts over: at twice the cap it takes three times as long as usual. When the log starts over, its file is
    /// cut to the cap; after some seconds without a commit it is emptied.
    ///
    /// A reader that stays at an old state, such as an export or another process, keeps the log from being moved.
    /// Commits go on and wait for nobody then, and the log grows above the cap.
    /// [`Stats::wal_readers`](crate::stats::Stats::wal_readers) names the reader, and
    /// [`Stats::warnings`](crate::stats::Stats::warnings) tells of it.
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn wal_cap(mut self, bytes: u64) -> Self {
        self.wal_cap = Some(bytes);
        self
    }

    /// Sets about how many bytes of memory the current state may take: keys, values, and some 200 bytes for each
    /// key, deleted keys included. The state is loaded after opening. If it fits, reads need no I/O and run on the
    /// caller's task. If it does not fit, and while it is being loaded, SQLite answers, and the memory holds the
    /// entries that were read last. 0 keeps nothing in memory.
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn resident_bytes(mut self, bytes: usize) -> Self {
        self.resident_bytes = Some(bytes);
        self
    }

    /// Sets whether to open a store whose log lacks changes that were recorded, because the `-wal` file or the
    /// database was removed or replaced by an older copy. Without this option, opening such a store is
    /// [`StateError::Corrupted`]. With it, the loss is recorded as a change of the key `/.univrs/accepted-loss`. No
    /// other process may have the store open then.
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn accept_loss(mut self, accept: bool) -> Self {
        self.accept_loss = accept;
        self
    }

    /// Sets who accepts a loss and why: what is recorded with it, if [`accept_loss`](Self::accept_loss) accepts one.
    /// Without a reason, the record says what was lost. Metadata above [`Limits::meta_bytes`] are refused when the
    /// store is opened.
    ///
    /// ```
    /// use univrs_state::{Meta, SqliteStore, StateStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("state.db");
    /// # let store = SqliteStore::open(&path).await?;
    /// # store.set("/a", b"1".to_vec()).await?;
    /// # univrs_state::LocalStore::close(&store).await?;
    /// # std::fs::remove_file(&path)?; // the database is gone, and the head file tells
    /// let meta = Meta::new().actor("alice@ops").reason("ticket 1182");
    /// let store = SqliteStore::options().accept_loss(true).loss_meta(meta).open(&path).await?;
    /// let accepted = store.history("/.univrs/accepted-loss", None, 1).await?;
    /// assert_eq!(accepted[0].meta.as_ref().unwrap().actor.as_deref(), Some("alice@ops"));
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn loss_meta(mut self, meta: Meta) -> Self {
        self.loss_meta = meta;
        self
    }

    /// Sets a function that a thread of the store calls from time to time with the progress, if opening has to
    /// verify the store in full. That is so when the store was not closed, and its database file may not be the one
    /// that its write-ahead log was written over: see [`open`](Self::open). It takes about 3 µs a change.
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn opening_progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.opening_progress = Some(Arc::new(progress));
        self
    }

    /// Sets how often this opening applies the policy of the store, as
    /// [`Retention::retain`](crate::retain::Retention::retain) does. The first time comes after a minute at most.
    ///
    /// A clock may be wrong by years, so a run on a schedule is more careful than one that somebody asks for. It waits until
    /// somebody has asked for the first run of the policy. It drops no more of the log than a day and twice the time for which
    /// the opening has lasted, counted in the times of the commits. It drops nothing if the clock was more than a day ahead of
    /// the newest commit at the opening, until somebody asks for a run, accepts the clock or sets the policy. And once it has
    /// dropped something, it waits for a sixteenth of the age before it drops more.
    /// [`Retention::last_retention`](crate::retain::Retention::last_retention) tells what a run did, and what held it back.
    ///
    /// It is an option of the opening, which does not share it with others of the same file. With `read_only` it is refused.
    #[must_use]
    pub fn retain_every(mut self, interval: Duration) -> Self {
        self.retain_every = Some(interval);
        self
    }

    /// Refuses a schedule without a pause.
    pub(super) fn check_schedule(&self) -> Result<()> {
        schedule::check(self.retain_every)
    }

    /// Starts the schedule of an opening, if it has one.
    pub(super) fn scheduled(&self, open: &Arc<OpenStore>) -> Result<()> {
        self.retain_every.map_or(Ok(()), |every| schedule::start(open, every))
    }

    /// Opens the file as another process would: the opening shares nothing with other openings of this process.
    /// For tests of what happens between processes.
    #[cfg(feature = "sqlite")]
    #[doc(hidden)]
    #[must_use]
    pub fn unshared(self) -> Self {
        Self { unshared: true, ..self }
    }

    /// How the connections of the store are opened.
    #[cfg(feature = "sqlite")]
    pub(super) fn opening(&self, location: Location) -> Result<Opening> {
        Ok(Opening {
            read_only: self.read_only,
            location,
            create: self.create,
            durability: self.durability,
            busy_timeout: self.timeout(),
            wal_cap: self.cap(),
            accept_loss: self.accept_loss,
            loss_meta: self.loss_meta.clone(),
            new_store: self.new_store_id()?,
            expected: self.store_id,
            immutable: false,
            beside: Vec::new(),
            judge: judge(self.opening_progress.clone()),
            #[cfg(test)]
            vfs: None,
        })
    }

    /// Without the store on SQLite, no option has no effect on a store in memory.
    #[cfg(not(feature = "sqlite"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as the other one")]
    pub(super) fn check_in_memory(&self) -> Result<()> {
        Ok(())
    }

    /// Refuses an export of a store with another id than `store_id`.
    pub(super) fn check_imported(&self, store: StoreId) -> Result<()> {
        match self.store_id {
            Some(asked) if asked != store => Err(StateError::InvalidArgument(format!(
                "the export is of the store {store}, but option store_id asks for {asked}: leave it out"
            ))),
            _ => Ok(()),
        }
    }

    /// How many bytes of memory the state of a store in a file may take.
    #[cfg(feature = "sqlite")]
    pub(super) fn budget(&self) -> usize {
        self.resident_bytes.unwrap_or(RESIDENT_BYTES)
    }

    /// How many bytes the watches may hold.
    pub(super) fn of_watches(&self) -> usize {
        self.watch_bytes.unwrap_or(WATCH_BYTES)
    }

    fn check_watch_bytes(&self) -> Result<()> {
        match self.watch_bytes {
            Some(0) => Err(StateError::InvalidArgument(
                "option watch_bytes is 0, but watches need memory: leave it out, or name at least 1 byte"
                    .into(),
            )),
            _ => Ok(()),
        }
    }

    /// The checked limits, and the sources of times and randomness.
    pub(super) fn limits_and_sources(self) -> Result<(Limits, Sources)> {
        self.check_watch_bytes()?;
        self.limits.check_ranges()?;
        let sources = self.sources();
        Ok((self.limits, sources))
    }

    /// The sources of times and randomness.
    pub(super) fn sources(&self) -> Sources {
        Sources::new(self.clock_or_systems(), self.entropy_or_systems())
    }

    fn clock_or_systems(&self) -> Arc<dyn Clock> {
        self.clock.clone().unwrap_or_else(clock::system_clock)
    }

    fn entropy_or_systems(&self) -> Arc<dyn Entropy> {
        self.entropy.clone().unwrap_or_else(entropy::system_entropy)
    }

    /// The size of the write-ahead log above which commits are slowed down.
    #[cfg(feature = "sqlite")]
    fn cap(&self) -> u64 {
        self.wal_cap.unwrap_or(WAL_CAP)
    }

    /// How long a commit waits for other processes.
    #[cfg(feature = "sqlite")]
    fn timeout(&self) -> Duration {
        self.busy_timeout.unwrap_or(BUSY_TIMEOUT)
    }

    /// The id of a store that this opening creates.
    pub(super) fn new_store_id(&self) -> Result<StoreId> {
        if let Some(store) = self.store_id {
            return Ok(store);
        }
        let mut bytes = [0; 16];
        fill(&*self.sources().entropy, &mut bytes)?;
        Ok(StoreId::from_bytes(bytes))
    }
}
