//! The failures of the simple predecessor of this crate, measured on it; each must stay away, on
//! every backend. The number in front of a test is what the predecessor did.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use tokio::task::{JoinSet, unconstrained};
use univrs_state::{Batch, Options, Seq, StateError, StateStore, TransactionOp};

use crate::support::child::Child;
use crate::support::{Store, Subject, folder, on_every_backend, seq, value};

on_every_backend!(
    racing_compare_and_sets_have_one_winner,
    concurrent_sets_return_distinct_versions,
    a_paused_watcher_gets_every_event,
    a_version_from_before_a_delete_does_not_match,
    a_failed_transaction_leaves_nothing,
    a_prefix_with_an_underscore_or_of_another_case_is_exact,
    concurrent_transactions_are_not_locked_out,
    a_write_whose_caller_went_away_is_recorded_and_seen,
);

// 193 of 200 rounds had more than one winner.
async fn racing_compare_and_sets_have_one_winner<S: Store>(store: S, _: &Subject) {
    for round in 0..200 {
        let mut racing = JoinSet::new();
        for racer in 0..8 {
            let store = store.clone();
            racing.spawn(async move { store.compare_and_set("/lock", round, value(racer)).await });
        }
        let results = racing.join_all().await;
        let won: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
        assert_eq!(won, [&(round + 1)], "round {round}");
        let lost = StateError::VersionConflict { expected: round, found: round + 1 };
        assert!(results.iter().filter_map(|result| result.as_ref().err()).all(|error| *error == lost));
    }
    assert_eq!(store.head().await.unwrap().seq, seq(200));
}

// 400 concurrent sets returned 212 distinct versions.
async fn concurrent_sets_return_distinct_versions<S: Store>(store: S, subject: &Subject) {
    let mut setting = JoinSet::new();
    for n in 0..400 {
        let store = store.clone();
        setting.spawn(async move { (store.set("/a", value(n)).await.unwrap(), value(n)) });
    }
    let results = setting.join_all().await;
    let versions: BTreeSet<u64> = results.iter().map(|(version, _)| *version).collect();
    assert!(versions.into_iter().eq(1..=400));
    let log = subject.audit().await;
    for (version, value) in results {
        let index = usize::try_from(version).unwrap() - 1;
        assert_eq!(log[index].value.as_deref(), Some(value.as_slice()), "a version is of its own value");
    }
}

// 1,024 of 3,000 events arrived, and no error.
async fn a_paused_watcher_gets_every_event<S: Store>(store: S, _: &Subject) {
    let mut watch = store.watch("/k/*").unwrap();
    for n in 0..3_000 {
        store.set(&format!("/k/{}", n % 7), value(n)).await.unwrap();
    }
    for n in 0..3_000 {
        let event = watch.try_next().await.unwrap().unwrap();
        assert_eq!((event.seq, event.new_value), (seq(n + 1), Some(value(n))));
    }
    assert_eq!(watch.cursor().seq(), seq(3_000));
}

// The compare-and-set succeeded, since versions began again at 1.
async fn a_version_from_before_a_delete_does_not_match<S: Store>(store: S, _: &Subject) {
    let old = store.set("/a", value("mine")).await.unwrap();
    store.delete("/a").await.unwrap();
    let conflict = StateError::VersionConflict { expected: old, found: 0 };
    assert_eq!(store.compare_and_set("/a", old, value("stale")).await, Err(conflict));
    store.set("/a", value("of another")).await.unwrap();
    let conflict = StateError::VersionConflict { expected: old, found: 3 };
    assert_eq!(store.compare_and_set("/a", old, value("stale")).await, Err(conflict));
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, b"of another");
}

// In memory the writes before the failed check stayed.
async fn a_failed_transaction_leaves_nothing<S: Store>(store: S, _: &Subject) {
    store.set("/a", value(1)).await.unwrap();
    let before = (store.head().await.unwrap(), store.get("/a").await.unwrap());
    let mut watch = store.watch("/*").unwrap();
    let failing = vec![
        TransactionOp::set("/a", "2"),
        TransactionOp::set("/b", "2"),
        TransactionOp::delete("/a"),
        TransactionOp::check_version("/a", 7),
    ];
    let error = store.transaction(failing).await.unwrap_err();
    assert_eq!(error, StateError::VersionConflict { expected: 7, found: 1 });
    assert_eq!((store.head().await.unwrap(), store.get("/a").await.unwrap()), before);
    assert!(!store.exists("/b").await.unwrap());
    store.set("/c", value(1)).await.unwrap();
    assert_eq!(watch.next().await.unwrap().key, "/c", "and no watch saw any of it");
}

// `/A_b/1` and `/axb/1` were listed, too: LIKE ignores case, and `_` stands for any character.
async fn a_prefix_with_an_underscore_or_of_another_case_is_exact<S: Store>(store: S, _: &Subject) {
    for key in ["/a_b/1", "/A_b/1", "/axb/1", "/a_b", "/a_b/2", "/a%b/1"] {
        store.set(key, value(key)).await.unwrap();
    }
    assert_eq!(store.list("/a_b/").await.unwrap(), ["/a_b/1", "/a_b/2"]);
    assert_eq!(store.list("/a%b/").await.unwrap(), ["/a%b/1"]);
    let mut watch = store.watch_after("/a_b/*", Seq::ZERO.into()).unwrap();
    let seen = [watch.next().await.unwrap().key, watch.next().await.unwrap().key];
    assert_eq!(seen, ["/a_b/1", "/a_b/2"]);
}

