//! Watches: how soon a commit is delivered, however many watch, and how fast one that is behind
//! catches up, against a scan of the same rows by plain rusqlite.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod measure;

use std::cell::RefCell;
use std::time::{Duration, Instant};

use measure::raw::{self, Raw};
use measure::store;
use measure::watches::{Watched, catch_up, catch_up_sparse, catch_up_with_meta, sparse};
use measure::{Effort, Lanes, Pace, VALUE_BYTES, pace};
use rusqlite::Connection;

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
    let store = runtime.block_on(store::open(&path));
    // Each created and then updated.
    runtime.block_on(store::fill(&store, (0..count).chain(0..count)));
    // Then as many others, with metadata.
    runtime.block_on(store::fill_with_meta(&store, count..2 * count));
    let conn = Connection::open(&path).unwrap();
    let sparse_count = 2 * count;
    let sparse = sparse(&runtime, &folder.path().join("sparse.db"), sparse_count);

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
    lanes.lane("catch-up with metadata", || catch_up_with_meta(&runtime, &store, 2 * count, count));
    lanes.lane("catch-up, 1 of 10,000 keys", || catch_up_sparse(&runtime, &sparse, sparse_count));

    // What should not grow by more than 1.3 times is printed the other way round.
    lanes.ratio("delivery_10", "delivery, 10 watchers", "delivery, 1 watcher", 0.77);
    lanes.ratio("delivery_100", "delivery, 100 watchers", "delivery, 1 watcher", 0.77);
    lanes.ratio("delivery_1000", "delivery, 1000 watchers", "delivery, 1 watcher", 0.77);
    lanes.ratio("delivery_raw", "delivery, 1 watcher", "raw, commit and read on", 0.2);
    lanes.ratio("catch_up", "catch-up", "raw scan", 0.5);
    lanes.aside("catch_up_metadata", "catch-up with metadata", "catch-up");
    lanes.ratio("catch_up_old_values", "catch-up with old values", "raw scan of those", 0.25);
    lanes.aside("catch_up_sparse", "catch-up, 1 of 10,000 keys", "catch-up");
    lanes.run(effort);
    raw.borrow().check();
}

/// The median time of a commit and a read of its row, on one thread.
fn raw_deliver(raw: &mut Raw, turn: Duration) -> Pace {
    Pace::of_latency(|| {
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
        times
    })
}
