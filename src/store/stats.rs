//! Statistics of an open store.

use std::time::Duration;

use crate::log::Head;
use crate::seq::Seq;

/// Statistics of an open store, since this process opened it. Sizes are in bytes. Openings of one file that share a
/// store share its statistics.
///
/// ```
/// use univrs_state::stats::Residency;
/// use univrs_state::{LocalStore, MemoryStore, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// store.set("/a", b"1".to_vec()).await?;
/// let _watch = store.watch("/*")?;
/// let stats = store.stats().await?;
/// assert_eq!((stats.batches, stats.watchers.len()), (1, 1));
/// assert_eq!(stats.residency, Residency::Whole);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The newest head that this open store has seen.
    pub head: Head,
    /// How many batches were recorded or refused.
    pub batches: u64,
    /// How many storage transactions the batches shared.
    pub groups: u64,
    /// The most batches of one storage transaction.
    pub largest_group: u64,
    /// How many bytes of the write-ahead log are in use.
    pub wal_bytes: u64,
    /// How many checkpoints were made: moves of the write-ahead log into the database.
    pub checkpoints: u64,
    /// How many checkpoints failed. The data stay in the write-ahead log then, and nothing is lost.
    pub failed_checkpoints: u64,
    /// How long the last checkpoint took.
    pub last_checkpoint: Duration,
    /// How long the longest checkpoint took.
    pub longest_checkpoint: Duration,
    /// Which part of the current state is in memory.
    pub residency: Residency,
    /// About how many bytes the current state takes in memory.
    pub resident_bytes: u64,
    /// The open watches, the one that lags most first.
    pub watchers: Vec<WatcherStats>,
}

/// Which part of the current state an open store has in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Residency {
    /// The state is being loaded. Until then reads go to the storage.
    #[default]
    Loading,
    /// All of it, so that reads need no I/O.
    Whole,
    /// The entries that were read last, because the whole state does not fit into
    /// [`resident_bytes`](crate::Options::resident_bytes).
    Partial,
    /// The entries that were read last, because loading failed: a row is damaged, an index contradicts its table,
    /// or the storage failed. [`LocalStore::verify`](crate::LocalStore::verify) says more.
    Failed,
}

/// Statistics of an open watch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatcherStats {
    /// Its pattern.
    pub pattern: String,
    /// The position up to which every matching change was delivered.
    pub position: Seq,
    /// How many changes the log has after that position, matching or not.
    pub lag: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Counters {
    pub(crate) residency: Residency,
    pub(crate) batches: u64,
    pub(crate) groups: u64,
    pub(crate) largest_group: u64,
    pub(crate) checkpoints: u64,
    pub(crate) failed_checkpoints: u64,
    pub(crate) last_checkpoint: Duration,
    pub(crate) longest_checkpoint: Duration,
}

impl Counters {
    pub(crate) fn group(&mut self, batches: usize) {
        self.batches += batches as u64;
        self.groups += 1;
        self.largest_group = self.largest_group.max(batches as u64);
    }

    pub(crate) fn checkpoint(&mut self, took: Duration, failed: bool) {
        self.checkpoints += 1;
        self.failed_checkpoints += u64::from(failed);
        self.last_checkpoint = took;
        self.longest_checkpoint = self.longest_checkpoint.max(took);
    }
}
