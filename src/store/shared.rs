//! What the writer, the watches and the handles of an open store share.

use std::collections::HashMap;
use std::sync::Arc;

#[cfg(feature = "sqlite")]
use arc_swap::ArcSwapOption;

use super::WatcherStats;
use super::bell::Bell;
#[cfg(feature = "sqlite")]
use super::cache::Cache;
use super::commit::Recorded;
use super::pattern_index::PatternIndex;
use super::published::{Kept, Published, Spare, Token};
use super::recent::{self, Recent, RecentCommit};
use super::stats::{Counters, Residency};
use super::watcher::Watcher;
#[cfg(feature = "sqlite")]
use crate::backend::sqlite::WalIndex;
use crate::backend::{Folded, Process, Snapshot};
use crate::error::{Result, StateError};
use crate::log::{Change, Head, StoreId};
use crate::pattern::Pattern;
use crate::state::{Entry, Latest};
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{ArcSwap, Guard, Mutex, MutexGuard, PoisonError};

/// The published state, the newest commits, and the watches that wait for more.
pub(super) struct Shared {
    pub(super) store: StoreId,
    /// The one that opened it, if no other may use it.
    process: Option<Process>,
    /// What tells of commits that are not published yet; none where nobody else writes the store.
    #[cfg(feature = "sqlite")]
    index: ArcSwapOption<WalIndex>,
    /// Others may write the store, but nothing tells of it: the storage answers every read.
    blind: bool,
    published: ArcSwap<Published>,
    /// Held while something is published, so that there is one order of it.
    feed: Mutex<Feed>,
    /// What becomes the next state. Whoever holds it does not ask for the feed.
    spare: Mutex<Option<Spare>>,
    /// Bytes that the projection may take in memory.
    budget: usize,
    closed: AtomicBool,
    next_watcher: AtomicU64,
    alarms: AtomicU64,
    watching: AtomicUsize,
    counters: Mutex<Counters>,
}

/// What publication hands on.
struct Feed {
    recent: Recent,
    index: PatternIndex<Arc<Watcher>>,
    watchers: HashMap<u64, Arc<Watcher>>,
}

/// What is to be published: changes that continue the log.
pub(super) struct News {
    /// Where the log ended before them.
    pub(super) before: Head,
    pub(super) changes: Vec<Change>,
    /// Where it ends with them.
    pub(super) head: Head,
    /// What is visible when they are the newest.
    pub(super) token: Option<Token>,
}

impl From<Recorded> for News {
    fn from(Recorded { before, changes, head }: Recorded) -> Self {
        Self { before, changes, head, token: None }
    }
}

