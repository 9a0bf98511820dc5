//! Thinning: how many values leave the log in a second, how long commits take meanwhile, and how large the file is after it,
//! against one that is rebuilt. The same of erasures, but for the size. Then a compaction that forgets as many deleted keys as
//! the store has changes: how long the slowest commit takes meanwhile, and how much memory that and the verification take.
//!
//! The last part has the size of years with `UNIVRS_BENCH_SCALE=50 UNIVRS_BENCH_ONLY=forget`: ten million changes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_precision_loss)]

#[allow(unused_imports)] // nothing takes turns here
mod measure;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use measure::retain::{disturbed, fill, median, size_against_rebuilt};
use measure::{Effort, peak};
use tokio::runtime::Runtime;
use univrs_state::retain::{Compact, Erase, Retention, Thin};
use univrs_state::{Batch, Head, LocalStore, SqliteStore, StateStore};

/// Changes of a store at scale 1.
const CHANGES: u32 = 200_000;

fn main() {
    let effort = Effort::from_env();
    let folder = measure::folder("retention", effort);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let only = std::env::var("UNIVRS_BENCH_ONLY").unwrap_or_default();
    let asked = |part: &str| only.is_empty() || only.split(',').any(|name| name == part);
    println!("\n| | median of the rounds |\n|---|---|");
    if asked("thin") {
        thinning(effort, &runtime, folder.path());
    }
    if asked("erase") {
        erasing(effort, &runtime, folder.path());
    }
    if asked("verify") {
        verifying(effort, &runtime, folder.path());
    }
    if asked("forget") {
        forgetting(effort, &runtime, folder.path());
    }
}

