//! How a store is opened.

use std::fmt;
use std::sync::Arc;
#[cfg(feature = "sqlite")]
use std::time::Duration;

use super::clock::{Clock, SystemClock};
use super::commit::Sources;
use super::entropy::{Entropy, OsEntropy};
use super::foreign::fill;
#[cfg(feature = "sqlite")]
use crate::backend::sqlite::{Durability, Location, Opening};
use crate::error::{Result, StateError};
use crate::limits::Limits;
use crate::log::StoreId;

/// How a store is opened. Every option has a default.
///
/// | option | default | |
/// |---|---|---|
/// | `limits` | [`Limits::default`] | sizes that are refused above |
/// | `clock` | [`SystemClock`] | where commit times come from |
/// | `entropy` | [`OsEntropy`] | where salts and store ids come from |
/// | `store_id` | random | the id of a store that is created; that of an existing one must be the same |
/// | `durability` | that of the file; `Synced` when it is created | when a commit is acknowledged |
/// | `create` | yes | make folder and file where they are missing |
/// | `read_only` | no | open without writing anything |
/// | `busy_timeout` | 5 s | how long a commit waits for other processes |
/// | `resident_bytes` | 64 MiB | memory that the current state may take, so that reads need no I/O |
/// | `accept_loss` | no | go on where recorded changes are missing |
///
/// The last six are of a store in a file. What a store in memory cannot keep of them is refused there as
/// [`StateError::InvalidArgument`], which names the option; only `busy_timeout` holds by itself.
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
#[derive(Clone)]
pub struct Options {
    limits: Limits,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    store_id: Option<StoreId>,
    #[cfg(feature = "sqlite")]
    durability: Option<Durability>,
    #[cfg(feature = "sqlite")]
    create: bool,
    #[cfg(feature = "sqlite")]
    read_only: bool,
    #[cfg(feature = "sqlite")]
    busy_timeout: Duration,
    #[cfg(feature = "sqlite")]
    resident_bytes: Option<usize>,
    #[cfg(feature = "sqlite")]
    accept_loss: bool,
}

