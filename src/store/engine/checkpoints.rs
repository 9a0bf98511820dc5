//! When the write-ahead log is moved into the database, and by whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use crate::backend::sqlite::Sqlite;
use crate::error::Result;
use crate::store::resident::Shared;
use crate::store::threads::spawn;

/// Pages in the write-ahead log after which it is moved into the database.
const CHECKPOINT_PAGES: u64 = 16_000;
/// Pages after which the writer waits for readers, so that the log can start over.
const WAL_CAP_PAGES: u64 = 4 * CHECKPOINT_PAGES;
/// How long it waits.
pub(super) const WAL_CAP_WAIT: Duration = Duration::from_millis(100);

/// Checkpoints: most of the log is moved on a thread and a connection of their own, while commits go
/// on; the writer then moves the few pages that were written meanwhile, so that the next commit
/// starts the log over. So the file of the log is reused instead of regrown.
pub(super) struct Checkpoints {
    /// Pages at the last one: where a reader kept the log from starting over, it goes on from there.
    last: u64,
    pages: u64,
    start: Option<Sender<()>>,
    /// Whether the thread has moved what there was.
    moved: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// Starts the thread of a store that is written on disk.
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

    /// Checkpoints, or has it done, if the log has grown enough since the last time; says whether it was.
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

/// Checkpoints, and counts it. A failure leaves everything in the log.
fn checkpoint(sqlite: &Sqlite, shared: &Shared, wait: Option<Duration>) {
    let start = Instant::now();
    let failed = sqlite.checkpoint(wait).is_err();
    shared.count(|counters| counters.checkpoint(start.elapsed(), failed));
}
