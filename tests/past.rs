//! Time travel: every point reads as a replay up to it, what is different between two points is
//! what leads from one to the other, and what was can be brought back.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use univrs_state::archive::Export;
use univrs_state::error::FailedCondition;
use univrs_state::history::{Diff, Difference, Past, Point, Restore};
use univrs_state::log::{ChangeKind, StoreId, Timestamp};
use univrs_state::{Batch, Cursor, Entry, ErrorKind, Head, Meta, Scan, Seq, StateError, StateStore};

use crate::support::audit::fold;
use crate::support::history::{commit_end, random_log, state_at};
use crate::support::{Store, Subject, on_every_backend, seq, value};

on_every_backend!(
    every_point_reads_as_a_replay_up_to_it,
    a_time_is_the_last_commit_at_or_before_it,
    a_point_that_is_none_is_a_clear_error,
    a_point_inside_a_commit_is_refused_with_both_neighbours_however_it_is_named,
    a_past_stays_what_it_was,
    the_differences_between_two_points_lead_from_one_to_the_other,
    differences_come_in_pages_that_agree,
    a_key_that_came_and_went_between_two_points_is_no_difference,
    history_reads_any_page_of_a_key_that_was_deleted,
    deleted_keys_are_listed_until_they_live_again,
    a_restore_brings_back_what_was_as_new_changes_that_say_so,
    a_restore_of_keys_leaves_others_alone,
    a_restore_takes_nobody_elses_work_back,
    a_restore_that_is_too_large_is_refused_whole,
    a_replay_gives_whole_commits_of_a_range,
);

async fn entries(past: &Past, prefix: &str) -> Vec<Entry> {
    let (mut entries, mut next) = (Vec::new(), Some(Scan::prefix(prefix).limit(3)));
    while let Some(scan) = next {
        let page = past.scan(scan).await.unwrap();
        assert_eq!(page.cursor, past.cursor());
        entries.extend(page.entries);
        next = page.next;
    }
    entries
}

async fn every_point_reads_as_a_replay_up_to_it<S: Store>(store: S, _: &Subject) {
    let log = random_log(&store, 60).await;
    let keys: Vec<String> = fold_keys(&log);
    for n in (0..=log.len() as u64).filter(|n| commit_end(&log, seq(*n)) == seq(*n)) {
        let expected = state_at(&log, seq(n));
        let past = store.at(seq(n).into()).await.unwrap();
        let end = past.seq();
        assert_eq!(end, seq(n));
        assert_eq!(past.at(), (end > Seq::ZERO).then(|| log[place(end)].at));
        assert_eq!(entries(&past, "").await, expected.values().cloned().collect::<Vec<_>>(), "at {n}");
        assert_eq!(past.list("").await.unwrap(), expected.keys().map(|key| &**key).collect::<Vec<_>>());
        for key in &keys {
            let found = past.get(key).await.unwrap();
            assert_eq!(found.as_ref(), expected.get(key.as_str()), "{key} at {n}");
            assert_eq!(past.exists(key).await.unwrap(), found.is_some());
            assert_eq!(past.version(key).await.unwrap(), found.map_or(0, |entry| entry.version));
        }
        let asked: Vec<&str> = keys.iter().rev().map(String::as_str).collect();
        let many = past.get_many(&asked).await.unwrap();
        assert_eq!(many.cursor, past.cursor());
        assert_eq!(many.entries, expected.values().rev().cloned().collect::<Vec<_>>());
        let known = log.iter().filter(|change| change.seq <= end).map(|change| change.key.to_string());
        let mut deleted: Vec<String> = known.filter(|key| !expected.contains_key(key.as_str())).collect();
        deleted.sort();
        deleted.dedup();
        let listed = past.list_deleted("").await.unwrap();
        assert_eq!(listed.into_iter().map(|deleted| deleted.key).collect::<Vec<_>>(), deleted);
    }
}

/// Every key that was ever there.
fn fold_keys(log: &[univrs_state::log::Change]) -> Vec<String> {
    let mut keys: Vec<String> = log.iter().map(|change| change.key.to_string()).collect();
    keys.sort();
    keys.dedup();
    keys
}