/// A lock whose holder cannot leave it half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Of a store that nobody else writes.
    pub(super) fn alone(store: StoreId, head: Head, kept: Kept, budget: usize) -> Self {
        Self {
            store,
            process: None,
            #[cfg(feature = "sqlite")]
            index: ArcSwapOption::empty(),
            blind: false,
            published: ArcSwap::from_pointee(Published { head, token: None, kept }),
            feed: Mutex::new(Feed {
                recent: Recent::new(head),
                index: PatternIndex::default(),
                watchers: HashMap::new(),
            }),
            spare: Mutex::new(None),
            budget,
            closed: AtomicBool::new(false),
            next_watcher: AtomicU64::new(0),
            alarms: AtomicU64::new(0),
            watching: AtomicUsize::new(0),
            counters: Mutex::default(),
        }
    }

    /// The same of a store that a fork of this process must not use.
    #[cfg(feature = "sqlite")]
    pub(super) fn of_this_process(self) -> Self {
        Self { process: Some(Process::this()), ..self }
    }

    /// The same of a store that other processes may write; without an index, nothing tells of it.
    #[cfg(feature = "sqlite")]
    pub(super) fn beside_others(self, index: Option<WalIndex>) -> Self {
        let blind = index.is_none();
        // What could never be served is not kept.
        let budget = if blind { 0 } else { self.budget };
        Self { blind, budget, index: ArcSwapOption::from(index.map(Arc::new)), ..self }
    }

    /// What is visible in the storage now; none where nobody else writes.
    #[cfg(feature = "sqlite")]
    pub(super) fn visible(&self) -> Option<Token> {
        self.index.load().as_ref().map(|index| index.token())
    }

    #[cfg(not(feature = "sqlite"))]
    #[expect(clippy::unused_self, reason = "as the one above")]
    pub(super) fn visible(&self) -> Option<Token> {
        None
    }

    /// The published state, whether or not there is something newer.
    pub(super) fn published(&self) -> Guard<Arc<Published>> {
        self.published.load()
    }

    /// The published state, if there is nothing newer by now, from whomever.
    pub(super) fn current(&self) -> Option<Guard<Arc<Published>>> {
        let published = self.published.load();
        let visible = self.visible();
        let newest = published.token == visible && !self.blind;
        (newest || crate::planted::planted("stale_read")).then_some(published)
    }

    /// The end of the log as it was published.
    pub(super) fn head(&self) -> Head {
        self.published.load().head
    }

    /// Publishes what continues the published state: none if it does not. It is in the projection and
    /// among the recent commits then, and the watches whose patterns match are the bell's.
    pub(super) fn publish(&self, news: &News, folded: Option<&Folded>) -> Option<Bell> {
        let mut feed = lock(&self.feed);
        let known = self.published.load_full();
        if news.before != known.head {
            return None;
        }
        let mut bell = Bell::default();
        if feed.watchers.is_empty() {
            feed.recent = Recent::new(news.head);
        } else {
            for commit in recent::commits(news.before, &news.changes, &known.kept) {
                feed.dispatch(commit, &mut bell);
            }
        }
        let mut next = lock(&self.spare);
        let spare = next.take();
        let (kept, left) = match folded {
            Some(folded) => (Kept::All(folded.clone()), Vec::new()),
            None => known.kept.followed_by(&news.changes, spare, self.budget),
        };
        let takes_turns = folded.is_none() && kept.all().is_some();
        // After the watches that it concerns are marked: the others have seen all up to this head.
        self.published.store(Arc::new(Published { head: news.head, token: news.token, kept }));
        *next = takes_turns.then_some(Spare::Behind { state: known, left, head: news.head });
        Some(bell)
    }

    /// Does what the next publication would have to do first. Nobody waits for it.
    pub(super) fn prepare(&self) {
        let mut spare = lock(&self.spare);
        *spare = spare.take().map(Spare::brought_forward);
    }

    /// Publishes a head without what leads to it, where nobody watches and not all of the state is kept.
    #[cfg(feature = "sqlite")]
    pub(super) fn skip(&self, before: Head, head: Head, token: Option<Token>) -> bool {
        let mut feed = lock(&self.feed);
        let known = self.published.load();
        if before != known.head || known.kept.all().is_some() || !feed.watchers.is_empty() {
            return false;
        }
        feed.recent = Recent::new(head);
        let kept = Kept::Some(Cache::new(self.budget));
        self.published.store(Arc::new(Published { head, token, kept }));
        true
    }

    /// Whether nothing tells of the commits of others.
    #[cfg(feature = "sqlite")]
    pub(super) fn is_blind(&self) -> bool {
        self.blind
    }

    /// Keeps something else in memory of the published state, if `keep` has something for it.
    pub(super) fn keep(&self, keep: impl FnOnce(&Published) -> Option<Kept>) -> bool {
        let _feed = lock(&self.feed);
        let known = self.published.load();
        let Some(kept) = keep(&known) else { return false };
        *lock(&self.spare) = None;
        self.published.store(Arc::new(Published { head: known.head, token: known.token, kept }));
        true
    }

    /// Keeps an entry that was just read, if it is of the published state.
    pub(super) fn remember(&self, snapshot: &dyn Snapshot, entry: &Entry) -> Result<()> {
        if self.budget > 0 && self.published.load().kept.all().is_none() {
            let head = snapshot.head()?;
            self.keep(|known| match &known.kept {
                // A newer state may have another entry, and an older one must not be put over it.
                Kept::Some(cache) if known.head == head => {
                    let mut cache = cache.clone();
                    cache.put(Latest::from_entry(entry));
                    Some(Kept::Some(cache))
                }
                _ => None,
            });
        }
        Ok(())
    }

    /// Bytes that the projection may take in memory.
    pub(super) fn budget(&self) -> usize {
        self.budget
    }

    /// The commits after what a watch has read, as many as make a page, and where they end; none if it
    /// must read them from the log.
    pub(super) fn recent(&self, watcher: &Watcher, read: Head) -> Option<(Vec<Arc<RecentCommit>>, Head)> {
        let feed = lock(&self.feed);
        let passed = watcher.pass(read);
        let (page, all) = feed.recent.after(passed.seq)?;
        if all {
            watcher.keeps_up();
        }
        let end = page.last().map_or(passed, |commit| commit.head);
        Some((page, end))
    }

    /// Wakes all watches.
    fn ring(&self) {
        let feed = lock(&self.feed);
        let bell = Bell(feed.watchers.values().filter_map(|watcher| watcher.wake()).collect());
        drop(feed);
        bell.ring();
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

    /// Whether it was closed; in a fork it always is.
    pub(super) fn is_closed(&self) -> bool {
        self.is_forked() || self.closed.load(Ordering::SeqCst)
    }

    /// Whether another process opened it, of which this one is a fork: who would answer is not here,
    /// and what was locked then stays so.
    pub(super) fn is_forked(&self) -> bool {
        self.process.is_some_and(|process| process != Process::this())
    }

    /// Refuses what is asked of a store that was closed, or opened by another process.
    pub(super) fn check_open(&self) -> Result<()> {
        if self.is_forked() {
            return Err(StateError::Storage(
                "this process is a fork of the one that opened the store, and must not use it".into(),
            ));
        }
        if self.is_closed() { Err(StateError::Closed) } else { Ok(()) }
    }

    /// Ends the watches. Says whether the store was open until now.
    pub(super) fn close(&self) -> bool {
        let was_open = !self.closed.swap(true, Ordering::SeqCst);
        self.ring();
        // It keeps the files open.
        #[cfg(feature = "sqlite")]
        self.index.store(None);
        was_open
    }

    /// How many watches there are.
    pub(super) fn watching(&self) -> usize {
        self.watching.load(Ordering::SeqCst)
    }

    /// A watch from this head on.
    pub(super) fn join(&self, pattern: Pattern, from: Head) -> Arc<Watcher> {
        let id = self.next_watcher.fetch_add(1, Ordering::Relaxed);
        let watcher = Arc::new(Watcher::new(id, pattern, from));
        let mut feed = lock(&self.feed);
        let head = self.head();
        // What was published since that head was looked up is not to be missed.
        if head.seq > from.seq {
            drop(watcher.mark(from));
        }
        if feed.watchers.is_empty() {
            feed.recent = Recent::new(head);
        }
        feed.index.insert(id, watcher.pattern(), watcher.clone());
        feed.watchers.insert(id, watcher.clone());
        self.watching.fetch_add(1, Ordering::SeqCst);
        watcher
    }

    pub(super) fn leave(&self, watcher: &Watcher) {
        if self.is_forked() {
            return;
        }
        let mut feed = lock(&self.feed);
        if feed.watchers.remove(&watcher.id()).is_some() {
            feed.index.remove(watcher.id(), watcher.pattern());
            self.watching.fetch_sub(1, Ordering::SeqCst);
        }
        if feed.watchers.is_empty() {
            feed.recent = Recent::new(self.head());
        }
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Counters)) {
        count(&mut lock(&self.counters));
    }

    pub(super) fn counters(&self) -> Counters {
        lock(&self.counters).clone()
    }

    /// What of the projection is in memory, and about the bytes that it takes.
    pub(super) fn residency(&self) -> (Residency, u64) {
        let published = self.published.load();
        let residency = match &published.kept {
            Kept::All(_) => Residency::Whole,
            Kept::Some(_) => lock(&self.counters).residency,
        };
        (residency, published.kept.bytes() as u64)
    }

    /// The watches, the one that lags most first.
    pub(super) fn watcher_stats(&self) -> Vec<WatcherStats> {
        let feed = lock(&self.feed);
        let head = self.head().seq;
        let mut stats: Vec<_> = feed
            .watchers
            .values()
            .map(|watcher| {
                let position = watcher.position(head);
                WatcherStats {
                    pattern: watcher.pattern().to_string(),
                    position,
                    lag: head.as_u64().saturating_sub(position.as_u64()),
                }
            })
            .collect();
        drop(feed);
        stats.sort_by(|a, b| b.lag.cmp(&a.lag).then_with(|| a.pattern.cmp(&b.pattern)));
        stats
    }
}

impl Feed {
    /// Holds a commit for the watches, and marks those that it concerns.
    fn dispatch(&mut self, commit: RecentCommit, bell: &mut Bell) {
        for matching in &commit.changes {
            self.index.matching(&matching.change.key, |watcher| {
                if watcher.pattern().matches(&matching.change.key) {
                    bell.0.extend(watcher.mark(commit.before));
                }
            });
        }
        self.recent.push(Arc::new(commit));
    }
}
