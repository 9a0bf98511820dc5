//! Consumers: commits that are processed, each with an effect and the position in one batch, against batches of two keys;
//! and catching up, against a watch.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod measure;

use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

use measure::reads::KEYS;
use measure::store::{fill, open};
use measure::{Effort, Lanes, Pace, Random, key, pace};
use tokio::runtime::Runtime;
use univrs_state::consumer::Consumer;
use univrs_state::{Batch, LocalStore, Seq, SqliteStore, StateStore};

/// How many tasks work at once.
const TASKS: usize = 64;
/// What consumers read; nobody writes it while they do.
const FEED: &str = "/feed/*";

fn main() {
    let effort = Effort::from_env();
    let folder = measure::folder("consumer", effort);
    let turn = effort.turn(400);
    let feed = effort.items(20_000).max(1_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let store = runtime.block_on(filled(&folder.path().join("store.db"), feed));

    let consumers = RefCell::new(runtime.block_on(working(&store)));
    let mut lanes = Lanes::new();
    lanes.lane("batches of two keys, 64 tasks", || put(&runtime, &store, turn));
    lanes.lane("process, 64 consumers", || process(&runtime, &mut consumers.borrow_mut(), turn));
    lanes.lane("catch-up of a watch", || pace(|| runtime.block_on(watch(&store, feed))));
    lanes.lane("catch-up of a consumer", || {
        let mut consumer = runtime.block_on(opened(&store, "reader"));
        let paced = pace(|| runtime.block_on(consume(&mut consumer, feed)));
        runtime.block_on(store.remove_consumer("reader")).unwrap();
        paced
    });
    lanes.ratio("process_64", "process, 64 consumers", "batches of two keys, 64 tasks", 0.7);
    lanes.ratio("consumer_catch_up", "catch-up of a consumer", "catch-up of a watch", 0.9);
    lanes.run(effort);
    runtime.block_on(async {
        assert!(store.verify().await.unwrap().is_intact());
        store.close().await.unwrap();
    });
}

/// A store of many keys and so many commits of one change that consumers read.
async fn filled(path: &Path, feed: usize) -> SqliteStore {
    let store = open(path).await;
    fill(&store, 0..KEYS).await;
    let task = |task: usize| {
        let (store, mut random) = (store.clone(), Random::new(task as u64));
        tokio::spawn(async move {
            for n in (task..feed).step_by(TASKS) {
                store.set(&format!("/feed/{n}"), random.value()).await.unwrap();
            }
        })
    };
    for task in (0..TASKS).map(task).collect::<Vec<_>>() {
        task.await.unwrap();
    }
    store
}

/// A consumer that reads the feed from its start.
async fn opened(store: &SqliteStore, name: &str) -> Consumer {
    store.consumer(name).pattern(FEED).start(Seq::new(KEYS as u64)).open().await.unwrap()
}

/// Commits two keys a batch until the turn is over.
fn put(runtime: &Runtime, store: &SqliteStore, turn: Duration) -> Pace {
    pace(|| {
        let end = Instant::now() + turn;
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let (store, mut random) = (store.clone(), Random::new(task as u64));
                runtime.spawn(async move {
                    let mut done = 0;
                    while done == 0 || Instant::now() < end {
                        let (one, other) = (key(random.below(KEYS)), key(random.below(KEYS)));
                        let batch = Batch::new().set(one, random.value()).set(other, random.value());
                        store.commit(batch).await.unwrap();
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        tasks.into_iter().map(|task| runtime.block_on(task).unwrap()).sum()
    })
}

/// A consumer for each task, which has processed a commit: it has read on.
async fn working(store: &SqliteStore) -> Vec<Consumer> {
    let mut consumers = Vec::new();
    for task in 0..TASKS {
        let mut consumer = opened(store, &format!("task-{task}")).await;
        consumer.process(|_| Batch::new()).await.unwrap();
        consumers.push(consumer);
    }
    consumers
}

/// Processes commits with a key as the effect until the turn is over.
fn process(runtime: &Runtime, consumers: &mut Vec<Consumer>, turn: Duration) -> Pace {
    pace(|| {
        let end = Instant::now() + turn;
        let tasks: Vec<_> = consumers
            .drain(..)
            .enumerate()
            .map(|(task, mut consumer)| {
                let mut random = Random::new(task as u64);
                runtime.spawn(async move {
                    let mut done = 0;
                    while done == 0 || Instant::now() < end {
                        let (key, value) = (key(random.below(KEYS)), random.value());
                        let effect = |_: &_| Batch::new().set(key.as_str(), value.as_slice());
                        consumer.process(effect).await.unwrap().unwrap();
                        done += 1;
                    }
                    (consumer, done)
                })
            })
            .collect();
        let ended = tasks.into_iter().map(|task| runtime.block_on(task).unwrap());
        ended.fold(0, |all, (consumer, done)| {
            consumers.push(consumer);
            all + done
        })
    })
}

async fn watch(store: &SqliteStore, feed: usize) -> usize {
    let mut commits = store.watch_after(FEED, Seq::new(KEYS as u64).into()).unwrap().commits();
    for _ in 0..feed {
        commits.try_next().await.unwrap().unwrap();
    }
    feed
}

async fn consume(consumer: &mut Consumer, feed: usize) -> usize {
    for _ in 0..feed {
        let commit = consumer.next().await.unwrap().unwrap();
        consumer.ack(&commit).await.unwrap();
    }
    feed
}