fn place(seq: Seq) -> usize {
    usize::try_from(seq.as_u64()).unwrap() - 1
}

async fn a_time_is_the_last_commit_at_or_before_it<S: Store>(store: S, _: &Subject) {
    let log = random_log(&store, 40).await;
    for change in log.iter().filter(|change| change.closes_commit()) {
        let next = log.get(place(change.seq) + 1).map_or(Timestamp::MAX_CLOCK, |next| next.at);
        for micros in [change.at.as_micros(), change.at.as_micros() + 1, next.as_micros() - 1] {
            let past = store.at(Timestamp::from_micros(micros).into()).await.unwrap();
            assert_eq!(past.head(), change.head(), "at {micros}");
        }
    }
    let late = SystemTime::now() + Duration::from_secs(1 << 32);
    assert_eq!(store.at(late.into()).await.unwrap().head(), store.head().await.unwrap());
}

async fn a_point_that_is_none_is_a_clear_error<S: Store>(store: S, subject: &Subject) {
    async fn refused<S: Store>(store: &S, point: impl Into<Point>, why: &str) -> StateError {
        let error = store.at(point.into()).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        error
    }
    let now = Timestamp::from(SystemTime::now());
    refused(&store, now, "nothing was recorded at or before that time").await;
    assert_eq!(store.at(Point::Head).await.unwrap().at(), None);

    let log = random_log(&store, 10).await;
    let head = store.head().await.unwrap();
    let before = Timestamp::from_micros(log[0].at.as_micros() - 1);
    let error = refused(&store, before, "nothing was recorded at or before that time").await;
    assert!(matches!(error, StateError::InvalidArgument(_)));
    let error = refused(&store, head.seq.next(), "beyond the end of the log").await;
    assert!(matches!(error, StateError::CursorDiverged(_)));
    let forged = Head { hash: log[0].hash, ..head };
    refused(&store, forged, "another hash").await;
    let id = subject.local.store_id();
    refused(&store, Cursor::new(id, forged), "another hash").await;
    refused(&store, Cursor::new(StoreId::from_bytes([9; 16]), head), "the cursor is of store 0909").await;
    assert_eq!(store.at(Cursor::new(id, head).into()).await.unwrap().head(), head);
    let past = store.at(Seq::ZERO.into()).await.unwrap();
    assert_eq!((past.head(), past.at()), (Head::genesis(id), None));
    assert!(matches!(past.get("a").await, Err(StateError::InvalidKey(_))));
    assert!(matches!(past.version("/a*").await, Err(StateError::InvalidKey(_))));
    assert!(matches!(past.scan(Scan::prefix("").limit(0)).await, Err(StateError::InvalidArgument(_))));
}

async fn a_point_inside_a_commit_is_refused_with_both_neighbours_however_it_is_named<S: Store>(
    store: S,
    subject: &Subject,
) {
    store.set("/a", value(1)).await.unwrap();
    let batch = Batch::new().set("/a", "2").set("/b", "2").set("/c", "2");
    let last = store.commit(batch).await.unwrap().last;
    store.set("/a", value(3)).await.unwrap();
    let before = store.head().await.unwrap();
    for change in &store.changes(seq(1), 1).await.unwrap()[0].changes[..2] {
        let refused = StateError::InsideCommit { requested: change.seq, before: seq(1), last };
        let text = refused.to_string();
        assert!(text.contains("name 1, the end of the commit before, or 4"), "{text}");
        assert_eq!((refused.code(), refused.kind()), ("inside_commit", ErrorKind::InvalidInput));
        let head = change.head();
        for point in
            [Point::from(change.seq), head.into(), Cursor::new(subject.local.store_id(), head).into()]
        {
            let past = store.at(point).await.map(|past| past.seq());
            assert_eq!(past, Err(refused.clone()));
            for (from, to) in [(point, Point::Head), (Seq::ZERO.into(), point)] {
                assert_eq!(store.diff(Diff::between(from, to)).await.unwrap_err(), refused);
                let replayed = store.replay(from, to, |_| panic!("a commit was visited")).await;
                assert_eq!(replayed, Err(refused.clone()));
                let exported = subject.local.export(Export::new().after(from).to(to)).await;
                assert_eq!(exported.unwrap_err(), refused);
            }
            assert_eq!(store.restore(Restore::prefix("/", point)).await.unwrap_err(), refused);
            assert_eq!(store.restore(Restore::keys(["/a"], point)).await.unwrap_err(), refused);
        }
        // The place of a reader is no point: it goes on behind the last whole commit that it names.
        assert_eq!(store.changes(change.seq, 1).await.unwrap()[0].first, seq(2));
        let mut watch = store.watch_after("/*", change.seq.into()).unwrap();
        assert_eq!(watch.try_next().await.unwrap().unwrap().seq, seq(2));
    }
    for beside in [1, 4] {
        assert_eq!(store.at(seq(beside).into()).await.unwrap().seq(), seq(beside));
    }
    assert_eq!(store.head().await.unwrap(), before, "nothing was recorded");
}

