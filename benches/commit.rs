//! Durable writes: the rate of many tasks, each waiting for its own commit, against plain
//! rusqlite writing the same rows in transactions batched by hand.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod measure;

use std::cell::RefCell;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use measure::raw::{self, Raw};
use measure::{Effort, Lanes, Pace, Random, key, pace, repeat};
use tokio::runtime::Runtime;
use univrs_state::{Batch, SqliteStore, StateStore};

const KEYS: usize = 50_000;
const HOT_KEYS: usize = 64;

fn main() {
    let effort = Effort::from_env();
    let folder = measure::folder("commit", effort);
    let turn = effort.turn(400);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let writers = Writers::create(&runtime, &folder.path().join("store.db"));
    let raw = Rc::new(RefCell::new(Raw::create(&folder.path().join("raw.db"), "FULL")));
    raw.borrow_mut().fill(KEYS);

    let mut lanes = Lanes::new();
    for (tasks, ours, by_hand) in [
        (1, "set, 1 task", "raw, 1 row a transaction"),
        (8, "set, 8 tasks", "raw, 8 rows a transaction"),
        (64, "set, 64 tasks", "raw, 64 rows a transaction"),
        (512, "set, 512 tasks", "raw, 512 rows a transaction"),
    ] {
        let raw = raw.clone();
        let writers = &writers;
        lanes.lane(ours, move || writers.run(tasks, turn, Kind::Set));
        lanes.lane(by_hand, move || repeat(turn, || raw.borrow_mut().batch(tasks)));
    }
    lanes.lane("set, 64 tasks, 64 keys", || writers.run(64, turn, Kind::SetHot));
    lanes.lane("compare_and_set, 64 tasks, 64 keys", || writers.run(64, turn, Kind::CompareAndSetHot));
    let mut appended = File::create(folder.path().join("appended")).unwrap();
    lanes.lane("append 4 KiB, fdatasync", move || {
        repeat(turn, || {
            appended.write_all(&[7; 4096]).unwrap();
            appended.sync_data().unwrap();
            1
        })
    });
    let mut overwritten = File::create(folder.path().join("overwritten")).unwrap();
    overwritten.write_all(&[7; 4096]).unwrap();
    overwritten.sync_all().unwrap();
    lanes.lane("overwrite 4 KiB, fdatasync", move || {
        repeat(turn, || {
            overwritten.seek(SeekFrom::Start(0)).unwrap();
            overwritten.write_all(&[7; 4096]).unwrap();
            overwritten.sync_data().unwrap();
            1
        })
    });
    lanes.ratio("commit_1", "set, 1 task", "raw, 1 row a transaction", 0.6);
    lanes.ratio("commit_8", "set, 8 tasks", "raw, 8 rows a transaction", 0.7);
    lanes.ratio("commit_64", "set, 64 tasks", "raw, 64 rows a transaction", 0.7);
    lanes.ratio("commit_512", "set, 512 tasks", "raw, 512 rows a transaction", 0.85);
    lanes.ratio("commit_1_append", "set, 1 task", "append 4 KiB, fdatasync", 0.6);
    lanes.ratio("commit_1_overwrite", "set, 1 task", "overwrite 4 KiB, fdatasync", 0.6);
    lanes.ratio("compare_and_set_64", "compare_and_set, 64 tasks, 64 keys", "set, 64 tasks, 64 keys", 0.8);
    lanes.run(effort);

    writers.check(&runtime, &folder.path().join("store.db"));
    raw.borrow().check();
}

#[derive(Clone, Copy)]
enum Kind {
    Set,
    /// On one key a task.
    SetHot,
    CompareAndSetHot,
}

/// The store under test and what was written to it.
struct Writers<'a> {
    runtime: &'a Runtime,
    store: SqliteStore,
    written: Arc<AtomicUsize>,
}

impl<'a> Writers<'a> {
    fn create(runtime: &'a Runtime, path: &Path) -> Self {
        let store = runtime.block_on(SqliteStore::open(path)).unwrap();
        let mut random = Random::new(3);
        for start in (0..KEYS).step_by(1000) {
            let batch =
                (start..start + 1000).fold(Batch::new(), |batch, n| batch.set(key(n), random.value()));
            runtime.block_on(store.commit(batch)).unwrap();
        }
        Self { runtime, store, written: Arc::new(AtomicUsize::new(KEYS)) }
    }

    /// Writes from so many tasks until the turn is over.
    fn run(&self, tasks: usize, turn: Duration, kind: Kind) -> Pace {
        let before = self.written.load(Ordering::Relaxed);
        let pace = pace(|| {
            let end = Instant::now() + turn;
            let task = |task| write_until(self.store.clone(), self.written.clone(), before + task, end, kind);
            self.runtime.block_on(async {
                let tasks: Vec<_> = (0..tasks).map(|n| tokio::spawn(task(n))).collect();
                for task in tasks {
                    task.await.unwrap();
                }
            });
            self.written.load(Ordering::Relaxed) - before
        });
        let head = self.runtime.block_on(self.store.head()).unwrap();
        assert_eq!(head.seq.as_u64(), self.written.load(Ordering::Relaxed) as u64);
        pace
    }

    /// Closes the store and checks its rows.
    fn check(self, runtime: &Runtime, path: &Path) {
        runtime.block_on(self.store.close()).unwrap();
        let conn = rusqlite::Connection::open(path).unwrap();
        raw::check(&conn, self.written.load(Ordering::Relaxed), KEYS);
    }
}

async fn write_until(store: SqliteStore, written: Arc<AtomicUsize>, task: usize, end: Instant, kind: Kind) {
    let mut random = Random::new(task as u64);
    let hot = key(task % HOT_KEYS);
    let mut version = store.version(&hot).await.unwrap();
    let mut count = 0;
    while count == 0 || Instant::now() < end {
        let value = random.value();
        match kind {
            Kind::Set => drop(store.set(&key(random.below(KEYS)), value).await.unwrap()),
            Kind::SetHot => drop(store.set(&hot, value).await.unwrap()),
            // Nobody else writes this key: every one succeeds.
            Kind::CompareAndSetHot => version = store.compare_and_set(&hot, version, value).await.unwrap(),
        }
        count += 1;
    }
    written.fetch_add(count, Ordering::Relaxed);
}
