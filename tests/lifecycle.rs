//! Opening, closing, dropping, dying; and more than one process on one file.

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;
use tokio::task::unconstrained;
use univrs_state::options::Durability;
use univrs_state::{Batch, LocalStore, Options, Scan, Seq, StateError, StateStore};

use crate::support::child::Child;
use crate::support::{
    Local, PATIENCE, Seeded, Store, Subject, buffered, folder, on_every_backend, options, value,
};

on_every_backend!(
    after_close_everything_is_closed,
    closing_twice_and_from_many_handles_is_closing,
    what_was_ordered_before_close_is_answered,
    a_store_goes_on_after_reopening,
    reads_and_writes_race_with_close_without_harm,
);

async fn after_close_everything_is_closed<S: Store>(store: S, subject: &Subject) {
    store.set("/a", value(1)).await.unwrap();
    let mut watch = store.watch("/*").unwrap();
    let mut fresh = store.watch_after("/*", Seq::ZERO.into()).unwrap();
    subject.local.close().await.unwrap();
    assert_eq!(store.get("/a").await, Err(StateError::Closed));
    assert_eq!(store.get_many(&["/a"]).await, Err(StateError::Closed));
    assert_eq!(store.scan(Scan::prefix("/")).await, Err(StateError::Closed));
    assert_eq!(store.list("/").await, Err(StateError::Closed));
    assert_eq!(store.exists("/a").await, Err(StateError::Closed));
    assert_eq!(store.version("/a").await, Err(StateError::Closed));
    assert_eq!(store.head().await, Err(StateError::Closed));
    assert_eq!(store.changes(Seq::ZERO, 1).await, Err(StateError::Closed));
    assert_eq!(store.history("/a", None, 1).await, Err(StateError::Closed));
    assert_eq!(store.set("/a", value(2)).await, Err(StateError::Closed));
    assert_eq!(store.delete("/a").await, Err(StateError::Closed));
    assert_eq!(store.compare_and_set("/a", 1, value(2)).await, Err(StateError::Closed));
    assert_eq!(store.create_if_not_exists("/b", value(2)).await, Err(StateError::Closed));
    assert_eq!(store.transaction(vec![]).await, Err(StateError::Closed));
    assert_eq!(store.get_json::<u64>("/a").await, Err(StateError::Closed));
    assert!(matches!(store.watch("/*"), Err(StateError::Closed)));
    assert!(matches!(subject.local.stats().await, Err(StateError::Closed)));
    assert!(matches!(subject.local.verify().await, Err(StateError::Closed)));
    assert_eq!(watch.try_next().await, Err(StateError::Closed));
    assert_eq!(watch.next().await, None);
    assert_eq!(fresh.next().await, None);
    assert_eq!(fresh.error(), Some(&StateError::Closed));
    assert!(!StateError::Closed.is_retryable());
}

async fn closing_twice_and_from_many_handles_is_closing<S: Store>(store: S, subject: &Subject) {
    store.set("/a", value(1)).await.unwrap();
    let closing = (0..8).map(|_| {
        let local = subject.local.clone();
        tokio::spawn(async move { local.close().await })
    });
    for closing in closing.collect::<Vec<_>>() {
        closing.await.unwrap().unwrap();
    }
    subject.local.close().await.unwrap();
    assert_eq!(store.get("/a").await, Err(StateError::Closed));
}

async fn what_was_ordered_before_close_is_answered<S: Store>(store: S, subject: &Subject) {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let keys: Vec<String> = (0..100).map(|n| format!("/{n}")).collect();
    let mut sets: Vec<_> = keys.iter().map(|key| Box::pin(unconstrained(store.set(key, value(1))))).collect();
    let polled: Vec<_> = sets.iter_mut().map(|set| set.as_mut().poll(&mut context)).collect();
    subject.local.close().await.unwrap();
    for (set, polled) in sets.into_iter().zip(polled) {
        let version = match polled {
            std::task::Poll::Ready(version) => version,
            std::task::Poll::Pending => set.await,
        };
        assert_eq!(version, Ok(1));
    }
    if subject.path.is_some() {
        assert_eq!(subject.audit().await.len(), 100);
    }
}

async fn a_store_goes_on_after_reopening<S: Store>(store: S, subject: &Subject) {
    store.commit(Batch::new().set("/a", "1").set("/b", "1")).await.unwrap();
    store.delete("/b").await.unwrap();
    let (head, entry) = (store.head().await.unwrap(), store.get("/a").await.unwrap());
    let history = store.history("/b", None, 9).await.unwrap();
    let again = subject.reopened().await;
    let store = again.shared();
    assert_eq!(again.local.store_id(), subject.local.store_id());
    assert_eq!(store.head().await.unwrap(), head);
    assert_eq!(store.get("/a").await.unwrap(), entry);
    assert_eq!(store.history("/b", None, 9).await.unwrap(), history);
    assert_eq!(store.set("/b", value(2)).await.unwrap(), 3);
    assert_eq!(again.audit().await.len(), 4);
}

