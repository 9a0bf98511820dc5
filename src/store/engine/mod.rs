//! Who puts batches in order and runs reads.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::backend::Snapshot;
use crate::error::Result;
use crate::log::Head;
use crate::state::Batch;
use crate::store::receipt::Receipt;

#[cfg(feature = "sqlite")]
mod background;
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

pub(crate) use memory::MemoryEngine;

/// A batch on its way to the writer.
pub(crate) struct CommitRequest {
    pub(crate) batch: Batch,
    pub(crate) reply: oneshot::Sender<Result<Receipt>>,
    /// Room in the queue, given back when the batch has been taken care of.
    pub(crate) room: OwnedSemaphorePermit,
}

/// A read that runs on one state.
pub(crate) type Read = Box<dyn FnOnce(Result<&dyn Snapshot>) + Send>;

/// Called when the store has closed.
pub(crate) type Closed = Box<dyn FnOnce(Result<()>) + Send>;

/// Puts batches in order and runs reads. A request or read that meets a closed engine is dropped,
/// and its caller learns it by that.
pub(crate) trait Engine: Send + Sync {
    /// Takes a batch; it is recorded even if nobody waits for the reply.
    fn order(&self, request: CommitRequest);

    /// Runs a read, on another thread if it may block.
    fn start_read(&self, read: Read);

    /// Runs a read that takes long, so that others need not wait for it.
    fn read_alone(&self, read: Read) {
        self.start_read(read);
    }

    /// The newest recorded head, of other processes too.
    fn now(&self) -> Result<Head>;

    /// Called when there is something newer than what is published.
    fn stale(&self) {}

    /// Called when a watch has joined: commits of other processes must wake it from now on.
    fn attend(&self) {}

    /// Finishes what was ordered, then lets go of the storage.
    fn close(&self, closed: Closed);
}
