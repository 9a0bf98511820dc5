//! Engines: they put batches in order and run reads.

use crate::backend::Snapshot;
use crate::error::Result;
use crate::log::Head;
use crate::state::Batch;
use crate::store::stats::WalReader;
use crate::store::watched_clock::WatchedClock;

mod answered;
#[cfg(feature = "sqlite")]
mod background;
mod caller;
#[cfg(feature = "sqlite")]
mod checkpoints;
mod chore;
#[cfg(feature = "sqlite")]
mod follower;
#[cfg(feature = "sqlite")]
mod idle;
#[cfg(feature = "sqlite")]
mod loader;
mod memory;
#[cfg(feature = "sqlite")]
mod pace;
#[cfg(any(feature = "sqlite", kernels))]
pub(crate) mod queue;
#[cfg(feature = "sqlite")]
mod readers;
#[cfg(feature = "sqlite")]
mod readings;
#[cfg(feature = "sqlite")]
mod replies;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "sqlite")]
pub(crate) mod writer;

pub(crate) use answered::answered;
pub(crate) use caller::Caller;
pub(crate) use chore::{Chore, Done, Work};
pub(crate) use memory::MemoryEngine;

/// A batch that waits for the writer.
pub(crate) struct CommitRequest {
    pub(crate) batch: Batch,
    pub(crate) caller: Caller,
}

/// The write-ahead log of a store, in bytes.
#[derive(Default)]
pub(crate) struct Wal {
    pub(crate) used: u64,
    pub(crate) file: u64,
    /// None where there is no log, or it cannot be seen.
    pub(crate) cap: Option<u64>,
    pub(crate) readers: Vec<WalReader>,
}

/// A read that runs on one state.
pub(crate) type Read = Box<dyn FnOnce(Result<&dyn Snapshot>) + Send>;

/// Called when the store has closed, or one opening of it.
pub(crate) type Closed = Box<dyn FnOnce(Result<()>) + Send>;

/// Puts batches in order and runs reads. A closed engine drops requests and reads, by which their callers
/// learn that it is closed.
pub(crate) trait Engine: Send + Sync {
    /// Takes a batch. It is recorded even if its caller no longer waits for the reply.
    fn order(&self, request: CommitRequest);

    /// Takes work that is no batch. It is done behind the batches that wait.
    fn tend(&self, chore: Chore);

    /// Runs a read, on another thread if it may block.
    fn start_read(&self, read: Read);

    /// Runs a long read, so that other reads need not wait for it. `what` says what it is.
    fn read_alone(&self, _what: &'static str, read: Read) {
        self.start_read(read);
    }

    /// The clock that times its commits.
    fn clock(&self) -> &WatchedClock;

    /// The write-ahead log, and who keeps it from being moved.
    fn wal(&self) -> Wal {
        Wal::default()
    }

    /// The newest recorded head, including commits of other processes.
    fn now(&self) -> Result<Head>;

    /// Called when the storage has a newer state than the published one, or a look at the files is due.
    fn stale(&self) {}

    /// Called when a watch has joined. From now on commits of other processes must wake it.
    fn attend(&self) {}

    /// Calls `settled` when the batches that wait now are done.
    fn settle(&self, settled: Closed) {
        settled(Ok(()));
    }

    /// Finishes the waiting batches, then closes the storage.
    fn close(&self, closed: Closed);
}
