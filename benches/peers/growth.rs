//! Whether writes slow down as the log grows: the same keys with a thousand times the changes. Takes
//! minutes.

use std::cell::Cell;

use tokio::runtime::Runtime;

use crate::measure::writers::{Kind, Writers};
use crate::measure::{self, Effort, Lanes};

const KEYS: usize = 10_000;

pub(crate) fn run(effort: Effort) {
    let folder = measure::folder("growth", effort);
    let runtime = Runtime::new().unwrap();
    let turn = effort.turn(400);
    // Ten million where the scale is five.
    let changes = effort.items(2_000_000).max(KEYS);
    println!("64 tasks write to {KEYS} keys after {changes} changes, and after {KEYS}");
    let create = |name: &str, changes| Writers::create(&runtime, &folder.path().join(name), KEYS, changes);
    let long = create("long.db", changes);
    let created = Cell::new(0);
    let mut lanes = Lanes::new();
    lanes.lane("put, long log", || long.run(64, turn, Kind::Set));
    lanes.lane("put, short log", || {
        // A new one each time, because it grows while it is measured.
        created.set(created.get() + 1);
        let short = create(&format!("short-{}.db", created.get()), KEYS);
        let pace = short.run(64, turn, Kind::Set);
        short.check();
        pace
    });
    // What should not cost more than 1.5 times as much is printed the other way round.
    lanes.ratio("growth", "put, long log", "put, short log", 0.67);
    lanes.run(effort);
    long.check();
}
