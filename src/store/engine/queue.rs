//! The queue of the writer.

use std::thread;
use std::time::{Duration, Instant};

use super::{Caller, Chore, Closed, CommitRequest, Read};
use crate::error::{Result, StateError};
use crate::state::Batch;
use crate::store::foreign::broken;
use crate::store::receipt::Receipt;
use crate::sync::queue::{Receiver, Sender, TryRecvError, unbounded};

/// The most batches of one group, and bytes after which it is closed.
const GROUP_BATCHES: usize = 4096;
const GROUP_BYTES: usize = 16 << 20;
/// How long the writer looks for work before it sleeps. A caller that waits for one commit often asks for the
/// next at once, and waking a thread takes longer than this.
///
/// Measured as ratios to plain `rusqlite`, without and with it: one task 0.76 and 0.80 (0.85 and 0.83 in a
/// second run), 8 tasks 0.60 and 0.66, 64 tasks 0.65 and 0.72; processor time with 8 tasks 0.89. The writer
/// yields meanwhile: spinning without yielding gave 0.51 with 8 tasks. The scheduler of `tests/kernels` has no
/// time.
const SPIN: Duration = Duration::from_micros(if cfg!(kernels) { 0 } else { 50 });

/// A task of the writer.
pub(crate) enum Task {
    Commit(CommitRequest),
    /// A read; only for a store in memory, which has one connection.
    Read(Read),
    /// Work that is no batch.
    Tend(Chore),
    /// The tasks before it are done.
    Settle(Closed),
    Close(Closed),
}

/// The writer's end of the queue.
pub(crate) struct Queue(Receiver<Task>);

/// Batches that are committed together, and the callers that wait for them. If the group is dropped before it
/// is answered, as a panic does, the callers learn that the outcome is unknown.
pub(crate) struct CommitGroup {
    pub(crate) batches: Vec<Batch>,
    callers: Vec<Caller>,
    /// The task behind them that ended the group, if it is no batch.
    pub(crate) met: Option<Task>,
}

/// A queue for a writer.
pub(crate) fn queue() -> (Sender<Task>, Queue) {
    let (sender, receiver) = unbounded();
    (sender, Queue(receiver))
}

impl Queue {
    /// The next task; `None` if no sender is left. Looks for one for [`SPIN`] before it sleeps.
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

    /// Takes the batches that wait behind a request, up to the bounds of a group. It does not wait for more:
    /// lingering before a commit was measured and gains nothing.
    pub(crate) fn gather(&self, first: CommitRequest) -> CommitGroup {
        let mut bytes = first.batch.size();
        let (batches, callers) = (vec![first.batch], vec![first.caller]);
        let mut group = CommitGroup { batches, callers, met: None };
        while group.batches.len() < GROUP_BATCHES && bytes < GROUP_BYTES {
            match self.0.try_recv() {
                Ok(Task::Commit(request)) => {
                    bytes += request.batch.size();
                    group.batches.push(request.batch);
                    group.callers.push(request.caller);
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
    /// Sends each caller its result.
    pub(crate) fn answer(mut self, results: Vec<Result<Receipt>>) {
        let callers = std::mem::take(&mut self.callers);
        callers.into_iter().zip(results).for_each(|(caller, result)| caller.answer(result));
    }
}

impl Drop for CommitGroup {
    fn drop(&mut self) {
        for caller in std::mem::take(&mut self.callers) {
            caller.answer(Err(StateError::OutcomeUnknown(broken().to_string())));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{Semaphore, oneshot};

    use super::*;

    #[test]
    fn a_group_that_is_dropped_unanswered_has_an_unknown_outcome() {
        let room = Arc::new(Semaphore::new(2));
        let (sender, queue) = queue();
        let mut replies = Vec::new();
        for key in ["/a", "/b"] {
            let (reply, receiver) = oneshot::channel();
            let caller = Caller::new(reply, room.clone().try_acquire_owned().unwrap());
            let _ = sender.send(Task::Commit(CommitRequest { batch: Batch::new().delete(key), caller }));
            replies.push(receiver);
        }
        let Some(Task::Commit(first)) = queue.next() else { panic!("a batch was sent") };
        drop(queue.gather(first));
        for mut reply in replies {
            let answer = reply.try_recv().unwrap();
            assert!(matches!(answer, Err(StateError::OutcomeUnknown(_))), "{answer:?}");
        }
        assert_eq!(room.available_permits(), 2);
    }
}
