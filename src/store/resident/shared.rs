//! The state that the writer, the watches and the handles of an open store share.

use std::sync::{Arc, OnceLock};
#[cfg(feature = "sqlite")]
use std::time::Duration;

#[cfg(feature = "sqlite")]
use arc_swap::ArcSwapOption;

#[cfg(feature = "sqlite")]
use super::entry_cache::EntryCache;
use super::published::{InMemory, InstanceId, Published, Token};
use super::standby::StandbyTree;
#[cfg(feature = "sqlite")]
use crate::backend::sqlite::{LogPages, WalIndex};
use crate::backend::{FoldedState, Process, Snapshot};
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::log::{Head, StoreId};
use crate::pattern::Pattern;
use crate::state::{Entry, KeyState};
use crate::store::commit::Recorded;
use crate::store::feed::{Registry, Wakers, Watcher};
use crate::store::foreign::broken;
use crate::store::stats::{Counters, Residency, WatcherStats};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{ArcSwap, Guard, Mutex, lock};

/// The published state, and the watches that wait for the next one.
pub(crate) struct Shared {
    pub(crate) store: StoreId,
    pub(crate) instance: InstanceId,
    /// The process that opened the store, if forks of it must not use it.
    process: Option<Process>,
    /// The index of the write-ahead log, which shows commits that are not published yet; none if no other process
    /// can write the store.
    #[cfg(feature = "sqlite")]
    index: ArcSwapOption<WalIndex>,
    /// Whether other processes may write the store and their commits cannot be noticed: then the storage answers
    /// every read.
    blind: bool,
    published: ArcSwap<Published>,
    /// IMPORTANT: locked while a state is published, so that states have one order.
    registry: Registry,
    /// IMPORTANT: the lock of the registry is taken before this one. A thread that holds this one must not take
    /// that of the registry.
    standby: Mutex<Option<StandbyTree>>,
    /// How many bytes the projection may take in memory.
    budget: usize,
    closed: AtomicBool,
    /// Whether a look at the files of the store still counts. Each read asks; who finds that none counts, looks.
    looked: AtomicBool,
    /// Why the store has ended, although nobody closed it.
    ended: OnceLock<StateError>,
    counters: Mutex<Counters>,
}

impl Shared {
    /// For a store that no other process can write.
    pub(crate) fn alone(store: StoreId, head: Head, in_memory: InMemory, budget: usize) -> Self {
        Self {
            store,
            instance: InstanceId::new(),
            process: None,
            #[cfg(feature = "sqlite")]
            index: ArcSwapOption::empty(),
            blind: false,
            published: ArcSwap::from_pointee(Published { head, token: None, in_memory }),
            registry: Registry::new(head),
            standby: Mutex::new(None),
            budget,
            closed: AtomicBool::new(false),
            looked: AtomicBool::new(true),
            ended: OnceLock::new(),
            counters: Mutex::default(),
        }
    }

    /// Marks the store as one that forks of this process must not use.
    #[cfg(feature = "sqlite")]
    pub(crate) fn of_this_process(self) -> Self {
        Self { process: Some(Process::this()), ..self }
    }

    /// Marks the store as one that other processes may write. Without an index their commits cannot be
    /// noticed.
    #[cfg(feature = "sqlite")]
    pub(crate) fn beside_others(self, index: Option<WalIndex>) -> Self {
        let blind = index.is_none();
        // Nothing is kept in memory, because it could never be served.
        let budget = if blind { 0 } else { self.budget };
        Self { blind, budget, index: ArcSwapOption::from(index.map(Arc::new)), ..self }
    }

    /// Adds a watch that starts after this head.
    pub(crate) fn join(&self, pattern: Pattern, from: Head) -> Arc<Watcher> {
        self.registry.join(pattern, from, || self.head())
    }

    /// Removes a watch.
    pub(crate) fn leave(&self, watcher: &Watcher) {
        if !self.is_forked() {
            self.registry.leave(watcher, || self.head());
        }
    }

    /// The statistics of the watches, the one that lags most first.
    pub(crate) fn watcher_stats(&self) -> Vec<WatcherStats> {
        self.registry.stats(|| self.head())
    }

    /// The same of the watches whose position nothing records.
    pub(crate) fn unrecorded_watchers(&self) -> Vec<WatcherStats> {
        self.registry.stats_of_unrecorded(|| self.head())
    }

