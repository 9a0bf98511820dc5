//! Compaction: how many changes leave the log in a second, against the same rows deleted by hand in the same slices; how long
//! commits take meanwhile; and how large the file is after it, against one that is rebuilt.
//!
//! Each round has a store of its own: random keys, each with ten changes in the mean, all superseded but the last.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_precision_loss)]

#[allow(unused_imports)] // nothing takes turns here
mod measure;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use measure::{Effort, Random, key};
use rusqlite::Connection;
use tokio::runtime::Runtime;
use univrs_state::retain::{Compact, Retention};
use univrs_state::{Batch, Head, LocalStore, SqliteStore, StateStore};

/// Changes of a store at scale 1, and how many of them a key has in the mean.
const CHANGES: u32 = 200_000;
const OF_A_KEY: usize = 10;
/// The rows of a slice, as the store has them.
const SLICE: i64 = 500;

fn main() {
    let effort = Effort::from_env();
    let folder = measure::folder("compaction", effort);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let changes = effort.items(CHANGES);
    let (mut rates, mut waits, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..effort.rounds {
        let path = folder.path().join(format!("{round}.db"));
        let head = fill(&runtime, &path, changes, round as u64);
        let plain = folder.path().join(format!("{round}-plain.db"));
        std::fs::copy(&path, &plain).unwrap();
        let busy = folder.path().join(format!("{round}-busy.db"));
        std::fs::copy(&path, &busy).unwrap();

        let runs = superseded(&plain);
        // They take turns in being first.
        let (ours, by_hand) = if round % 2 == 0 {
            let ours = compact(&runtime, &path, head);
            (ours, delete(&plain, &runs))
        } else {
            let by_hand = delete(&plain, &runs);
            (compact(&runtime, &path, head), by_hand)
        };
        rates.push((ours, by_hand));
        waits.push(disturbed(&runtime, &busy, head, changes));
        sizes.push(size_against_rebuilt(&path));
        for file in [&path, &plain, &busy] {
            std::fs::remove_file(file).unwrap();
        }
    }
    report(&rates, &waits, &sizes);
}

fn report(rates: &[(f64, f64)], waits: &[(f64, f64, f64)], sizes: &[f64]) {
    let median = |values: Vec<f64>| {
        let mut values = values;
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let of = |take: fn(&(f64, f64, f64)) -> f64| median(waits.iter().map(take).collect());
    println!("\n| | median of the rounds |\n|---|---|");
    println!("| changes dropped a second | {:.0} |", median(rates.iter().map(|rate| rate.0).collect()));
    println!("| the same rows deleted by hand | {:.0} |", median(rates.iter().map(|rate| rate.1).collect()));
    println!("| ratio | {:.2} |", median(rates.iter().map(|rate| rate.0 / rate.1).collect()));
    println!("| slowest hundredth of commits, 16 tasks, undisturbed | {:.1} ms |", of(|wait| wait.0));
    println!("| the same while the log is compacted | {:.1} ms |", of(|wait| wait.1));
    println!("| ratio | {:.2} |", of(|wait| wait.0 / wait.1));
    println!("| slowest commit while the log is compacted | {:.1} ms |", of(|wait| wait.2));
    println!("| size of a rebuilt file, against the compacted one | {:.2} |", median(sizes.to_vec()));
}

/// A closed store of random changes.
fn fill(runtime: &Runtime, path: &Path, changes: usize, seed: u64) -> Head {
    let mut random = Random::new(seed + 1);
    let keys = (changes / OF_A_KEY).max(1);
    runtime.block_on(async {
        let store = SqliteStore::open(path).await.unwrap();
        for _ in 0..changes.div_ceil(100) {
            let write = |batch: Batch, _| batch.set(key(random.below(keys)), random.value());
            store.commit((0..100).fold(Batch::new(), write)).await.unwrap();
        }
        let head = store.head().await.unwrap();
        store.close().await.unwrap();
        head
    })
}

/// Changes that a compaction drops a second.
fn compact(runtime: &Runtime, path: &Path, head: Head) -> f64 {
    runtime.block_on(async {
        let store = SqliteStore::open(path).await.unwrap();
        let start = Instant::now();
        let compacted = store.compact(Compact::before(head).force()).await.unwrap();
        let took = start.elapsed();
        assert!(store.verify().await.unwrap().is_intact());
        store.close().await.unwrap();
        compacted.dropped as f64 / took.as_secs_f64()
    })
}

/// The runs of superseded rows, each within a slice.
fn superseded(path: &Path) -> Vec<(i64, i64)> {
    let raw = Connection::open(path).unwrap();
    let sql = "SELECT seq FROM changes WHERE seq IN (SELECT prev FROM changes) ORDER BY seq";
    let mut statement = raw.prepare(sql).unwrap();
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for seq in statement.query_map([], |row| row.get(0)).unwrap() {
        let seq: i64 = seq.unwrap();
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == seq && seq % SLICE != 0 => *last = seq,
            _ => runs.push((seq, seq)),
        }
    }
    runs
}

/// Rows that are deleted by hand a second, and their pages given back.
fn delete(path: &Path, runs: &[(i64, i64)]) -> f64 {
    let raw = Connection::open(path).unwrap();
    raw.execute_batch("PRAGMA synchronous=FULL; PRAGMA secure_delete=FAST; PRAGMA cache_size=-32768")
        .unwrap();
    let start = Instant::now();
    let mut rows = 0;
    for slice in runs.chunk_by(|one, next| one.0 / SLICE == next.0 / SLICE) {
        raw.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut statement = raw.prepare_cached("DELETE FROM changes WHERE seq BETWEEN ?1 AND ?2").unwrap();
        for run in slice {
            rows += statement.execute(*run).unwrap();
        }
        drop(statement);
        raw.execute_batch("COMMIT").unwrap();
    }
    let mut vacuum = raw.prepare("PRAGMA incremental_vacuum").unwrap();
    let mut steps = vacuum.query([]).unwrap();
    while steps.next().unwrap().is_some() {}
    rows as f64 / start.elapsed().as_secs_f64()
}

/// The slowest hundredth of commits of 16 tasks before and during a compaction, and the slowest of all during it, in
/// milliseconds.
fn disturbed(runtime: &Runtime, path: &Path, head: Head, changes: usize) -> (f64, f64, f64) {
    let store = runtime.block_on(SqliteStore::open(path)).unwrap();
    let keys = (changes / OF_A_KEY).max(1);
    let measured = |until: &mut dyn FnMut() -> Duration| {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = (0..16)
            .map(|task| {
                let (store, stop) = (store.clone(), stop.clone());
                runtime.spawn(async move {
                    let (mut random, mut took) = (Random::new(task), Vec::new());
                    while !stop.load(Ordering::Relaxed) {
                        let start = Instant::now();
                        store.set(&key(random.below(keys)), random.value()).await.unwrap();
                        took.push(start.elapsed());
                    }
                    took
                })
            })
            .collect();
        let lasted = until();
        stop.store(true, Ordering::Relaxed);
        let mut took: Vec<Duration> =
            tasks.into_iter().flat_map(|task| runtime.block_on(task).unwrap()).collect();
        took.sort_unstable();
        let millis = |took: &Duration| took.as_secs_f64() * 1e3;
        (millis(&took[took.len() * 99 / 100]), millis(took.last().unwrap()), lasted)
    };
    let (during, slowest, lasted) = measured(&mut || {
        let start = Instant::now();
        runtime.block_on(store.compact(Compact::before(head).force())).unwrap();
        start.elapsed()
    });
    let (undisturbed, _, _) = measured(&mut || {
        std::thread::sleep(lasted);
        lasted
    });
    runtime.block_on(store.close()).unwrap();
    (undisturbed, during, slowest)
}

/// The bytes of a file that VACUUM rebuilt, as a part of those of the file.
fn size_against_rebuilt(path: &Path) -> f64 {
    let bytes = |path: &Path| path.metadata().unwrap().len() as f64;
    let compacted = bytes(path);
    Connection::open(path).unwrap().execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    bytes(path) / compacted
}
