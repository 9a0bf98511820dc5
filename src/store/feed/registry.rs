//! The watches of an open store, and the commits that publication hands to them.

use std::collections::HashMap;
use std::sync::Arc;

use super::budget::Budget;
use super::erased::Erased;
use super::pattern_index::PatternIndex;
use super::recent_commits::{RecentCommit, RecentCommits, commits};
use super::wakers::Wakers;
use super::watcher::Watcher;
use crate::log::{Change, Head};
use crate::pattern::Pattern;
use crate::state::KeyState;
use crate::store::stats::WatcherStats;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard, lock};

/// The most bytes that the watches hold together, by default.
pub(crate) const WATCH_BYTES: usize = 64 << 20;

/// The watches of an open store.
///
/// IMPORTANT: a state is published while the lock is held. So states have one order, and a watch that joins
/// is either marked by a commit or starts after it. The lock is taken before that of the standby tree
/// (`Shared`) and before that of a watcher, never after them.
pub(crate) struct Registry {
    watches: Mutex<Watches>,
    next_watcher: AtomicU64,
    alarms: AtomicU64,
    /// How many watches there are, for reading without the lock.
    watching: AtomicUsize,
    /// The memory that the watches hold together.
    budget: Arc<Budget>,
    /// What is not delivered any more.
    erased: Arc<Erased>,
}

/// The watches, while they are locked.
pub(crate) struct Watches {
    recent: RecentCommits,
    index: PatternIndex<Arc<Watcher>>,
    watchers: HashMap<u64, Arc<Watcher>>,
}

impl Registry {
    /// The registry of a store whose log ends at this head.
    pub(crate) fn new(head: Head) -> Self {
        let (index, watchers) = (PatternIndex::default(), HashMap::new());
        Self {
            watches: Mutex::new(Watches { recent: RecentCommits::new(head), index, watchers }),
            next_watcher: AtomicU64::new(0),
            alarms: AtomicU64::new(0),
            watching: AtomicUsize::new(0),
            budget: Arc::new(Budget::new(WATCH_BYTES)),
            erased: Arc::default(),
        }
    }

    /// The memory that the watches hold together.
    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// What erasures named that were published.
    pub(crate) fn erased(&self) -> &Arc<Erased> {
        &self.erased
    }