    /// The watches.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The token of the newest commit in the storage; `None` if no other process can write the store.
    #[cfg(feature = "sqlite")]
    pub(crate) fn visible(&self) -> Option<Token> {
        self.index.load().as_ref().map(|index| index.token())
    }

    /// The pages of the write-ahead log; `None` where it cannot be seen.
    #[cfg(feature = "sqlite")]
    pub(crate) fn log_pages(&self) -> Option<LogPages> {
        self.index.load().as_ref().map(|index| index.pages())
    }

    #[cfg(not(feature = "sqlite"))]
    #[expect(clippy::unused_self, reason = "as the one above")]
    pub(crate) fn visible(&self) -> Option<Token> {
        None
    }

    /// The published state, even if the storage has a newer one.
    pub(crate) fn published(&self) -> Guard<Arc<Published>> {
        self.published.load()
    }

    /// The published state, if no process has committed a newer one by now.
    pub(crate) fn current(&self) -> Option<Guard<Arc<Published>>> {
        let published = self.published.load();
        (self.is_newest(&published) || failpoint("stale_read")).then_some(published)
    }

    /// Whether no process has committed a newer state than the published one by now.
    #[cfg(feature = "sqlite")]
    pub(crate) fn is_current(&self) -> bool {
        self.is_newest(&self.published.load())
    }

    fn is_newest(&self, published: &Published) -> bool {
        published.token == self.visible() && !self.blind
    }

    /// The published head.
    pub(crate) fn head(&self) -> Head {
        self.published.load().head
    }

    /// Publishes recorded changes, and returns the wakers of the watches that must be woken; `None`, and nothing
    /// is published, if the changes do not continue the published state. `token` is the token of the storage
    /// while this is the newest state. `folded` is the state after the changes, if the caller has it.
    ///
    /// IMPORTANT: the order. The changes must be durable. The watches are marked; then the state is stored, so
    /// that reads see it; then the caller wakes the watches and acknowledges the batches.
    pub(crate) fn publish(
        &self,
        news: &Recorded,
        token: Option<Token>,
        folded: Option<&FoldedState>,
    ) -> Option<Wakers> {
        let mut watches = self.registry.lock();
        let known = self.published.load_full();
        if news.before != known.head {
            return None;
        }
        self.registry.note_erased(&news.changes);
        let mut wakers = Wakers::default();
        if watches.is_empty() {
            watches.forget(news.head);
        } else {
            let projection = known.in_memory.all().map(|folded| &folded.projection);
            let last = |key: &str| projection.and_then(|projection| projection.last(key)).map(|last| &**last);
            wakers = watches.dispatch(news.before, &news.changes, last);
        }
        let mut next = lock(&self.standby);
        let standby = next.take().and_then(|standby| standby.at(known.head));
        let (in_memory, left) = match folded {
            Some(folded) => (InMemory::All(folded.clone()), Vec::new()),
            None => known.in_memory.followed_by(&news.changes, standby, self.budget),
        };
        let takes_turns = folded.is_none() && in_memory.all().is_some();
        // IMPORTANT: after the matching watches are marked. A watch that is not marked concludes that no change
        // up to the published head matches its pattern.
        self.published.store(Arc::new(Published { head: news.head, token, in_memory }));
        *next = takes_turns.then_some(StandbyTree::Behind { state: known, left, head: news.head });
        Some(wakers)
    }

    /// Brings the standby tree up to date, so that the next publication need not. No caller waits for this.
    pub(crate) fn prepare(&self) {
        let mut standby = lock(&self.standby);
        *standby = standby.take().map(StandbyTree::brought_forward);
    }

    /// Publishes a head without the changes up to it. Returns false, and publishes nothing, if there are watches
    /// or the whole projection is in memory.
    #[cfg(feature = "sqlite")]
    pub(crate) fn skip(&self, before: Head, head: Head, token: Option<Token>) -> bool {
        let mut watches = self.registry.lock();
        let known = self.published.load();
        if before != known.head || known.in_memory.all().is_some() || !watches.is_empty() {
            return false;
        }
        self.registry.erased().pass_over(head.seq);
        watches.forget(head);
        let in_memory = InMemory::Some(EntryCache::new(self.budget));
        self.published.store(Arc::new(Published { head, token, in_memory }));
        true
    }

