//! The follower: publishes the commits of other processes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use super::readers::INTERRUPTS;
use crate::backend::Snapshot;
use crate::backend::sqlite::{InterruptHandle, Opening, Sqlite};
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::limits::Limits;
use crate::log::{Change, Head};
use crate::seq::Seq;
use crate::store::commit::Recorded;
use crate::store::feed::Wakers;
use crate::store::read;
use crate::store::resident::Shared;
use crate::sync::{Mutex, lock};

/// How often the follower looks for commits of other processes while there are watches. Each look takes
/// nanoseconds if nothing is new, and nothing else would wake a watch.
const INTERVAL: Duration = Duration::from_millis(50);

/// How long a look at the files of the store counts. Readers and watches thus learn within this time that the
/// files were moved, replaced or removed. A look asks the system about three paths, for microseconds.
const LOOK: Duration = Duration::from_millis(250);

/// Reads the log after the published head and publishes it: when a read finds that the storage has a newer
/// state, and every [`INTERVAL`] while there are watches. It has its own connection and thread, so that
/// neither a writer that waits for a lock nor a long read delays it.
///
/// It also looks whether the store's files are still at their paths: every [`LOOK`] while there are watches. While
/// there are reads alone, the thread only says when a look is due, so that a read from memory asks for no time: the
/// next read goes to the storage, and looks there, on a thread that may wait for a disk. Without watches and reads the
/// thread sleeps.
pub(super) struct Follower {
    sqlite: Mutex<Option<Sqlite>>,
    /// Interrupts what the connection reads.
    interrupt: InterruptHandle,
    /// Whether it was stopped: then nothing more is read.
    stopped: AtomicBool,
    /// Where the files of the store are.
    opening: Opening,
    looked: Mutex<Instant>,
    shared: Arc<Shared>,
    /// Wakes the thread. The channel is that of the standard library because it sleeps at once, for 17 µs of
    /// processor time each time; the one of crossbeam looks for news for a while first, which makes 67 µs.
    wake: SyncSender<()>,
}

/// A page of the log on the way to its end.
struct Step {
    changes: Vec<Change>,
    /// The head after its changes.
    head: Head,
    /// The head of the log.
    end: Head,
}

impl Follower {
    /// A follower, and the receiver on which its thread sleeps.
    pub(super) fn new(sqlite: Sqlite, shared: Arc<Shared>) -> (Self, Receiver<()>) {
        let (wake, woken) = sync_channel(1);
        let (interrupt, stopped) = (sqlite.interrupt_handle(), AtomicBool::new(false));
        let (opening, looked) = (sqlite.opening().clone(), Mutex::new(Instant::now()));
        let sqlite = Mutex::new(Some(sqlite));
        (Self { sqlite, interrupt, stopped, opening, looked, shared, wake }, woken)
    }