async fn a_past_stays_what_it_was<S: Store>(store: S, _: &Subject) {
    store.set("/a", value("old")).await.unwrap();
    let past = store.at(Point::Head).await.unwrap();
    let batch = Batch::new().set("/a", "new").set("/b", "x").delete("/a");
    store.commit(batch).await.unwrap();
    assert_eq!(past.get("/a").await.unwrap().unwrap().value, b"old");
    assert_eq!(past.list("").await.unwrap(), ["/a"]);
    assert_eq!(past.version("/b").await.unwrap(), 0);
    let mut later = store.watch_after("/*", past.cursor()).unwrap();
    assert_eq!(later.try_next().await.unwrap().unwrap().new_value, Some(value("new")));
    let keeps = past.clone();
    drop(store);
    assert!(keeps.exists("/a").await.unwrap());
}

async fn all_differences<S: Store>(store: &S, diff: Diff) -> Vec<Difference> {
    let (mut all, mut next) = (Vec::new(), Some(diff));
    while let Some(diff) = next {
        let page = store.diff(diff).await.unwrap();
        all.extend(page.differences);
        next = page.next;
    }
    all
}

fn apply(state: &mut BTreeMap<std::sync::Arc<str>, Entry>, difference: &Difference) {
    let before = difference.before.as_ref().map(|before| before.seq);
    assert_eq!(state.get(difference.key.as_str()).map(|entry| entry.seq), before, "{difference:?}");
    let lives = |change: &&univrs_state::log::Change| change.kind != ChangeKind::Deleted;
    match difference.after.as_ref().filter(lives) {
        None => drop(state.remove(difference.key.as_str()).unwrap()),
        Some(after) => {
            let entry = Entry {
                key: after.key.to_string(),
                value: after.value.as_deref().unwrap().to_vec(),
                version: after.version,
                created_at: after.created_at.into(),
                updated_at: after.at.into(),
                seq: after.seq,
                until: None,
            };
            state.insert(after.key.clone(), entry);
        }
    }
}

async fn the_differences_between_two_points_lead_from_one_to_the_other<S: Store>(store: S, _: &Subject) {
    let log = random_log(&store, 30).await;
    for a in (0..=log.len() as u64).step_by(3) {
        for b in (0..=log.len() as u64).step_by(5) {
            for prefix in ["", "/a", "/b/"] {
                let within = |mut state: BTreeMap<std::sync::Arc<str>, Entry>| {
                    state.retain(|key, _| key.starts_with(prefix));
                    state
                };
                let mut state = within(state_at(&log, seq(a)));
                let (from, to) = (commit_end(&log, seq(a)), commit_end(&log, seq(b)));
                let diff = Diff::between(from, to).prefix(prefix).limit(2);
                for difference in all_differences(&store, diff).await {
                    apply(&mut state, &difference);
                }
                assert_eq!(state, within(state_at(&log, seq(b))), "from {a} to {b}");
            }
        }
    }
}