    /// Takes changes that are published: they may name values that are not delivered any more.
    pub(crate) fn note_erased(&self, changes: &[Change]) {
        self.erased.take(changes);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Watches> {
        lock(&self.watches)
    }

    /// Adds a watch that starts after `from`. `published` returns the published head; it is called while the lock
    /// is held, so that nothing else is published meanwhile.
    pub(crate) fn join(
        &self,
        pattern: Pattern,
        from: Head,
        published: impl FnOnce() -> Head,
    ) -> Arc<Watcher> {
        let id = self.next_watcher.fetch_add(1, Ordering::Relaxed);
        let watcher = Arc::new(Watcher::new(id, pattern, from));
        let mut joined = self.lock();
        joined.join(&watcher, from, published());
        self.watching.fetch_add(1, Ordering::SeqCst);
        watcher
    }

    /// Removes a watch.
    pub(crate) fn leave(&self, watcher: &Watcher, published: impl FnOnce() -> Head) {
        let mut joined = self.lock();
        if joined.leave(watcher, published) {
            self.watching.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Wakes all watches.
    pub(crate) fn ring(&self) {
        let joined = self.lock();
        let wakers = Wakers(joined.watchers.values().filter_map(|watcher| watcher.wake()).collect());
        drop(joined);
        wakers.wake();
    }

    /// Makes every watch read the log, even if nothing is new, so that it meets a failure of the storage.
    pub(crate) fn alarm(&self) {
        self.alarms.fetch_add(1, Ordering::SeqCst);
        self.ring();
    }

    /// How many alarms there were.
    pub(crate) fn alarms(&self) -> u64 {
        self.alarms.load(Ordering::SeqCst)
    }

    /// How many watches there are.
    pub(crate) fn watching(&self) -> usize {
        self.watching.load(Ordering::SeqCst)
    }

    /// A page of about `most` bytes of the commits after `read`, which the watch has read, and the head after them;
    /// `None` if the watch must read the log.
    pub(crate) fn recent(
        &self,
        watcher: &Watcher,
        read: Head,
        most: usize,
    ) -> Option<(Vec<Arc<RecentCommit>>, Head)> {
        let joined = self.lock();
        let passed = watcher.pass(read);
        let (page, all) = joined.recent.after(passed.seq, most)?;
        if all {
            watcher.keeps_up();
        }
        let end = page.last().map_or(passed, |commit| commit.head);
        Some((page, end))
    }

    /// The statistics of the watches, the one that lags most first.
    pub(crate) fn stats(&self, published: impl FnOnce() -> Head) -> Vec<WatcherStats> {
        self.stats_of(published, |_| true)
    }

    /// The same of the watches whose position nothing records.
    pub(crate) fn stats_of_unrecorded(&self, published: impl FnOnce() -> Head) -> Vec<WatcherStats> {
        self.stats_of(published, |watcher| !watcher.is_recorded())
    }

    fn stats_of(&self, published: impl FnOnce() -> Head, of: impl Fn(&Watcher) -> bool) -> Vec<WatcherStats> {
        let joined = self.lock();
        let head = published().seq;
        let stats = joined.watchers.values().filter(|watcher| of(watcher)).map(|watcher| {
            let position = watcher.position(head);
            let lag = head.as_u64().saturating_sub(position.as_u64());
            WatcherStats { pattern: watcher.pattern().to_string(), position, lag }
        });
        let mut stats: Vec<_> = stats.collect();
        drop(joined);
        stats.sort_by(|a, b| b.lag.cmp(&a.lag).then_with(|| a.pattern.cmp(&b.pattern)));
        stats
    }
}

impl Watches {
    pub(crate) fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    /// Drops the recent commits; those after this head are held again.
    pub(crate) fn forget(&mut self, head: Head) {
        self.recent = RecentCommits::new(head);
    }

    /// Marks all watches: there may be matching changes after this head, which is the published one. Returns their
    /// wakers.
    pub(crate) fn mark_all(&self, published: Head) -> Wakers {
        Wakers(self.watchers.values().filter_map(|watcher| watcher.mark(published)).collect())
    }

    /// Holds the commits of these changes for the watches, marks the watches whose pattern matches, and returns
    /// their wakers. `old` finds the state that the first change of a key replaced, if it is in memory.
    pub(crate) fn dispatch<'a>(
        &mut self,
        before: Head,
        changes: &[Change],
        old: impl Fn(&str) -> Option<&'a KeyState>,
    ) -> Wakers {
        let mut wakers = Wakers::default();
        for commit in commits(before, changes, old) {
            for matching in &commit.changes {
                self.index.matching(&matching.change.key, |watcher| {
                    if watcher.pattern().matches(&matching.change.key) {
                        wakers.0.extend(watcher.mark(commit.before));
                    }
                });
            }
            self.recent.push(Arc::new(commit));
        }
        wakers
    }

    fn join(&mut self, watcher: &Arc<Watcher>, from: Head, published: Head) {
        // IMPORTANT: something may have been published since `from` was looked up. The watch must read it.
        if published.seq > from.seq {
            drop(watcher.mark(from));
        }
        if self.is_empty() {
            self.forget(published);
        }
        self.index.insert(watcher.id(), watcher.pattern(), watcher.clone());
        self.watchers.insert(watcher.id(), watcher.clone());
    }

    /// Removes a watch; returns whether it was there.
    fn leave(&mut self, watcher: &Watcher, published: impl FnOnce() -> Head) -> bool {
        let left = self.watchers.remove(&watcher.id()).is_some();
        if left {
            self.index.remove(watcher.id(), watcher.pattern());
        }
        if self.is_empty() {
            self.forget(published());
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::StoreId;
    use crate::seq::Seq;
    use std::task::Waker;

    fn head(seq: u64) -> Head {
        Head { seq: Seq::new(seq), ..Head::genesis(StoreId::from_bytes([1; 16])) }
    }

    fn join(registry: &Registry, from: u64, published: u64) -> Arc<Watcher> {
        registry.join("/a".parse().unwrap(), head(from), || head(published))
    }

    #[test]
    fn watches_are_counted_while_they_are_there() {
        let registry = Registry::new(head(1));
        let watches = [join(&registry, 1, 1), join(&registry, 1, 1)];
        assert_eq!(registry.watching(), 2);
        for left in [1, 1, 0] {
            registry.leave(&watches[1 - left], || head(1));
            assert_eq!(registry.watching(), left, "and leave once");
        }
    }

    #[test]
    fn watches_hold_64_mib_together_unless_it_is_said_otherwise() {
        assert_eq!(Registry::new(head(1)).budget().share(), 64 << 20);
    }

    // What is published between the look at the head and the joining is not lost.
    #[test]
    fn a_watch_that_joins_late_is_behind_and_one_that_joins_in_time_is_not() {
        let registry = Registry::new(head(1));
        assert!(!join(&registry, 1, 1).listen(Waker::noop()));
        assert!(join(&registry, 1, 2).listen(Waker::noop()));
        assert!(!join(&registry, 3, 2).listen(Waker::noop()), "it is to begin later");
    }

    #[test]
    fn the_position_of_a_watch_is_what_it_has_delivered() {
        let registry = Registry::new(head(1));
        let watch = join(&registry, 2, 2);
        let position = || registry.stats(|| head(9)).pop().map(|stats| (stats.position.as_u64(), stats.lag));
        assert_eq!(position(), Some((9, 0)), "nothing has matched since");
        drop(watch.mark(head(5)));
        assert_eq!(position(), Some((5, 4)), "what matches is not read yet");
        watch.delivers(Some(Seq::new(3)));
        assert_eq!(position(), Some((3, 6)), "what it has read is not delivered yet");
        watch.delivers(None);
        watch.keeps_up();
        assert_eq!(position(), Some((9, 0)));
        watch.falls_back(head(4));
        assert_eq!(position(), Some((4, 5)));
    }
}
