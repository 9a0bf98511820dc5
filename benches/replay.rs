//! Going through a whole log: verifying it where it lies, and replaying it into memory, against a
//! scan of the same rows by plain rusqlite.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod measure;

use measure::store;
use measure::verify::verify;
use measure::{Effort, Lanes, Random, pace, raw};
use rusqlite::Connection;
use univrs_state::{Change, MemoryStore, Seq, SqliteStore, StateStore};

fn main() {
    let effort = Effort::from_env();
    let folder = measure::folder("replay", effort);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let count = effort.items(200_000);
    println!("{count} changes, of each key four");
    let path = folder.path().join("log.db");
    let store = runtime.block_on(store::open(&path));
    // In random order.
    let mut random = Random::new(11);
    let keys = (0..count).map(|_| random.below(count.div_ceil(4)));
    runtime.block_on(store::fill(&store, keys));
    let conn = Connection::open(&path).unwrap();
    let log = runtime.block_on(log(&store));
    assert_eq!(log.len(), count);
    let head = runtime.block_on(store.head()).unwrap();

    let mut lanes = Lanes::new();
    lanes.lane("raw scan", || pace(|| raw::scan_changes(&conn, 0, count)));
    lanes.lane("verify", || verify(&runtime, &store, count));
    lanes.lane("changes", || pace(|| runtime.block_on(read(&store))));
    lanes.lane("MemoryStore::replay", || {
        let log = log.clone();
        let mut copy = None;
        let pace = pace(|| {
            copy = Some(MemoryStore::replay(store.store_id(), log).unwrap());
            count
        });
        assert_eq!(runtime.block_on(copy.unwrap().head()).unwrap(), head);
        pace
    });
    lanes.ratio("verify", "verify", "raw scan", 0.5);
    lanes.ratio("changes", "changes", "raw scan", 0.4);
    lanes.ratio("replay", "MemoryStore::replay", "raw scan", 0.4);
    lanes.run(effort);
}

/// Reads the log a page at a time; returns how many changes it has.
async fn read(store: &SqliteStore) -> usize {
    let (mut after, mut count) = (Seq::ZERO, 0);
    loop {
        let page = store.changes(after, 1000).await.unwrap();
        let Some(last) = page.last() else { return count };
        after = last.last;
        count += page.iter().map(|commit| commit.changes.len()).sum::<usize>();
    }
}

/// The whole log.
async fn log(store: &SqliteStore) -> Vec<Change> {
    let commits = store.changes(Seq::ZERO, 1000).await.unwrap();
    let mut log: Vec<Change> = commits.into_iter().flat_map(|commit| commit.changes).collect();
    loop {
        let after = log.last().map_or(Seq::ZERO, |change| change.seq);
        let page = store.changes(after, 1000).await.unwrap();
        if page.is_empty() {
            return log;
        }
        log.extend(page.into_iter().flat_map(|commit| commit.changes));
    }
}
