//! Rebuilding the file of a store, so that no dropped value is left in it.

use crate::error::{Result, StateError};
use crate::store::engine::{Done, Work};
use crate::store::open_store::OpenStore;

/// The result of a purge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Purged {
    /// How many bytes the file had, with what waited in its log; 0 in memory.
    pub before: u64,
    /// How many bytes it has.
    pub after: u64,
}

impl OpenStore {
    /// Rebuilds the file, and empties its write-ahead log.
    pub(crate) async fn purge(&self) -> Result<Purged> {
        self.check_writable()?;
        let Done::Rebuilt { before, after } = self.tend(Work::Rebuild).await? else {
            return Err(StateError::Unsupported("this store has no file to rebuild".into()));
        };
        if self.empty_log().await? {
            return Ok(Purged { before, after });
        }
        Err(self.held_in_log("the file is rebuilt", "old values", "purge"))
    }
}
