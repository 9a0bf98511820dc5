//! Checkpoints: moving the write-ahead log into the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::idle::{Idle, Look};
use super::pace::{Pace, Step};
use crate::backend::sqlite::{Checkpoint, LogPages, Moved, Sqlite};
use crate::error::Result;
use crate::store::resident::Shared;
use crate::store::threads::spawn;

/// How long the writer waits for readers, above the cap, after it has moved the log. New readers read the
/// database alone then, so it waits only for those that have begun already.
const READERS_WAIT: Duration = Duration::from_millis(10);

/// Checkpoints of a store. A thread with its own connection moves most of the log while commits go on: the
/// slowest hundredth of commits with 64 tasks was measured at 10 ms if the writer moved it, at 6 ms if a thread
/// does. The writer then moves the few pages that were written meanwhile, so that the next commit
/// starts the log over. So the file of the log is reused and not grown again, which is faster with one task.
///
/// SQLite makes no checkpoint in parts, and one that is cut off has moved nothing. So while writers are faster
/// than checkpoints, the thread repeats them, and above the cap of the log each group waits for a moment.
pub(super) struct Checkpoints {
    pace: Pace,
    worker: Option<Worker>,
}

/// The thread, seen by the writer.
struct Worker {
    orders: Sender<()>,
    ended: Receiver<Moved>,
    /// Whether a pass was ordered and has not ended.
    ordered: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// The thread's own part.
struct Work {
    sqlite: Sqlite,
    shared: Arc<Shared>,
    orders: Receiver<()>,
    ended: (Sender<Moved>, Receiver<Moved>),
    ordered: Arc<AtomicBool>,
}

impl Checkpoints {
    /// Starts the thread, if the store is on disk and can be written.
    pub(super) fn start(sqlite: &Sqlite, shared: &Arc<Shared>) -> Result<Self> {
        let opening = sqlite.opening();
        if !opening.is_file() || opening.read_only {
            return Ok(Self { pace: Pace::new(0), worker: None });
        }
        let frame = sqlite.frame_bytes()?;
        let pace = Pace::new(opening.wal_cap / frame);
        let (orders, taken) = bounded(1);
        let ended = bounded(1);
        let ordered = Arc::new(AtomicBool::new(false));
        let work = Work {
            sqlite: sqlite.another(false)?,
            shared: shared.clone(),
            orders: taken,
            ended: ended.clone(),
            ordered: ordered.clone(),
        };
        let thread = spawn("univrs-state checkpoints", move || work.run(frame))?;
        Ok(Self { pace, worker: Some(Worker { orders, ended: ended.1, ordered, thread }) })
    }

    /// Does what is due after a group, and lets it wait if it has to; returns whether the writer moved the end of
    /// the log.
    pub(super) fn after_group(&mut self, sqlite: &Sqlite, shared: &Shared, took: Duration) -> bool {
        let (Some(worker), Some(log)) = (&self.worker, shared.log_pages()) else { return false };
        self.pace.wrote(&log, took);
        let step = match worker.ended.try_recv() {
            Ok(moved) => self.pace.passed(&log, moved),
            Err(_) if worker.ordered.load(Ordering::SeqCst) => Step::Nothing,
            Err(_) => self.pace.due(&log),
        };
        let mut moved = self.take(step, sqlite, shared);
        let wait = self.pace.wait();
        let ended = |worker: &Worker| worker.ended.recv_timeout(wait).ok();
        if !wait.is_zero()
            && let Some(ended) = self.worker.as_ref().and_then(ended)
            && let Some(log) = shared.log_pages()
        {
            let step = self.pace.passed(&log, ended);
            moved |= self.take(step, sqlite, shared);
        }
        moved
    }

    /// Whether the log has more pages than its cap.
    pub(super) fn are_above_cap(&self, log: &LogPages) -> bool {
        self.worker.is_some() && self.pace.is_above(log)
    }

