//! Engines: they put batches in order and run reads.

use crate::backend::Snapshot;
use crate::error::Result;
use crate::log::Head;
use crate::state::Batch;

#[cfg(feature = "sqlite")]
mod background;
mod caller;
#[cfg(feature = "sqlite")]
mod checkpoints;
#[cfg(feature = "sqlite")]
mod follower;
#[cfg(feature = "sqlite")]
mod loader;
mod memory;
#[cfg(any(feature = "sqlite", kernels))]
pub(crate) mod queue;
#[cfg(feature = "sqlite")]
mod readers;
#[cfg(feature = "sqlite")]
mod replies;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "sqlite")]
pub(crate) mod writer;

pub(crate) use caller::Caller;
pub(crate) use memory::MemoryEngine;

/// A batch that waits for the writer.
pub(crate) struct CommitRequest {
    pub(crate) batch: Batch,
    pub(crate) caller: Caller,
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

    /// Runs a read, on another thread if it may block.
    fn start_read(&self, read: Read);

    /// Runs a long read, so that other reads need not wait for it.
    fn read_alone(&self, read: Read) {
        self.start_read(read);
    }

    /// The newest recorded head, including commits of other processes.
    fn now(&self) -> Result<Head>;

    /// Called when the storage has a newer state than the published one.
    fn stale(&self) {}

    /// Looks whether the files of the store are still those that it has open. If not, the store ends.
    fn look(&self) {}

    /// Called when a watch has joined. From now on commits of other processes must wake it.
    fn attend(&self) {}

    /// Calls `settled` when the batches that wait now are done.
    fn settle(&self, settled: Closed) {
        settled(Ok(()));
    }

    /// Finishes the waiting batches, then closes the storage.
    fn close(&self, closed: Closed);
}
