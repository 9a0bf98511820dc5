//! Erasure: values that nothing refers to any more are gone, for every reader and from the files, and everything else is
//! as it was.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use univrs_state::archive::{Archive, Export};
use univrs_state::log::{Change, ChangeKind};
use univrs_state::pattern::Pattern;
use univrs_state::retain::{Erase, Retention};
use univrs_state::verify::NotProvable;
use univrs_state::{
    Batch, ErrorKind, LocalStore, MemoryStore, Meta, Scan, Seq, SqliteStore, StateError, StateStore, WithMeta,
};

use crate::import::written;
use crate::support::audit::{log_after, log_of};
use crate::support::{Local, Store, Subject, folder, on_every_backend, options, value};

fn pattern(text: &str) -> Pattern {
    text.parse().unwrap()
}

fn of(text: &str) -> Erase {
    Erase::of(pattern(text))
}

/// The log as an erasure leaves it: a value goes if a later change is of the same key.
pub(crate) fn erased(log: &[Change], pattern: &Pattern) -> Vec<Change> {
    let mut left = log.to_vec();
    let last: BTreeMap<&str, Seq> = log.iter().map(|change| (&*change.key, change.seq)).collect();
    for change in &mut left {
        let is_own = change.key.starts_with("/.univrs/");
        if pattern.matches(&change.key) && !is_own && last[&*change.key] > change.seq {
            (change.value, change.salt) = (None, None);
        }
    }
    left
}

fn positions(log: &[Change]) -> Vec<u64> {
    log.iter().filter(|change| change.is_erased()).map(|change| change.seq.as_u64()).collect()
}

/// Checks that the store has this log after its floor, and every state that the log has.
pub(crate) async fn check(local: &Local, log: &[Change]) {
    let (store, floor) = (local.shared(), local.floor().await.unwrap().seq);
    let rest: Vec<Change> = log.iter().filter(|change| change.seq > floor).cloned().collect();
    assert_eq!(log_after(&store, floor).await, rest);
    let report = local.verify().await.unwrap();
    assert!(report.is_intact(), "{:?}", report.findings);
    let mut state: BTreeMap<Arc<str>, Change> = BTreeMap::new();
    for change in log {
        state.insert(change.key.clone(), change.clone());
        if change.seq < floor || !change.closes_commit() {
            continue;
        }
        let past = store.at(change.seq.into()).await.unwrap();
        for (key, last) in &state {
            let found = past.get(key).await;
            if last.is_erased() {
                assert!(matches!(found, Err(StateError::Erased(_))), "{key} at {}", change.seq);
            } else {
                let found = found.unwrap().map(|entry| entry.value);
                assert_eq!(found.as_deref(), last.value.as_deref(), "{key} at {}", change.seq);
            }
        }
    }
}

/// Three keys with two values each, of which one is deleted and one of those is made anew.
async fn filled(store: &impl StateStore) {
    for round in 1..3 {
        for key in ["/user/a", "/user/b", "/other"] {
            store.set(key, format!("{key} {round}").into_bytes()).await.unwrap();
        }
    }
    store.commit(Batch::new().delete("/user/a").delete("/user/b")).await.unwrap();
    store.set("/user/b", b"anew".to_vec()).await.unwrap();
}

