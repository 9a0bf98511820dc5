//! The write-ahead log: how long commits take while a log that grew above its cap is moved into the database, against
//! commits that nothing disturbs, and how large its file gets.
//!
//! Two situations: a reader of another connection that stays at one state until the log has four times its cap, and
//! then goes; and 200 writers of large batches without a reader. Both have the default cap at scale 1.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_precision_loss)]

#[allow(unused_imports)] // nothing takes turns here
mod measure;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use measure::{Effort, Random, key};
use rusqlite::Connection;
use tokio::runtime::Runtime;
use univrs_state::{Batch, LocalStore, Options, SqliteStore, StateStore};

const MIB: u64 = 1 << 20;
/// How many keys there are.
const KEYS: usize = 20_000;

/// A load of writers.
#[derive(Clone, Copy)]
struct Load {
    tasks: usize,
    /// Values of a batch, and the bytes of each.
    values: usize,
    bytes: usize,
}

/// Writers at work until they are told to stop.
struct Work {
    stop: Arc<AtomicBool>,
    took: Arc<Mutex<Vec<Duration>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Work {
    fn start(runtime: &Runtime, store: &SqliteStore, load: Load) -> Self {
        let (stop, took) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let tasks = (0..load.tasks).map(|task| {
            let (store, stop, took) = (store.clone(), stop.clone(), took.clone());
            runtime.spawn(async move {
                let mut random = Random::new(task as u64);
                while !stop.load(Ordering::Relaxed) {
                    let write =
                        |batch: Batch, _| batch.set(key(random.below(KEYS)), random.bytes(load.bytes));
                    let batch = (0..load.values).fold(Batch::new(), write);
                    let start = Instant::now();
                    store.commit(batch).await.unwrap();
                    took.lock().unwrap().push(start.elapsed());
                }
            })
        });
        let tasks = tasks.collect();
        Self { stop, took, tasks }
    }

    /// What was measured since the last time; sorted.
    fn take(&self) -> Vec<Duration> {
        let mut took = std::mem::take(&mut *self.took.lock().unwrap());
        took.sort_unstable();
        took
    }

    fn end(self, runtime: &Runtime) {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.into_iter().for_each(|task| runtime.block_on(task).unwrap());
    }
}

fn bytes(log: &Path) -> u64 {
    log.metadata().map_or(0, |found| found.len())
}

/// Waits until the file of the log satisfies something; the most bytes that it had.
fn wait_until(log: &Path, most: Duration, is: impl Fn(u64) -> bool) -> u64 {
    let (start, mut largest) = (Instant::now(), 0);
    while start.elapsed() < most {
        let bytes = bytes(log);
        largest = largest.max(bytes);
        if is(bytes) {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    largest
}

/// A line of the table; returns the slowest hundredth.
fn row(name: &str, took: &[Duration], lasted: Duration, log: u64) -> Duration {
    let at = |part: usize| took.get(took.len() * part / 1_000).copied().unwrap_or_default();
    let rate = took.len() as f64 / lasted.as_secs_f64();
    let last = took.last().copied().unwrap_or_default();
    println!("| {name} | {rate:.0}/s | {:.1?} | {:.1?} | {last:.1?} | {} MiB |", at(500), at(990), log / MIB);
    at(990)
}

fn ratio(name: &str, usual: Duration, now: Duration) {
    println!("ratio {name} {:.2} at most 4", now.as_secs_f64() / usual.as_secs_f64());
}

fn open(runtime: &Runtime, folder: &Path, name: &str, cap: u64) -> (SqliteStore, PathBuf) {
    let path = folder.join(name);
    let store = runtime.block_on(Options::new().wal_cap(cap).open(&path)).unwrap();
    for start in (0..KEYS).step_by(1_000) {
        let batch = (start..start + 1_000).fold(Batch::new(), |batch, n| batch.set(key(n), vec![1; 512]));
        runtime.block_on(store.commit(batch)).unwrap();
    }
    (store, folder.join(format!("{name}-wal")))
}

/// A reader stays until the log has four times its cap, and then goes.
fn reader(runtime: &Runtime, folder: &Path, effort: Effort, cap: u64, load: Load, name: &str) {
    let (store, log) = open(runtime, folder, &format!("{name}.db"), cap);
    let work = Work::start(runtime, &store, load);
    wait_until(&log, effort.turn(10_000), |_| false);
    work.take();
    let start = Instant::now();
    let largest = wait_until(&log, effort.turn(20_000), |_| false);
    let usual = row(&format!("{name}: nothing disturbs"), &work.take(), start.elapsed(), largest);

    let conn = Connection::open(log.with_file_name(format!("{name}.db"))).unwrap();
    conn.execute_batch("BEGIN; SELECT count(*) FROM kv_store").unwrap();
    let start = Instant::now();
    let largest = wait_until(&log, Duration::from_secs(600), |bytes| bytes > 4 * cap);
    row(&format!("{name}: a reader stays"), &work.take(), start.elapsed(), largest);
    let stats = runtime.block_on(store.stats()).unwrap();
    stats.warnings.iter().for_each(|warning| println!("warning: {warning}"));

    conn.execute_batch("COMMIT").unwrap();
    let start = Instant::now();
    let largest = wait_until(&log, Duration::from_secs(600), |bytes| bytes <= 2 * cap);
    let took = work.take();
    let now = row(&format!("{name}: until the log is cut"), &took, start.elapsed(), largest);
    ratio(name, usual, now);
    drop(conn);
    work.end(runtime);
    let start = Instant::now();
    wait_until(&log, Duration::from_secs(600), |bytes| bytes <= MIB);
    println!("{name}: idle, the log is emptied after {:.1?}", start.elapsed());
    runtime.block_on(store.close()).unwrap();
}

/// Many writers of large batches and no reader.
fn many(runtime: &Runtime, folder: &Path, effort: Effort, cap: u64, load: Load, name: &str) {
    let (store, log) = open(runtime, folder, &format!("{name}.db"), cap);
    let work = Work::start(runtime, &store, load);
    let start = Instant::now();
    let largest = wait_until(&log, effort.turn(30_000), |_| false);
    row(name, &work.take(), start.elapsed(), largest);
    let stats = runtime.block_on(store.stats()).unwrap();
    println!("{name}: {} checkpoints, the longest took {:.1?}", stats.checkpoints, stats.longest_checkpoint);
    work.end(runtime);
    runtime.block_on(store.close()).unwrap();
}

fn main() {
    let effort = Effort::from_env();
    let folder = measure::folder("recovery", effort);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let cap = u64::try_from(effort.turn(256).as_millis()).unwrap().max(4) * MIB;
    println!("cap of the log: {} MiB", cap / MIB);
    println!("| | commits | p50 | p99 | longest | log file at most |");
    println!("|---|---|---|---|---|---|");
    let small = Load { tasks: 64, values: 1, bytes: 1_024 };
    let middle = Load { tasks: 32, values: 32, bytes: 4_096 };
    let large = Load { tasks: 200, values: 64, bytes: 16 << 10 };
    reader(&runtime, folder.path(), effort, cap, middle, "batches of 128 KiB");
    reader(&runtime, folder.path(), effort, cap, small, "sets of 1 KiB");
    many(&runtime, folder.path(), effort, cap, large, "200 writers of 1 MiB");
}
