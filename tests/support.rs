//! What the tests share: stores to run against, injected clocks, and the audit that ends every
//! test that writes.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use univrs_state::archive::{Export, Exported};
use univrs_state::log::{Change, StoreId, Timestamp};
use univrs_state::options::{Clock, Durability, Entropy};
use univrs_state::retain::{Compact, Compacted, CompactionPlan, Retention};
use univrs_state::stats::Stats;
use univrs_state::verify::VerifyReport;
use univrs_state::{Head, LocalStore, MemoryStore, Options, Receipt, Result, Seq, SqliteStore, StateStore};

pub(crate) mod audit;
pub(crate) mod child;
pub(crate) mod forged;
pub(crate) mod history;
pub(crate) mod monotonic;
pub(crate) mod plant;
pub(crate) mod timeline;

pub(crate) use audit::{audit, log_of};

/// What a test body takes: a store of any kind, concrete or behind a pointer.
pub(crate) trait Store: StateStore + Clone + 'static {}
impl<S: StateStore + Clone + 'static> Store for S {}

/// Runs each function as a test on every backend: on the concrete store and through
/// `Arc<dyn StateStore>`. The function takes the store and the [`Subject`] that holds it; an
/// audit follows it.
macro_rules! on_every_backend {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use crate::support::{Local, Subject};

            async fn directly(subject: Subject) {
                match subject.local.clone() {
                    Local::Memory(store) => super::$name(store, &subject).await,
                    Local::Sqlite(store) => super::$name(store, &subject).await,
                }
                subject.audit().await;
            }

            async fn behind_a_pointer(subject: Subject) {
                super::$name(subject.shared(), &subject).await;
                subject.audit().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_memory() {
                directly(Subject::memory()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_memory_behind_a_pointer() {
                behind_a_pointer(Subject::memory()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_disk() {
                directly(Subject::disk().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_disk_behind_a_pointer() {
                behind_a_pointer(Subject::disk().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_disk_with_little_memory() {
                directly(Subject::disk_with(crate::support::frugal()).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_the_memory_of_sqlite() {
                directly(Subject::sqlite_memory().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_the_memory_of_sqlite_behind_a_pointer() {
                behind_a_pointer(Subject::sqlite_memory().await).await;
            }
        }
    )+};
}
pub(crate) use on_every_backend;

/// A store with its inherent methods, whichever it is.
#[derive(Clone)]
pub(crate) enum Local {
    Memory(MemoryStore),
    Sqlite(SqliteStore),
}

impl Local {
    pub(crate) fn shared(&self) -> Arc<dyn StateStore> {
        match self {
            Self::Memory(store) => Arc::new(store.clone()),
            Self::Sqlite(store) => Arc::new(store.clone()),
        }
    }

    /// The store with its methods, whichever it is.
    pub(crate) fn opened(&self) -> Arc<dyn LocalStore> {
        match self {
            Self::Memory(store) => Arc::new(store.clone()),
            Self::Sqlite(store) => Arc::new(store.clone()),
        }
    }

    pub(crate) fn store_id(&self) -> StoreId {
        match self {
            Self::Memory(store) => store.store_id(),
            Self::Sqlite(store) => store.store_id(),
        }
    }

    pub(crate) async fn stats(&self) -> Result<Stats> {
        match self {
            Self::Memory(store) => store.stats().await,
            Self::Sqlite(store) => store.stats().await,
        }
    }

    pub(crate) async fn floor(&self) -> Result<Head> {
        match self {
            Self::Memory(store) => store.floor().await,
            Self::Sqlite(store) => store.floor().await,
        }
    }

    pub(crate) async fn compact(&self, compact: Compact) -> Result<Compacted> {
        match self {
            Self::Memory(store) => store.compact(compact).await,
            Self::Sqlite(store) => store.compact(compact).await,
        }
    }

    pub(crate) async fn plan_compaction(&self, compact: Compact) -> Result<CompactionPlan> {
        match self {
            Self::Memory(store) => store.plan_compaction(compact).await,
            Self::Sqlite(store) => store.plan_compaction(compact).await,
        }
    }

    pub(crate) async fn resume_compaction(&self) -> Result<Option<Compacted>> {
        match self {
            Self::Memory(store) => store.resume_compaction().await,
            Self::Sqlite(store) => store.resume_compaction().await,
        }
    }

    pub(crate) async fn verify(&self) -> Result<VerifyReport> {
        match self {
            Self::Memory(store) => store.verify().await,
            Self::Sqlite(store) => store.verify().await,
        }
    }

    pub(crate) async fn accept_clock(&self) -> Result<Receipt> {
        match self {
            Self::Memory(store) => store.accept_clock().await,
            Self::Sqlite(store) => store.accept_clock().await,
        }
    }

    pub(crate) async fn export_to(&self, export: Export, path: &Path) -> Result<Exported> {
        match self {
            Self::Memory(store) => store.export_to(export, path).await,
            Self::Sqlite(store) => store.export_to(export, path).await,
        }
    }

    /// The bytes of an export.
    pub(crate) async fn export(&self, export: Export) -> Result<Vec<u8>> {
        let written = Written::default();
        match self {
            Self::Memory(store) => store.export(export, written.clone()).await,
            Self::Sqlite(store) => store.export(export, written.clone()).await,
        }?;
        Ok(written.bytes())
    }

    pub(crate) async fn close(&self) -> Result<()> {
        match self {
            Self::Memory(store) => store.close().await,
            Self::Sqlite(store) => store.close().await,
        }
    }
}

/// Keeps what is written.
#[derive(Clone, Default)]
pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A store under test, and what is needed to open it again.
pub(crate) struct Subject {
    pub(crate) local: Local,
    pub(crate) options: Options,
    pub(crate) path: Option<PathBuf>,
    /// Removed with the first subject that uses it.
    folder: Option<TempDir>,
}

impl Subject {
    pub(crate) fn memory() -> Self {
        Self::memory_with(options())
    }

    pub(crate) fn memory_with(options: Options) -> Self {
        let local = Local::Memory(options.clone().memory().unwrap());
        Self { local, options, path: None, folder: None }
    }

    pub(crate) async fn disk() -> Self {
        Self::disk_with(options()).await
    }

    pub(crate) async fn disk_with(options: Options) -> Self {
        let folder = folder();
        let path = folder.path().join("state.db");
        let mut subject = Self::open(options, &path).await;
        subject.folder = Some(folder);
        subject
    }

    /// A store at a path that the caller keeps.
    pub(crate) async fn open(options: Options, path: &Path) -> Self {
        let local = Local::Sqlite(options.clone().open(path).await.unwrap());
        Self { local, options, path: Some(path.to_owned()), folder: None }
    }

    pub(crate) async fn sqlite_memory() -> Self {
        Self::sqlite_memory_with(options()).await
    }

    pub(crate) async fn sqlite_memory_with(options: Options) -> Self {
        let local = Local::Sqlite(options.clone().in_memory().await.unwrap());
        Self { local, options, path: None, folder: None }
    }

    /// One of each kind, all with the same options.
    pub(crate) async fn each_with(options: impl Fn() -> Options) -> [Self; 3] {
        [
            Self::memory_with(options()),
            Self::disk_with(options()).await,
            Self::sqlite_memory_with(options()).await,
        ]
    }

    /// One of each kind.
    pub(crate) async fn each() -> [Self; 3] {
        Self::each_with(self::options).await
    }

    pub(crate) fn shared(&self) -> Arc<dyn StateStore> {
        self.local.shared()
    }

    /// Closed, and opened again: the file, or a replay of the log in memory. What lives in the
    /// memory of SQLite cannot be reopened and stays as it is.
    pub(crate) async fn reopened(&self) -> Self {
        let options = self.options.clone();
        let local = match (&self.local, &self.path) {
            (Local::Memory(store), _) => {
                let log = log_of(store).await;
                let again = options.clone().store_id(store.store_id()).replay(log).unwrap();
                store.close().await.unwrap();
                Local::Memory(again)
            }
            (Local::Sqlite(store), Some(path)) => {
                store.close().await.unwrap();
                Local::Sqlite(options.clone().open(path).await.unwrap())
            }
            (Local::Sqlite(store), None) => Local::Sqlite(store.clone()),
        };
        Self { local, options, path: self.path.clone(), folder: None }
    }

    /// The audit that ends every test; of a file also after it was closed. Returns the log.
    pub(crate) async fn audit(&self) -> Vec<Change> {
        match (self.local.stats().await, &self.path) {
            (Err(univrs_state::StateError::Closed), Some(path)) => {
                let again = Self::open(self.options.clone(), path).await;
                audit(&again.local).await
            }
            (Err(univrs_state::StateError::Closed), None) => Vec::new(),
            _ => audit(&self.local).await,
        }
    }
}

/// Options with everything injected, the same each time: no two runs differ.
pub(crate) fn options() -> Options {
    Options::new().clock(Ticks::from(START)).entropy(Seeded::from(7)).store_id(STORE)
}

/// The same, with memory for a few entries only: SQLite answers what is not among them.
pub(crate) fn frugal() -> Options {
    options().resident_bytes(2_000)
}

/// The same, acknowledging before the data is on disk.
pub(crate) fn buffered() -> Options {
    options().durability(Durability::Buffered)
}

pub(crate) const STORE: StoreId = StoreId::from_bytes(*b"store under test");
/// Some time in 2023.
pub(crate) const START: i64 = 1_700_000_000_000_000;

/// A clock that goes on by a millisecond each time it is looked at, and can be set.
#[derive(Clone)]
pub(crate) struct Ticks(Arc<AtomicI64>);

impl From<i64> for Ticks {
    fn from(micros: i64) -> Self {
        Self(Arc::new(AtomicI64::new(micros)))
    }
}

impl Ticks {
    pub(crate) fn set(&self, micros: i64) {
        self.0.store(micros, Ordering::SeqCst);
    }
}

impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.fetch_add(1_000, Ordering::SeqCst))
    }
}

/// Bytes that only look random: `SplitMix64` from a seed.
pub(crate) struct Seeded(Mutex<u64>);

impl From<u64> for Seeded {
    fn from(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Seeded {
    pub(crate) fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&self, end: u64) -> u64 {
        self.next() % end
    }
}

impl Entropy for Seeded {
    fn fill(&self, buffer: &mut [u8]) -> bool {
        for chunk in buffer.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        true
    }
}

/// A folder that is removed in the end; in memory where the system has that.
pub(crate) fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// The longest that a test waits for what must come. It only ends a test that would hang: no machine is so slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// A value that says what it is.
pub(crate) fn value(text: impl std::fmt::Display) -> Vec<u8> {
    text.to_string().into_bytes()
}

/// The position with this number.
pub(crate) fn seq(number: u64) -> Seq {
    Seq::new(number)
}

/// Waits until the whole state of a store is in memory.
pub(crate) async fn resident(store: &SqliteStore) {
    while store.stats().await.unwrap().residency != univrs_state::stats::Residency::Whole {
        tokio::task::yield_now().await;
    }
}

/// The seed of a random test: `UNIVRS_SEED`, or a new one. It is printed.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("UNIVRS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
    println!("UNIVRS_SEED={seed}");
    seed
}