async fn differences_come_in_pages_that_agree<S: Store>(store: S, _: &Subject) {
    for n in 0..20 {
        store.set(&format!("/k/{n:02}"), value(n)).await.unwrap();
    }
    let page = store.diff(Diff::between(seq(5), Point::Head).limit(4)).await.unwrap();
    assert_eq!(page.differences.len(), 4);
    store.set("/k/19", value("later")).await.unwrap();
    let rest = all_differences(&store, page.next.unwrap()).await;
    let keys: Vec<_> =
        page.differences.iter().chain(&rest).map(|difference| difference.key.clone()).collect();
    assert_eq!(keys, (5..20).map(|n| format!("/k/{n:02}")).collect::<Vec<_>>());
    assert_eq!(
        rest.last().unwrap().after.as_ref().unwrap().version,
        1,
        "the points are those of the first page"
    );
    let after = all_differences(&store, Diff::between(Seq::ZERO, Point::Head).after("/k/17")).await;
    assert_eq!(after.len(), 2);
    let some =
        all_differences(&store, Diff::between(Seq::ZERO, Point::Head).keys(["/k/03", "/x", "/k/01"])).await;
    assert_eq!(some.iter().map(|difference| difference.key.as_str()).collect::<Vec<_>>(), ["/k/01", "/k/03"]);
    let error = store.diff(Diff::between(Seq::ZERO, Point::Head).limit(0)).await.unwrap_err();
    assert!(error.to_string().contains("limit is 0"), "{error}");
    let error = store.diff(Diff::between(Seq::ZERO, Point::Head).limit(1_000_000)).await.unwrap_err();
    assert!(matches!(error, StateError::LimitExceeded(_)), "{error}");
    let error = store.diff(Diff::between(Seq::ZERO, seq(99)).keys(["x"])).await.unwrap_err();
    assert!(matches!(error, StateError::InvalidKey(_)), "{error}");
    let error = store.diff(Diff::between(Seq::ZERO, seq(99))).await.unwrap_err();
    assert!(matches!(error, StateError::CursorDiverged(_)), "{error}");
}

async fn a_key_that_came_and_went_between_two_points_is_no_difference<S: Store>(store: S, _: &Subject) {
    store.set("/a", value(1)).await.unwrap();
    store.delete("/a").await.unwrap();
    store.set("/a", value(2)).await.unwrap();
    let all = |a, b| all_differences(&store, Diff::between(seq(a), seq(b)));
    assert_eq!(all(0, 2).await, []);
    let kinds = |found: Vec<Difference>| found.iter().map(Difference::kind).collect::<Vec<_>>();
    assert_eq!(kinds(all(1, 3).await), [ChangeKind::Updated]);
    assert_eq!(kinds(all(2, 3).await), [ChangeKind::Created]);
    assert_eq!(kinds(all(3, 2).await), [ChangeKind::Deleted]);
    let gone = all(1, 2).await;
    assert_eq!(gone[0].after.as_ref().unwrap().kind, ChangeKind::Deleted, "a deletion says by whom");
    assert_eq!(kinds(gone), [ChangeKind::Deleted]);
}

async fn history_reads_any_page_of_a_key_that_was_deleted<S: Store>(store: S, _: &Subject) {
    for n in 0..120 {
        store.set("/a", value(n)).await.unwrap();
        store.set("/other", value(n)).await.unwrap();
    }
    store.delete("/a").await.unwrap();
    let all = store.history("/a", None, 1000).await.unwrap();
    assert_eq!(all.len(), 121);
    for before in 0..=242 {
        let expected: Vec<_> =
            all.iter().filter(|change| change.seq < seq(before)).take(3).cloned().collect();
        assert_eq!(store.history("/a", Some(seq(before)), 3).await.unwrap(), expected, "before {before}");
    }
    assert_eq!(store.history("/a", None, 0).await.unwrap(), []);
}

async fn deleted_keys_are_listed_until_they_live_again<S: Store>(store: S, _: &Subject) {
    for key in ["/a", "/b/1", "/b/2"] {
        store.set(key, value(1)).await.unwrap();
        store.delete(key).await.unwrap();
    }
    let listed = |listed: Vec<univrs_state::history::DeletedKey>| {
        listed.into_iter().map(|d| (d.key, d.version, d.seq.as_u64())).collect::<Vec<_>>()
    };
    let expected = [("/b/1".to_owned(), 2, 4), ("/b/2".to_owned(), 2, 6)];
    assert_eq!(listed(store.list_deleted("/b/").await.unwrap()), expected);
    store.set("/b/1", value(2)).await.unwrap();
    assert_eq!(listed(store.list_deleted("/b/").await.unwrap()), expected[1..]);
    let past = store.at(seq(6).into()).await.unwrap();
    assert_eq!(listed(past.list_deleted("/b/").await.unwrap()), expected);
}

