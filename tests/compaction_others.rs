//! A compaction beside others: forged files, compactions that are cut off, other processes. Openings that are not shared
//! play other processes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use univrs_state::archive::Export;
use univrs_state::log::Hash;
use univrs_state::retain::{Compact, Compacted, Retention, Thin};
use univrs_state::stats::Residency;
use univrs_state::{Batch, LocalStore, MemoryStore, Scan, Seq, SqliteStore, StateError, StateStore};

use crate::support::{Local, Subject, folder, frugal, options, value};

/// Waits until the state is in memory, or does not fit.
async fn settled(local: &Local) {
    while local.stats().await.unwrap().residency == Residency::Loading {
        tokio::task::yield_now().await;
    }
}

/// A store of so many commits, each of a few keys that come and go.
async fn fill(store: &impl StateStore, commits: u64) {
    let commit = |n: u64| {
        let batch = Batch::new().set(format!("/k/{}", n % 50), value(n)).set(format!("/once/{n}"), value(n));
        if n >= 10 { batch.delete(format!("/once/{}", n - 10)) } else { batch }
    };
    for n in 0..commits {
        store.commit(commit(n)).await.unwrap();
    }
}

/// What a compaction of the same log leaves in memory, where nothing disturbs it.
async fn undisturbed(store: &impl StateStore, id: univrs_state::log::StoreId, compact: Compact) -> Compacted {
    let log = crate::support::log_of(store).await;
    MemoryStore::replay(id, log).unwrap().compact(compact).await.unwrap()
}

// The hash of a change in the base proves nothing by itself: the change before it is gone.
#[tokio::test]
async fn a_forged_change_stops_a_compaction_before_anything_is_dropped() {
    for forged in [2_i64, 30, 58] {
        let folder = folder();
        let path = folder.path().join("state.db");
        let subject = Subject::open(options(), &path).await;
        for n in 0..60 {
            subject.shared().set(&format!("/{n}"), value(n)).await.unwrap();
        }
        let before = subject.shared().history(&format!("/{}", forged - 2), None, 1).await.unwrap().remove(0);
        let mut change =
            subject.shared().history(&format!("/{}", forged - 1), None, 1).await.unwrap().remove(0);
        assert_eq!(change.seq, Seq::new(forged.unsigned_abs()));
        subject.local.close().await.unwrap();
        change.key = "/forged".into();
        change.hash = change.chained_onto(before.hash);
        let raw = rusqlite::Connection::open(&path).unwrap();
        let sql = "UPDATE changes SET key = ?2, hash = ?3 WHERE seq = ?1";
        raw.execute(sql, (forged, &*change.key, &change.hash.as_bytes()[..])).unwrap();
        drop(raw);
        let store = SqliteStore::open(&path).await.unwrap();
        let head = store.head().await.unwrap();
        let refused = store.compact(Compact::before(Seq::new(60)).force()).await;
        assert!(
            matches!(&refused, Err(StateError::Corrupted(what)) if what.contains("nothing was dropped")),
            "{refused:?}"
        );
        assert_eq!((store.head().await.unwrap(), store.floor().await.unwrap().seq), (head, Seq::ZERO));
        store.close().await.unwrap();
        let raw = rusqlite::Connection::open(&path).unwrap();
        let rows: i64 = raw.query_row("SELECT count(*) FROM changes", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 60);
    }
}

// Behind a gap the chain before a change proves nothing of what lies before the gap.
#[tokio::test]
async fn a_change_that_is_missing_after_the_old_floor_stops_a_compaction_before_anything_is_dropped() {
    for old in [None, Some(Seq::new(20))] {
        let folder = folder();
        let path = folder.path().join("state.db");
        let store = SqliteStore::open(&path).await.unwrap();
        fill(&store, 30).await;
        if let Some(old) = old {
            store.compact(Compact::before(old).force()).await.unwrap();
        }
        let head = store.head().await.unwrap().seq;
        store.close().await.unwrap();
        let raw = rusqlite::Connection::open(&path).unwrap();
        // Each of the others proves itself.
        let sql = "UPDATE changes SET before = (SELECT hash FROM changes WHERE seq = 40) WHERE seq = 41";
        assert_eq!(raw.execute(sql, []).unwrap(), 1);
        assert_eq!(raw.execute("DELETE FROM changes WHERE seq = 40", []).unwrap(), 1);
        drop(raw);
        let store = SqliteStore::open(&path).await.unwrap();
        let refused = store.compact(Compact::before(head).force()).await;
        assert!(
            matches!(&refused, Err(StateError::Corrupted(what)) if what.contains("nothing was dropped")),
            "{refused:?}"
        );
        assert_eq!(store.floor().await.unwrap().seq, old.unwrap_or(Seq::ZERO));
    }
}