    /// The newest recorded head, including commits of other processes. Takes microseconds, or as long as the
    /// page that is being read.
    pub(super) fn now(&self) -> Result<Head> {
        self.wake();
        self.with(|sqlite| sqlite.with_snapshot(|snapshot| snapshot?.head()))
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Wakes the thread, so that it looks for new commits.
    pub(super) fn wake(&self) {
        // If a wake-up is waiting already, the thread will look anyway.
        let _ = self.wake.try_send(());
    }

    /// Interrupts what is read, closes the connection and ends the thread.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        loop {
            match self.sqlite.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    // IMPORTANT: again and again. An interrupt between two statements of a read is without effect.
                    self.interrupt.interrupt();
                    thread::sleep(INTERRUPTS);
                }
                Ok(mut sqlite) => break *sqlite = None,
                Err(TryLockError::Poisoned(poisoned)) => break *poisoned.into_inner() = None,
            }
        }
        self.wake();
    }

    /// Reads on the follower's connection.
    pub(super) fn with<T>(&self, read: impl FnOnce(&Sqlite) -> Result<T>) -> Result<T> {
        match &*lock(&self.sqlite) {
            Some(sqlite) if !self.stopped.load(Ordering::SeqCst) => {
                let answer = read(sqlite);
                sqlite.check_unchanged()?;
                answer
            }
            _ => Err(StateError::Closed),
        }
    }

    /// Looks whether the files of the store are still those that it has open. If not, the store ends.
    ///
    /// A look that fails says nothing, and the next one is made in time: who may not enter the folder for a moment has
    /// the files open as before. A commit is refused meanwhile, and the error names the cause.
    pub(super) fn look(&self) {
        if let Ok(Some(cause)) = self.opening.lost_file() {
            self.shared.end(cause);
        } else {
            *lock(&self.looked) = Instant::now();
            self.shared.set_looked(true);
        }
    }

    /// Looks before something is read from the storage, if the last look does not count any more; an error if the store
    /// has ended.
    pub(super) fn look_before_reading(&self) -> Result<()> {
        if !self.shared.has_looked() {
            self.look();
            self.wake();
        }
        self.shared.check_open()
    }

    /// Looks, or says that a look is due, if the last one does not count any more. Who wakes the thread after that wants
    /// the look.
    pub(super) fn look_if_due(&self) {
        if self.until_look().is_zero() {
            let is_wanted = self.shared.registry().watching() > 0 || !self.shared.has_looked();
            if is_wanted && self.shared.check_open().is_ok() {
                self.look();
            } else {
                self.shared.set_looked(false);
            }
        }
    }

    fn until_look(&self) -> Duration {
        LOOK.saturating_sub(lock(&self.looked).elapsed())
    }

    /// Sleeps until it is woken, or, while there are watches, for an interval, or, while there are reads, until the
    /// next look is due; false once it was stopped.
    pub(super) fn sleep(&self, woken: &Receiver<()>) -> bool {
        if self.shared.registry().watching() > 0 {
            let _ = woken.recv_timeout(INTERVAL);
        } else if self.shared.has_looked() {
            let _ = woken.recv_timeout(self.until_look());
        } else {
            let _ = woken.recv();
        }
        lock(&self.sqlite).is_some()
    }

    /// Publishes the commits after the published head, page by page, until nothing is newer.
    pub(super) fn follow(&self) -> Result<()> {
        while !self.shared.is_current() && !failpoint("deaf_follower") {
            self.look_if_due(); // There may be many pages.
            // IMPORTANT: the token is read before the state that it names. The state may then be newer than the
            // token, which causes one more look. In the other order, a state would count as the newest that
            // lacks a commit.
            let token = self.shared.visible();
            let known = self.shared.published();
            let (before, whole) = (known.head, known.in_memory.all().is_some());
            let step = self.with(|sqlite| sqlite.with_snapshot(|snapshot| step(snapshot?, before)))?;
            let step = match step {
                Next::Step(step) => step,
                Next::BelowFloor(end) => {
                    self.shared.start_over(before, end, token).into_iter().for_each(Wakers::wake);
                    continue;
                }
            };
            let at_end = step.head == step.end;
            if !at_end && !whole && self.shared.skip(before, step.end, token) {
                continue; // No watch needs the changes in between.
            }
            let Step { changes, head, .. } = step;
            // `publish` returns `None` if the writer has published in between: look again.
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

/// What follows a head that the log had.
enum Next {
    Step(Step),
    /// The head lies below the floor of the log, which ends with this one.
    BelowFloor(Head),
}

/// A page of the log after a head that the log had.
fn step(snapshot: &dyn Snapshot, before: Head) -> Result<Next> {
    let end = snapshot.head()?;
    if before.seq < snapshot.floor()?.seq() {
        return Ok(Next::BelowFloor(end));
    }
    let mut changes = Vec::new();
    let head = read::log::follow(snapshot, before, Limits::PAGE_CHANGES, |change| changes.push(change))?;
    if head.seq == end.seq && head != end || end.seq < head.seq {
        return Err(StateError::Corrupted(lost(before.seq, end.seq)));
    }
    Ok(Next::Step(Step { changes, head, end }))
}

fn lost(known: Seq, end: Seq) -> String {
    if end < known {
        format!("the log ends at {end}, but {known} was recorded: the end of the log is missing")
    } else {
        format!("the log has another hash at {end} than the one that was recorded")
    }
}
