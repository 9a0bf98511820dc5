//! Reads of now: one key, many keys, keys with their values, against statements that plain rusqlite
//! prepared once, on one connection to the same file.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod measure;

use std::time::{Duration, Instant};

use measure::{Effort, Lanes, Pace, Random, VALUE_BYTES, key, pace, repeat};
use rusqlite::{CachedStatement, Connection};
use tokio::runtime::Runtime;
use univrs_state::{Batch, Scan, SqliteStore, StateStore};

const KEYS: usize = 50_000;
/// Keys of one prefix.
const LISTED: usize = 400;

fn main() {
    let effort = Effort::from_env();
    let folder = measure::folder("read", effort);
    let turn = effort.turn(500);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let store = runtime.block_on(filled(&folder.path().join("store.db")));
    let conn = Connection::open(folder.path().join("store.db")).unwrap();

    let mut lanes = Lanes::new();
    lanes.lane("get, 1 task", || get(&runtime, &store, 1, turn));
    lanes.lane("get, 64 tasks", || get(&runtime, &store, 64, turn));
    lanes.lane("raw get", || raw_get(&conn, turn));
    lanes.lane("list 400 keys", || list(&runtime, &store, turn));
    lanes.lane("raw list", || raw_list(&conn, turn));
    lanes.lane("scan, entries", || scan(&runtime, &store, turn));
    lanes.lane("raw scan, rows", || raw_scan(&conn, turn));
    lanes.ratio("get_1", "get, 1 task", "raw get", 1.0);
    lanes.ratio("get_64", "get, 64 tasks", "raw get", 0.8);
    lanes.ratio("list_400", "list 400 keys", "raw list", 1.0);
    lanes.ratio("scan", "scan, entries", "raw scan, rows", 1.0);
    lanes.run(effort);
}

async fn filled(path: &std::path::Path) -> SqliteStore {
    let store = SqliteStore::open(path).await.unwrap();
    let mut random = Random::new(3);
    for start in (0..KEYS).step_by(1000) {
        let batch = (start..start + 1000).fold(Batch::new(), |batch, n| batch.set(key(n), random.value()));
        store.commit(batch).await.unwrap();
    }
    store
}

/// The prefix of [`LISTED`] keys.
fn prefix(random: &mut Random) -> String {
    format!("/bench/{:03}/", random.below(KEYS / LISTED))
}

fn get(runtime: &Runtime, store: &SqliteStore, tasks: u64, turn: Duration) -> Pace {
    let end = Instant::now() + turn;
    let task = |seed| {
        let store = store.clone();
        async move {
            let (mut random, mut count) = (Random::new(seed), 0);
            while count == 0 || Instant::now() < end {
                let entry = store.get(&key(random.below(KEYS))).await.unwrap().unwrap();
                assert_eq!(entry.value.len(), VALUE_BYTES);
                count += 1;
            }
            count
        }
    };
    pace(|| {
        runtime.block_on(async {
            let tasks: Vec<_> = (0..tasks).map(|seed| tokio::spawn(task(seed))).collect();
            let mut done = 0;
            for task in tasks {
                done += task.await.unwrap();
            }
            done
        })
    })
}

fn raw_get(conn: &Connection, turn: Duration) -> Pace {
    let mut statement = prepared(conn, "WHERE key = ?1");
    let mut random = Random::new(0);
    repeat(turn, || {
        let value = statement.query_row([key(random.below(KEYS))], |row| Ok(entry(row))).unwrap();
        assert_eq!(value, VALUE_BYTES);
        1
    })
}

fn list(runtime: &Runtime, store: &SqliteStore, turn: Duration) -> Pace {
    let mut random = Random::new(1);
    repeat(turn, || {
        let keys = runtime.block_on(store.list(&prefix(&mut random))).unwrap();
        assert_eq!(keys.len(), LISTED);
        1
    })
}

fn raw_list(conn: &Connection, turn: Duration) -> Pace {
    let mut random = Random::new(1);
    let sql = "SELECT key FROM kv_store WHERE key >= ?1 AND key < ?2 ORDER BY key";
    let mut statement = conn.prepare_cached(sql).unwrap();
    repeat(turn, || {
        let (start, end) = range(&mut random);
        let rows = statement.query_map([start, end], |row| row.get::<_, String>(0)).unwrap();
        let keys: Vec<String> = rows.collect::<Result<_, _>>().unwrap();
        assert_eq!(keys.len(), LISTED);
        1
    })
}

fn scan(runtime: &Runtime, store: &SqliteStore, turn: Duration) -> Pace {
    let mut random = Random::new(2);
    repeat(turn, || {
        let page = runtime.block_on(store.scan(Scan::prefix(prefix(&mut random)))).unwrap();
        assert_eq!(page.entries.len(), LISTED);
        LISTED
    })
}

fn raw_scan(conn: &Connection, turn: Duration) -> Pace {
    let mut random = Random::new(2);
    let mut statement = prepared(conn, "WHERE key >= ?1 AND key < ?2 ORDER BY key");
    repeat(turn, || {
        let (start, end) = range(&mut random);
        let rows = statement.query_map([start, end], |row| Ok(entry(row))).unwrap();
        assert_eq!(rows.map(Result::unwrap).sum::<usize>(), LISTED * VALUE_BYTES);
        LISTED
    })
}

/// A prefix as a range; `0` follows `/`.
fn range(random: &mut Random) -> (String, String) {
    let start = prefix(random);
    let end = start.trim_end_matches('/').to_owned() + "0";
    (start, end)
}

fn prepared<'a>(conn: &'a Connection, which: &str) -> CachedStatement<'a> {
    let sql =
        format!("SELECT key, value, version, created_at, updated_at, seq, checksum FROM kv_store {which}");
    conn.prepare_cached(&sql).unwrap()
}

/// Reads every column, key and value into memory of their own; the bytes of the value.
fn entry(row: &rusqlite::Row<'_>) -> usize {
    let numbers: [i64; 4] = [2, 3, 4, 5].map(|column| row.get(column).unwrap());
    let (key, value): (String, Vec<u8>) = (row.get(0).unwrap(), row.get(1).unwrap());
    let checksum: [u8; 16] = row.get(6).unwrap();
    let bytes = value.len();
    std::hint::black_box((key, value, numbers, checksum));
    bytes
}
