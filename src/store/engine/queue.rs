//! What waits for the writer.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::oneshot;

use super::{Closed, CommitRequest, Read};
use crate::error::Result;
use crate::state::Batch;
use crate::store::feed::undisturbed;
use crate::store::receipt::Receipt;
use crate::sync::queue::{Receiver, Sender, TryRecvError, unbounded};

/// The most batches of one group, and bytes after which it is closed.
const GROUP_BATCHES: usize = 4096;
const GROUP_BYTES: usize = 16 << 20;
/// How long the writer looks for work before it sleeps. A scheduler knows no time.
const SPIN: Duration = Duration::from_micros(if cfg!(kernels) { 0 } else { 50 });

/// What the writer is asked for.
pub(crate) enum Task {
    Commit(CommitRequest),
    /// Only of a store in memory, which has one connection.
    Read(Read),
    Close(Closed),
}

/// The end of the queue that the writer has.
pub(crate) struct Queue(Receiver<Task>);

/// Batches that are committed together, and who waits for them.
pub(crate) struct CommitGroup {
    pub(crate) batches: Vec<Batch>,
    replies: Vec<(oneshot::Sender<Result<Receipt>>, OwnedSemaphorePermit)>,
    /// A task that was met behind them.
    pub(crate) met: Option<Task>,
}

/// A queue for a writer.
pub(crate) fn queue() -> (Sender<Task>, Queue) {
    let (sender, receiver) = unbounded();
    (sender, Queue(receiver))
}

impl Queue {
    /// The next task; none when nobody is left who could ask. Looks for it a little before it sleeps:
    /// who waits for one commit often asks for the next at once, and to wake a thread takes longer
    /// than that.
    pub(crate) fn next(&self) -> Option<Task> {
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

    /// Everything that waits behind a request and may be committed with it.
    pub(crate) fn gather(&self, first: CommitRequest) -> CommitGroup {
        let mut bytes = first.batch.size();
        let (batches, replies) = (vec![first.batch], vec![(first.reply, first.room)]);
        let mut group = CommitGroup { batches, replies, met: None };
        while group.batches.len() < GROUP_BATCHES && bytes < GROUP_BYTES {
            match self.0.try_recv() {
                Ok(Task::Commit(request)) => {
                    bytes += request.batch.size();
                    group.batches.push(request.batch);
                    group.replies.push((request.reply, request.room));
                }
                Ok(task) => {
                    group.met = Some(task);
                    break;
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        group
    }
}

impl CommitGroup {
    /// Gives everybody their result.
    pub(crate) fn answer(self, results: Vec<Result<Receipt>>) {
        for ((reply, _room), result) in self.replies.into_iter().zip(results) {
            undisturbed(|| drop(reply.send(result)));
        }
    }
}
