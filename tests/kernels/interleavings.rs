//! Wakers, the index of patterns, the published state and the writer's queue under a scheduler that chooses who goes on
//! at each lock and each atomic: no interleaving loses a wake-up, an event or a state.
//!
//! `UNIVRS_INTERLEAVINGS` sets how many each test tries. A failure prints the schedule that repeats it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::thread;
use tokio::sync::{Semaphore, oneshot};

use super::commit::commit_group;
use super::engine::queue::{Queue, Task, queue};
use super::engine::{Caller, CommitRequest};
use super::{LocalStore, MemoryStore, Options, Receipt, SnapshotEvent, StateStore, WatchStream};
use crate::backend::Memory;
use crate::error::{Result, StateError};
use crate::state::Batch;
use crate::sync::queue::Sender;

fn explore(test: impl Fn() + Send + Sync + 'static) {
    let given = std::env::var("UNIVRS_INTERLEAVINGS").ok().and_then(|count| count.parse().ok());
    let count: usize = given.unwrap_or(1_000);
    let test = Arc::new(test);
    let random = test.clone();
    shuttle::check_random(move || random(), count);
    // Few switches at chosen places find what random ones rarely meet.
    shuttle::check_pct(move || test(), count, 3);
    println!("interleavings: {}", 2 * count);
}

/// Sets the key so many times.
fn keep_setting(store: &MemoryStore, key: &str, times: usize) {
    for _ in 0..times {
        set(store, key);
    }
}

fn set(store: &MemoryStore, key: &str) -> u64 {
    block_on(store.set(key, key.into())).unwrap()
}

/// The positions of the next events.
fn take(watch: &mut WatchStream, count: usize) -> Vec<u64> {
    (0..count).map(|_| block_on(watch.try_next()).unwrap().unwrap().seq.as_u64()).collect()
}

#[test]
fn a_watch_that_waits_is_woken() {
    explore(|| {
        let store = MemoryStore::new();
        let mut watches: Vec<_> =
            ["/a", "/*", "/**/a"].into_iter().map(|pattern| store.watch(pattern).unwrap()).collect();
        let readers: Vec<_> =
            watches.drain(..).map(|mut watch| thread::spawn(move || take(&mut watch, 2))).collect();
        set(&store, "/a");
        set(&store, "/a");
        for reader in readers {
            assert_eq!(reader.join().unwrap(), [1, 2]);
        }
    });
}

#[test]
fn a_watch_that_joins_while_others_write_has_all_that_follows() {
    explore(|| {
        let store = MemoryStore::new();
        let writers: Vec<_> = ["/a", "/b"]
            .into_iter()
            .map(|key| {
                let store = store.clone();
                thread::spawn(move || keep_setting(&store, key, 2))
            })
            .collect();
        let mut watch = store.watch("/*").unwrap();
        let from = watch.cursor().seq().as_u64();
        let rest = usize::try_from(4 - from).unwrap();
        assert_eq!(take(&mut watch, rest), (from + 1..=4).collect::<Vec<_>>());
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert_eq!(watch.cursor().seq().as_u64(), 4);
    });
}

#[test]
fn what_does_not_match_is_passed_over_and_what_matches_is_not() {
    explore(|| {
        let store = MemoryStore::new();
        let mut watch = store.watch("/a").unwrap();
        let reader = thread::spawn(move || take(&mut watch, 2));
        let other = store.clone();
        let writer = thread::spawn(move || keep_setting(&other, "/b", 3));
        set(&store, "/a");
        block_on(store.commit(Batch::new().set("/b", "").set("/a", "").set("/b", ""))).unwrap();
        writer.join().unwrap();
        let log = block_on(store.changes(0.into(), 100)).unwrap();
        let changes = log.iter().flat_map(|commit| &commit.changes);
        let due: Vec<u64> = changes.filter(|c| &*c.key == "/a").map(|c| c.seq.as_u64()).collect();
        assert_eq!(reader.join().unwrap(), due);
    });
}

#[test]
fn a_read_shows_what_was_acknowledged_and_never_goes_back() {
    explore(|| {
        let store = MemoryStore::new();
        let reader = store.clone();
        let reads = thread::spawn(move || {
            let mut seen = 0;
            for _ in 0..4 {
                let version = block_on(reader.version("/a")).unwrap();
                let head = block_on(reader.head()).unwrap().seq.as_u64();
                assert!(version >= seen && head >= version);
                let logged = block_on(reader.changes(0.into(), 100)).unwrap().len() as u64;
                assert!(logged >= head, "what is read is in the log");
                seen = logged;
            }
        });
        for due in 1..=2 {
            assert_eq!(set(&store, "/a"), due);
            assert_eq!(block_on(store.get("/a")).unwrap().unwrap().version, due);
        }
        reads.join().unwrap();
    });
}

