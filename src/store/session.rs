//! A store that runs in this process, and its openings, which may be several.

use std::any::Any;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use tokio::sync::{Mutex as AsyncMutex, MutexGuard, Semaphore};

use super::engine::{Closed, Engine};
use super::resident::Shared;
use crate::error::{Result, StateError};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Mutex, lock};

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
    closing: Mutex<Closing>,
    /// Held by whoever drops something from the log, so that they take turns.
    dropping: Arc<AsyncMutex<()>>,
    /// What lives as long as the store.
    kept: OnceLock<Arc<dyn Any + Send + Sync>>,
}

/// How the store closed, and who wants to know it.
#[derive(Default)]
struct Closing {
    result: Option<Result<()>>,
    waiting: Vec<Closed>,
}

/// Tells how the store closed, also if the engine ends without saying it: then it is closed.
struct Ending {
    running: Arc<Running>,
    result: Result<()>,
}

impl Ending {
    fn with(mut self, result: Result<()>) {
        self.result = result;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let waiting = {
            let mut closing = lock(&self.running.closing);
            closing.result.get_or_insert_with(|| self.result.clone());
            std::mem::take(&mut closing.waiting)
        };
        for ended in waiting {
            ended(self.result.clone());
        }
    }
}

impl Running {
    /// The first opening of a store that has just started.
    pub(crate) fn start(shared: Arc<Shared>, engine: Arc<dyn Engine>) -> Membership {
        let queue = Arc::new(Semaphore::new(QUEUE_BYTES / QUEUE_UNIT));
        let (openings, closing) = (AtomicUsize::new(1), Mutex::default());
        let (dropping, kept) = (Arc::default(), OnceLock::new());
        let running = Self { shared, engine, queue, openings, closing, dropping, kept };
        Membership::of(Arc::new(running))
    }

    /// Keeps something as long as the store runs or a handle of it lives.
    pub(crate) fn keep(&self, kept: Arc<dyn Any + Send + Sync>) {
        // It is given once, where the store starts.
        let _ = self.kept.set(kept);
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

    /// Closes the store. Who asks again, or meanwhile, is told the same.
    fn close(self: &Arc<Self>, ended: Closed) {
        self.when_closed(ended);
        let ending = Ending { running: self.clone(), result: Ok(()) };
        self.engine.close(Box::new(move |result| ending.with(result)));
    }

    fn when_closed(&self, ended: Closed) {
        let mut closing = lock(&self.closing);
        match closing.result.clone() {
            Some(result) => {
                drop(closing);
                ended(result);
            }
            None => closing.waiting.push(ended),
        }
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
    dropping: Arc<AsyncMutex<()>>,
    /// What lives as long as the opening.
    kept: OnceLock<Box<dyn Any + Send + Sync>>,
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

    /// Waits until nobody else in this process drops something from the log: two would do each other's work. The turn ends
    /// with what is returned.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.dropping.lock().await
    }

    /// Keeps something for as long as the opening lasts. Only the first one is kept.
    pub(crate) fn keep(&self, kept: impl Any + Send + Sync) {
        let _ = self.kept.set(Box::new(kept));
    }

    /// What was kept.
    pub(crate) fn kept<T: Any>(&self) -> Option<&T> {
        self.kept.get()?.downcast_ref()
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
        let session = Session {
            shared: running.shared.clone(),
            closed: AtomicBool::new(false),
            dropping: running.dropping.clone(),
            kept: OnceLock::new(),
        };
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
        if !self.left.swap(true, Ordering::SeqCst) && self.running.leave() {
            return self.running.close(ended);
        }
        if self.running.has_ended() {
            return self.running.when_closed(ended);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::FoldedState;
    use crate::log::{Head, StoreId};
    use crate::store::engine::{Chore, CommitRequest, Read};
    use crate::store::resident::InMemory;
    use crate::store::watched_clock::WatchedClock;

    /// An engine that closes when the test says so.
    struct Slow(Arc<Mutex<Option<Closed>>>);

    impl Engine for Slow {
        fn order(&self, _: CommitRequest) {
            unreachable!("nothing is committed")
        }
        fn tend(&self, _: Chore) {
            unreachable!("nothing is dropped")
        }
        fn start_read(&self, _: Read) {
            unreachable!("nothing is read")
        }
        fn clock(&self) -> &WatchedClock {
            unreachable!("nothing is timed")
        }
        fn now(&self) -> Result<Head> {
            unreachable!("nothing is asked")
        }
        fn close(&self, closed: Closed) {
            *lock(&self.0) = Some(closed);
        }
    }

    // Who closed a second time was told that all was well, while the first one was told of the failure.
    #[test]
    fn whoever_closes_a_store_is_told_how_it_closed() {
        for fails in [Some(StateError::Busy("somebody reads".into())), None] {
            let (id, slot) = (StoreId::from_bytes([7; 16]), Arc::default());
            let shared = Shared::alone(id, Head::genesis(id), InMemory::All(FoldedState::genesis(id)), 0);
            let membership = Running::start(Arc::new(shared), Arc::new(Slow(Arc::clone(&slot))));
            let told = Arc::new(Mutex::new(Vec::new()));
            let close = || {
                let told = told.clone();
                membership.end(Box::new(move |result| lock(&told).push(result)));
            };
            close();
            close();
            assert!(lock(&told).is_empty(), "it closes");
            let closed = lock(&slot).take().unwrap();
            // An engine that ends without a word has closed.
            let result = fails.clone().map_or(Ok(()), Err);
            match fails {
                Some(_) => closed(result.clone()),
                None => drop(closed),
            }
            close();
            assert_eq!(*lock(&told), [result.clone(), result.clone(), result]);
        }
    }
}
