//! The store on SQLite.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::commit::Sources;
use super::delegate::delegate;
use super::local_store::LocalStore;
use super::local_store::sealed::{self, Handle};
use super::open_store::OpenStore;
use super::openings::{self, Opened};
use super::options::Options;
use super::stats::Warning;
use super::transfer::{self};
use crate::backend::sqlite::{self, Location, Opening};
use crate::error::{Result, StateError};
use crate::limits::Limits;

/// The durable store: log and projection in one SQLite file. An acknowledged write survives the
/// loss of power (unless the file was created with [`Durability::Buffered`](crate::options::Durability)).
///
/// Clones are handles on the same store. Further openings of the same file in this process share its threads and
/// connections, see [`Options`](crate::Options#openings-of-one-file), and other processes may open the file, too. One
/// thread writes, and everything that waits for it shares one storage transaction; reads run on threads of their own.
/// No runtime is blocked, and none in particular is needed.
///
/// The files belong to the store while it is open. If the database, its write-ahead log or its shared memory
/// is renamed, replaced or removed, or their folder is, then other processes find other files at the path, or
/// none. Every write looks for that; reads and watches notice it within a second. The store then ends: its
/// watches and all later calls return one cause, a [`StateError::Storage`] that names the file, also when
/// the file is back. Close the store, and open the path again. Closing writes nothing into files that are
/// not the store's.
///
/// A process that `fork` made must not use the store of its parent; its calls return
/// [`StateError::Forked`]. Call `fork` before opening a store, or start another program.
///
/// [`close`](Self::close) ends this opening in an orderly way: all its handles and watches. Dropping its last handle
/// does the same, but waits for it 5 seconds at most.
///
/// ```
/// use univrs_state::{SqliteStore, LocalStore, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("state.db");
/// let store = SqliteStore::open(&path).await?;
/// store.set("/config/replicas", b"3".to_vec()).await?;
/// store.close().await?;
///
/// let store = SqliteStore::open(&path).await?;
/// assert_eq!(store.version("/config/replicas").await?, 1);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SqliteStore {
    open: Arc<OpenStore>,
    immutable: bool,
    warnings: Arc<[Warning]>,
}

impl SqliteStore {
    /// Opens the store at this path; makes file and folder where they are missing.
    ///
    /// # Errors
    /// Those of [`Options::open`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Options::new().open(path).await
    }

    /// A store in SQLite's memory; it lives as long as its handles.
    ///
    /// # Errors
    /// Those of [`Options::in_memory`].
    pub async fn in_memory() -> Result<Self> {
        Options::new().in_memory().await
    }

    /// Options: `SqliteStore::options().read_only(true).open(path)`.
    pub fn options() -> Options {
        Options::new()
    }

    /// A store that no other opening shares.
    pub(super) async fn start(
        opening: Opening,
        limits: Limits,
        sources: Sources,
        resident_bytes: usize,
    ) -> Result<Self> {
        let read_only = opening.read_only;
        Ok(Self::of(openings::open_alone(opening, sources, resident_bytes).await?, limits, read_only))
    }

    fn of(opened: Opened, limits: Limits, read_only: bool) -> Self {
        let Opened { membership, immutable, warnings } = opened;
        Self { open: OpenStore::new(membership, limits, (read_only, true)), immutable, warnings }
    }

    /// The version of SQLite that is compiled in, such as `3.51.3`.
    #[must_use]
    pub fn sqlite_version() -> &'static str {
        sqlite::version()
    }

    /// Whether it was opened as a file that nobody changes, because it is read-only and no write-ahead
    /// log can be made for it: its folder cannot be written, it has a second name and no log, or another program
    /// changed its mode. Should its owner open it meanwhile, or change it in any other way, then the store ends:
    /// watches and reads return a [`StateError::Storage`] that says so, within a second. A read of the file is checked
    /// after it, so that no answer mixes two states. Open the store again then, and resume with
    /// [`watch_after`](crate::StateStore::watch_after).
    pub fn is_immutable(&self) -> bool {
        self.immutable
    }

    /// The first of the [`warnings`](Self::warnings).
    pub fn warning(&self) -> Option<&str> {
        self.warnings.first().map(AsRef::as_ref)
    }

    /// What the opening found that an operator should see to: for example, that the store cannot
    /// tell whether the end of the log is missing, that the newest commit is ahead of the clock, or who keeps a large
    /// write-ahead log from being moved. [`Stats::warnings`](crate::stats::Stats::warnings) has what came up later.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// A store at a path where nothing is yet, with the log of an export, which it goes on from.
    ///
    /// # Errors
    /// Those of [`Options::import`].
    ///
    /// ```
    /// use univrs_state::archive::Export;
    /// use univrs_state::{MemoryStore, SqliteStore, LocalStore, StateStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
    /// # let folder = tempfile::tempdir()?;
    /// # let (log, path) = (folder.path().join("state.log"), folder.path().join("state.db"));
    /// let store = MemoryStore::new();
    /// store.set("/a", b"1".to_vec()).await?;
    /// store.export_to(Export::new(), &log).await?;
    ///
    /// let copy = SqliteStore::import(std::fs::File::open(&log)?, &path).await?;
    /// assert_eq!(copy.head().await?, store.head().await?);
    /// # Ok(()) }
    /// ```
    pub async fn import(export: impl Read + Send + 'static, into: impl AsRef<Path>) -> Result<Self> {
        Options::new().import(export, into).await
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("store_id", &self.store_id()).finish_non_exhaustive()
    }
}

