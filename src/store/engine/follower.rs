//! Follows the commits that this process did not publish: those of other processes.

use std::sync::{Arc, Condvar};
use std::time::Duration;

use crate::backend::Snapshot;
use crate::backend::sqlite::Sqlite;
use crate::error::{Result, StateError};
use crate::limits::Limits;
use crate::log::{Change, Head};
use crate::seq::Seq;
use crate::store::commit::Recorded;
use crate::store::read;
use crate::store::resident::Shared;
use crate::sync::{Mutex, lock, whole};

/// How often it looks while there are watches.
const INTERVAL: Duration = Duration::from_millis(50);

/// Reads the log on from the published head, on a connection and a thread of its own, when a read
/// has met something newer, and at intervals while there are watches. So neither a writer that waits
/// for a lock nor a long read holds it up.
pub(super) struct Follower {
    sqlite: Mutex<Option<Sqlite>>,
    shared: Arc<Shared>,
    signal: Signal,
}

/// Wakes the thread. A channel would do, too, but looks for a while before it sleeps, which 20 times a
/// second adds up.
#[derive(Default)]
struct Signal {
    woken: std::sync::Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    fn wake(&self) {
        *whole(self.woken.lock()) = true;
        self.changed.notify_one();
    }

    /// Sleeps until it is woken, or for as long as is given.
    fn sleep(&self, most: Option<Duration>) {
        let woken = whole(self.woken.lock());
        let mut woken = match most {
            Some(most) => {
                let slept = self.changed.wait_timeout_while(woken, most, |woken| !*woken);
                whole(slept).0
            }
            None => whole(self.changed.wait_while(woken, |woken| !*woken)),
        };
        *woken = false;
    }
}

/// A step on the way to the end of the log.
struct Step {
    changes: Vec<Change>,
    /// Where they end.
    head: Head,
    /// Where the log ends.
    end: Head,
}

impl Follower {
    pub(super) fn new(sqlite: Sqlite, shared: Arc<Shared>) -> Self {
        Self { sqlite: Mutex::new(Some(sqlite)), shared, signal: Signal::default() }
    }

    /// The newest recorded head, whoever recorded it. Takes microseconds, or as long as the step that is under
    /// way.
    pub(super) fn now(&self) -> Result<Head> {
        self.wake();
        self.with(|sqlite| sqlite.with_snapshot(|snapshot| snapshot?.head()))
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Makes it look.
    pub(super) fn wake(&self) {
        self.signal.wake();
    }

    /// Closes the connection and ends the thread.
    pub(super) fn stop(&self) {
        *lock(&self.sqlite) = None;
        self.wake();
    }

    /// Reads on its connection.
    pub(super) fn with<T>(&self, read: impl FnOnce(&Sqlite) -> Result<T>) -> Result<T> {
        read(lock(&self.sqlite).as_ref().ok_or(StateError::Closed)?)
    }

    /// Sleeps until it is woken, or, while there are watches, for an interval; false once it was stopped.
    pub(super) fn sleep(&self) -> bool {
        self.signal.sleep((self.shared.registry().watching() > 0).then_some(INTERVAL));
        lock(&self.sqlite).is_some()
    }

    /// Publishes what was committed since the published head, page by page, until there is nothing newer.
    pub(super) fn follow(&self) -> Result<()> {
        while self.shared.current().is_none() {
            // Before the state that it labels, which may be newer, but not older.
            let token = self.shared.visible();
            let known = self.shared.published();
            let (before, whole) = (known.head, known.in_memory.all().is_some());
            let step = self.with(|sqlite| sqlite.with_snapshot(|snapshot| step(snapshot?, before)))?;
            let at_end = step.head == step.end;
            if !at_end && !whole && self.shared.skip(before, step.end, token) {
                continue; // Nobody needs what lies between.
            }
            let Step { changes, head, .. } = step;
            // None if the writer was faster: look again.
            let recorded = Recorded { before, changes, head };
            if let Some(wakers) = self.shared.publish(&recorded, token.filter(|_| at_end), None) {
                wakers.wake();
                if at_end && self.shared.is_blind() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// A page of the log after a head that is known to be in it.
fn step(snapshot: &dyn Snapshot, before: Head) -> Result<Step> {
    let end = snapshot.head()?;
    let mut changes = Vec::new();
    let head = read::log::follow(snapshot, before, Limits::PAGE_CHANGES, |change| changes.push(change))?;
    if head.seq == end.seq && head != end || end.seq < head.seq {
        return Err(StateError::Corrupted(lost(before.seq, end.seq)));
    }
    Ok(Step { changes, head, end })
}

fn lost(known: Seq, end: Seq) -> String {
    if end < known {
        format!("the log ends at {end}, but {known} was recorded")
    } else {
        format!("the log has another hash at {end} than was recorded")
    }
}
