//! Checkpoints: moving the write-ahead log into the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use crate::backend::sqlite::Sqlite;
use crate::error::Result;
use crate::store::resident::Shared;
use crate::store::threads::spawn;

/// The number of pages in the write-ahead log after which it is moved into the database. Measured with 512
/// tasks: 1.5 times the rate of SQLite's default of 1 000 pages.
const CHECKPOINT_PAGES: u64 = 16_000;
/// The number of pages after which the writer waits for readers, so that the log can start over and does not
/// grow for ever.
const WAL_CAP_PAGES: u64 = 4 * CHECKPOINT_PAGES;
/// How long the writer waits for readers.
pub(super) const WAL_CAP_WAIT: Duration = Duration::from_millis(100);

/// Checkpoints of a store. A thread with its own connection moves most of the log while commits go on: the
/// slowest hundredth of commits with 64 tasks was measured at 10 ms if the writer moved it, at 6 ms if a thread
/// does. The writer then moves the few pages that were written meanwhile, so that the next commit
/// starts the log over. So the file of the log is reused and not grown again, which is faster with one task.
pub(super) struct Checkpoints {
    /// Pages in the log at the last checkpoint. If a reader kept the log from starting over, counting goes on
    /// from there.
    last: u64,
    pages: u64,
    start: Option<Sender<()>>,
    /// Whether the thread has moved the log since the writer last looked.
    moved: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// Starts the thread, if the store is on disk and can be written.
    pub(super) fn start(sqlite: &Sqlite, shared: &Arc<Shared>) -> Result<Self> {
        let mut checkpoints = Self { last: 0, pages: 0, start: None, moved: Arc::default(), thread: None };
        if sqlite.opening().is_file() && !sqlite.opening().read_only {
            let (sqlite, shared, moved) = (sqlite.another(false)?, shared.clone(), checkpoints.moved.clone());
            let (start, started) = bounded(1);
            checkpoints.start = Some(start);
            checkpoints.thread = Some(spawn("univrs-state checkpoints", move || {
                for () in started {
                    checkpoint(&sqlite, &shared, None);
                    moved.store(true, Ordering::SeqCst);
                }
            })?);
        }
        Ok(checkpoints)
    }

    /// Makes or requests a checkpoint if the log has grown enough; returns whether the writer completed one.
    pub(super) fn run_if_due(&mut self, sqlite: &Sqlite, shared: &Shared) -> bool {
        let (Some(start), Some(token)) = (&self.start, shared.visible()) else { return false };
        let pages = u64::from(token.frames());
        if pages < self.pages {
            self.last = 0; // The log was started over.
        }
        self.pages = pages;
        if self.moved.swap(false, Ordering::SeqCst) {
            checkpoint(sqlite, shared, None);
            return true;
        }
        if pages.saturating_sub(self.last) >= CHECKPOINT_PAGES {
            self.last = pages;
            if pages >= WAL_CAP_PAGES {
                checkpoint(sqlite, shared, Some(WAL_CAP_WAIT));
            } else {
                let _ = start.try_send(());
            }
        }
        false
    }

    /// Ends the thread and waits for it.
    pub(super) fn stop(&mut self) {
        self.start = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Makes a checkpoint and counts it. If it fails, everything stays in the log.
fn checkpoint(sqlite: &Sqlite, shared: &Shared, wait: Option<Duration>) {
    let start = Instant::now();
    let failed = sqlite.checkpoint(wait).is_err();
    shared.count(|counters| counters.checkpoint(start.elapsed(), failed));
}