// 184 of 240 failed with "database is locked".
async fn concurrent_transactions_are_not_locked_out<S: Store>(store: S, _: &Subject) {
    let mut running = JoinSet::new();
    for n in 0..240 {
        let store = store.clone();
        running.spawn(async move {
            let ops = vec![
                TransactionOp::set(format!("/t/{n}"), "1"),
                TransactionOp::set("/last", n.to_string()),
                TransactionOp::check_version(format!("/t/{n}"), 0),
            ];
            let receipt = store.transaction(ops).await.unwrap();
            let entry = store.get(&format!("/t/{n}")).await.unwrap().unwrap();
            assert_eq!(entry.seq, receipt.first, "one's own write is seen at once");
        });
    }
    running.join_all().await;
    assert_eq!(store.list("/t/").await.unwrap().len(), 240);
    assert_eq!(store.version("/last").await.unwrap(), 240);
}

// The event was lost: the caller's future sent it, after the commit.
async fn a_write_whose_caller_went_away_is_recorded_and_seen<S: Store>(store: S, _: &Subject) {
    let mut watch = store.watch("/a/*").unwrap();
    let mut context = Context::from_waker(Waker::noop());
    for n in 0..50 {
        // Polled once, then dropped. Without a budget, so that the first poll orders the batch.
        let set = store.commit(Batch::new().set(format!("/a/{n}"), value(n)).set("/b", value(n)));
        let _: Poll<_> = Box::pin(unconstrained(set)).as_mut().poll(&mut context);
    }
    for n in 0..50 {
        let event = watch.try_next().await.unwrap().unwrap();
        assert_eq!((event.key, event.new_value), (format!("/a/{n}"), Some(value(n))));
    }
    // Never polled: never ordered.
    drop(store.set("/c", value(1)));
    assert_eq!(store.version("/c").await.unwrap(), 0);
    assert_eq!(store.head().await.unwrap().seq, seq(100));
}

// It used 0.4 of a core. One of the two tests that measure time.
#[tokio::test]
async fn an_idle_watcher_burns_no_cpu() {
    let folder = folder();
    let mut child = Child::start();
    child.ask(&format!("open\t{}", folder.path().join("state.db").display())).unwrap();
    child.ask("set\t/a\tx").unwrap();
    let hundredths: u64 = child.ask("cpu while watching\t1000").unwrap().parse().unwrap();
    println!("{hundredths} hundredths of a second in one second");
    assert!(hundredths <= 10, "{hundredths} hundredths of a second in one second");
    child.kill();
}

// Timestamps in whole seconds lay up to a second before the write.
#[tokio::test]
async fn timestamps_do_not_lie_before_the_write() {
    for subject in Subject::each_with(Options::new).await {
        let store = subject.shared();
        let mut watch = store.watch("/*").unwrap();
        for n in 0..100 {
            let before = univrs_state::log::Timestamp::from(SystemTime::now());
            store.set("/a", value(n)).await.unwrap();
            let entry = store.get("/a").await.unwrap().unwrap();
            let after = SystemTime::now();
            assert!(SystemTime::from(before) <= entry.updated_at && entry.updated_at <= after, "{entry:?}");
            assert_eq!(SystemTime::from(watch.next().await.unwrap().at), entry.updated_at);
        }
        subject.audit().await;
    }
}

// Its pool closed the last connection after 20 idle minutes, and with it went the tables. Here
// one connection lives in the writer's thread for as long as the store: no pool can close it.
#[tokio::test]
async fn a_store_in_the_memory_of_sqlite_keeps_its_tables_while_idle() {
    let manifest = include_str!("../Cargo.toml");
    for pool in ["r2d2", "deadpool", "sqlx", "bb8"] {
        assert!(!manifest.contains(pool), "{pool} closes idle connections");
    }
    let subject = Subject::sqlite_memory().await;
    let store = subject.shared();
    store.set("/a", value(1)).await.unwrap();
    let writer = || thread_ids("univrs-state wr");
    // Other tests run beside this one, so only that a thread of this store stays can be asked:
    // every thread that is there when all is idle is there afterwards, or belongs to another.
    let idle: HashSet<String> = writer();
    assert!(!idle.is_empty());
    for n in 2..=100 {
        assert_eq!(store.set("/a", value(n)).await.unwrap(), n);
        tokio::task::yield_now().await;
    }
    let weak = Arc::downgrade(&store);
    drop(store);
    assert!(weak.upgrade().is_none());
    assert_eq!(subject.shared().version("/a").await.unwrap(), 100, "no handle is in use, and all is there");
    assert!(!writer().is_disjoint(&idle));
    subject.audit().await;
}

/// The threads of this process with this name.
fn thread_ids(name: &str) -> HashSet<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let ids = tasks.filter_map(|task| {
        let task = task.ok()?.path();
        let comm = std::fs::read_to_string(task.join("comm")).ok()?;
        comm.starts_with(name).then(|| task.display().to_string())
    });
    ids.collect()
}

// Another file was opened: SQLite reads `%41` as an A in a URL, and sqlx made a URL of the path.
#[tokio::test]
async fn a_path_is_never_a_url() {
    let folder = folder();
    for name in ["%41", "file:m?mode=memory", "sqlite::memory:"] {
        let path = folder.path().join(name);
        let subject = Subject::open(Options::new(), &path).await;
        subject.shared().set("/a", value(name)).await.unwrap();
        assert!(path.is_file(), "{name}");
        let other = Subject::open(Options::new().unshared(), &path).await;
        assert_eq!(other.shared().get("/a").await.unwrap().unwrap().value, name.as_bytes());
        subject.audit().await;
    }
    assert!(!folder.path().join("A").exists());
}