// The base of an earlier compaction is sealed by its digest alone.
#[tokio::test]
async fn a_change_that_is_missing_from_the_base_stops_the_next_compaction() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let store = SqliteStore::open(&path).await.unwrap();
    fill(&store, 30).await;
    store.compact(Compact::before(Seq::new(50)).force()).await.unwrap();
    let head = store.head().await.unwrap();
    store.close().await.unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    let gone = "DELETE FROM changes WHERE seq = (SELECT min(seq) FROM changes WHERE before IS NOT NULL)";
    assert_eq!(raw.execute(gone, []).unwrap(), 1);
    let bare = "SELECT count(*) FROM changes AS one WHERE before IS NULL AND seq > 1 AND NOT EXISTS \
                (SELECT 1 FROM changes AS other WHERE other.seq = one.seq - 1)";
    let bare: i64 = raw.query_row(bare, [], |row| row.get(0)).unwrap();
    drop(raw);
    let store = SqliteStore::open(&path).await.unwrap();
    let report = store.verify().await.unwrap();
    assert!(!report.is_intact(), "a row of the base is missing ({bare} follow it directly)");
    let refused = store.compact(Compact::before(head).force()).await;
    assert!(matches!(refused, Err(StateError::Corrupted(_))), "{refused:?}");
}

