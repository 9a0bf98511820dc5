//! Going through the log: a watch that resumes from its beginning, and verification, against a scan
//! of the same rows by plain rusqlite.

use rusqlite::Connection;
use tokio::runtime::Runtime;

use crate::measure::reads::KEYS;
use crate::measure::verify::verify;
use crate::measure::watches::catch_up;
use crate::measure::{self, Effort, Lanes, Random, pace, raw, store};

pub(crate) fn run(effort: Effort) {
    let folder = measure::folder("log", effort);
    let runtime = Runtime::new().unwrap();
    let count = effort.items(200_000);
    println!("{count} changes that create, and {count} that update random keys");
    let path = folder.path().join("store.db");
    let store = runtime.block_on(store::open(&path));
    let mut random = Random::new(11);
    let updated = (0..count).map(|_| random.below(KEYS.min(count)));
    runtime.block_on(store::fill(&store, (0..count).chain(updated)));
    let conn = Connection::open(&path).unwrap();
    let scan = |after, end| pace(|| raw::scan_changes(&conn, after, end));

    let mut lanes = Lanes::new();
    lanes.lane("catch-up", || catch_up(&runtime, &store, 0, count));
    lanes.lane("raw scan", || scan(0, count));
    lanes.lane("catch-up with old values", || catch_up(&runtime, &store, count, count));
    lanes.lane("raw scan of those", || scan(count, 2 * count));
    lanes.lane("verify", || verify(&runtime, &store, 2 * count));
    lanes.lane("raw scan of all", || scan(0, 2 * count));
    lanes.ratio("catch_up", "catch-up", "raw scan", 0.5);
    lanes.ratio("catch_up_old_values", "catch-up with old values", "raw scan of those", 0.25);
    lanes.ratio("verify", "verify", "raw scan of all", 0.5);
    lanes.run(effort);
}