    fn take(&mut self, step: Step, sqlite: &Sqlite, shared: &Shared) -> bool {
        let how = match (step, &self.worker) {
            (Step::Finish, _) => Checkpoint::Passive,
            (Step::Restart, _) => Checkpoint::Restart(READERS_WAIT),
            (Step::Pass, Some(worker)) => {
                worker.ordered.store(true, Ordering::SeqCst);
                let _ = worker.orders.try_send(());
                return false;
            }
            _ => return false,
        };
        self.pace.learn(checkpoint(sqlite, shared, how));
        true
    }

    /// Ends the thread and waits for it.
    pub(super) fn stop(&mut self) {
        if let Some(Worker { orders, thread, .. }) = self.worker.take() {
            drop(orders);
            let _ = thread.join();
        }
    }
}

impl Work {
    /// Moves the log when that is ordered. Between orders, looks whether the store is idle, or a reader gone.
    fn run(self, frame: u64) {
        let mut idle = Idle::new(frame);
        loop {
            match self.orders.recv_timeout(idle.interval()) {
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) => {
                    let moved = self.move_log();
                    // IMPORTANT: before the writer is told. It may then order the next pass at once.
                    self.ordered.store(false, Ordering::SeqCst);
                    self.tell(moved);
                    idle.passed(moved);
                    continue;
                }
            }
            let (Some(log), Some(token)) = (self.shared.log_pages(), self.shared.visible()) else { continue };
            match idle.look(&log, token, self.sqlite.wal_file_bytes()) {
                Look::Nothing => {}
                Look::Pass => {
                    let moved = self.move_log();
                    self.tell(moved);
                    idle.passed(moved);
                }
                Look::Empty => {
                    let moved = self.move_log();
                    self.tell(moved);
                    idle.passed(moved);
                    // IMPORTANT: no commit can run while the log is emptied, so it must be moved before that.
                    if moved == Moved::All {
                        idle.emptied(checkpoint(
                            &self.sqlite,
                            &self.shared,
                            Checkpoint::Empty(Duration::ZERO),
                        ));
                    }
                }
            }
        }
    }

    fn move_log(&self) -> Moved {
        checkpoint(&self.sqlite, &self.shared, Checkpoint::Passive)
    }

    /// Tells the writer what a pass has moved.
    fn tell(&self, moved: Moved) {
        let _ = self.ended.1.try_recv(); // What nobody has looked at is out of date.
        let _ = self.ended.0.try_send(moved);
    }
}

/// Makes a checkpoint and counts it. If it fails, everything stays in the log.
fn checkpoint(sqlite: &Sqlite, shared: &Shared, how: Checkpoint) -> Moved {
    let start = Instant::now();
    let moved = sqlite.checkpoint(how);
    shared.count(|counters| counters.checkpoint(start.elapsed(), moved.is_err()));
    moved.unwrap_or(Moved::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::sqlite::{Judge, Location, Opening, WAL_CAP};
    use crate::log::{Head, StoreId};
    use crate::store::resident::{EntryCache, InMemory};

    const STORE: StoreId = StoreId::from_bytes([3; 16]);

    // It was lost if it came between the end of a pass and the moment at which the sign was taken back: the group
    // above the cap then waited for a pass that did not run.
    #[test]
    fn an_order_is_obeyed_although_its_sign_was_taken_back() {
        let opening = Opening {
            location: Location::Memory,
            create: true,
            read_only: false,
            durability: None,
            busy_timeout: Duration::ZERO,
            accept_loss: false,
            loss_meta: crate::log::Meta::new(),
            expected: None,
            new_store: STORE,
            immutable: false,
            wal_cap: WAL_CAP,
            beside: Vec::new(),
            judge: Judge::new(|_| Ok(None)),
            vfs: None,
        };
        let shared = Shared::alone(STORE, Head::genesis(STORE), InMemory::Some(EntryCache::new(0)), 0);
        let ((orders, taken), ended) = (bounded(1), bounded(1));
        let work = Work {
            sqlite: opening.first().unwrap(),
            shared: Arc::new(shared),
            orders: taken,
            ended: ended.clone(),
            ordered: Arc::new(AtomicBool::new(false)),
        };
        orders.send(()).unwrap();
        drop(orders);
        work.run(1);
        ended.1.try_recv().unwrap();
    }
}
