//! When the write-ahead log is moved into the database.

use std::time::{Duration, Instant};

use super::shared::Shared;
use crate::backend::sqlite::Sqlite;

/// Pages in the write-ahead log after which a group is followed by a checkpoint.
const CHECKPOINT_PAGES: u64 = 16_000;
/// Pages after which a checkpoint waits for readers, so that the log can start over.
const WAL_CAP_PAGES: u64 = 4 * CHECKPOINT_PAGES;
/// How long it waits.
pub(super) const WAL_CAP_WAIT: Duration = Duration::from_millis(100);

/// How full the write-ahead log is, and was.
#[derive(Default)]
pub(super) struct Checkpoints {
    pages: u64,
    /// Pages at the last one: where a reader kept the log from starting over, it goes on from there.
    last: u64,
}

impl Checkpoints {
    /// Checkpoints if the log has grown enough since the last time.
    pub(super) fn run_if_due(&mut self, sqlite: &Sqlite, shared: &Shared) {
        // A failure to ask shows at the next commit.
        if !sqlite.opening().is_file() || !sqlite.wal_pages().is_ok_and(|pages| self.are_due(pages)) {
            return;
        }
        let wait = (self.pages >= WAL_CAP_PAGES).then_some(WAL_CAP_WAIT);
        let start = Instant::now();
        let failed = sqlite.checkpoint(wait).is_err();
        shared.count(|counters| counters.checkpoint(start.elapsed(), failed));
    }

    fn are_due(&mut self, pages: u64) -> bool {
        if pages < self.pages {
            self.last = 0; // The log was started over.
        }
        self.pages = pages;
        let due = pages.saturating_sub(self.last) >= CHECKPOINT_PAGES;
        if due {
            self.last = pages;
        }
        due
    }
}
