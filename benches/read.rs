//! Reads of now: one key, many keys, keys with their values, against statements that plain rusqlite
//! prepared once, on one connection to the same file.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod measure;

use measure::reads::{self, KEYS};
use measure::{Effort, Lanes, store};
use rusqlite::Connection;

fn main() {
    let effort = Effort::from_env();
    let folder = measure::folder("read", effort);
    let turn = effort.turn(500);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let path = folder.path().join("store.db");
    let store = runtime.block_on(store::open(&path));
    runtime.block_on(store::fill(&store, 0..KEYS));
    let conn = Connection::open(&path).unwrap();

    let mut lanes = Lanes::new();
    lanes.lane("get, 1 task", || reads::get(&runtime, &store, 1, turn));
    lanes.lane("get, 64 tasks", || reads::get(&runtime, &store, 64, turn));
    lanes.lane("raw get", || reads::raw_get(&conn, turn));
    lanes.lane("list 400 keys", || reads::list(&runtime, &store, turn));
    lanes.lane("raw list", || reads::raw_list(&conn, turn));
    lanes.lane("scan, entries", || reads::scan(&runtime, &store, turn));
    lanes.lane("raw scan, rows", || reads::raw_scan(&conn, turn));
    lanes.ratio("get_1", "get, 1 task", "raw get", 1.0);
    lanes.ratio("get_64", "get, 64 tasks", "raw get", 0.8);
    lanes.ratio("list_400", "list 400 keys", "raw list", 1.0);
    lanes.ratio("scan", "scan, entries", "raw scan, rows", 1.0);
    lanes.run(effort);
}