async fn reads_and_writes_race_with_close_without_harm<S: Store>(store: S, subject: &Subject) {
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut written = 0;
                loop {
                    let result = if task % 2 == 0 {
                        store.set(&format!("/{task}"), value(written)).await
                    } else {
                        store.list("/").await.map(|keys| keys.len() as u64)
                    };
                    match result {
                        Ok(version) if task % 2 == 0 => written = version,
                        Ok(_) => {}
                        Err(error) => {
                            assert_eq!(error, StateError::Closed);
                            return (task, written);
                        }
                    }
                }
            })
        })
        .collect();
    while store.head().await.unwrap().seq < Seq::new(50) {
        tokio::task::yield_now().await;
    }
    subject.local.close().await.unwrap();
    let mut acknowledged = 0;
    for task in tasks {
        acknowledged += tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap().1;
    }
    if subject.path.is_some() {
        assert_eq!(subject.audit().await.len() as u64, acknowledged, "recorded is what was acknowledged");
    }
}

#[tokio::test]
async fn dropping_the_last_handle_records_what_was_ordered() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let Subject { local, .. } = Subject::open(options(), &path).await;
    let Local::Sqlite(store) = local else { panic!() };
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    for n in 0..200 {
        let key = format!("/{n}");
        let mut set = Box::pin(unconstrained(store.set(&key, value(n))));
        // Polled once and dropped: ordered, and nobody waits for the answer.
        let _ = set.as_mut().poll(&mut context);
    }
    drop(store);
    let again = Subject::open(options(), &path).await;
    assert_eq!(again.audit().await.len(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    let seed = 5;
    let random = Seeded::from(seed);
    let folder = folder();
    let path = folder.path().join("state.db");
    let mut acknowledged = std::collections::BTreeMap::new();
    for round in 0..30 {
        let mut child = Child::start();
        child.ask(&format!("open\t{}", path.display())).unwrap();
        child.tell("write\tk\t3\t1000000");
        for _ in 0..=random.below(60) {
            let answer = child.answer().unwrap().unwrap();
            let words: Vec<&str> = answer.split(' ').collect();
            acknowledged.insert(words[0].to_owned(), words[2].parse::<u64>().unwrap());
        }
        child.kill();
        let subject = Subject::open(Options::new(), &path).await;
        let log = subject.audit().await;
        for (key, version) in &acknowledged {
            let found = subject.shared().version(key).await.unwrap();
            assert!(found >= *version, "{key} lost {version} to {found} in round {round} of seed {seed}");
        }
        if round % 2 == 0 {
            subject.local.close().await.unwrap();
        }
        assert!(!log.is_empty());
    }
}

#[tokio::test]
async fn processes_that_open_one_new_file_at_once_share_one_store() {
    for _ in 0..5 {
        let folder = folder();
        let path = folder.path().join("new/state.db");
        let mut children: Vec<Child> = (0..4).map(|_| Child::start()).collect();
        for child in &mut children {
            child.tell(&format!("open\t{}", path.display()));
        }
        for child in &mut children {
            child.answer().unwrap().expect("nobody is turned away");
            child.tell("set\t/a\tx");
        }
        let mut versions: Vec<String> = children.iter_mut().map(|c| c.answer().unwrap().unwrap()).collect();
        versions.sort();
        assert_eq!(versions, ["1", "2", "3", "4"]);
        for child in &mut children {
            child.tell("close");
        }
        for child in &mut children {
            child.answer().unwrap().unwrap();
        }
        assert_eq!(Subject::open(Options::new(), &path).await.audit().await.len(), 4);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_write_at_once_and_none_is_locked_out() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let here = Subject::open(Options::new().busy_timeout(Duration::from_secs(60)), &path).await;
    let mut children: Vec<Child> = (0..2).map(|_| Child::start()).collect();
    for (n, child) in children.iter_mut().enumerate() {
        child.ask(&format!("open\t{}", path.display())).unwrap();
        child.tell(&format!("write\tchild{n}\t4\t50"));
    }
    for n in 1..=100 {
        assert_eq!(here.shared().set("/here", value(n)).await.unwrap(), n);
    }
    for child in &mut children {
        while child.answer().unwrap().expect("never locked") != "written" {}
    }
    let heads: Vec<String> = children.iter_mut().map(|child| child.ask("head").unwrap()).collect();
    let head = here.shared().head().await.unwrap();
    assert_eq!(heads, [head.to_string(), head.to_string()], "all see the same end");
    assert_eq!(here.audit().await.len(), 100 + 2 * 4 * 50);
}

#[tokio::test]
async fn processes_that_open_and_close_over_and_over_are_never_turned_away() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let mut children: Vec<Child> = (0..3).map(|_| Child::start()).collect();
    for round in 0..15 {
        for child in &mut children {
            child.tell(&format!("open\t{}", path.display()));
            child.tell("set\t/a\tx");
            child.tell(if round % 3 == 0 { "drop" } else { "close" });
        }
        for child in &mut children {
            for step in ["open", "set", "close"] {
                child.answer().unwrap().unwrap_or_else(|error| panic!("{step} in round {round}: {error}"));
            }
        }
    }
    assert_eq!(Subject::open(Options::new(), &path).await.audit().await.len(), 45);
}

#[tokio::test]
async fn a_write_lock_held_for_too_long_is_busy_and_nothing_is_recorded() {
    let subject = Subject::disk_with(options().busy_timeout(Duration::from_millis(50))).await;
    let store = subject.shared();
    store.set("/a", value(1)).await.unwrap();
    let other = Connection::open(subject.path.as_ref().unwrap()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.set("/a", value(2)).await.unwrap_err();
    assert!(matches!(error, StateError::Busy(_)) && error.is_retryable(), "{error}");
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, b"1", "reads go on");
    let reader =
        Options::new().unshared().read_only(true).open(subject.path.as_ref().unwrap()).await.unwrap();
    assert_eq!(reader.version("/a").await.unwrap(), 1, "and so does opening for reading");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.set("/a", value(2)).await.unwrap(), 2);
    subject.audit().await;
}