async fn values_that_nothing_refers_to_are_gone_and_all_else_stays<S: Store>(store: S, subject: &Subject) {
    filled(&store).await;
    let (log, head) = (log_of(&store).await, store.head().await.unwrap());
    let local = subject.local.opened();
    let plan = local.plan_erasure(of("/user/*")).await.unwrap();
    assert_eq!((plan.at, plan.live, plan.live_keys), (head, 1, vec!["/user/b".to_owned()]));
    assert_eq!(log_of(&store).await, log, "a plan changes nothing");
    let told = Arc::new(Mutex::new(Vec::new()));
    let kept = told.clone();
    let erase =
        of("/user/*").leave_live().progress(move |now| kept.lock().unwrap().push((now.done, now.total)));
    let done = local.erase(erase).await.unwrap();
    assert_eq!((done.at, done.values, done.bytes, done.swept), (head, 4, 36, true));
    let (end, told) = (head.seq.as_u64(), told.lock().unwrap().clone());
    assert!(told.iter().all(|(_, total)| *total == 2 * end) && told.is_sorted(), "{told:?}");
    assert_eq!((told[0].0, told.last().unwrap().0), (end, 2 * end));
    assert_eq!((plan.values, plan.bytes), (done.values, done.bytes));
    let mut left = erased(&log, &pattern("/user/*"));
    assert_eq!(positions(&left), [1, 2, 4, 5]);
    let recorded = log_after(&store, head.seq).await;
    assert_eq!(recorded.len(), 1);
    left.extend(recorded);
    check(&subject.local, &left).await;
    assert_eq!(store.get("/user/b").await.unwrap().unwrap().value, b"anew");
    let report = subject.local.verify().await.unwrap();
    assert!(report.not_provable.contains(&NotProvable::Erased(4)), "{:?}", report.not_provable);
    let history = store.history("/user/a", None, 9).await.unwrap();
    let gone: Vec<bool> = history.iter().map(Change::is_erased).collect();
    assert_eq!((history[0].kind, gone), (ChangeKind::Deleted, vec![false, true, true]));
    // A second time there is nothing, and nothing is written.
    let head = store.head().await.unwrap();
    let again = local.erase(of("/user/*").leave_live()).await.unwrap();
    assert_eq!((again.values, again.bytes, again.swept), (0, 0, true));
    let nothing = local.erase(of("/nobody")).await.unwrap();
    assert_eq!((nothing.at, nothing.values), (head, 0));
    assert_eq!(store.head().await.unwrap(), head);
    assert_eq!(local.resume_erasure().await.unwrap(), None);
}

