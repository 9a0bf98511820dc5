//! Watches: how soon a commit is delivered, however many watch, and how fast one that is behind
//! catches up, against a scan of the same rows by plain rusqlite.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod measure;

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::time::{Duration, Instant};

use measure::raw::{self, Raw};
use measure::{Effort, Lanes, Pace, Random, VALUE_BYTES, key, median, pace};
use rusqlite::Connection;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use univrs_state::{Batch, Durability, EventType, Seq, SqliteStore, StateStore};

fn main() {
    let effort = Effort::from_env();
    let folder = measure::folder("watch", effort);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!(
        "deliveries: from the call of set to the event, p50, in a buffered file, so that no sync hides them"
    );

    let turn = effort.turn(400);
    let raw = RefCell::new(Raw::create(&folder.path().join("raw.db"), "NORMAL"));
    raw.borrow_mut().fill(1000);
    let count = effort.items(100_000);
    let path = folder.path().join("log.db");
    let store = runtime.block_on(filled(&path, count));
    let conn = Connection::open(&path).unwrap();

    let mut lanes = Lanes::new();
    for (watchers, name) in [
        (1, "delivery, 1 watcher"),
        (10, "delivery, 10 watchers"),
        (100, "delivery, 100 watchers"),
        (1000, "delivery, 1000 watchers"),
    ] {
        let watched = Watched::create(&runtime, &folder.path().join(format!("{watchers}.db")), watchers);
        lanes.lane(name, move || watched.deliver(turn));
    }
    lanes.lane("raw, commit and read on", || raw_deliver(&mut raw.borrow_mut(), turn));
    lanes.lane("catch-up", || catch_up(&runtime, &store, 0, count));
    lanes.lane("raw scan", || pace(|| raw::scan_changes(&conn, 0, count)));
    lanes.lane("catch-up with old values", || catch_up(&runtime, &store, count, count));
    lanes.lane("raw scan of those", || pace(|| raw::scan_changes(&conn, count, 2 * count)));

    // What should not grow by more than 1.3 times is printed the other way round.
    lanes.ratio("delivery_10", "delivery, 10 watchers", "delivery, 1 watcher", 0.77);
    lanes.ratio("delivery_100", "delivery, 100 watchers", "delivery, 1 watcher", 0.77);
    lanes.ratio("delivery_1000", "delivery, 1000 watchers", "delivery, 1 watcher", 0.77);
    lanes.ratio("delivery_raw", "delivery, 1 watcher", "raw, commit and read on", 0.2);
    lanes.ratio("catch_up", "catch-up", "raw scan", 0.5);
    lanes.ratio("catch_up_old_values", "catch-up with old values", "raw scan of those", 0.25);
    lanes.run(effort);
    raw.borrow().check();
}

/// A store with watchers, each of a key of its own.
struct Watched<'a> {
    runtime: &'a Runtime,
    store: SqliteStore,
    watchers: usize,
    written: Cell<Seq>,
    delivered: RefCell<mpsc::UnboundedReceiver<(Seq, Instant)>>,
}

impl<'a> Watched<'a> {
    fn create(runtime: &'a Runtime, path: &Path, watchers: usize) -> Self {
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
    fn deliver(&self, turn: Duration) -> Pace {
        let mut random = Random::new(5);
        let mut delivered = self.delivered.borrow_mut();
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
        Pace::of_latency(median(&times))
    }
}

/// The median time of a commit and a read of its row, on one thread.
fn raw_deliver(raw: &mut Raw, turn: Duration) -> Pace {
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() < 10 || begin.elapsed() < turn {
        let start = Instant::now();
        raw.batch(1);
        let mut statement = raw.conn.prepare_cached(raw::SCAN).unwrap();
        let newest = raw.newest();
        let value = statement.query_row([newest - 1, newest], |row| Ok(raw::read_change(row))).unwrap();
        assert_eq!(value, VALUE_BYTES);
        times.push(start.elapsed().as_secs_f64());
    }
    Pace::of_latency(median(&times))
}

/// A store of `count` keys, each created and then updated.
async fn filled(path: &Path, count: usize) -> SqliteStore {
    let store = SqliteStore::open(path).await.unwrap();
    let mut random = Random::new(3);
    for _ in 0..2 {
        for start in (0..count).step_by(1000) {
            let keys = start..count.min(start + 1000);
            let batch = keys.fold(Batch::new(), |batch, n| batch.set(key(n), random.value()));
            store.commit(batch).await.unwrap();
        }
    }
    store
}

/// Reads `count` events after a position.
fn catch_up(runtime: &Runtime, store: &SqliteStore, after: usize, count: usize) -> Pace {
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
            }
            assert_eq!(bytes, count * VALUE_BYTES);
        });
        count
    })
}