async fn a_restore_brings_back_what_was_as_new_changes_that_say_so<S: Store>(store: S, _: &Subject) {
    let log = random_log(&store, 40).await;
    for n in [0, 7, 30, log.len() as u64].map(|n| commit_end(&log, seq(n)).as_u64()) {
        let stamped = store.with_meta(Meta::new().actor("operator"));
        let restore = Restore::prefix("/", seq(n)).meta(Meta::new().reason("ticket 12"));
        let due = all_differences(&store, restore.diff()).await;
        let before = store.head().await.unwrap();
        let receipt = stamped.restore(restore.clone()).await.unwrap();
        let values = |entries: Vec<Entry>| entries.into_iter().map(|e| (e.key, e.value)).collect::<Vec<_>>();
        let now = store.at(Point::Head).await.unwrap();
        assert_eq!(values(entries(&now, "").await), values(state_at(&log, seq(n)).into_values().collect()));
        let due = due.iter().filter(|difference| !difference.is_same_value()).count();
        assert_eq!(receipt.is_empty(), due == 0);
        for commit in store.changes(before.seq, 100).await.unwrap() {
            let meta = commit.meta.unwrap();
            assert_eq!(meta.cause(), Some("restored"));
            assert_eq!(meta.labels["restored_from"], n.to_string());
            assert_eq!(
                (meta.actor.as_deref(), meta.reason.as_deref()),
                (Some("operator"), Some("ticket 12"))
            );
            assert_eq!(commit.changes.len(), due);
        }
        assert!(stamped.restore(restore).await.unwrap().is_empty(), "a second time there is nothing to do");
    }
}

async fn a_restore_of_keys_leaves_others_alone<S: Store>(store: S, _: &Subject) {
    let batch = Batch::new().set("/a", "1").set("/ab", "1").set("/b", "1");
    store.commit(batch).await.unwrap();
    let batch = Batch::new().set("/a", "2").set("/ab", "2").delete("/b");
    store.commit(batch).await.unwrap();
    store.restore(Restore::keys(["/b", "/a"], seq(3))).await.unwrap();
    let value = async |key| store.get(key).await.unwrap().unwrap().value;
    assert_eq!(
        (value("/a").await, value("/ab").await, value("/b").await),
        (b"1".into(), b"2".into(), b"1".into())
    );
    let error = store.restore(Restore::keys(["/b"], seq(99))).await.unwrap_err();
    assert!(matches!(error, StateError::CursorDiverged(_)), "{error}");
    let error = store.restore(Restore::prefix("x".repeat(2000), seq(3))).await.unwrap_err();
    assert!(matches!(error, StateError::InvalidKey(_)), "{error}");
}

async fn a_restore_takes_nobody_elses_work_back<S: Store>(store: S, _: &Subject) {
    let batch = Batch::new().set("/kept", value(1)).set("/changed", value(1)).set("/gone", value(1));
    store.commit(batch).await.unwrap();
    store.set("/same", value(1)).await.unwrap();
    store.commit(Batch::new().set("/kept", value(2)).set("/changed", value(2))).await.unwrap();
    store.delete("/gone").await.unwrap();
    let undo = |keys: &[&str]| Restore::keys(keys.iter().copied(), seq(4)).expect_unchanged_since(seq(7));
    store.set("/changed", value(3)).await.unwrap();
    let error = store.restore(undo(&["/kept", "/changed", "/gone", "/same"])).await.unwrap_err();
    let StateError::Rejected(rejection) = error else { panic!("{error}") };
    let told = |key: &str, found| FailedCondition::ChangedSince {
        prefix: key.into(),
        expected: seq(7),
        found,
        key: Some(key.into()),
    };
    assert_eq!(rejection.failed, [told("/changed", seq(8))]);
    // A key that was made and deleted again is absent now, but not left alone.
    store.set("/gone", value(4)).await.unwrap();
    store.delete("/gone").await.unwrap();
    let error = store.restore(undo(&["/gone"])).await.unwrap_err();
    let StateError::Rejected(rejection) = error else { panic!("{error}") };
    assert_eq!(rejection.failed, [told("/gone", seq(10))]);
    assert_eq!(store.head().await.unwrap().seq, seq(10), "nothing was recorded");
    store.restore(undo(&["/kept", "/same"])).await.unwrap();
    assert_eq!(store.get("/kept").await.unwrap().unwrap().value, value(1));
    // Whoever changed it back to what it was has done the work.
    store.set("/changed", value(1)).await.unwrap();
    assert!(store.restore(undo(&["/changed"])).await.unwrap().is_empty());
}