impl Options {
    /// Opens a store on disk, or shares the one that this process has open at the path, see
    /// [the type](Self#openings-of-one-file).
    ///
    /// The path is taken as it is, never as a URL, and must be a regular file; a new one is
    /// readable by its owner alone. The file must have one name: with a hard link, or mounted as a single file
    /// into a container, it is not written, and read only while nobody has it open. Mount its folder.
    ///
    /// If the store was not closed, and its database file may not be the one that its write-ahead log was written over,
    /// it is verified in full first, about 3 µs a change: see [`opening_progress`](Self::opening_progress). So
    /// an older copy under a newer log is refused, and both files stay as they are.
    ///
    /// # Errors
    /// [`StateError::CannotOpen`] says what is wrong with the path, the file or its format;
    /// [`StateError::Corrupted`] if changes are missing, or database file and log do not belong together;
    /// [`StateError::ConnectionError`], [`StateError::Busy`] and [`StateError::Unavailable`] may pass;
    /// [`StateError::InvalidArgument`] names a limit that cannot be, or options that contradict each other.
    pub async fn open(self, path: impl AsRef<Path>) -> Result<SqliteStore> {
        self.check_in_file()?;
        self.open_at(Location::File(path.as_ref().to_owned())).await
    }

    /// Opens an SQLite store in memory; it lives as long as its handles.
    ///
    /// # Errors
    /// [`StateError::InvalidArgument`] names a limit that cannot be, or an option that is of a file;
    /// [`StateError::Unavailable`] if there are no random bytes or no thread.
    pub async fn in_memory(self) -> Result<SqliteStore> {
        self.check_in_memory()?;
        self.open_at(Location::Memory).await
    }

    async fn open_at(self, location: Location) -> Result<SqliteStore> {
        let opening = self.opening(location)?;
        self.check_schedule()?;
        let (limits, sources) = self.clone().limits_and_sources()?;
        let watch_bytes = self.of_watches();
        let store = match opening.is_file() {
            true if self.is_unshared() => SqliteStore::start(opening, limits, sources, self.budget()).await?,
            true => {
                let read_only = opening.read_only;
                let store = SqliteStore::of(openings::open(self.clone(), opening).await?, limits, read_only);
                self.scheduled(&store.open)?;
                return Ok(store);
            }
            false => SqliteStore::start(opening, limits, sources, usize::MAX).await?,
        };
        store.open.shared.registry().budget().limit(watch_bytes);
        self.scheduled(&store.open)?;
        Ok(store)
    }

    /// A store on disk with the log of an export, which it goes on from. Values that were redacted
    /// are erased in it. It is built beside its path, and appears there when it is complete. If the future
    /// is dropped, the import ends soon after, and nothing is left.
    ///
    /// # Errors
    /// Those of [`import_memory`](Self::import_memory); [`StateError::CannotOpen`] if something
    /// is at the path already, or nothing can be made there; [`StateError::StorageFull`]. Nothing is left behind then,
    /// unless only the name of the finished file could not be synced: the error says so, and the store is there.
    pub async fn import(
        self,
        export: impl Read + Send + 'static,
        into: impl AsRef<Path>,
    ) -> Result<SqliteStore> {
        self.check_import()?;
        let into = into.as_ref();
        StateError::check_names_file(into, "a store")?;
        let absolute = std::path::absolute(into);
        let into = absolute.map_err(|error| StateError::at_path(into, "cannot be made absolute", error))?;
        let asked = self.clone();
        let check = move |store| asked.check_imported(store);
        transfer::import(export, &into, |location| self.opening(location), check).await?;
        self.create(false).open(into).await
    }
}

impl sealed::Opened for SqliteStore {
    fn opened(&self) -> Handle<'_> {
        Handle(&self.open)
    }
}

impl LocalStore for SqliteStore {}

delegate!([] SqliteStore, |this| this.open, all);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::store::StateStore;
    use crate::store::stats::Residency;

    // Between the read of an entry and its way into the cache, the key may change.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_entry_of_an_older_state_is_not_kept_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let options = || Options::new().resident_bytes(10_000);
        let store = options().open(folder.path().join("state.db")).await.unwrap();
        store.set("/large", vec![0; 20_000]).await.unwrap();
        assert_ne!(store.stats().await.unwrap().residency, Residency::Whole);
        for n in 0..3_u8 {
            store.set("/a", vec![n]).await.unwrap();
            let (shared, (read, is_read), (go, may_go)) =
                (store.open.shared.clone(), mpsc::channel(), mpsc::channel());
            let late = tokio::spawn({
                let open = store.open.clone();
                async move {
                    open.read_snapshot(move |snapshot| {
                        let entry = snapshot.entry("/a")?.unwrap();
                        read.send(()).unwrap();
                        may_go.recv().unwrap();
                        shared.remember(snapshot, &entry)?;
                        Ok(entry.value)
                    })
                    .await
                }
            });
            tokio::task::spawn_blocking(move || is_read.recv().unwrap()).await.unwrap();
            store.set("/a", vec![n, 1]).await.unwrap();
            go.send(()).unwrap();
            assert_eq!(late.await.unwrap().unwrap(), [n], "it reads the state before");
            for _ in 0..2 {
                let entry = store.get("/a").await.unwrap().unwrap();
                assert_eq!(entry.value, [n, 1], "an older state was kept in memory");
            }
        }
        assert!(store.verify().await.unwrap().is_intact());
    }
}