#[tokio::test]
async fn a_read_only_store_reads_and_refuses_commits() {
    let subject = Subject::disk().await;
    subject.shared().set("/a", value(1)).await.unwrap();
    let path: PathBuf = subject.path.clone().unwrap();
    let reader = Subject::open(options().unshared().read_only(true), &path).await;
    for round in 1..=2_u64 {
        let store = reader.shared();
        assert_eq!(store.version("/a").await.unwrap(), round);
        for error in [
            store.set("/a", value(9)).await.unwrap_err(),
            store.delete("/a").await.unwrap_err(),
            store.commit(Batch::new()).await.unwrap_err(),
            store.commit(Batch::new().expect("/a", 9)).await.unwrap_err(),
        ] {
            assert_eq!(error, StateError::ReadOnly);
        }
        reader.audit().await;
        subject.shared().set("/a", value(2)).await.unwrap();
    }
    // Also where nobody else has it open.
    subject.local.close().await.unwrap();
    reader.local.close().await.unwrap();
    let before = std::fs::read(&path).unwrap();
    let reader = Subject::open(options().read_only(true), &path).await;
    assert_eq!(reader.audit().await.len(), 3);
    reader.local.close().await.unwrap();
    assert!(std::fs::read(&path).unwrap() == before, "reading changed the file");
}

#[tokio::test]
async fn another_durability_than_the_files_is_refused() {
    let subject = Subject::disk_with(buffered()).await;
    subject.shared().set("/a", value(1)).await.unwrap();
    subject.local.close().await.unwrap();
    let path = subject.path.as_ref().unwrap();
    for read_only in [false, true] {
        let options = options().durability(Durability::Synced).read_only(read_only);
        let error = options.open(path).await.unwrap_err();
        assert!(matches!(error, StateError::CannotOpen { .. }), "{error}");
        assert!(error.to_string().contains("buffered") && error.to_string().contains("synced"), "{error}");
    }
    Subject::open(options(), path).await.audit().await;
    Subject::open(buffered(), path).await.audit().await;
}

#[tokio::test]
async fn an_existing_store_keeps_its_id_and_is_not_opened_by_another() {
    let subject = Subject::disk().await;
    subject.shared().set("/a", value(1)).await.unwrap();
    subject.local.close().await.unwrap();
    let other = univrs_state::log::StoreId::from_bytes([9; 16]);
    let path = subject.path.as_ref().unwrap();
    for read_only in [false, true] {
        let error = options().store_id(other).read_only(read_only).open(path).await.unwrap_err();
        assert!(matches!(error, StateError::CannotOpen { .. }), "{error}");
        assert!(error.to_string().contains(&other.to_string()), "{error}");
    }
    for options in [univrs_state::Options::new(), options()] {
        let again = Subject::open(options, path).await;
        assert_eq!(again.local.store_id(), crate::support::STORE);
        again.audit().await;
        again.local.close().await.unwrap();
    }
}

#[tokio::test]
async fn closing_ends_a_verification_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    let store = univrs_state::SqliteStore::open(folder.path().join("state.db")).await.unwrap();
    let many =
        (0..10_000).fold(univrs_state::Batch::new(), |batch, n| batch.set(format!("/{n}"), vec![7; 100]));
    store.commit(many).await.unwrap();
    let verifications: Vec<_> = (0..3)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.verify().await.map(|report| report.is_intact()) })
        })
        .collect();
    tokio::task::yield_now().await;
    store.close().await.unwrap();
    for verification in verifications {
        let ended = verification.await.unwrap();
        assert!(matches!(ended, Ok(true) | Err(StateError::Closed)), "{ended:?}");
    }
}
