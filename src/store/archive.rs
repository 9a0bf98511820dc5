//! Exports as stores for reading.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::delegate::delegate;
use super::foreign::Foreign;
use super::local_store::LocalStore;
use super::local_store::sealed::{Handle, Opened};
use super::memory_store::MemoryStore;
use super::open_store::OpenStore;
use super::options::Options;
use super::threads::on_a_thread;
use super::transfer::load;
use crate::audit::{EXPORT, LogReader, TELLING_BYTES, is_log_file};
use crate::backend::LogView;
use crate::error::{Result, StateError};
use crate::log::Head;

/// What became of a file that should be read.
const UNREADABLE: &str = "cannot be read";

/// An exported log, as a store that can only be read. All of it was checked when it was opened, and
/// is kept in memory.
///
/// Where the export withholds changes or begins later than the log, reads say so instead of
/// guessing: a key of which it has no change is [`StateError::Erased`], not absent, and so is a
/// value that was redacted. Lists and scans have the keys that are shown. Such a part of a log cannot be
/// watched, which is [`StateError::Unsupported`].
///
/// ```
/// use univrs_state::archive::{Archive, Export};
/// use univrs_state::{MemoryStore, StateError, LocalStore, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("billing.log");
/// let store = MemoryStore::new();
/// store.set("/billing/rate", b"7".to_vec()).await?;
/// store.set("/other", b"x".to_vec()).await?;
/// store.export_to(Export::new().only("/billing/*".parse()?), &path).await?;
///
/// let archive = Archive::open(&path).await?;
/// assert_eq!(archive.head().await?, store.head().await?); // it proves what it shows
/// assert_eq!(archive.get("/billing/rate").await?.unwrap().value, b"7");
/// assert!(matches!(archive.get("/other").await, Err(StateError::Erased(_))));
/// assert!(matches!(archive.set("/a", vec![]).await, Err(StateError::ReadOnly)));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Archive {
    open: Arc<OpenStore>,
    floor: Head,
    withheld: u64,
}

impl Archive {
    /// Opens an export: reads and checks all of it, on a thread of its own.
    ///
    /// # Errors
    /// [`StateError::CannotOpen`] if the file cannot be read, is not a regular file, is no export, or has
    /// another format;
    /// [`StateError::Corrupted`] says where it is cut, malformed, or contradicts itself;
    /// [`StateError::UpgradeNeeded`] what in it only a newer version reads.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = open_regular(path)?;
        on_a_thread(move || Self::read(file)).await.map_err(|error| match error {
            StateError::InvalidArgument(why) => {
                StateError::cannot_open(path, why.strip_prefix(EXPORT).unwrap_or(&why))
            }
            StateError::Corrupted(why) => StateError::Corrupted(format!("{}: {why}", path.display())),
            StateError::UpgradeNeeded(what) => {
                StateError::UpgradeNeeded(format!("{}: {what}", path.display()))
            }
            error => error,
        })
    }

    /// Reads an exported log from any reader, on the caller's thread.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), but [`StateError::InvalidArgument`] for what is no export, or has
    /// another format.
    pub fn read(export: impl Read) -> Result<Self> {
        let memory = load(&mut LogReader::new(Foreign::reader(export))?, false)?.into_export();
        let (floor, withheld) = (memory.floor()?.head, memory.count_withheld());
        let (limits, sources) = Options::new().limits_and_sources()?;
        let store = MemoryStore::from_memory(limits, sources, memory, true);
        Ok(Self { open: store.open().clone(), floor, withheld })
    }

    /// Whether a file begins as an export does, in whichever format.
    ///
    /// Opens and closes the file, so do not ask it of a database that this process has open: on Unix
    /// that drops the locks which SQLite holds there.
    ///
    /// # Errors
    /// [`StateError::CannotOpen`] if it cannot be opened or read, or is not a regular file.
    pub fn is_one(path: impl AsRef<Path>) -> Result<bool> {
        let path = path.as_ref();
        let file = open_regular(path)?;
        let mut start = Vec::new();
        let read = file.take(TELLING_BYTES).read_to_end(&mut start);
        read.map_err(|error| StateError::at_path(path, UNREADABLE, error))?;
        Ok(is_log_file(&start))
    }

    /// The position that it begins after: 0 unless it was exported from later on.
    pub fn floor(&self) -> Head {
        self.floor
    }

    /// How many changes are withheld.
    pub fn withheld(&self) -> u64 {
        self.withheld
    }
}

/// Opens a regular file. Its kind is checked first: opening a named pipe waits for a writer, maybe for ever.
fn open_regular(path: &Path) -> Result<File> {
    let failed = |error| StateError::at_path(path, UNREADABLE, error);
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(StateError::cannot_open(path, "is not a regular file"));
    }
    File::open(path).map_err(failed)
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive")
            .field("store_id", &self.store_id())
            .field("floor", &self.floor)
            .field("withheld", &self.withheld)
            .finish_non_exhaustive()
    }
}

impl Opened for Archive {
    fn opened(&self) -> Handle<'_> {
        Handle(&self.open)
    }
}

impl LocalStore for Archive {}

delegate!([] Archive, |this| this.open, all);
