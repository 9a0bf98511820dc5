//! What watches cost while nothing happens.

use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use univrs_state::{LocalStore, SqliteStore, StateStore};

use crate::measure::ratio::print_ratio;
use crate::measure::{self, Effort, cpu_seconds, key, store};
use crate::process::memory_bytes;

const WATCHERS: u16 = 10_000;
/// What they may take: a share of one core, and bytes each.
const CPU: f64 = 0.001;
const MEMORY: f64 = 2048.0;

pub(crate) fn run(effort: Effort) {
    let folder = measure::folder("idle", effort);
    let runtime = Runtime::new().unwrap();
    let store = runtime.block_on(store::open(&folder.path().join("store.db")));
    // In use before, so that what it takes at first is not the watchers'.
    runtime.block_on(store::fill(&store, 0..usize::from(WATCHERS)));
    let before = memory_bytes();
    let mut delivered = watch(&runtime, &store);
    runtime.block_on(store.set("/unwatched", Vec::new())).unwrap();
    while !runtime.block_on(is_quiet(&store)) {
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_secs(1));
    let each = (memory_bytes() - before) / f64::from(WATCHERS);
    let turn = effort.turn(1000).max(Duration::from_millis(200));
    let shares: Vec<f64> = (0..effort.rounds).map(|_| share(turn)).collect();

    println!("\n{WATCHERS} watchers: {each:.0} bytes each with their tasks; of a core, {shares:.5?}\n");
    let shares: Vec<f64> = shares.iter().map(|share| CPU / share).collect();
    print_ratio("idle_cpu", "0.1 % of a core / what 10,000 idle watchers take", &shares, Some(1.0));
    print_ratio("idle_memory", "2 KiB / what an idle watcher takes", &[MEMORY / each], Some(1.0));

    assert!(delivered.is_empty(), "nothing happened");
    runtime.block_on(async {
        let last = usize::from(WATCHERS) - 1;
        store::fill(&store, [0, last]).await;
        let mut keys = [delivered.recv().await, delivered.recv().await];
        keys.sort();
        assert_eq!(keys, [Some(key(0)), Some(key(last))], "they still watch");
    });
}

/// Watches each key by a task of its own; they tell which one changed.
fn watch(runtime: &Runtime, store: &SqliteStore) -> mpsc::UnboundedReceiver<String> {
    let (sender, delivered) = mpsc::unbounded_channel();
    for index in 0..usize::from(WATCHERS) {
        let (mut stream, sender) = (store.watch(&key(index)).unwrap(), sender.clone());
        runtime.spawn(async move {
            while let Some(event) = stream.next().await {
                let _ = sender.send(event.key);
            }
        });
    }
    delivered
}

/// Whether all watchers are there and have passed over everything.
async fn is_quiet(store: &SqliteStore) -> bool {
    let watchers = store.stats().await.unwrap().watchers;
    watchers.len() == usize::from(WATCHERS) && watchers.iter().all(|watcher| watcher.lag == 0)
}

/// How much of a core this process takes meanwhile.
fn share(turn: Duration) -> f64 {
    let (start, cpu) = (Instant::now(), cpu_seconds());
    thread::sleep(turn);
    (cpu_seconds() - cpu) / start.elapsed().as_secs_f64()
}
