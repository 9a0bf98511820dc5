//! Reads of now: one key, the keys of a prefix, entries of a prefix.

use rusqlite::Connection;
use tokio::runtime::Runtime;

use crate::measure::reads::{self, KEYS};
use crate::measure::{self, Effort, Lanes, Random, VALUE_BYTES, key, store};
use crate::peer::{Filled, KINDS};
use crate::table::{self, OURS, lane};
use crate::threads;

const NOT_RESIDENT: &str = "univrs-state, not resident";
const PREPARED: &str = "rusqlite, our rows, prepared statements";
const GET: &str = "get, 1 task";
const GET_64: &str = "get, 64 tasks";
const LIST: &str = "list 400 keys";
const SCAN: &str = "entries scanned";

pub(crate) fn run(effort: Effort) {
    let folder = measure::folder("reads", effort);
    let turn = effort.turn(300);
    let runtime = Runtime::new().unwrap();
    let filled = |name: &str, resident_bytes| {
        let path = folder.path().join(name);
        let store = runtime.block_on(store::open_with(&path, resident_bytes));
        runtime.block_on(store::fill(&store, 0..KEYS));
        (store, Connection::open(&path).unwrap())
    };
    let (resident, conn) = filled("resident.db", usize::MAX);
    let (stored, _) = filled("stored.db", 0);
    println!("resident projection: {}", runtime.block_on(store::resident(&resident)));
    let peers = Filled::all(folder.path(), KEYS);

    let mut lanes = Lanes::new();
    for (name, store) in [(OURS, &resident), (NOT_RESIDENT, &stored)] {
        let runtime = &runtime;
        lanes.lane(lane(name, GET), move || reads::get(runtime, store, 1, turn));
        lanes.lane(lane(name, GET_64), move || reads::get(runtime, store, 64, turn));
        lanes.lane(lane(name, LIST), move || reads::list(runtime, store, turn));
        lanes.lane(lane(name, SCAN), move || reads::scan(runtime, store, turn));
    }
    for Filled { kind, peer, .. } in &peers {
        let get = |random: &mut Random| {
            let value = peer.get(&key(random.below(KEYS))).unwrap();
            assert_eq!(value.len(), VALUE_BYTES);
        };
        lanes.lane(lane(kind.name, GET), move || threads::repeat(1, turn, get));
        lanes.lane(lane(kind.name, GET_64), move || threads::repeat(64, turn, get));
        lanes.lane(lane(kind.name, LIST), || reads::list_by(turn, |prefix| peer.list(prefix)));
    }
    lanes.lane(lane(PREPARED, GET), || reads::raw_get(&conn, turn));
    lanes.lane(lane(PREPARED, LIST), || reads::raw_list(&conn, turn));
    lanes.lane(lane(PREPARED, SCAN), || reads::raw_scan(&conn, turn));

    let lists = KINDS.iter().map(|kind| lane(kind.name, LIST)).collect();
    lanes.ratio("get_resident", lane(OURS, GET), lane("redb", GET), 1.5);
    lanes.aside("get_resident", lane(OURS, GET), lane("LMDB (heed)", GET));
    lanes.ratio("get_64", lane(NOT_RESIDENT, GET_64), lane(PREPARED, GET), 0.8);
    lanes.ratio_to_best("list_400", lane(OURS, LIST), lists, 1.0);
    lanes.ratio("scan", lane(OURS, SCAN), lane(PREPARED, SCAN), 1.0);
    let measured = lanes.run(effort);

    let ours = [OURS, NOT_RESIDENT].into_iter();
    let contenders: Vec<&str> = ours.chain(KINDS.map(|kind| kind.name)).chain([PREPARED]).collect();
    table::print(&measured, &contenders, &[GET, GET_64, LIST, SCAN]);
    peers.into_iter().for_each(Filled::check);
}
