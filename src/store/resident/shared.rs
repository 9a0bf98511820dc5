//! What the writer, the watches and the handles of an open store share.

use std::sync::Arc;

#[cfg(feature = "sqlite")]
use arc_swap::ArcSwapOption;

#[cfg(feature = "sqlite")]
use super::entry_cache::EntryCache;
use super::published::{InMemory, InstanceId, Published, Token};
use super::standby::StandbyTree;
#[cfg(feature = "sqlite")]
use crate::backend::sqlite::WalIndex;
use crate::backend::{FoldedState, Process, Snapshot};
use crate::error::{Result, StateError};
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
    /// The one that opened it, if no other may use it.
    process: Option<Process>,
    /// What tells of commits that are not published yet; none where nobody else writes the store.
    #[cfg(feature = "sqlite")]
    index: ArcSwapOption<WalIndex>,
    /// Others may write the store, but nothing tells of it: the storage answers every read.
    blind: bool,
    published: ArcSwap<Published>,
    /// Locked while something is published, so that there is one order of it.
    registry: Registry,
    /// IMPORTANT: whoever holds this lock does not ask for that of the registry, which is taken first.
    standby: Mutex<Option<StandbyTree>>,
    /// Bytes that the projection may take in memory.
    budget: usize,
    closed: AtomicBool,
    counters: Mutex<Counters>,
}

