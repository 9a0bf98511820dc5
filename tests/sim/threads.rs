//! Whole stores, with their threads: two on one disk, as two processes have them, that commit,
//! read and watch each other. What their callers were told is noted when they were told.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use super::super::{LocalStore, SqliteStore, StateStore};
use super::world::{FILE, Note, STORE, Trace, opening, sources};
use super::{Totals, World};
use crate::backend::Snapshot;
use crate::backend::sqlite::Durability;
use crate::backend::sqlite::sim::{Disk, Files, Rng};
use crate::error::{Result, StateError};
use crate::limits::Limits;
use crate::log::{Cursor, Head};
use crate::seq::Seq;

/// Positions, and how many events had happened when somebody was told of them.
type Told = Arc<Mutex<Vec<(usize, Seq)>>>;

/// Where waiting takes no time, a lock may well be taken for longer than anybody waits.
async fn patiently<T, F: Future<Output = Result<T>>>(act: impl Fn() -> F) -> T {
    loop {
        match act().await {
            Err(StateError::Busy(_)) => tokio::task::yield_now().await,
            result => return result.unwrap(),
        }
    }
}

fn note(disk: &Disk, told: &Told, seq: Seq) {
    let at = disk.now();
    told.lock().unwrap().push((at, seq));
}

/// Two stores at work; what happened, and what was told.
async fn live(seed: u64) -> Trace {
    let beginning = Trace::beginning(Durability::Synced, false);
    let disk = Disk::new(&beginning.files, true);
    let told = Told::default();
    let mut stores = Vec::new();
    let mut watches = Vec::new();
    for _ in 0..2 {
        // With the state in memory and without.
        let resident = if seed.is_multiple_of(2) { usize::MAX } else { 0 };
        let start = || {
            let opening = opening(&disk, Some(Durability::Synced), false);
            SqliteStore::start(opening, Limits::default(), sources(seed), resident)
        };
        let store = patiently(start).await;
        let from_the_first = Cursor::new(STORE, Head::genesis(STORE));
        let mut watch = store.watch_after("/*", from_the_first).unwrap();
        let (disk, told) = (disk.clone(), told.clone());
        watches.push(tokio::spawn(async move {
            let mut events = 0;
            while let Some(event) = watch.next().await {
                note(&disk, &told, event.seq);
                events += 1;
                if event.key == "/last" {
                    break;
                }
            }
            assert!(watch.error().is_none(), "{:?}", watch.error());
            events
        }));
        stores.push(store);
    }
    let mut writers = Vec::new();
    for writer in 0..4 {
        let (store, disk, told) = (stores[writer % 2].clone(), disk.clone(), told.clone());
        let mut rng = Rng::new(seed ^ writer as u64);
        writers.push(tokio::spawn(async move {
            for _ in 0..6 {
                let (key, value) = (format!("/k/{}", rng.below(5)), vec![rng.byte(); rng.below(3000)]);
                patiently(|| store.set(&key, value.clone())).await;
                let head = patiently(|| store.head()).await;
                note(&disk, &told, head.seq);
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    patiently(|| stores[0].set("/last", Vec::new())).await;
    for watch in watches {
        assert_eq!(watch.await.unwrap(), 25, "a watch delivers every change");
    }
    for store in stores {
        store.close().await.unwrap();
    }
    disk.remove();
    trace(beginning, &disk, &told)
}

fn trace(beginning: Trace, disk: &Disk, told: &Told) -> Trace {
    let hashes = hashes(&disk.files());
    let head = |seq: Seq| Head { seq, hash: hashes[&seq].hash };
    let notes = told.lock().unwrap().iter().map(|(at, seq)| Note { at: *at, head: head(*seq) }).collect();
    let heads: HashSet<Head> = hashes.values().copied().chain([Head::genesis(STORE)]).collect();
    Trace { events: disk.events(), notes, heads, ..beginning }
}

/// The whole log; each change is a commit.
fn hashes(files: &Files) -> BTreeMap<Seq, Head> {
    assert!(files.contains_key(FILE));
    let disk = Disk::new(files, false);
    let sqlite = super::world::open(&disk, None, false).unwrap();
    let mut hashes = BTreeMap::new();
    let read = |snapshot: Result<&dyn Snapshot>| {
        snapshot?.changes(Seq::ZERO, &mut |change| {
            hashes.insert(change.seq, change.head());
            Ok(ControlFlow::Continue(()))
        })
    };
    sqlite.with_snapshot(read).unwrap();
    drop(sqlite);
    disk.remove();
    hashes
}

#[tokio::test]
async fn nothing_that_whole_stores_told_or_showed_is_lost() {
    let totals = Totals::default();
    for seed in 0..4 {
        let trace = live(seed).await;
        World::new(seed, &totals).cut("two stores with their threads", &trace, 0, 3);
    }
    let violations = totals.violations.lock().unwrap();
    println!("power, with threads: {} images, {} violations", totals.images.into_inner(), violations.len());
    assert!(violations.is_empty(), "{}", violations[0]);
}