fn thinning(effort: Effort, runtime: &Runtime, folder: &Path) {
    let changes = effort.items(CHANGES);
    let (mut rates, mut waits, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..effort.rounds {
        let (path, busy) = (folder.join(format!("thin-{round}.db")), folder.join(format!("busy-{round}.db")));
        let head = fill(runtime, &path, changes, round as u64);
        std::fs::copy(&path, &busy).unwrap();
        let thin = || Thin::at(head, "/*".parse().unwrap());
        rates.push(runtime.block_on(async {
            let store = SqliteStore::open(&path).await.unwrap();
            let start = Instant::now();
            let thinned = store.thin(thin()).await.unwrap();
            let took = start.elapsed();
            assert!(store.verify().await.unwrap().is_intact());
            store.close().await.unwrap();
            thinned.values as f64 / took.as_secs_f64()
        }));
        waits.push(disturbed(runtime, &busy, changes, |store| {
            runtime.block_on(store.thin(thin())).unwrap();
        }));
        sizes.push(size_against_rebuilt(&path));
        std::fs::remove_file(path).unwrap();
        std::fs::remove_file(busy).unwrap();
    }
    let of = |take: fn(&(f64, f64, f64)) -> f64| median(waits.iter().map(take).collect());
    println!("| values thinned a second | {:.0} |", median(rates));
    println!("| slowest hundredth of commits, 16 tasks, undisturbed | {:.1} ms |", of(|wait| wait.0));
    println!("| the same while the log is thinned | {:.1} ms |", of(|wait| wait.1));
    println!("| ratio | {:.2} |", of(|wait| wait.0 / wait.1));
    println!("| slowest commit while the log is thinned | {:.1} ms |", of(|wait| wait.2));
    println!("| size of a rebuilt file, against the thinned one | {:.2} |", median(sizes));
}

/// Values that are erased a second, and what commits feel of it.
fn erasing(effort: Effort, runtime: &Runtime, folder: &Path) {
    let changes = effort.items(CHANGES);
    let (mut rates, mut waits) = (Vec::new(), Vec::new());
    for round in 0..effort.rounds {
        let (path, busy) =
            (folder.join(format!("erase-{round}.db")), folder.join(format!("busy-{round}.db")));
        fill(runtime, &path, changes, round as u64);
        std::fs::copy(&path, &busy).unwrap();
        let erase = || Erase::of("/*".parse().unwrap()).leave_live();
        rates.push(runtime.block_on(async {
            let store = SqliteStore::open(&path).await.unwrap();
            let start = Instant::now();
            let erased = store.erase(erase()).await.unwrap();
            let took = start.elapsed();
            assert!(erased.swept && store.verify().await.unwrap().is_intact());
            store.close().await.unwrap();
            erased.values as f64 / took.as_secs_f64()
        }));
        waits.push(disturbed(runtime, &busy, changes, |store| {
            runtime.block_on(store.erase(erase())).unwrap();
        }));
        std::fs::remove_file(path).unwrap();
        std::fs::remove_file(busy).unwrap();
    }
    let of = |take: fn(&(f64, f64, f64)) -> f64| median(waits.iter().map(take).collect());
    println!("| values erased a second | {:.0} |", median(rates));
    println!("| slowest hundredth of commits, 16 tasks, undisturbed | {:.1} ms |", of(|wait| wait.0));
    println!("| the same while values are erased | {:.1} ms |", of(|wait| wait.1));
    println!("| ratio | {:.2} |", of(|wait| wait.0 / wait.1));
    println!("| slowest commit while values are erased | {:.1} ms |", of(|wait| wait.2));
}

/// Changes that are verified a second in a log without base, and as many in one that is all base.
fn verifying(effort: Effort, runtime: &Runtime, folder: &Path) {
    let changes = effort.items(CHANGES) / 2;
    let ratios = (0..effort.rounds).map(|round| {
        let (plain, compacted) =
            (folder.join(format!("plain-{round}.db")), folder.join(format!("compacted-{round}.db")));
        runtime.block_on(keys(&plain, changes));
        std::fs::copy(&plain, &compacted).unwrap();
        runtime.block_on(async {
            let store = SqliteStore::open(&compacted).await.unwrap();
            // Every change but these is the last one of its key, so the base has as many.
            store.compact(Compact::before(store.head().await.unwrap()).force()).await.unwrap();
            store.close().await.unwrap();
        });
        let rate = |path: &Path| {
            runtime.block_on(async {
                let store = SqliteStore::open(path).await.unwrap();
                let start = Instant::now();
                let report = store.verify().await.unwrap();
                let took = start.elapsed().as_secs_f64();
                assert!(report.is_intact() && report.changes >= changes as u64, "{report:?}");
                store.close().await.unwrap();
                report.changes as f64 / took
            })
        };
        let ratio = if round % 2 == 0 {
            let compacted = rate(&compacted);
            compacted / rate(&plain)
        } else {
            let plain = rate(&plain);
            rate(&compacted) / plain
        };
        std::fs::remove_file(plain).unwrap();
        std::fs::remove_file(compacted).unwrap();
        ratio
    });
    println!(
        "| changes verified a second, all base, against a plain log | {:.2} |",
        median(ratios.collect())
    );
}

/// A closed store of so many keys.
async fn keys(path: &Path, count: usize) -> Head {
    let store = SqliteStore::open(path).await.unwrap();
    for start in (0..count).step_by(1_000) {
        let write = |batch: Batch, n| batch.set(format!("/k/{n}"), vec![b'x'; measure::VALUE_BYTES]);
        store.commit((start..(start + 1_000).min(count)).fold(Batch::new(), write)).await.unwrap();
    }
    let head = store.head().await.unwrap();
    store.close().await.unwrap();
    head
}

/// A store whose keys were all made and deleted: all are forgotten.
fn forgetting(effort: Effort, runtime: &Runtime, folder: &Path) {
    let count = effort.items(CHANGES);
    let path = folder.join("forget.db");
    runtime.block_on(keys(&path, count));
    let store = runtime.block_on(SqliteStore::options().resident_bytes(0).open(&path)).unwrap();
    for start in (0..count).step_by(1_000) {
        let delete = |batch: Batch, n| batch.delete(format!("/k/{n}"));
        let batch = (start..(start + 1_000).min(count)).fold(Batch::new(), delete);
        runtime.block_on(store.commit(batch)).unwrap();
    }
    let head = runtime.block_on(store.head()).unwrap();
    let stop = AtomicBool::new(false);
    let (mut slowest, mut dropped) = (0.0_f64, 0);
    let compacting = || {
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut slowest = 0.0_f64;
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    runtime.block_on(store.set("/w", b"1".to_vec())).unwrap();
                    slowest = slowest.max(start.elapsed().as_secs_f64() * 1e3);
                }
                slowest
            });
            let compact = Compact::before(head).forget().force();
            dropped = runtime.block_on(store.compact(compact)).unwrap().dropped;
            stop.store(true, Ordering::Relaxed);
            slowest = writer.join().unwrap();
        });
    };
    let compacting = peak(compacting);
    let verifying = peak(|| assert!(runtime.block_on(store.verify()).unwrap().is_intact()));
    runtime.block_on(store.close()).unwrap();
    println!("| changes that a compaction which forgets all keys dropped | {dropped} |");
    println!("| slowest commit meanwhile, 1 task | {slowest:.1} ms |");
    println!("| memory that it took at the peak | {:.1} MiB |", compacting as f64 / 1024.0);
    println!("| memory that the verification took after it | {:.1} MiB |", verifying as f64 / 1024.0);
}