async fn who_why_and_which_positions_stays_in_the_log_and_no_key<S: Store>(store: S, subject: &Subject) {
    filled(&store).await;
    let meta = Meta::new().actor("operator").reason("they asked for it");
    let stamped = WithMeta::new(subject.local.opened(), meta.clone());
    stamped.erase(of("/user/a")).await.unwrap();
    stamped.erase(of("/*").leave_live()).await.unwrap();
    let mut records = Vec::new();
    for number in 1..3 {
        let recorded = store.history(&format!("/.univrs/erasures/{number}"), None, 9).await.unwrap();
        assert_eq!(recorded.len(), 1);
        let said = recorded[0].meta.as_deref().unwrap();
        assert_eq!((said.cause(), &said.actor, &said.reason), (Some("erased"), &meta.actor, &meta.reason));
        records.push(String::from_utf8(recorded[0].value.as_deref().unwrap().to_vec()).unwrap());
    }
    assert_eq!(records, [r#"{"v":1,"ranges":[[1,1],[4,4]]}"#, r#"{"v":1,"ranges":[[2,3],[5,5]]}"#]);
    let forged = store.set("/.univrs/erasures/3", b"{}".to_vec()).await;
    assert!(matches!(forged, Err(StateError::InvalidKey(_))));
}

async fn what_exists_and_what_is_the_stores_own_is_refused_and_nothing_changes<S: Store>(
    store: S,
    subject: &Subject,
) {
    let batch = (0..25).fold(Batch::new(), |batch, n| batch.set(format!("/live/{n:02}"), "1"));
    store.commit(batch).await.unwrap();
    store.commit(Batch::new().set("/live/07", "2").set("/gone", "1")).await.unwrap();
    store.delete("/gone").await.unwrap();
    let (log, local) = (log_of(&store).await, subject.local.opened());
    let files = || -> Vec<Vec<u8>> {
        let path = subject.path.iter();
        path.flat_map(|path| [path.clone(), beside(path, "-wal")])
            .map(|f| std::fs::read(f).unwrap())
            .collect()
    };
    let before = files();
    let refused = local.erase(of("/**")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    match &refused {
        StateError::Held(why) => {
            assert!(why.contains("/live/00, /live/01,") && why.contains("/live/19 and 5 more"), "{why}");
            assert!(!why.contains("/live/20") && why.contains("delete these keys first"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    let one = local.erase(of("/live/07")).await.unwrap_err().to_string();
    assert!(one.contains("not erased: /live/07;"), "{one}");
    for keys in ["/.univrs/*", "/.univrs/erasures/1", "/.univrs/**/x"] {
        match local.erase(of(keys)).await {
            Err(StateError::InvalidArgument(why)) => assert!(why.contains(keys), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(files() == before, "the files changed");
    assert_eq!(log_of(&store).await, log);
    // A key that does not exist is in nobody's way, and neither is a consumer that has read nothing.
    let consumer = local.consumer("indexer").pattern("/*").start(Seq::ZERO).open().await.unwrap();
    assert_eq!(local.erase(of("/gone")).await.unwrap().values, 1);
    assert_eq!(local.plan_erasure(of("/live/*")).await.unwrap().live, 25);
    drop(consumer);
}

async fn what_is_read_in_pages_is_not_shown_after_it_was_erased<S: Store>(store: S, subject: &Subject) {
    for round in 0..2 {
        let batch = (0..40).fold(Batch::new(), |batch, n| batch.set(format!("/k/{n:02}"), value(round)));
        store.commit(batch).await.unwrap();
    }
    let mut watch = store.watch_after("/k/*", Seq::ZERO.into()).unwrap();
    let mut commits = store.watch_after("/k/*", Seq::ZERO.into()).unwrap().commits();
    let seen = watch.try_next().await.unwrap().unwrap();
    assert_eq!(seen.new_value, Some(value(0)));
    assert_eq!(commits.try_next().await.unwrap().unwrap().len(), 40);
    let page = store.scan(Scan::prefix("/k/").limit(1)).await.unwrap();
    let delete = (0..40).fold(Batch::new(), |batch, n| batch.delete(format!("/k/{n:02}")));
    store.commit(delete).await.unwrap();
    let exported = subject.local.export(Export::new()).await.unwrap();
    let done = subject.local.opened().erase(of("/k/*")).await.unwrap();
    assert_eq!(done.values, 80);
    for n in 1..120 {
        let event = watch.try_next().await.unwrap().unwrap();
        assert_eq!((event.seq.as_u64(), event.old_value, event.new_value), (n + 1, None, None), "change {n}");
        assert!(event.erased);
    }
    for _ in 0..2 {
        let rest = commits.try_next().await.unwrap().unwrap();
        assert!(rest.iter().all(|event| event.new_value.is_none() && event.old_value.is_none()));
    }
    let next = store.scan(page.next.unwrap()).await;
    assert!(matches!(next, Err(StateError::Erased(_))), "{next:?}");
    // What was exported before has them, and what is exported now has not.
    assert!(contains(&exported, b"\x41\x30"), "a value of one byte");
    let after = subject.local.export(Export::new()).await.unwrap();
    let archive = Archive::read(io::Cursor::new(after)).unwrap();
    assert_eq!(positions(&log_of(&archive).await).len(), 80);
}

async fn an_erasure_that_was_cut_off_goes_on_where_it_was_and_imports_do_not_bring_it_back<S: Store>(
    store: S,
    subject: &Subject,
) {
    for _ in 0..2 {
        let batch = (0..700).fold(Batch::new(), |batch, n| batch.set(format!("/k/{n}"), "canary"));
        store.commit(batch).await.unwrap();
    }
    let log = log_of(&store).await;
    let local = subject.local.opened();
    let end = 2 * log.len() as u64;
    let cut = of("/*").leave_live().progress(move |now| assert!(now.done * 2 <= end, "as planned"));
    assert!(matches!(local.erase(cut).await, Err(StateError::Panicked(_))));
    // What was asked for when it was cut off is done before whatever comes next.
    store.set("/after", b"1".to_vec()).await.unwrap();
    let cut_off = log_of(&store).await;
    assert_eq!(positions(&cut_off).len(), 500, "one slice");
    let mut left = erased(&log, &pattern("/*"));
    left.extend_from_slice(&cut_off[log.len()..]);
    // An export of it has a record of values that it still has.
    let export = subject.local.export(Export::new()).await.unwrap();
    let memory = MemoryStore::import(io::Cursor::new(export.clone())).unwrap();
    assert_eq!(log_of(&memory).await, left);
    let folder = folder();
    let path = folder.path().join("state.db");
    let imported = SqliteStore::import(io::Cursor::new(export), &path).await.unwrap();
    assert_eq!(log_of(&imported).await, left);
    assert_eq!(imported.resume_erasure().await.unwrap().map_or(0, |done| done.values), 0);
    crate::support::audit(&Local::Sqlite(imported)).await;
    let replayed = options().store_id(subject.local.store_id()).replay(cut_off).unwrap();
    assert_eq!(log_of(&replayed).await, left);

    let local = if subject.path.is_some() { subject.reopened().await.local } else { subject.local.clone() };
    let resumed = local.opened().resume_erasure().await.unwrap().unwrap();
    assert_eq!((resumed.values, resumed.bytes, resumed.swept), (200, 1_200, true));
    assert_eq!(local.opened().resume_erasure().await.unwrap(), None);
    assert_eq!(log_of(&local.shared()).await, left);
}

async fn an_erasure_of_many_scattered_values_has_several_records<S: Store>(store: S, subject: &Subject) {
    for half in [0..3_250, 3_250..6_500, 0..3_250, 3_250..6_500] {
        let batch = half.fold(Batch::new(), |batch, n| {
            batch.set(format!("/gone/{n}"), value(n)).set(format!("/kept/{n}"), value(n))
        });
        store.commit(batch).await.unwrap();
    }
    let mut left = log_of(&store).await;
    for (keys, numbers) in [("/gone/*", [1, 2]), ("/**", [3, 4])] {
        let end = store.head().await.unwrap().seq;
        let done = subject.local.opened().erase(of(keys).leave_live()).await.unwrap();
        assert_eq!(done.values, 6_500);
        left = erased(&left, &pattern(keys));
        let recorded = log_after(&store, end).await;
        let keys: Vec<&str> = recorded.iter().map(|change| &*change.key).collect();
        assert_eq!(keys, numbers.map(|number| format!("/.univrs/erasures/{number}")));
        let bytes = recorded.iter().map(|change| change.value.as_ref().unwrap().len());
        assert!(bytes.clone().all(|bytes| bytes <= 65_536) && bytes.max() > Some(65_500));
        left.extend(recorded);
        assert!(log_of(&store).await == left, "other values are gone than those");
    }
}

on_every_backend!(
    values_that_nothing_refers_to_are_gone_and_all_else_stays,
    who_why_and_which_positions_stays_in_the_log_and_no_key,
    what_exists_and_what_is_the_stores_own_is_refused_and_nothing_changes,
    what_is_read_in_pages_is_not_shown_after_it_was_erased,
    an_erasure_that_was_cut_off_goes_on_where_it_was_and_imports_do_not_bring_it_back,
    an_erasure_of_many_scattered_values_has_several_records,
);

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// A store on disk with values of many sizes, each of which has a mark that nothing else has, and whose keys are deleted.
async fn with_canaries() -> (Subject, u64) {
    let subject = Subject::disk().await;
    let store = subject.shared();
    let mut count = 0;
    for round in 0..3 {
        for size in [0, 40, 300, 2_000, 5_000, 30_000] {
            let batch = (0..10).fold(Batch::new(), |batch, n| {
                let mut value = CANARY.to_vec();
                value.resize(CANARY.len() + size, b'.');
                value.extend_from_slice(CANARY);
                batch.set(format!("/k/{size}/{n}"), value).set(format!("/kept/{size}/{n}"), vec![round; size])
            });
            store.commit(batch).await.unwrap();
            count += 10;
        }
    }
    for key in store.list("/k/").await.unwrap() {
        store.delete(&key).await.unwrap();
    }
    (subject, count)
}

const CANARY: &[u8] = b"canary-7f3a91";

/// How often the canary is in a file.
fn canaries(file: &Path) -> usize {
    let bytes = std::fs::read(file).unwrap_or_default();
    bytes.windows(CANARY.len()).filter(|window| *window == CANARY).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_an_erased_value_is_in_the_log_file_and_none_in_a_row_of_the_database() {
    let (subject, count) = with_canaries().await;
    let path = subject.path.clone().unwrap();
    let log = beside(&path, "-wal");
    assert!(canaries(&log) as u64 >= 2 * count, "they are there before");
    let done = subject.local.opened().erase(of("/k/*")).await.unwrap();
    assert_eq!((done.values, done.swept), (count, true));
    assert_eq!((canaries(&log), std::fs::metadata(&log).unwrap().len()), (0, 0));
    // Where SQLite moved a row, a gap of a page may have a copy. Only a file that is written anew has none for sure.
    assert!(canaries(&path) as u64 * 50 <= count, "{} of {count} are in the file", canaries(&path));
    subject.shared().set("/after", b"1".to_vec()).await.unwrap();
    assert_eq!(canaries(&log), 0);
    let conn = rusqlite::Connection::open(&path).unwrap();
    let rows = "SELECT count(*) FROM changes WHERE instr(value, ?1) OR instr(meta, ?1) OR instr(salt, ?1)";
    assert_eq!(conn.query_row(rows, [CANARY], |row| row.get::<_, i64>(0)).unwrap(), 0);
    let pages = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(pages("PRAGMA freelist_count"), 0, "free pages are given back");
    drop(conn);
    subject.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_record_names_a_live_value_is_refused_and_one_that_still_has_what_it_names_loses_it() {
    let subject = Subject::memory();
    let store = subject.shared();
    store.set("/a", b"1".to_vec()).await.unwrap();
    store.set("/a", b"2".to_vec()).await.unwrap();
    let before = log_of(&store).await;
    subject.local.opened().erase(of("/a").leave_live()).await.unwrap();
    let erased = log_of(&store).await;
    let (id, folder) = (subject.local.store_id(), folder());
    let path = folder.path().join("new.db");
    // As it was exported between the record and the slice.
    let mut log = erased.clone();
    log[0] = before[0].clone();
    let export = written(id, &mut log.clone());
    let imported = MemoryStore::import(&*export).unwrap();
    assert_eq!(log_of(&imported).await, erased);
    assert_eq!(log_of(&Archive::read(&*export).unwrap()).await, erased);
    let on_disk = SqliteStore::import(io::Cursor::new(export), &path).await.unwrap();
    assert_eq!(log_of(&on_disk).await, erased);
    crate::support::audit(&Local::Sqlite(on_disk)).await;

    // The second change is of another key, so the first one is the state of its key.
    let created = Change { kind: ChangeKind::Created, created_at: log[1].at, ..log[1].clone() };
    log[1] = Change { key: "/b".into(), version: 1, prev: Seq::ZERO, ..created };
    let export = written(id, &mut log);
    let other = folder.path().join("other.db");
    let refusals = [
        ("into memory", MemoryStore::import(&*export).map(drop)),
        ("as an archive", Archive::read(&*export).map(drop)),
        ("by a replay", MemoryStore::replay(id, log).map(drop)),
        ("into a file", SqliteStore::import(io::Cursor::new(export), &other).await.map(drop)),
    ];
    for (way, refusal) in refusals {
        match refusal {
            Err(StateError::Corrupted(why)) => assert!(why.contains("of change 1,"), "{way}: {why}"),
            other => panic!("{way}: {other:?}"),
        }
    }
    assert!(!other.exists());
}