impl Shared {
    /// Of a store that nobody else writes.
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
            counters: Mutex::default(),
        }
    }

    /// Of a store that a fork of this process must not use.
    #[cfg(feature = "sqlite")]
    pub(crate) fn of_this_process(self) -> Self {
        Self { process: Some(Process::this()), ..self }
    }

    /// Of a store that other processes may write; without an index, nothing tells of it.
    #[cfg(feature = "sqlite")]
    pub(crate) fn beside_others(self, index: Option<WalIndex>) -> Self {
        let blind = index.is_none();
        // What could never be served is not kept.
        let budget = if blind { 0 } else { self.budget };
        Self { blind, budget, index: ArcSwapOption::from(index.map(Arc::new)), ..self }
    }

    /// A watch from this head on.
    pub(crate) fn join(&self, pattern: Pattern, from: Head) -> Arc<Watcher> {
        self.registry.join(pattern, from, || self.head())
    }

    /// Removes a watch.
    pub(crate) fn leave(&self, watcher: &Watcher) {
        if !self.is_forked() {
            self.registry.leave(watcher, || self.head());
        }
    }

    /// The watches, the one that lags most first.
    pub(crate) fn watcher_stats(&self) -> Vec<WatcherStats> {
        self.registry.stats(|| self.head())
    }

    /// Who is woken.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// What is visible in the storage now; none where nobody else writes.
    #[cfg(feature = "sqlite")]
    pub(crate) fn visible(&self) -> Option<Token> {
        self.index.load().as_ref().map(|index| index.token())
    }

    #[cfg(not(feature = "sqlite"))]
    #[expect(clippy::unused_self, reason = "as the one above")]
    pub(crate) fn visible(&self) -> Option<Token> {
        None
    }

    /// The published state, whether or not there is something newer.
    pub(crate) fn published(&self) -> Guard<Arc<Published>> {
        self.published.load()
    }

    /// The published state, if there is nothing newer by now, from whomever.
    pub(crate) fn current(&self) -> Option<Guard<Arc<Published>>> {
        let published = self.published.load();
        let visible = self.visible();
        let newest = published.token == visible && !self.blind;
        (newest || crate::failpoint::failpoint("stale_read")).then_some(published)
    }

    /// The end of the log as it was published.
    pub(crate) fn head(&self) -> Head {
        self.published.load().head
    }

    /// Publishes what continues the published state: none if it does not. It is in the projection and
    /// among the recent commits then, and whoever waits for it is to be woken.
    /// `token` is what is visible when it is the newest; `folded` is the state after it, where somebody has it.
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
        // IMPORTANT: after the watches that it concerns are marked. A watch that is not marked takes it that
        // everything up to the published head is none of its concern.
        self.published.store(Arc::new(Published { head: news.head, token, in_memory }));
        *next = takes_turns.then_some(StandbyTree::Behind { state: known, left, head: news.head });
        Some(wakers)
    }

    /// Does what the next publication would have to do first. Nobody waits for it.
    pub(crate) fn prepare(&self) {
        let mut standby = lock(&self.standby);
        *standby = standby.take().map(StandbyTree::brought_forward);
    }

    /// Publishes a head without what leads to it, where nobody watches and not all of the state is kept.
    #[cfg(feature = "sqlite")]
    pub(crate) fn skip(&self, before: Head, head: Head, token: Option<Token>) -> bool {
        let mut watches = self.registry.lock();
        let known = self.published.load();
        if before != known.head || known.in_memory.all().is_some() || !watches.is_empty() {
            return false;
        }
        watches.forget(head);
        let in_memory = InMemory::Some(EntryCache::new(self.budget));
        self.published.store(Arc::new(Published { head, token, in_memory }));
        true
    }

    /// Whether nothing tells of the commits of others.
    #[cfg(feature = "sqlite")]
    pub(crate) fn is_blind(&self) -> bool {
        self.blind
    }

    /// Keeps something else in memory of the published state, if `keep` has something for it.
    pub(crate) fn keep(&self, keep: impl FnOnce(&Published) -> Option<InMemory>) -> bool {
        let _order = self.registry.lock();
        let known = self.published.load();
        let Some(in_memory) = keep(&known) else { return false };
        *lock(&self.standby) = None;
        self.published.store(Arc::new(Published { head: known.head, token: known.token, in_memory }));
        true
    }

    /// Keeps an entry that was just read, if it is of the published state.
    pub(crate) fn remember(&self, snapshot: &dyn Snapshot, entry: &Entry) -> Result<()> {
        if self.budget > 0 && self.published.load().in_memory.all().is_none() {
            let head = snapshot.head()?;
            self.keep(|known| match &known.in_memory {
                // A newer state may have another entry, and an older one must not be put over it.
                InMemory::Some(cache) if known.head == head => {
                    let mut cache = cache.clone();
                    cache.put(KeyState::from_entry(entry));
                    Some(InMemory::Some(cache))
                }
                _ => None,
            });
        }
        Ok(())
    }

    /// Bytes that the projection may take in memory.
    pub(crate) fn budget(&self) -> usize {
        self.budget
    }

    /// Whether it was closed; in a fork it always is.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_forked() || self.closed.load(Ordering::SeqCst)
    }

    /// Whether another process opened it, of which this one is a fork: who would answer is not here,
    /// and what was locked then stays so.
    pub(crate) fn is_forked(&self) -> bool {
        self.process.is_some_and(|process| process != Process::this())
    }

    /// Refuses what is asked of a store that was closed, or opened by another process.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.is_forked() {
            return Err(StateError::Forked);
        }
        if self.is_closed() { Err(StateError::Closed) } else { Ok(()) }
    }

    /// Why nobody answers: what closes the store drops what still waits.
    pub(crate) fn unanswered(&self) -> StateError {
        self.check_open().err().unwrap_or_else(broken)
    }

    /// Ends the watches. Says whether the store was open until now.
    pub(crate) fn close(&self) -> bool {
        let was_open = !self.closed.swap(true, Ordering::SeqCst);
        self.registry.ring();
        // It keeps the files open.
        #[cfg(feature = "sqlite")]
        self.index.store(None);
        was_open
    }

    pub(crate) fn count(&self, count: impl FnOnce(&mut Counters)) {
        count(&mut lock(&self.counters));
    }

    pub(crate) fn counters(&self) -> Counters {
        lock(&self.counters).clone()
    }

    /// What of the projection is in memory, and about the bytes that it takes.
    pub(crate) fn residency(&self) -> (Residency, u64) {
        let published = self.published.load();
        let residency = match &published.in_memory {
            InMemory::All(_) => Residency::Whole,
            InMemory::Some(_) => lock(&self.counters).residency,
        };
        (residency, published.in_memory.bytes() as u64)
    }
}
