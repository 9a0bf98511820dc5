//! What waits for the writer.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::oneshot;

use super::Receipt;
use super::bell::undisturbed;
use super::engine::{Closed, Order, Read};
use crate::error::Result;
use crate::state::Batch;
use crate::sync::queue::{Receiver, Sender, TryRecvError, unbounded};

/// The most batches of one group, and bytes after which it is closed.
const GROUP_BATCHES: usize = 4096;
const GROUP_BYTES: usize = 16 << 20;
/// How long the writer looks for work before it sleeps. A scheduler knows no time.
const SPIN: Duration = Duration::from_micros(if cfg!(kernels) { 0 } else { 50 });

/// What the writer is asked for.
pub(super) enum Task {
    Commit(Order),
    /// Only of a store in memory, which has one connection.
    Read(Read),
    Close(Closed),
}

/// The end of the queue that the writer has.
pub(super) struct Waiting(Receiver<Task>);

/// Batches that are committed together, and who waits for them.
pub(super) struct Gathered {
    pub(super) batches: Vec<Batch>,
    replies: Vec<(oneshot::Sender<Result<Receipt>>, OwnedSemaphorePermit)>,
    /// A task that was met behind them.
    pub(super) met: Option<Task>,
}

/// A queue for a writer.
pub(super) fn queue() -> (Sender<Task>, Waiting) {
    let (sender, receiver) = unbounded();
    (sender, Waiting(receiver))
}

impl Waiting {
    /// The next task; none when nobody is left who could ask. Looks for it a little before it sleeps:
    /// who waits for one commit often asks for the next at once, and to wake a thread takes longer
    /// than that.
    pub(super) fn next(&self) -> Option<Task> {
        let start = Instant::now();
        loop {
            match self.0.try_recv() {
                Ok(task) => return Some(task),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) if start.elapsed() < SPIN => thread::yield_now(),
                Err(TryRecvError::Empty) => return self.0.recv().ok(),
            }
        }
    }

    /// Everything that waits behind an order and may be committed with it.
    pub(super) fn gather(&self, first: Order) -> Gathered {
        let mut bytes = first.batch.size();
        let (batches, replies) = (vec![first.batch], vec![(first.reply, first.room)]);
        let mut gathered = Gathered { batches, replies, met: None };
        while gathered.batches.len() < GROUP_BATCHES && bytes < GROUP_BYTES {
            match self.0.try_recv() {
                Ok(Task::Commit(order)) => {
                    bytes += order.batch.size();
                    gathered.batches.push(order.batch);
                    gathered.replies.push((order.reply, order.room));
                }
                Ok(task) => {
                    gathered.met = Some(task);
                    break;
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        gathered
    }
}

impl Gathered {
    /// Gives everybody their result.
    pub(super) fn answer(self, results: Vec<Result<Receipt>>) {
        for ((reply, _room), result) in self.replies.into_iter().zip(results) {
            undisturbed(|| drop(reply.send(result)));
        }
    }
}