#[cfg(feature = "sqlite")]
const RESIDENT_BYTES: usize = 64 << 20;

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy::default()),
            store_id: None,
            #[cfg(feature = "sqlite")]
            durability: None,
            #[cfg(feature = "sqlite")]
            create: true,
            #[cfg(feature = "sqlite")]
            read_only: false,
            #[cfg(feature = "sqlite")]
            busy_timeout: Duration::from_secs(5),
            #[cfg(feature = "sqlite")]
            resident_bytes: None,
            #[cfg(feature = "sqlite")]
            accept_loss: false,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Options");
        shown.field("limits", &self.limits).field("store_id", &self.store_id);
        #[cfg(feature = "sqlite")]
        shown
            .field("durability", &self.durability)
            .field("create", &self.create)
            .field("read_only", &self.read_only)
            .field("busy_timeout", &self.busy_timeout)
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

    /// Sizes above which something is refused.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Where commit times come from.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Where salts and store ids come from.
    #[must_use]
    pub fn entropy(mut self, entropy: impl Entropy + 'static) -> Self {
        self.entropy = Arc::new(entropy);
        self
    }

    /// The id of a store that is created by this opening. An existing one keeps its own, and opening or
    /// importing one with another id is refused.
    #[must_use]
    pub fn store_id(mut self, store: StoreId) -> Self {
        self.store_id = Some(store);
        self
    }

    /// When a commit is acknowledged. A file keeps what it was created with, and opening it with
    /// another durability is refused.
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// Whether to make folder and file where they are missing.
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Whether to open without writing anything; commits are refused then, and a path that does
    /// not exist is an error. Where no write-ahead log can be made, as in a folder that cannot be
    /// written, and no process has the store open, it is read as a file that nobody changes: see [`SqliteStore::is_immutable`](crate::SqliteStore::is_immutable).
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// How long a commit waits for other processes that write, before it is [`StateError::Busy`]. For a
    /// store in memory there are none.
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        // What SQLite can count: 24 days.
        self.busy_timeout = timeout.min(Duration::from_millis(i32::MAX.unsigned_abs().into()));
        self
    }

    /// How many bytes of memory the current state may take, about: keys, values, and some 200 bytes
    /// for each key, deleted ones included. While it fits, reads of it need no I/O and run on the
    /// caller's task; it is loaded after opening. Above that, and while it is loaded, SQLite answers,
    /// and the memory holds the entries that were read last. 0 keeps nothing.
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn resident_bytes(mut self, bytes: usize) -> Self {
        self.resident_bytes = Some(bytes);
        self
    }

    /// Whether to go on where the log lacks changes that it is known to have had, such as those of
    /// a lost `-wal` file, of an older copy, or of a database that is gone. Without it, opening such a store is
    /// [`StateError::Corrupted`]. The loss is recorded as a change of the key
    /// `/.univrs/accepted-loss`; no other process may have the store open.
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn accept_loss(mut self, accept: bool) -> Self {
        self.accept_loss = accept;
        self
    }

    /// How its connections are opened.
    #[cfg(feature = "sqlite")]
    pub(super) fn opening(&self, location: Location) -> Result<Opening> {
        Ok(Opening {
            read_only: self.read_only,
            location,
            create: self.create,
            durability: self.durability,
            busy_timeout: self.busy_timeout,
            accept_loss: self.accept_loss,
            new_store: self.new_store_id()?,
            expected: self.store_id,
            immutable: false,
            beside: Vec::new(),
            #[cfg(test)]
            vfs: None,
        })
    }

    /// Refuses what would have no effect on a store that lives in memory.
    #[cfg(feature = "sqlite")]
    pub(super) fn check_in_memory(&self) -> Result<()> {
        let asked = [
            ("read_only", self.read_only, "it can always be written; read a file, or an Archive"),
            ("create", !self.create, "it is always created"),
            ("durability", self.durability.is_some(), "it ends with its process"),
            ("resident_bytes", self.resident_bytes.is_some(), "all of it is in memory"),
            ("accept_loss", self.accept_loss, "it has no file that could have lost something"),
        ];
        match asked.into_iter().find(|(_, asked, _)| *asked) {
            None => Ok(()),
            Some((name, _, why)) => Err(StateError::InvalidArgument(format!(
                "option {name} cannot be kept by a store in memory, as {why}: leave it out, or open a file"
            ))),
        }
    }

    #[cfg(not(feature = "sqlite"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as the one above")]
    pub(super) fn check_in_memory(&self) -> Result<()> {
        Ok(())
    }

    /// Refuses what the new store of an import could not be opened with, before it is made.
    #[cfg(feature = "sqlite")]
    pub(super) fn check_import(&self) -> Result<()> {
        if !self.create {
            return Err(StateError::InvalidArgument(
                "option create is false, but an import makes a new store: leave it out".into(),
            ));
        }
        self.check_in_file()?;
        self.limits.check_ranges()
    }

    /// Refuses an export of another store than was asked for.
    pub(super) fn check_imported(&self, store: StoreId) -> Result<()> {
        match self.store_id {
            Some(asked) if asked != store => Err(StateError::InvalidArgument(format!(
                "the export is of the store {store}, but option store_id asks for {asked}: leave it out"
            ))),
            _ => Ok(()),
        }
    }

    /// Bytes of memory that the state of a store in a file may take.
    #[cfg(feature = "sqlite")]
    pub(super) fn budget(&self) -> usize {
        self.resident_bytes.unwrap_or(RESIDENT_BYTES)
    }

    /// Refuses options of a file that contradict each other.
    #[cfg(feature = "sqlite")]
    pub(super) fn check_in_file(&self) -> Result<()> {
        if self.read_only && self.accept_loss {
            return Err(StateError::InvalidArgument(
                "option accept_loss records the loss, which option read_only forbids: open it once without read_only"
                    .into(),
            ));
        }
        Ok(())
    }

    /// The checked limits, and where times and randomness come from.
    pub(super) fn limits_and_sources(self) -> Result<(Limits, Sources)> {
        self.limits.check_ranges()?;
        Ok((self.limits, Sources { clock: self.clock, entropy: self.entropy }))
    }

    /// The id of a store that is created.
    pub(super) fn new_store_id(&self) -> Result<StoreId> {
        if let Some(store) = self.store_id {
            return Ok(store);
        }
        let mut bytes = [0; 16];
        fill(&*self.entropy, &mut bytes)?;
        Ok(StoreId::from_bytes(bytes))
    }
}
