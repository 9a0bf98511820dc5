//! What goes on behind the calls: the threads survive the wakers of a program, and the write-ahead log
//! is moved into the database and used again.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio_stream::{Stream, StreamExt as _};
use univrs_state::{Batch, LocalStore, StateError, StateStore};

use crate::support::{Local, PATIENCE, Subject, buffered, options, seq, value};

struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        panic!("planted");
    }
}

// A waker that panicked once took the writer's thread with it: commits ended, and close left threads and
// files behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waker_that_panics_harms_nobody_else() {
    for options in [options(), options().resident_bytes(0)] {
        let subject = Subject::disk_with(options).await;
        let store = subject.shared();
        store.set("/a", value(0)).await.unwrap();
        let bomb = Waker::from(Arc::new(Bomb));
        let mut context = Context::from_waker(&bomb);
        let mut watch = store.watch("/*").unwrap();
        let mut other = store.watch("/*").unwrap();
        assert!(Pin::new(&mut watch).poll_next(&mut context).is_pending());
        {
            let mut commit = pin!(store.commit(Batch::new().set("/a", "1")));
            let mut get = pin!(store.get("/a"));
            // Whether they are ready at once is a matter of chance; if not, the bomb is what wakes them.
            let _: Poll<_> = commit.as_mut().poll(&mut context);
            let _: Poll<_> = get.as_mut().poll(&mut context);
            while store.version("/a").await.unwrap() < 2 {
                tokio::task::yield_now().await;
            }
        }
        for due in 3..=10_u64 {
            assert_eq!(store.set("/a", value(due)).await, Ok(due));
            assert_eq!(store.get("/a").await.unwrap().unwrap().value, value(due));
        }
        for due in 2..=10_u64 {
            assert_eq!(other.try_next().await.unwrap().unwrap().version, due);
        }
        subject.audit().await;
        subject.local.close().await.unwrap();
    }
}

// A log of 64 MiB is moved by a thread of its own, without another commit; the writer moves what was
// written meanwhile, and then the log is started over: its file does not grow on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_write_ahead_log_is_moved_behind_the_writer_and_used_again() {
    const MIB: u64 = 1 << 20;
    let subject = Subject::disk_with(buffered()).await;
    let Local::Sqlite(store) = &subject.local else { panic!("a store on disk") };
    let log = subject.path.as_ref().unwrap().with_file_name("state.db-wal");
    let mut written = 0;
    for _ in 0..2 {
        let before = store.stats().await.unwrap();
        let mut used = 0;
        while used < 64 * MIB {
            assert!(written < 1_000 * MIB, "it never grows to 64 MiB: {used}");
            let batch = (0..8).fold(Batch::new(), |batch, n| batch.set(format!("/{n}"), vec![1; 1 << 20]));
            store.commit(batch).await.unwrap();
            written += 8 * MIB;
            used = store.stats().await.unwrap().wal_bytes;
        }
        let moved = async {
            while store.stats().await.unwrap().checkpoints == before.checkpoints {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, moved).await.expect("the thread moves the log");
        let mut small = 0_u64;
        while store.stats().await.unwrap().wal_bytes >= used {
            small += 1;
            assert!(small < 1_000, "it never starts over");
            store.set("/small", value(small)).await.unwrap();
        }
    }
    assert_eq!(store.stats().await.unwrap().failed_checkpoints, 0);
    assert!(std::fs::metadata(log).unwrap().len() < 100 * MIB, "{written} bytes were written");
    subject.audit().await;
    store.close().await.unwrap();
}

/// How often another task of the same thread runs while all of these are read.
async fn turns_beside(mut events: impl Stream<Item = u64> + Unpin, count: u64) -> u64 {
    let turns = Arc::new(AtomicU64::new(0));
    let counted = turns.clone();
    let other = tokio::spawn(async move {
        loop {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    let mut read = 0;
    while read < count {
        read += events.next().await.unwrap();
    }
    other.abort();
    turns.load(Ordering::Relaxed)
}

// What is in memory is ready at once, and a thread of a runtime would run nothing else.
#[tokio::test(flavor = "current_thread")]
async fn a_watch_that_is_far_behind_lets_the_other_tasks_of_its_thread_run() {
    const COUNT: u64 = 10_000;
    for subject in Subject::each().await {
        let store = subject.shared();
        let watch = store.watch("/**").unwrap();
        let commits = store.watch("/**").unwrap().commits();
        for n in 0..COUNT / 1_000 {
            let keys = n * 1_000..(n + 1) * 1_000;
            let batch = keys.fold(Batch::new(), |batch, n| batch.set(format!("/{n}"), "1"));
            store.commit(batch).await.unwrap();
        }
        let snapshot = store.watch_with_snapshot("/**").unwrap();
        assert!(turns_beside(watch.map(|_| 1), COUNT).await >= 10);
        assert!(turns_beside(snapshot.map(|_| 1), COUNT).await >= 10);
        assert_eq!(commits.map(|events| events.len() as u64).take(10).collect::<Vec<_>>().await, [1_000; 10]);
        subject.audit().await;
    }
}

// A large group is told of beside the writer: what was acknowledged is readable then all the same, and a
// close leaves nobody without an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_who_write_at_once_each_get_their_own_answer_until_the_store_closes() {
    const TASKS: u64 = 600;
    let subject = Subject::disk_with(buffered()).await;
    let store = subject.shared();
    let mut watch = store.watch("/**").unwrap();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                let (own, mut acknowledged) = (format!("/{task}"), 0);
                loop {
                    match store.set(&own, value(task)).await {
                        Ok(version) => {
                            assert_eq!(version, acknowledged + 1);
                            acknowledged = version;
                        }
                        Err(StateError::Closed) => return acknowledged,
                        Err(error) => panic!("{error}"),
                    }
                    match store.version(&own).await {
                        Ok(version) => assert_eq!(version, acknowledged),
                        Err(error) => assert_eq!(error, StateError::Closed),
                    }
                }
            })
        })
        .collect();
    for due in 1..=20 * TASKS {
        assert_eq!(watch.try_next().await.unwrap().unwrap().seq, seq(due));
    }
    let Local::Sqlite(sqlite) = &subject.local else { panic!("a store on disk") };
    let largest = sqlite.stats().await.unwrap().largest_group;
    assert!(largest >= 128, "{largest}: no group was told of beside the writer");
    sqlite.close().await.unwrap();
    let mut acknowledged = 0;
    for task in tasks {
        acknowledged += task.await.unwrap();
    }
    let again = subject.reopened().await;
    let head = again.shared().head().await.unwrap().seq.as_u64();
    assert!(
        head >= acknowledged && head <= acknowledged + TASKS,
        "{acknowledged} were acknowledged of {head}"
    );
    again.audit().await;
}
