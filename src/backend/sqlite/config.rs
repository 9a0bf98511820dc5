//! How a store's file is opened: durability, location, options, and the files beside it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::judge::Judge;
use crate::failpoint::failpoint;
use crate::log::{Meta, StoreId};

/// When a commit is acknowledged. The durability is chosen when a file is created, and stays with the file:
/// opening it with another one is refused.
///
/// ```
/// use univrs_state::options::Durability;
/// use univrs_state::{LocalStore, SqliteStore, StateError};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("state.db");
/// let store = SqliteStore::options().durability(Durability::Buffered).open(&path).await?;
/// store.close().await?;
/// let refused = SqliteStore::options().durability(Durability::Synced).open(&path).await;
/// assert!(matches!(refused, Err(StateError::CannotOpen { .. })));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// A commit is acknowledged when it is on disk, so it survives a loss of power. The default.
    #[default]
    Synced,
    /// A commit is acknowledged when the operating system has it. It survives a crash of the process, but a
    /// loss of power may take the newest commits. No commit is torn. Faster, because commits are not synced.
    Buffered,
}

impl Durability {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::Buffered => "buffered",
        }
    }

    /// The value of `PRAGMA synchronous`.
    pub(super) fn synchronous(self) -> i64 {
        match self {
            Self::Synced if !failpoint("normal") => 2,
            _ => 1,
        }
    }
}

/// The default of the option `wal_cap`.
pub(crate) const WAL_CAP: u64 = 256 << 20;

/// Where a store lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    File(PathBuf),
    Memory,
}

/// How a connection is opened.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent options of an opening")]
pub(crate) struct Opening {
    pub(crate) location: Location,
    /// Whether to create the file if it is missing or empty.
    pub(crate) create: bool,
    pub(crate) read_only: bool,
    /// The durability; `None` takes that of the file.
    pub(crate) durability: Option<Durability>,
    pub(crate) busy_timeout: Duration,
    /// The bytes of the write-ahead log above which commits are slowed down, so that it can be moved.
    pub(crate) wal_cap: u64,
    /// Whether to open a store that has lost recorded changes.
    pub(crate) accept_loss: bool,
    /// Who accepts the loss and why; recorded with it.
    pub(crate) loss_meta: Meta,
    /// The id of the new store, if this opening creates one.
    pub(crate) new_store: StoreId,
    /// The id that an existing store must have.
    pub(crate) expected: Option<StoreId>,
    /// Whether to open the file as one that does not change. Set if a read-only file cannot be opened in another
    /// way.
    pub(crate) immutable: bool,
    /// The files of an open store: the database and those beside it.
    pub(crate) beside: Vec<SeenFile>,
    /// Who judges a store whose database file and log may not belong together.
    pub(crate) judge: Judge,
    /// The name of a simulated disk, of which the path then names a file.
    #[cfg(test)]
    pub(crate) vfs: Option<&'static str>,
}

/// A file as it was when the store was opened.
#[derive(Debug, Clone)]
pub(crate) struct SeenFile {
    pub(super) path: PathBuf,
    pub(super) was: Was,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Was {
    /// The file with this device and inode number. Its contents may change.
    ThisFile((u64, u64)),
    /// As it was in every respect; `None` if there was none.
    Unchanged(Option<Contents>),
}

/// What changes when a file does: device and inode number, length, and the time of the last write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contents(pub(super) (u64, u64), pub(super) u64, pub(super) (i64, i64));

/// A file beside the database. Its name is the name of the database and a suffix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SideFile {
    /// SQLite's write-ahead log.
    Log,
    /// SQLite's index of the write-ahead log, in memory that processes share.
    Index,
    /// SQLite's rollback journal. A store has one only while it is created or a loss is accepted.
    Journal,
    /// The head file: a head that the log is known to have reached.
    Head,
    /// The draft of the database, before it has its final name.
    NewFile,
}

impl SideFile {
    /// All side files.
    pub(crate) const ALL: [Self; 5] = [Self::Log, Self::Index, Self::Journal, Self::Head, Self::NewFile];

    /// The path of this file beside a database.
    pub(crate) fn beside(self, database: &Path) -> PathBuf {
        let mut name = database.as_os_str().to_owned();
        name.push(match self {
            Self::Log => "-wal",
            Self::Index => "-shm",
            Self::Journal => "-journal",
            Self::Head => "-head",
            Self::NewFile => "-new",
        });
        name.into()
    }
}
