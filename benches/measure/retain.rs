//! Stores to drop from, and what commits and files make of it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::runtime::Runtime;
use univrs_state::{Batch, Head, LocalStore, SqliteStore, StateStore};

use super::{Random, key};

/// How many changes a key has in the mean.
const OF_A_KEY: usize = 10;

/// A closed store of random changes.
pub(crate) fn fill(runtime: &Runtime, path: &Path, changes: usize, seed: u64) -> Head {
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

/// The slowest hundredth of commits of 16 tasks before and during some work, and the slowest of all during it, in
/// milliseconds.
pub(crate) fn disturbed(
    runtime: &Runtime,
    path: &Path,
    changes: usize,
    work: impl Fn(&SqliteStore),
) -> (f64, f64, f64) {
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
        work(&store);
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
pub(crate) fn size_against_rebuilt(path: &Path) -> f64 {
    let bytes = |path: &Path| path.metadata().unwrap().len() as f64;
    let compacted = bytes(path);
    Connection::open(path).unwrap().execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    bytes(path) / compacted
}

/// The middle one of some values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
