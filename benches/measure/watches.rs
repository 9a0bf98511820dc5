//! Watches: how soon they deliver, and how fast they catch up.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use univrs_state::options::Durability;
use univrs_state::{EventType, Seq, SqliteStore, StateStore};

use super::{Pace, Random, VALUE_BYTES, key, pace, store};

const SPARSE_KEYS: usize = 10_000;

/// A store with watchers, each of a key of its own.
pub(crate) struct Watched<'a> {
    runtime: &'a Runtime,
    store: SqliteStore,
    watchers: usize,
    written: Cell<Seq>,
    delivered: RefCell<mpsc::UnboundedReceiver<(Seq, Instant)>>,
}

impl<'a> Watched<'a> {
    /// In a buffered file, so that no sync hides the delivery.
    pub(crate) fn create(runtime: &'a Runtime, path: &Path, watchers: usize) -> Self {
        let open = SqliteStore::options().durability(Durability::Buffered).open(path);
        let store = runtime.block_on(open).unwrap();
        let (sender, delivered) = mpsc::unbounded_channel();
        for index in 0..watchers {
            let mut stream = store.watch(&key(index)).unwrap();
            let sender = sender.clone();
            runtime.spawn(async move {
                while let Some(event) = stream.next().await {
                    let _ = sender.send((event.seq, Instant::now()));
                }
            });
        }
        Self { runtime, store, watchers, written: Cell::default(), delivered: delivered.into() }
    }

    /// The median time from the call of `set` to the event.
    pub(crate) fn deliver(&self, turn: Duration) -> Pace {
        let mut random = Random::new(5);
        let mut delivered = self.delivered.borrow_mut();
        Pace::of_latency(|| {
            let mut times = Vec::new();
            let begin = Instant::now();
            while times.len() < 10 || begin.elapsed() < turn {
                let (key, value) = (key(random.below(self.watchers)), random.value());
                let start = Instant::now();
                let (seq, end) = self.runtime.block_on(async {
                    self.store.set(&key, value).await.unwrap();
                    delivered.recv().await.unwrap()
                });
                self.written.set(self.written.get().next());
                assert_eq!(seq, self.written.get(), "the event of this commit, and no other");
                times.push((end - start).as_secs_f64());
            }
            assert!(delivered.is_empty());
            times
        })
    }
}

/// Reads `count` events after a position.
pub(crate) fn catch_up(runtime: &Runtime, store: &SqliteStore, after: usize, count: usize) -> Pace {
    catch_up_on(runtime, store, after, count, false)
}

/// Reads `count` events after a position, whose changes all have metadata.
pub(crate) fn catch_up_with_meta(runtime: &Runtime, store: &SqliteStore, after: usize, count: usize) -> Pace {
    catch_up_on(runtime, store, after, count, true)
}

fn catch_up_on(runtime: &Runtime, store: &SqliteStore, after: usize, count: usize, meta: bool) -> Pace {
    pace(|| {
        runtime.block_on(async {
            let after = Seq::new(after as u64);
            let mut stream = store.watch_after("/bench/*", after.into()).unwrap();
            let (mut bytes, mut last) = (0, after);
            for _ in 0..count {
                let event = stream.try_next().await.unwrap().unwrap();
                assert_eq!(event.seq, last.next());
                assert_eq!(event.old_value.is_some(), event.event_type == EventType::Updated);
                last = event.seq;
                bytes += event.new_value.unwrap().len();
                assert_eq!(event.meta.is_some(), meta);
            }
            assert_eq!(bytes, count * VALUE_BYTES);
        });
        count
    })
}

/// A store of `count` changes and one more: of 10,000 keys in turns, and then of the first of them once more.
pub(crate) fn sparse(runtime: &Runtime, path: &Path, count: usize) -> SqliteStore {
    runtime.block_on(async {
        let store = store::open(path).await;
        store::fill(&store, (0..count).map(|n| n % SPARSE_KEYS).chain([0])).await;
        store
    })
}

/// Reads on from the beginning of such a store to its end with a watch of the first key; an operation is a
/// change of the log.
pub(crate) fn catch_up_sparse(runtime: &Runtime, store: &SqliteStore, count: usize) -> Pace {
    pace(|| {
        runtime.block_on(async {
            let mut stream = store.watch_after(&key(0), Seq::ZERO.into()).unwrap();
            for n in (0..count).step_by(SPARSE_KEYS).chain([count]) {
                let event = stream.try_next().await.unwrap().unwrap();
                assert_eq!(event.seq, Seq::new(n as u64 + 1));
            }
        });
        count
    })
}
