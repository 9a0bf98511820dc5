//! Compaction: how many changes leave the log in a second, against the same rows deleted by hand in the same slices; how long
//! commits take meanwhile; and how large the file is after it, against one that is rebuilt.
//!
//! Each round has a store of its own: random keys, each with ten changes in the mean, all superseded but the last.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_precision_loss)]

#[allow(unused_imports)] // nothing takes turns here
mod measure;

use std::path::Path;
use std::time::Instant;

use measure::Effort;
use measure::retain::{disturbed, fill, median, size_against_rebuilt};
use rusqlite::Connection;
use tokio::runtime::Runtime;
use univrs_state::retain::{Compact, Retention};
use univrs_state::{Head, LocalStore, SqliteStore};

/// Changes of a store at scale 1.
const CHANGES: u32 = 200_000;
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
        waits.push(disturbed(&runtime, &busy, changes, |store| {
            runtime.block_on(store.compact(Compact::before(head).force())).unwrap();
        }));
        sizes.push(size_against_rebuilt(&path));
        for file in [&path, &plain, &busy] {
            std::fs::remove_file(file).unwrap();
        }
    }
    report(&rates, &waits, &sizes);
}

fn report(rates: &[(f64, f64)], waits: &[(f64, f64, f64)], sizes: &[f64]) {
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
