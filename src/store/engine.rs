//! Who puts batches in order and runs reads.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Receipt;
use crate::backend::Snapshot;
use crate::error::Result;
use crate::log::Head;
use crate::state::Batch;

/// A batch on its way to the writer.
pub(super) struct Order {
    pub(super) batch: Batch,
    pub(super) reply: oneshot::Sender<Result<Receipt>>,
    /// Room in the queue, given back when the batch has been taken care of.
    pub(super) room: OwnedSemaphorePermit,
}

/// A read that runs on one state.
pub(super) type Read = Box<dyn FnOnce(Result<&dyn Snapshot>) + Send>;

/// Called when the store has closed.
pub(super) type Closed = Box<dyn FnOnce(Result<()>) + Send>;

/// Puts batches in order and runs reads. An order or read that meets a closed engine is dropped,
/// and its caller learns it by that.
pub(super) trait Engine: Send + Sync {
    /// Takes a batch; it is recorded even if nobody waits for the reply.
    fn order(&self, order: Order);

    /// Runs a read, on another thread if it may block.
    fn read(&self, read: Read);

    /// Runs a read that takes long, so that others need not wait for it.
    fn read_alone(&self, read: Read) {
        self.read(read);
    }

    /// The newest recorded head, of other processes too.
    fn now(&self) -> Result<Head>;

    /// Called when there is something newer than what is published.
    fn stale(&self) {}

    /// Called when a watch has joined: commits of other processes must ring the bell from now on.
    fn attend(&self) {}

    /// Finishes what was ordered, then lets go of the storage.
    fn close(&self, closed: Closed);
}
