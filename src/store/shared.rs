//! What the writer, the watches and the handles of an open store share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::WatcherStats;
use super::stats::Counters;
use crate::log::{Head, StoreId};
use crate::pattern::Pattern;
use crate::seq::Seq;

/// The published head and the bell. The bell carries no data: who hears it reads on from its own
/// cursor.
pub(super) struct Shared {
    pub(super) store: StoreId,
    head: Mutex<Head>,
    closed: AtomicBool,
    watchers: Mutex<HashMap<u64, Arc<Watcher>>>,
    next_watcher: AtomicU64,
    alarms: AtomicU64,
    watching: AtomicUsize,
    counters: Mutex<Counters>,
}

/// A watch, as the bell and the statistics know it.
pub(super) struct Watcher {
    id: u64,
    pattern: Pattern,
    position: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

/// A lock whose holder cannot leave it half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(store: StoreId, head: Head) -> Self {
        Self {
            store,
            head: Mutex::new(head),
            closed: AtomicBool::new(false),
            watchers: Mutex::default(),
            next_watcher: AtomicU64::new(0),
            alarms: AtomicU64::new(0),
            watching: AtomicUsize::new(0),
            counters: Mutex::default(),
        }
    }

    /// The newest head that is known to be recorded.
    pub(super) fn head(&self) -> Head {
        *lock(&self.head)
    }

    /// Makes a recorded head known; says whether it is news.
    pub(super) fn advance(&self, head: Head) -> bool {
        let mut known = lock(&self.head);
        let news = head.seq > known.seq;
        if news {
            *known = head;
        }
        news
    }

    /// Wakes the watches that wait.
    pub(super) fn ring(&self) {
        let wakers: Vec<Waker> =
            lock(&self.watchers).values().filter_map(|w| lock(&w.waker).take()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Makes every watch read, even where there is nothing new: the storage may have failed.
    pub(super) fn alarm(&self) {
        self.alarms.fetch_add(1, Ordering::SeqCst);
        self.ring();
    }

    /// How many alarms there were.
    pub(super) fn alarms(&self) -> u64 {
        self.alarms.load(Ordering::SeqCst)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Ends the watches. Says whether the store was open until now.
    pub(super) fn close(&self) -> bool {
        let was_open = !self.closed.swap(true, Ordering::SeqCst);
        self.ring();
        was_open
    }

    /// How many watches there are.
    pub(super) fn watching(&self) -> usize {
        self.watching.load(Ordering::SeqCst)
    }

    pub(super) fn join(&self, pattern: Pattern, position: Seq) -> Arc<Watcher> {
        let id = self.next_watcher.fetch_add(1, Ordering::Relaxed);
        let position = AtomicU64::new(position.as_u64());
        let watcher = Arc::new(Watcher { id, pattern, position, waker: Mutex::default() });
        lock(&self.watchers).insert(id, watcher.clone());
        self.watching.fetch_add(1, Ordering::SeqCst);
        watcher
    }

    pub(super) fn leave(&self, watcher: &Watcher) {
        if lock(&self.watchers).remove(&watcher.id).is_some() {
            self.watching.fetch_sub(1, Ordering::SeqCst);
        }
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Counters)) {
        count(&mut lock(&self.counters));
    }

    pub(super) fn counters(&self) -> Counters {
        lock(&self.counters).clone()
    }

    /// The watches, the one that lags most first.
    pub(super) fn watcher_stats(&self) -> Vec<WatcherStats> {
        let head = self.head().seq.as_u64();
        let mut stats: Vec<_> = lock(&self.watchers)
            .values()
            .map(|watcher| {
                let position = watcher.position.load(Ordering::Relaxed);
                WatcherStats {
                    pattern: watcher.pattern.to_string(),
                    position: Seq::new(position),
                    lag: head.saturating_sub(position),
                }
            })
            .collect();
        stats.sort_by(|a, b| b.lag.cmp(&a.lag).then_with(|| a.pattern.cmp(&b.pattern)));
        stats
    }
}

impl Watcher {
    pub(super) fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    pub(super) fn moved_to(&self, position: Seq) {
        self.position.store(position.as_u64(), Ordering::Relaxed);
    }

    /// Asks to be woken by the next bell. Look at the head after this, not before.
    pub(super) fn listen(&self, waker: &Waker) {
        let mut slot = lock(&self.waker);
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }
}
