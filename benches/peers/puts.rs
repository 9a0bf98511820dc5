//! Durable writes of one entry: tasks of ours and threads of the peers, each of which waits for its
//! own commit; and rows of ours by hand, batched in transactions of plain rusqlite.

use std::cell::RefCell;

use tokio::runtime::Runtime;

use crate::measure::raw::Raw;
use crate::measure::reads::KEYS;
use crate::measure::writers::{Kind, Writers};
use crate::measure::{self, Effort, Lanes, Random, key, repeat};
use crate::peer::{Filled, KINDS};
use crate::table::{self, OURS, lane};
use crate::threads;

const BY_HAND: &str = "rusqlite, our rows, one transaction for all tasks";
const HOT: &str = "sets, 64 keys, 64 tasks";
const CAS: &str = "compare-and-set, 64 keys, 64 tasks";

pub(crate) fn run(effort: Effort) {
    let folder = measure::folder("puts", effort);
    let turn = effort.turn(400);
    let runtime = Runtime::new().unwrap();
    let writers = Writers::create(&runtime, &folder.path().join("store.db"), KEYS, KEYS);
    let raw = RefCell::new(Raw::create(&folder.path().join("raw.db"), "FULL"));
    raw.borrow_mut().fill(KEYS);
    let peers = Filled::all(folder.path(), KEYS);

    let mut lanes = Lanes::new();
    let works = [(1, "put, 1 task"), (64, "put, 64 tasks"), (512, "put, 512 tasks")];
    for (tasks, work) in works {
        let (writers, raw) = (&writers, &raw);
        lanes.lane(lane(OURS, work), move || writers.run(tasks, turn, Kind::Set));
        for Filled { kind, peer, .. } in &peers {
            let put = |random: &mut Random| peer.put(&key(random.below(KEYS)), random.value());
            lanes.lane(lane(kind.name, work), move || threads::repeat(tasks, turn, put));
        }
        lanes.lane(lane(BY_HAND, work), move || repeat(turn, || raw.borrow_mut().batch(tasks)));
    }
    lanes.lane(lane(OURS, HOT), || writers.run(64, turn, Kind::SetHot));
    lanes.lane(lane(OURS, CAS), || writers.run(64, turn, Kind::CompareAndSetHot));

    let of_peers = |work| KINDS.iter().map(|kind| lane(kind.name, work)).collect();
    let [(_, one), (_, some), (_, many)] = works;
    lanes.ratio_to_best("puts_1", lane(OURS, one), of_peers(one), 1.0);
    lanes.ratio_to_best("puts_64", lane(OURS, some), of_peers(some), 9.0);
    lanes.ratio("puts_512", lane(OURS, many), lane(BY_HAND, many), 0.85);
    lanes.ratio("cas_64", lane(OURS, CAS), lane(OURS, HOT), 0.8);
    let measured = lanes.run(effort);

    let contenders: Vec<&str> =
        [OURS].into_iter().chain(KINDS.map(|kind| kind.name)).chain([BY_HAND]).collect();
    table::print(&measured, &contenders, &[one, some, many, HOT, CAS]);
    println!("\nWhat is synced before a write is acknowledged:\n");
    println!(
        "- {OURS}: one `fsync` of the write-ahead log, shared by all that wait; checkpoints sync both files"
    );
    for kind in &KINDS {
        println!("- {}: {}", kind.name, kind.syncs);
    }

    writers.check();
    raw.borrow().check();
    peers.into_iter().for_each(Filled::check);
}
