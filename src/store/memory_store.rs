//! The store in memory.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::commit::Sources;
use super::delegate::delegate;
use super::engine::MemoryEngine;
use super::foreign::Foreign;
use super::local_store::LocalStore;
use super::local_store::sealed::{Handle, Opened};
use super::open_store::OpenStore;
use super::options::Options;
use super::resident::{InMemory, Shared};
use super::session::Running;
use super::transfer::{self};
use crate::audit::{Earlier, LogReader, contradicts};
use crate::backend::Memory;
use crate::error::{Result, StateError};
use crate::limits::Limits;
use crate::log::{Change, Follow, StoreId};
use crate::sync::{self, RwLock};

/// A store in memory: the same log, hashes, versions and watches as on disk, gone with its last
/// handle. For tests, and for state that is replayed from elsewhere.
///
/// Clones are handles on the same store. The whole log stays in memory.
#[derive(Clone)]
pub struct MemoryStore {
    open: Arc<OpenStore>,
    memory: Arc<RwLock<Memory>>,
}

impl MemoryStore {
    /// An empty store.
    ///
    /// # Panics
    /// If the operating system gives no random bytes; [`Options::memory`] returns an error instead.
    #[expect(clippy::expect_used, reason = "the familiar constructor cannot return an error")]
    pub fn new() -> Self {
        Options::new().memory().expect("the default options are valid and the system has random bytes")
    }

    /// Options for an empty store: `MemoryStore::options().limits(..).memory()`.
    pub fn options() -> Options {
        Options::new()
    }

    pub(super) fn with(
        limits: Limits,
        sources: Sources,
        store: StoreId,
        log: impl IntoIterator<Item = Change>,
    ) -> Result<Self> {
        let mut memory = Memory::new(store);
        let mut follow = Follow::genesis(store);
        for change in log {
            follow.check(&change).map_err(|error| StateError::Corrupted(error.to_string()))?;
            let (last, forgotten) = (memory.last(&change.key), memory.forgotten_version());
            if let Some(what) = contradicts(&change, last, Earlier::Nothing { forgotten }) {
                return Err(StateError::Corrupted(format!("change {}: {what}", change.seq)));
            }
            memory.take(change)?;
        }
        if !follow.is_whole() {
            return Err(StateError::Corrupted(format!(
                "the commit of change {} is cut off",
                follow.head().seq
            )));
        }
        Ok(Self::from_memory(limits, sources, memory, false))
    }

    /// The store of a log and its fold.
    pub(super) fn from_memory(limits: Limits, sources: Sources, memory: Memory, read_only: bool) -> Self {
        let (store, head) = (memory.folded().store, memory.folded().head);
        let whole = memory.folded().missing.is_nothing();
        let in_memory = InMemory::All(memory.folded().clone());
        let shared = Arc::new(Shared::alone(store, head, in_memory, usize::MAX));
        let memory = Arc::new(RwLock::new(memory));
        let engine = MemoryEngine { memory: memory.clone(), shared: shared.clone(), sources };
        let membership = Running::start(shared, Arc::new(engine));
        Self { open: OpenStore::new(membership, limits, (read_only, whole)), memory }
    }

    /// Sets how many bytes the watches may hold, and starts the schedule if there is one.
    fn with_options(self, options: &Options) -> Result<Self> {
        self.open.shared.registry().budget().limit(options.of_watches());
        options.scheduled(&self.open)?;
        Ok(self)
    }

    pub(super) fn open(&self) -> &Arc<OpenStore> {
        &self.open
    }

    /// A store with the log of an export, which it goes on from.
    ///
    /// # Errors
    /// Those of [`Options::import_memory`].
    ///
    /// ```
    /// use univrs_state::archive::Export;
    /// use univrs_state::{MemoryStore, LocalStore, StateStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("state.log");
    /// let store = MemoryStore::new();
    /// store.set("/a", b"1".to_vec()).await?;
    /// store.export_to(Export::new(), &path).await?;
    ///
    /// let copy = MemoryStore::import(std::fs::File::open(&path)?)?;
    /// assert_eq!(copy.head().await?, store.head().await?);
    /// # Ok(()) }
    /// ```
    pub fn import(export: impl io::Read) -> Result<Self> {
        Options::new().import_memory(export)
    }

    /// The store that these changes make: the whole log of a store from its first change on, checked.
    ///
    /// # Errors
    /// [`StateError::Corrupted`] where a change contradicts the chain or the last commit is cut off.
    ///
    /// ```
    /// use univrs_state::{MemoryStore, Seq, LocalStore, StateStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
    /// let store = MemoryStore::new();
    /// store.set("/a", b"1".to_vec()).await?;
    /// let log = store.changes(Seq::ZERO, 1000).await?.into_iter().flat_map(|commit| commit.changes);
    /// let copy = MemoryStore::replay(store.store_id(), log)?;
    /// assert_eq!(copy.head().await?, store.head().await?);
    /// # Ok(()) }
    /// ```
    pub fn replay(store: StoreId, log: impl IntoIterator<Item = Change>) -> Result<Self> {
        Options::new().store_id(store).replay(log)
    }

    /// How many keys exist, those of the store itself included.
    pub fn len(&self) -> usize {
        sync::read_lock(&self.memory).folded().projection.live()
    }

    /// Whether no key exists.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("store_id", &self.store_id()).finish_non_exhaustive()
    }
}

impl Options {
    /// An empty store in memory.
    ///
    /// # Errors
    /// [`StateError::InvalidArgument`] names a limit that cannot be, or an option that is of a file;
    /// [`StateError::Unavailable`] if there are no random bytes.
    ///
    /// ```
    /// use univrs_state::{Options, StateError};
    /// let refused = Options::new().read_only(true).memory();
    /// assert!(matches!(refused, Err(StateError::InvalidArgument(_))));
    /// ```
    pub fn memory(self) -> Result<MemoryStore> {
        self.replay(None)
    }

    /// The store in memory that these changes make: the whole log of the store named by
    /// [`store_id`](Self::store_id), from its first change on.
    ///
    /// # Errors
    /// Those of [`memory`](Self::memory); [`StateError::Corrupted`] where a change contradicts the chain
    /// or the last commit is cut off.
    pub fn replay(self, log: impl IntoIterator<Item = Change>) -> Result<MemoryStore> {
        self.check_in_memory()?;
        self.check_schedule()?;
        let store = self.new_store_id()?;
        let (limits, sources) = self.clone().limits_and_sources()?;
        MemoryStore::with(limits, sources, store, log)?.with_options(&self)
    }

    /// A store in memory with the log of an export, which it goes on from. Values that were
    /// redacted are erased in it.
    ///
    /// # Errors
    /// Those of [`Archive::read`](crate::archive::Archive::read) and [`memory`](Self::memory);
    /// [`StateError::InvalidArgument`] for another `store_id` than the export has;
    /// [`StateError::Erased`] if the export withholds changes or begins later than the log.
    pub fn import_memory(self, export: impl io::Read) -> Result<MemoryStore> {
        self.check_in_memory()?;
        self.check_schedule()?;
        let mut reader = LogReader::new(Foreign::reader(export))?;
        self.check_imported(reader.start().store)?;
        let (limits, sources) = self.clone().limits_and_sources()?;
        let memory = transfer::load(&mut reader, true)?;
        MemoryStore::from_memory(limits, sources, memory, false).with_options(&self)
    }
}

impl Opened for MemoryStore {
    fn opened(&self) -> Handle<'_> {
        Handle(&self.open)
    }
}

impl LocalStore for MemoryStore {}

delegate!([] MemoryStore, |this| this.open, all);
