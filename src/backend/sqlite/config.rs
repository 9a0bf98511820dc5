//! What all who open a store's file must agree on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failpoint::failpoint;
use crate::log::StoreId;

/// When a commit is acknowledged. It is a property of the file, chosen when it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// After it is on disk: it survives the loss of power. The default.
    #[default]
    Synced,
    /// After it is with the operating system: it survives the process, but the newest commits
    /// may be lost with the power. Faster.
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

/// Where a store lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    File(PathBuf),
    Memory,
}

/// How a connection is opened.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent options of whoever opens")]
pub(crate) struct Opening {
    pub(crate) location: Location,
    /// Make the file where it is missing or empty.
    pub(crate) create: bool,
    pub(crate) read_only: bool,
    /// None takes what the file says.
    pub(crate) durability: Option<Durability>,
    pub(crate) busy_timeout: Duration,
    /// Go on where changes are missing that were recorded.
    pub(crate) accept_loss: bool,
    /// The id of the store, if this opening creates it.
    pub(crate) new_store: StoreId,
    /// The id that the store must have.
    pub(crate) expected: Option<StoreId>,
    /// Take the file as one that nobody changes; set where a read-only file cannot be opened else.
    pub(crate) immutable: bool,
    /// Files beside the database of an open store, and which they were.
    pub(crate) beside: Vec<(PathBuf, (u64, u64))>,
    /// SQLite's name of a simulated disk; the path is one of its files then.
    #[cfg(test)]
    pub(crate) vfs: Option<&'static str>,
}

/// A file beside the database: its name is that of the database with something behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SideFile {
    /// SQLite's write-ahead log.
    Log,
    /// SQLite's index of that log, which processes share.
    Index,
    /// SQLite's rollback journal, which a store has only while it is made or a loss is accepted.
    Journal,
    /// The head file: how far the log of the store had reached.
    Head,
    /// The database before it has its name.
    NewFile,
}

impl SideFile {
    /// All there are.
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