#[test]
fn a_snapshot_and_what_follows_have_no_gap() {
    explore(|| {
        let store = MemoryStore::new();
        set(&store, "/a");
        let writer = store.clone();
        let writes = thread::spawn(move || keep_setting(&writer, "/a", 2));
        let mut watch = store.watch_with_snapshot("/*").unwrap();
        let mut version = 0;
        while version < 3 {
            version = match block_on(watch.try_next()).unwrap().unwrap() {
                SnapshotEvent::Entry(entry) => entry.version,
                SnapshotEvent::End(cursor) => cursor.seq().as_u64(),
                SnapshotEvent::Change(event) => {
                    assert_eq!(event.version, version + 1);
                    event.version
                }
            };
        }
        writes.join().unwrap();
    });
}

#[test]
fn closing_ends_every_watch_and_dropping_one_ends_no_other() {
    explore(|| {
        let store = MemoryStore::new();
        let dropped = store.watch("/*").unwrap();
        let mut watch = store.watch("/*").unwrap();
        let reader = thread::spawn(move || {
            let mut events = 0;
            loop {
                match block_on(watch.try_next()) {
                    Ok(Some(_)) => events += 1,
                    end => return (events, end),
                }
            }
        });
        let drops = thread::spawn(move || drop(dropped));
        set(&store, "/a");
        block_on(store.close()).unwrap();
        let (events, end) = reader.join().unwrap();
        assert!(events <= 1 && end == Err(StateError::Closed), "{events} {end:?}");
        drops.join().unwrap();
    });
}

/// Works as the writer of a store on disk does, but on one in memory; returns how many groups it made.
fn write(queue: Queue) -> usize {
    let mut memory = Memory::new(MemoryStore::new().store_id());
    let (_, sources) = Options::new().limits_and_sources().unwrap();
    let (mut met, mut groups) = (None, 0);
    let closed = loop {
        match met.take().or_else(|| queue.next()) {
            Some(Task::Commit(first)) => {
                let mut group = queue.gather(first);
                met = group.met.take();
                let outcome = commit_group(&mut memory, &sources, &group.batches, None);
                groups += 1;
                group.answer(outcome.results);
            }
            Some(Task::Close(closed)) => break Some(closed),
            Some(Task::Read(_) | Task::Tend(_) | Task::Settle(_)) => {}
            None => break None,
        }
    };
    drop(queue);
    closed.into_iter().for_each(|closed| closed(Ok(())));
    groups
}

fn order(tasks: &Sender<Task>, room: &Arc<Semaphore>, key: &str) -> oneshot::Receiver<Result<Receipt>> {
    let (reply, answer) = oneshot::channel();
    let room = room.clone().try_acquire_owned().unwrap();
    let batch = Batch::new().set(key, "1");
    drop(tasks.send(Task::Commit(CommitRequest { batch, caller: Caller::new(reply, room) })));
    answer
}

fn close(tasks: &Sender<Task>) -> oneshot::Receiver<()> {
    let (reply, answer) = oneshot::channel();
    let closed = move |_| {
        let _ = reply.send(());
    };
    drop(tasks.send(Task::Close(Box::new(closed))));
    answer
}

#[test]
fn every_order_is_answered_once_and_in_order_and_none_before_a_close_is_lost() {
    explore(|| {
        let (tasks, queue) = queue();
        let writer = thread::spawn(move || write(queue));
        let room = Arc::new(Semaphore::new(16));
        let clients: Vec<_> = ["/a", "/b"]
            .into_iter()
            .map(|key| {
                let (tasks, room) = (tasks.clone(), room.clone());
                thread::spawn(move || {
                    // Two wait at once, and one follows.
                    let both = [order(&tasks, &room, key), order(&tasks, &room, key)];
                    let mut seqs: Vec<u64> = both
                        .into_iter()
                        .map(|answer| block_on(answer).unwrap().unwrap().last.as_u64())
                        .collect();
                    let last = order(&tasks, &room, key);
                    drop(tasks);
                    seqs.extend(block_on(last).ok().map(|receipt| receipt.unwrap().last.as_u64()));
                    seqs
                })
            })
            .collect();
        let mut all: Vec<u64> = Vec::new();
        for client in clients {
            let seqs = client.join().unwrap();
            assert!(seqs.len() == 3 && seqs.is_sorted(), "{seqs:?}");
            all.extend(seqs);
        }
        all.sort_unstable();
        assert_eq!(all, (1..=6).collect::<Vec<_>>());
        // What is ordered before a close is recorded, and what meets a closed queue is told so.
        let before = order(&tasks, &room, "/a");
        let others = [tasks.clone(), tasks.clone()].map(|tasks| {
            let room = room.clone();
            thread::spawn(move || {
                let (late, closed) = (order(&tasks, &room, "/c"), close(&tasks));
                drop(tasks);
                // A writer that is gone drops what it is asked.
                let (late, closed) = (block_on(late), block_on(closed));
                if closed.is_ok() {
                    assert!(late.unwrap().unwrap().last.as_u64() > 7);
                }
                closed.is_ok()
            })
        });
        drop(tasks);
        assert_eq!(block_on(before).unwrap().unwrap().last.as_u64(), 7);
        let closed = others.map(|other| other.join().unwrap());
        assert_eq!(closed.iter().filter(|closed| **closed).count(), 1, "one of them closed it");
        let groups = writer.join().unwrap();
        assert!((1..=9).contains(&groups), "{groups}");
        assert_eq!(room.available_permits(), 16, "all room was given back");
    });
}
