//! Reads of a store of [`KEYS`] keys, and the same by statements that plain rusqlite prepared once,
//! on one connection to the file.

use std::time::{Duration, Instant};

use rusqlite::{CachedStatement, Connection, Row};
use tokio::runtime::Runtime;
use univrs_state::{Scan, SqliteStore, StateStore};

use super::{Pace, Random, VALUE_BYTES, key, pace, repeat};

pub(crate) const KEYS: usize = 50_000;
/// Keys of one prefix.
pub(crate) const LISTED: usize = 400;

/// A random prefix of [`LISTED`] keys.
pub(crate) fn prefix(random: &mut Random) -> String {
    format!("/bench/{:03}/", random.below(KEYS / LISTED))
}

/// Where the keys of such a prefix end: `0` follows `/`.
pub(crate) fn end(prefix: &str) -> String {
    prefix.trim_end_matches('/').to_owned() + "0"
}

pub(crate) fn get(runtime: &Runtime, store: &SqliteStore, tasks: u64, turn: Duration) -> Pace {
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

pub(crate) fn raw_get(conn: &Connection, turn: Duration) -> Pace {
    let mut statement = prepared(conn, "WHERE key = ?1");
    let mut random = Random::new(0);
    repeat(turn, || {
        let value = statement.query_row([key(random.below(KEYS))], |row| Ok(entry(row))).unwrap();
        assert_eq!(value, VALUE_BYTES);
        1
    })
}

pub(crate) fn list(runtime: &Runtime, store: &SqliteStore, turn: Duration) -> Pace {
    list_by(turn, |prefix| runtime.block_on(store.list(prefix)).unwrap())
}

/// Lists random prefixes by whatever lists one.
pub(crate) fn list_by(turn: Duration, mut list: impl FnMut(&str) -> Vec<String>) -> Pace {
    let mut random = Random::new(1);
    repeat(turn, || {
        assert_eq!(list(&prefix(&mut random)).len(), LISTED);
        1
    })
}

pub(crate) fn raw_list(conn: &Connection, turn: Duration) -> Pace {
    let sql = "SELECT key FROM kv_store WHERE key >= ?1 AND key < ?2 ORDER BY key";
    let mut statement = conn.prepare_cached(sql).unwrap();
    list_by(turn, |prefix| {
        let rows = statement.query_map([prefix, &end(prefix)], |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    })
}

pub(crate) fn scan(runtime: &Runtime, store: &SqliteStore, turn: Duration) -> Pace {
    let mut random = Random::new(2);
    repeat(turn, || {
        let page = runtime.block_on(store.scan(Scan::prefix(prefix(&mut random)))).unwrap();
        assert_eq!(page.entries.len(), LISTED);
        LISTED
    })
}

pub(crate) fn raw_scan(conn: &Connection, turn: Duration) -> Pace {
    let mut random = Random::new(2);
    let mut statement = prepared(conn, "WHERE key >= ?1 AND key < ?2 ORDER BY key");
    repeat(turn, || {
        let prefix = prefix(&mut random);
        let rows = statement.query_map([&prefix, &end(&prefix)], |row| Ok(entry(row))).unwrap();
        assert_eq!(rows.map(Result::unwrap).sum::<usize>(), LISTED * VALUE_BYTES);
        LISTED
    })
}

/// Scans the whole projection, of so many keys; returns how many seconds it took.
pub(crate) fn raw_scan_all(conn: &Connection, keys: usize) -> f64 {
    let start = Instant::now();
    let mut statement = prepared(conn, "");
    let rows = statement.query_map([], |row| Ok(entry(row))).unwrap();
    assert_eq!(rows.map(Result::unwrap).sum::<usize>(), keys * VALUE_BYTES);
    start.elapsed().as_secs_f64()
}

fn prepared<'a>(conn: &'a Connection, which: &str) -> CachedStatement<'a> {
    let sql =
        format!("SELECT key, value, version, created_at, updated_at, seq, checksum FROM kv_store {which}");
    conn.prepare_cached(&sql).unwrap()
}

/// Reads every column, key and value into memory of their own; the bytes of the value.
fn entry(row: &Row<'_>) -> usize {
    let numbers: [i64; 4] = [2, 3, 4, 5].map(|column| row.get(column).unwrap());
    let (key, value): (String, Vec<u8>) = (row.get(0).unwrap(), row.get(1).unwrap());
    let checksum: [u8; 16] = row.get(6).unwrap();
    let bytes = value.len();
    std::hint::black_box((key, value, numbers, checksum));
    bytes
}