async fn a_restore_that_is_too_large_is_refused_whole<S: Store>(store: S, _: &Subject) {
    for half in 0..2 {
        let keys = half * 6_000..(half + 1) * 6_000;
        let batch = keys.fold(Batch::new(), |batch, n| batch.set(format!("/k/{n}"), "x"));
        store.commit(batch).await.unwrap();
    }
    let head = store.head().await.unwrap();
    let error = store.restore(Restore::prefix("/k/", Seq::ZERO)).await.unwrap_err();
    assert!(error.to_string().contains("12000 writes, the limit is 10000"), "{error}");
    assert_eq!(store.head().await.unwrap(), head);
    store.restore(Restore::prefix("/k/1", Seq::ZERO)).await.unwrap();
    assert_eq!(store.list("/k/1").await.unwrap().len(), 0);
}

async fn a_replay_gives_whole_commits_of_a_range<S: Store>(store: S, _: &Subject) {
    let log = random_log(&store, 50).await;
    for (a, b) in [(0, log.len() as u64), (3, 20), (20, 3), (5, 5)] {
        let (from, to) = (commit_end(&log, seq(a)), commit_end(&log, seq(b)));
        let mut replayed = Vec::new();
        let end = store
            .replay(from.into(), to.into(), |commit| {
                replayed.extend(commit.changes);
                Ok(std::ops::ControlFlow::Continue(()))
            })
            .await
            .unwrap();
        let expected: Vec<_> = log.iter().filter(|c| c.seq > from && c.seq <= to).cloned().collect();
        assert_eq!((end, &replayed), (from.max(to), &expected));
    }
    let mut seen = 0;
    let stop = |_| {
        seen += 1;
        Ok(if seen == 2 { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) })
    };
    store.replay(Seq::ZERO.into(), Point::Head, stop).await.unwrap();
    assert_eq!(seen, 2);
    assert_eq!(fold(&log), state_at(&log, Seq::MAX));
}

// The skip pointers are neither hashed nor verified, so a file may have anything there.
#[tokio::test]
async fn a_wrong_jump_takes_longer_and_changes_no_answer() {
    let subject = Subject::disk().await;
    let store = subject.shared();
    for n in 0..150 {
        store.set("/a", value(n)).await.unwrap();
        store.set("/b", value(n)).await.unwrap();
    }
    let raw = rusqlite::Connection::open(subject.path.as_ref().unwrap()).unwrap();
    for jump in [
        "0",
        "seq",
        "seq - 1",
        "seq - 3",
        "seq - 4",
        "1",
        "-5",
        "9223372036854775807",
        "prev",
        "abs(random() % 300)",
    ] {
        raw.execute(&format!("UPDATE changes SET jump = {jump}"), []).unwrap();
        for n in (1..=300).step_by(7) {
            let past = store.at(seq(n).into()).await.unwrap();
            for (key, place) in [("/a", n.div_ceil(2)), ("/b", n / 2)] {
                let expected = (place > 0).then(|| value(place - 1));
                assert_eq!(past.get(key).await.unwrap().map(|entry| entry.value), expected, "jump = {jump}");
            }
        }
        // What is written next to such rows is right, too.
        store.set("/c", value(jump)).await.unwrap();
    }
    drop(raw);
    subject.audit().await;
}
