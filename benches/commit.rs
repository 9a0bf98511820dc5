//! Durable writes: the rate of many tasks, each waiting for its own commit, against plain
//! rusqlite writing the same rows in transactions batched by hand.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod measure;

use std::cell::RefCell;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::rc::Rc;

use measure::raw::Raw;
use measure::reads::KEYS;
use measure::writers::{Kind, Writers};
use measure::{Effort, Lanes, repeat};

fn main() {
    let effort = Effort::from_env();
    let folder = measure::folder("commit", effort);
    let turn = effort.turn(400);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let writers = Writers::create(&runtime, &folder.path().join("store.db"), KEYS, KEYS);
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
    lanes.lane("set with metadata, 64 tasks", || writers.run(64, turn, Kind::SetWithMeta));
    let with_meta = || raw.borrow_mut().batch_with_meta(64);
    lanes.lane("raw with metadata, 64 rows a transaction", move || repeat(turn, with_meta));
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
    lanes.aside("metadata_64", "set with metadata, 64 tasks", "raw with metadata, 64 rows a transaction");
    lanes.aside("metadata_64", "set with metadata, 64 tasks", "set, 64 tasks");
    lanes.ratio("compare_and_set_64", "compare_and_set, 64 tasks, 64 keys", "set, 64 tasks, 64 keys", 0.8);
    lanes.run(effort);

    writers.check();
    raw.borrow().check();
}
