//! A store that runs in this process, and its openings, which may be several.

use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::engine::{Closed, Engine};
use super::resident::Shared;
use crate::error::{Result, StateError};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The bytes of batches that may wait for the writer. Further callers wait for room.
const QUEUE_BYTES: usize = 64 << 20;
/// A batch's share of the queue is counted in these units.
const QUEUE_UNIT: usize = 256;

/// A store that runs: what all its openings have in common.
pub(crate) struct Running {
    pub(crate) shared: Arc<Shared>,
    engine: Arc<dyn Engine>,
    queue: Arc<Semaphore>,
    /// How many openings there are. Once there are none, there never are any again.
    openings: AtomicUsize,
}

impl Running {
    /// The first opening of a store that has just started.
    pub(crate) fn start(shared: Arc<Shared>, engine: Arc<dyn Engine>) -> Membership {
        let queue = Arc::new(Semaphore::new(QUEUE_BYTES / QUEUE_UNIT));
        let running = Self { shared, engine, queue, openings: AtomicUsize::new(1) };
        Membership::of(Arc::new(running))
    }

    /// Another opening; `None` if the store has ended.
    pub(crate) fn join(self: Arc<Self>) -> Option<Membership> {
        let more = |openings: usize| (openings > 0).then(|| openings + 1);
        let joined = self.openings.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        let membership = joined.is_ok().then(|| Membership::of(self))?;
        membership.session.check_open().is_ok().then_some(membership)
    }

    /// Whether all openings have ended.
    fn has_ended(&self) -> bool {
        self.openings.load(Ordering::SeqCst) == 0
    }

    /// Ends an opening; returns whether it was the last.
    fn leave(&self) -> bool {
        self.openings.fetch_sub(1, Ordering::SeqCst) == 1
    }
}

/// An opening, as its handles and its watches know it: what the openings of a store share, and whether this one
/// was closed.
pub(crate) struct Session {
    shared: Arc<Shared>,
    closed: AtomicBool,
}

/// IMPORTANT: `is_closed`, `check_open` and `unanswered` of a session hide those of the store.
impl Deref for Session {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Session {
    /// Whether this opening or the store was closed; in a fork it always is.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst) || self.shared.is_closed()
    }

    /// An error if this opening or the store was closed, or was opened by the parent of this process.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.shared.check_open()?;
        if self.is_closed() { Err(StateError::Closed) } else { Ok(()) }
    }

    /// The error of a request that was dropped without an answer, as closing does with waiting ones.
    pub(crate) fn unanswered(&self) -> StateError {
        self.check_open().err().unwrap_or_else(|| self.shared.unanswered())
    }

    /// Closes this opening and ends its watches. All watches are woken; those of other openings wait again.
    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.shared.registry().ring();
    }
}

/// The part of one opening in a store that runs. The opening ends with it.
pub(crate) struct Membership {
    running: Arc<Running>,
    pub(crate) session: Arc<Session>,
    left: AtomicBool,
}

impl Membership {
    fn of(running: Arc<Running>) -> Self {
        let session = Session { shared: running.shared.clone(), closed: AtomicBool::new(false) };
        Self { running, session: Arc::new(session), left: AtomicBool::new(false) }
    }

    pub(crate) fn engine(&self) -> &Arc<dyn Engine> {
        &self.running.engine
    }

    /// The room of the queue, and how much of it a batch of so many bytes takes.
    pub(crate) fn queue(&self, bytes: usize) -> (&Arc<Semaphore>, u32) {
        let share = (bytes / QUEUE_UNIT + 1).min(QUEUE_BYTES / QUEUE_UNIT);
        (&self.running.queue, u32::try_from(share).unwrap_or(u32::MAX))
    }

    /// The store, for other openings to join it.
    pub(crate) fn running(&self) -> &Arc<Running> {
        &self.running
    }

    /// Ends this opening when what waits for the writer is done, and with the last opening the store.
    pub(crate) fn end(&self, ended: Closed) {
        let leaves = !self.left.swap(true, Ordering::SeqCst);
        let last = if leaves { self.running.leave() } else { self.running.has_ended() };
        if last {
            return self.engine().close(ended);
        }
        let session = self.session.clone();
        self.engine().settle(Box::new(move |result| {
            session.close();
            ended(result);
        }));
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // In a fork, the parent closes the store. An opening that has ended has left already.
        if !self.session.is_forked() && !self.left.load(Ordering::SeqCst) {
            self.end(Box::new(|_| ()));
        }
    }
}
