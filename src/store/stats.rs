//! What an open store has been doing.

use std::time::Duration;

use crate::log::Head;
use crate::seq::Seq;

/// What an open store has been doing since it was opened by this process.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The newest recorded head that this store knows of.
    pub head: Head,
    /// Batches that were recorded or refused.
    pub batches: u64,
    /// Storage transactions that they shared.
    pub groups: u64,
    /// The most batches that shared one.
    pub largest_group: u64,
    /// Bytes in use in the write-ahead log.
    pub wal_bytes: u64,
    /// Checkpoints: moves of the write-ahead log into the database.
    pub checkpoints: u64,
    /// Checkpoints that failed; their data stays in the write-ahead log.
    pub failed_checkpoints: u64,
    /// How long the last checkpoint took.
    pub last_checkpoint: Duration,
    /// How long the longest checkpoint took.
    pub longest_checkpoint: Duration,
    /// What of the projection is in memory.
    pub residency: Residency,
    /// About the bytes that this takes.
    pub resident_bytes: u64,
    /// The open watches, the one that lags most first.
    pub watchers: Vec<WatcherStats>,
}

/// What of the current state an open store has in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Residency {
    /// It is being loaded; reads go to the storage meanwhile.
    #[default]
    Loading,
    /// All of it: reads take no I/O.
    Whole,
    /// The entries that were read last: all of it does not fit
    /// [`resident_bytes`](crate::Options::resident_bytes).
    Partial,
    /// The entries that were read last: loading all of it met a damaged row, an index that does not
    /// fit its table, or a failure of the storage. [`verify`](crate::LocalStore::verify) says more.
    Failed,
}

/// An open watch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatcherStats {
    /// Its pattern.
    pub pattern: String,
    /// Everything up to here was delivered or passed over.
    pub position: Seq,
    /// Changes between there and the head, matching or not.
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