    /// Publishes a head after a floor that the published one lies below, so that the changes in between cannot be read. All
    /// watches are marked: each reads the log from its own place, and goes on or ends with
    /// [`StateError::Compacted`]. Returns their wakers; `None`, and nothing is published, if `before` is not published any
    /// more.
    ///
    /// IMPORTANT: the watches are marked before the head is stored. A watch that is not marked concludes that no change up
    /// to the published head matches its pattern.
    #[cfg(feature = "sqlite")]
    pub(crate) fn start_over(&self, before: Head, head: Head, token: Option<Token>) -> Option<Wakers> {
        let mut watches = self.registry.lock();
        if before != self.published.load().head {
            return None;
        }
        let wakers = watches.mark_all(before);
        self.registry.erased().pass_over(head.seq);
        watches.forget(head);
        *lock(&self.standby) = None;
        let in_memory = InMemory::Some(EntryCache::new(self.budget));
        self.published.store(Arc::new(Published { head, token, in_memory }));
        Some(wakers)
    }

    /// Whether the commits of other processes cannot be noticed.
    #[cfg(feature = "sqlite")]
    pub(crate) fn is_blind(&self) -> bool {
        self.blind
    }

    /// Replaces the part of the projection in memory by what `keep` returns, if it returns something.
    pub(crate) fn keep(&self, keep: impl FnOnce(&Published) -> Option<InMemory>) -> bool {
        let _order = self.registry.lock();
        let known = self.published.load();
        let Some(in_memory) = keep(&known) else { return false };
        *lock(&self.standby) = None;
        self.published.store(Arc::new(Published { head: known.head, token: known.token, in_memory }));
        true
    }

    /// Adds an entry that was just read to the cache, if it is of the published state.
    pub(crate) fn remember(&self, snapshot: &dyn Snapshot, entry: &Entry) -> Result<()> {
        if self.budget > 0 && self.published.load().in_memory.all().is_none() {
            let head = snapshot.head()?;
            self.keep(|known| match &known.in_memory {
                // IMPORTANT: an entry of an older state must not replace a newer one.
                InMemory::Some(cache) if known.head == head || failpoint("stale_entry_cached") => {
                    let mut cache = cache.clone();
                    cache.put(KeyState::from_entry(entry));
                    Some(InMemory::Some(cache))
                }
                _ => None,
            });
        }
        Ok(())
    }

    /// How many bytes the projection may take in memory.
    pub(crate) fn budget(&self) -> usize {
        self.budget
    }

    /// Whether the store was closed; in a fork it always is.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_forked() || self.closed.load(Ordering::SeqCst)
    }

    /// Whether this process is a fork of the one that opened the store. The threads that would answer are in the
    /// parent, and a lock that was held at the fork stays locked.
    pub(crate) fn is_forked(&self) -> bool {
        self.process.is_some_and(|process| process != Process::this())
    }

    /// An error if the store was closed or has ended, or was opened by the parent of this process.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.is_forked() {
            return Err(StateError::Forked);
        }
        if self.is_closed() {
            return Err(StateError::Closed);
        }
        self.ended.get().map_or(Ok(()), |cause| Err(cause.clone()))
    }

    /// Ends the store and its watches with a cause. It stays ended.
    #[cfg(feature = "sqlite")]
    pub(crate) fn end(&self, cause: StateError) {
        let _ = self.ended.set(cause);
        self.registry.ring();
    }

    /// Whether a look at the files of the store still counts.
    pub(crate) fn has_looked(&self) -> bool {
        self.looked.load(Ordering::SeqCst)
    }

    /// Sets whether a look at the files still counts.
    #[cfg(feature = "sqlite")]
    pub(crate) fn set_looked(&self, looked: bool) {
        self.looked.store(looked, Ordering::SeqCst);
    }

    /// The error of a request that was dropped without an answer, as closing does with waiting ones.
    pub(crate) fn unanswered(&self) -> StateError {
        self.check_open().err().unwrap_or_else(broken)
    }

    /// Closes the store and ends the watches; returns whether the store was open.
    pub(crate) fn close(&self) -> bool {
        let was_open = !self.closed.swap(true, Ordering::SeqCst);
        self.registry.ring();
        #[cfg(feature = "sqlite")]
        if let Some(index) = self.index.swap(None) {
            drop_alone(index);
        }
        was_open
    }

    pub(crate) fn count(&self, count: impl FnOnce(&mut Counters)) {
        count(&mut lock(&self.counters));
    }

    pub(crate) fn counters(&self) -> Counters {
        lock(&self.counters).clone()
    }

    /// Which part of the projection is in memory, and about how many bytes it takes.
    pub(crate) fn residency(&self) -> (Residency, u64) {
        let published = self.published.load();
        let residency = match &published.in_memory {
            InMemory::All(_) => Residency::Whole,
            InMemory::Some(_) => lock(&self.counters).residency,
        };
        (residency, published.in_memory.bytes() as u64)
    }
}