/// Compacts until so much is done, and is dropped then.
async fn cut_off(local: &Local, compact: Compact, after: u64) {
    let (told, done) = tokio::sync::oneshot::channel();
    let told = Mutex::new(Some(told));
    let compact = compact.progress(move |progress| {
        if progress.done >= after
            && let Some(told) = told.lock().unwrap().take()
        {
            let _ = told.send(());
        }
    });
    tokio::select! {
        compacted = local.compact(compact) => drop(compacted.unwrap()),
        _ = done => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_that_was_cut_off_ends_in_another_process_as_if_nothing_had_happened() {
    for forget in [false, true] {
        for after in [0, 3_000, 6_001, 8_500, 11_900] {
            let folder = folder();
            let path = folder.path().join("state.db");
            let subject = Subject::open(options().unshared(), &path).await;
            fill(&subject.shared(), 2_000).await;
            let floor = Seq::new(5_990); // The 2,000 commits have 2 changes each, and 3 from the eleventh on.
            let compact = || {
                let compact = Compact::before(floor).force().keep("/k/7".parse().unwrap());
                if forget { compact.forget() } else { compact }
            };
            let expected = undisturbed(&subject.shared(), subject.local.store_id(), compact()).await;
            cut_off(&subject.local, compact(), after).await;
            subject.audit().await;
            let other = Subject::open(options().unshared(), &path).await;
            let record = other.shared().history("/.univrs/compaction", None, 9).await.unwrap();
            let began = record.last().map_or(floor, |change| change.seq);
            let meanwhile = other.local.export(Export::new().to(began)).await.unwrap();
            let resumed = other.local.resume_compaction().await.unwrap();
            if !record.is_empty() {
                let after = other.local.export(Export::new().to(began)).await.unwrap();
                assert!(after == meanwhile, "an export made meanwhile equals one made after");
            }
            let is_floor = other.local.floor().await.unwrap().seq == floor;
            if let Some(resumed) = resumed {
                assert_eq!(
                    (resumed.digest, resumed.left),
                    (expected.digest, expected.left),
                    "cut off after {after}"
                );
            }
            let recorded = other.shared().get("/.univrs/compaction").await.unwrap();
            assert_eq!(recorded.is_some(), is_floor);
            if let Some(entry) = recorded {
                let record: serde_json::Value = entry.value_json().unwrap();
                assert_eq!(
                    record["digest"].as_str().map(|text| text.parse::<Hash>().unwrap()),
                    Some(expected.digest)
                );
            }
            subject.audit().await;
            other.audit().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_compaction_is_cut_off_no_other_begins_and_it_says_what_to_do() {
    let subject = Subject::disk().await;
    fill(&subject.shared(), 2_000).await;
    cut_off(&subject.local, Compact::before(Seq::new(5_990)).force(), 6_000).await;
    if subject.local.resume_compaction().await.unwrap().is_some() {
        return; // It was faster than the test. What is cut off is tested above, too.
    }
    let again = subject.local.compact(Compact::before(Seq::new(5_990)).force()).await;
    assert!(matches!(again, Err(StateError::InvalidArgument(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_beyond_what_another_process_knows_leaves_it_right_or_says_so() {
    for options in [options().unshared(), frugal().unshared()] {
        let folder = folder();
        let path = folder.path().join("state.db");
        let one = Subject::open(options.clone(), &path).await;
        fill(&one.shared(), 300).await;
        let two = Subject::open(options.clone(), &path).await;
        settled(&two.local).await;
        let page = two.shared().scan(Scan::prefix("/k/").limit(10)).await.unwrap();
        let stale = two.shared().watch("/k/*").unwrap(); // Nobody reads it for a while.
        fill(&one.shared(), 300).await;
        let floor = one.shared().head().await.unwrap();
        one.local.compact(Compact::before(floor).force().forget()).await.unwrap();
        fill(&one.shared(), 5).await;

        let log = two.shared().changes(floor.seq, 10_000).await.unwrap();
        assert_eq!(log, one.shared().changes(floor.seq, 10_000).await.unwrap());
        let mut stale = stale;
        let mut events = 0;
        let matching = log.iter().flat_map(|commit| &commit.changes).filter(|c| c.key.starts_with("/k/"));
        let newest = matching.map(|change| change.seq).max().unwrap();
        let end = loop {
            match stale.try_next().await {
                Ok(Some(event)) if event.seq < newest => events += 1,
                Ok(_) => break None,
                Err(error) => break Some(error),
            }
        };
        match end {
            Some(StateError::Compacted { oldest, .. }) => assert_eq!(oldest, floor.seq),
            Some(error) => panic!("{error}"),
            None => assert_eq!(events, 304, "it lost events"),
        }
        match two.shared().scan(page.next.unwrap()).await {
            Ok(next) => assert_eq!(next.cursor, page.cursor, "the state that it began with"),
            Err(error) => assert!(matches!(error, StateError::Compacted { .. }), "{error}"),
        }
        for key in ["/k/1", "/once/599", "/once/1", "/once/100"] {
            assert_eq!(two.shared().get(key).await.unwrap(), one.shared().get(key).await.unwrap());
        }
        // A key that was forgotten is made anew by the one that did not forget it.
        let version = two.shared().set("/once/100", value(1)).await.unwrap();
        assert_eq!(version, floor.seq.as_u64() + 1);
        two.audit().await;
        one.audit().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_and_writers_of_two_processes_go_on_while_the_log_is_compacted() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let one = Subject::open(options().unshared(), &path).await;
    fill(&one.shared(), 1_000).await;
    let two = Subject::open(options().unshared(), &path).await;
    let ends = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    for (number, subject) in [&one, &two].into_iter().enumerate() {
        let (store, ends) = (subject.shared(), ends.clone());
        tasks.spawn(async move {
            let key = format!("/own/{number}");
            let mut count = 0;
            while !ends.load(Ordering::SeqCst) {
                count += 1;
                let version = store.version(&key).await.unwrap();
                store.set(&key, value(count)).await.unwrap();
                assert_eq!(store.get(&key).await.unwrap().unwrap().value, value(count));
                assert!(store.version(&key).await.unwrap() > version);
                store.set(&format!("/once/x{number}-{count}"), value(count)).await.unwrap();
                store.delete(&format!("/once/x{number}-{count}")).await.unwrap();
                assert!(store.list("/once/").await.unwrap().len() <= 12);
                tokio::task::yield_now().await;
            }
        });
    }
    for round in 0..6 {
        let (compacts, floor) =
            (if round % 2 == 0 { &one } else { &two }, one.shared().head().await.unwrap());
        let compact = Compact::before(floor).force();
        compacts.local.compact(if round < 4 { compact.forget() } else { compact }).await.unwrap();
        assert!(compacts.local.verify().await.unwrap().is_intact());
    }
    ends.store(true, Ordering::SeqCst);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    settled(&two.local).await;
    if two.local.stats().await.unwrap().residency == Residency::Whole {
        assert!(two.shared().list_deleted("/once/").await.unwrap().len() < 1_000);
    }
    one.audit().await;
    two.audit().await;
}

// Their positions change with each commit. None of them goes back, so none is in the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_that_move_on_all_the_time_keep_no_compaction_and_no_thinning_from_beginning() {
    let folder = folder();
    let path = folder.path().join("state.db");
    for subject in [Subject::memory(), Subject::open(options(), &path).await] {
        let ends = Arc::new(AtomicBool::new(false));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..4 {
            let (store, local, ends) = (subject.shared(), subject.local.opened(), ends.clone());
            let key = format!("/in/{number}");
            store.set(&key, value(0)).await.unwrap();
            let mut consumer = local.consumer(&format!("c{number}")).pattern(&key).open().await.unwrap();
            tasks.spawn(async move {
                while !ends.load(Ordering::SeqCst) {
                    consumer.process(|_| Batch::new().set(&key, value(1))).await.unwrap();
                }
                consumer.close().await.unwrap();
            });
        }
        let wait = std::time::Duration::from_secs(60);
        for _ in 0..3 {
            // All have passed it.
            let floor = subject.shared().head().await.unwrap();
            let local = subject.local.opened();
            while local.consumers().await.unwrap().iter().any(|known| known.cursor.seq() < floor.seq) {
                tokio::task::yield_now().await;
            }
            let thin = Thin::at(floor, "/in/*".parse().unwrap());
            tokio::time::timeout(wait, local.thin(thin)).await.expect("a thinning begins").unwrap();
            let compact = subject.local.compact(Compact::before(floor).force());
            let done = tokio::time::timeout(wait, compact).await.expect("a compaction begins").unwrap();
            assert_eq!(done.floor.seq, floor.seq);
        }
        ends.store(true, Ordering::SeqCst);
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        subject.audit().await;
    }
}