/// Drops the index, when no read looks at it any more. It keeps the files open, and must not be dropped by a
/// read, which would close them after the store was closed.
#[cfg(feature = "sqlite")]
fn drop_alone(mut index: Arc<WalIndex>) {
    // A look takes nanoseconds, unless its thread is off the processor.
    while let Err(seen) = Arc::try_unwrap(index) {
        index = seen;
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry_cache::EntryCache;
    use super::*;
    use crate::backend::{Memory, View};

    use crate::state::Batch;

    const STORE: StoreId = StoreId::from_bytes([3; 16]);

    /// A store of this many commits, each of which sets `/a`.
    fn log(commits: usize) -> Memory {
        Memory::of(STORE, (0..commits).map(|n| Batch::new().set("/a", n.to_string())))
    }

    fn head(commits: usize) -> Head {
        log(commits).head().unwrap()
    }

    /// With nothing of the projection in memory, and so many bytes for it.
    fn of_few(head: Head, budget: usize) -> Shared {
        Shared::alone(STORE, head, InMemory::Some(EntryCache::new(budget)), budget)
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn changes_are_left_out_only_if_nobody_needs_them() {
        let shared = of_few(head(1), 0);
        assert!(!shared.skip(head(2), head(3), None), "they do not go on from what is published");
        assert_eq!(shared.head(), head(1));
        assert!(shared.skip(head(1), head(3), None));
        assert_eq!(shared.head(), head(3));

        let watched = of_few(head(1), 0);
        let joined = watched.join("/a".parse().unwrap(), head(1));
        assert!(!watched.skip(head(1), head(3), None), "a watch needs them");
        assert_eq!(watched.head(), head(1));
        watched.leave(&joined);
        assert!(watched.skip(head(1), head(3), None));

        let whole = Shared::alone(STORE, head(1), InMemory::All(log(1).folded().clone()), usize::MAX);
        assert!(!whole.skip(head(1), head(3), None), "the projection needs them");
        assert_eq!(whole.head(), head(1));
    }

    /// Whether an entry that was read of a state after so many commits is remembered.
    fn remembers(shared: &Shared, commits: usize) -> bool {
        let before = shared.published.load_full();
        let read = log(commits);
        shared.remember(&read, &read.entry("/a").unwrap().unwrap()).unwrap();
        let after = shared.published.load_full();
        assert_eq!(before.head, after.head);
        !Arc::ptr_eq(&before, &after)
    }

    #[test]
    fn an_entry_is_remembered_if_it_is_of_the_published_state_and_there_is_room_for_any() {
        let shared = of_few(head(2), 10_000);
        assert!(!remembers(&shared, 1), "of an older state");
        assert!(!remembers(&shared, 3), "of a newer state");
        assert!(shared.published().in_memory.entry("/a").is_none());
        assert!(remembers(&shared, 2));
        let known = shared.published().in_memory.entry("/a").unwrap().unwrap().unwrap();
        assert_eq!((known.value, known.seq), (b"1".to_vec(), head(2).seq));

        assert!(!remembers(&of_few(head(2), 0), 2), "there is no room");
        let whole = Shared::alone(STORE, head(2), InMemory::All(log(2).folded().clone()), usize::MAX);
        assert!(!remembers(&whole, 2), "all of it is in memory");
    }

    // Commits of others could not be noticed, so memory may hold an older state than the storage.
    #[cfg(feature = "sqlite")]
    #[test]
    fn a_store_that_cannot_notice_others_answers_nothing_from_memory() {
        let alone = of_few(head(1), 10_000);
        assert!(!alone.is_blind() && alone.current().is_some() && alone.is_current());
        let blind = alone.beside_others(None);
        assert!(blind.is_blind() && blind.current().is_none() && !blind.is_current());
        assert_eq!(blind.budget(), 0);
    }
}
