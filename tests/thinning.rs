//! Thinning: values that were superseded at a point are gone, and everything else is as it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use univrs_state::archive::Export;
use univrs_state::log::Change;
use univrs_state::pattern::Pattern;
use univrs_state::retain::{Compact, Retention, Thin};
use univrs_state::verify::NotProvable;
use univrs_state::{Batch, LocalStore, Meta, Seq, StateError, StateStore, WithMeta};

use crate::support::audit::{log_after, log_of};
use crate::support::{Local, Store, Subject, frugal, on_every_backend};

fn pattern(text: &str) -> Pattern {
    text.parse().unwrap()
}

/// The log as a thinning leaves it: a value goes if a later change up to the point is of the same key, but for the newest
/// versions.
fn thinned(log: &[Change], at: Seq, pattern: &Pattern, keep: usize) -> Vec<Change> {
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    let mut left = log.to_vec();
    for (place, change) in log.iter().enumerate().rev().filter(|(_, change)| change.seq <= at) {
        let newer = versions.entry(&change.key).or_default();
        if *newer > 0
            && *newer >= keep
            && pattern.matches(&change.key)
            && !change.key.starts_with("/.univrs/")
        {
            (left[place].value, left[place].salt) = (None, None);
        }
        *newer += 1;
    }
    left
}

/// Checks that the store has this log after its floor, and every state that the log has.
async fn check(local: &Local, log: &[Change]) {
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
            match (&last.value, last.is_erased()) {
                (None, true) => {
                    assert!(matches!(found, Err(StateError::Erased(_))), "{key} at {}", change.seq);
                }
                (value, _) => {
                    let found = found.unwrap().map(|entry| entry.value);
                    assert_eq!(found.as_deref(), value.as_deref(), "{key} at {}", change.seq);
                }
            }
        }
    }
}

async fn values_that_were_superseded_are_gone_and_all_else_stays<S: Store>(store: S, subject: &Subject) {
    for round in 0..4 {
        for key in ["/a", "/b", "/other/c"] {
            store.set(key, format!("{key}{round}").into_bytes()).await.unwrap();
        }
    }
    store.delete("/b").await.unwrap();
    store.commit(Batch::new().set("/b", "again").set("/a", "on")).await.unwrap();
    let log = log_of(&store).await;
    let at = Seq::new(13);
    let local = subject.local.opened();
    let plan = local.plan_thinning(Thin::at(at, pattern("/*")).keep(2)).await.unwrap();
    assert_eq!(log_of(&store).await, log, "a plan changes nothing");
    let done = local.thin(Thin::at(at, pattern("/*")).keep(2)).await.unwrap();
    assert_eq!((plan.at, plan.values, plan.bytes), (done.at, done.values, done.bytes));
    assert_eq!(done.at.seq, at);
    let mut left = thinned(&log, at, &pattern("/*"), 2);
    // Two versions of each key stay: those of /a at 7 and 10, of /other/c at 9 and 12, of /b at 11, before its deletion.
    let gone: Vec<u64> = left.iter().filter(|change| change.is_erased()).map(|c| c.seq.as_u64()).collect();
    assert_eq!(gone, [1, 2, 3, 4, 5, 6, 8]);
    assert_eq!((done.values, done.bytes), (7, 33));
    left.extend(log_after(&store, Seq::new(15)).await);
    check(&subject.local, &left).await;
    let report = subject.local.verify().await.unwrap();
    assert!(report.not_provable.contains(&NotProvable::Erased(7)), "{:?}", report.not_provable);
    // Nothing is left to drop, but that it was asked for stays in the log.
    let again = local.thin(Thin::at(at, pattern("/*")).keep(2)).await.unwrap();
    assert_eq!((again.values, again.bytes), (0, 0));
    assert_eq!(store.history("/.univrs/thinned/13", None, 9).await.unwrap().len(), 2);
    assert_eq!(local.resume_thinning().await.unwrap(), None);
}

async fn no_version_and_one_are_the_same_because_the_newest_stays<S: Store>(store: S, subject: &Subject) {
    for value in 0..3_u8 {
        store.set("/a", vec![value]).await.unwrap();
        store.set("/b", vec![value]).await.unwrap();
    }
    let log = log_of(&store).await;
    let at = Seq::new(6);
    let none = subject.local.opened().thin(Thin::at(at, pattern("/a")).keep(0)).await.unwrap();
    let one = subject.local.opened().thin(Thin::at(at, pattern("/b")).keep(1)).await.unwrap();
    assert_eq!((none.values, one.values), (2, 2));
    let mut left = thinned(&log, at, &pattern("/*"), 0);
    left.extend(log_after(&store, at).await);
    check(&subject.local, &left).await;
}

async fn what_cannot_be_thinned_is_refused_and_nothing_changes<S: Store>(store: S, subject: &Subject) {
    store.set("/a", b"1".to_vec()).await.unwrap();
    store.commit(Batch::new().set("/a", "2").set("/a", "3").set("/b", "1")).await.unwrap();
    store.set("/a", b"4".to_vec()).await.unwrap();
    subject.local.compact(Compact::before(Seq::new(1)).force()).await.unwrap();
    let local = subject.local.opened();
    let (head, log) = (store.head().await.unwrap(), log_after(&store, Seq::new(1)).await);
    let refused = |at: u64, keys: &str| {
        let (local, thin) = (local.clone(), Thin::at(Seq::new(at), pattern(keys)));
        async move { local.thin(thin).await.unwrap_err() }
    };
    let (requested, before, last) = (Seq::new(3), Seq::new(1), Seq::new(4));
    assert_eq!(refused(3, "/a").await, StateError::InsideCommit { requested, before, last });
    assert!(matches!(refused(99, "/a").await, StateError::CursorDiverged(_)));
    assert!(matches!(refused(0, "/a").await, StateError::Compacted { .. }));
    for keys in ["/.univrs/*", "/.univrs/thinned/4", "/.univrs/**/x"] {
        match refused(4, keys).await {
            StateError::InvalidArgument(why) => assert!(why.contains(keys), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    let consumer = local.consumer("indexer").pattern("/*").start(Seq::new(1)).open().await.unwrap();
    let opened = store.head().await.unwrap();
    match refused(5, "/a").await {
        StateError::Held(why) => assert!(why.contains("indexer") && why.contains("thinned up to 5"), "{why}"),
        other => panic!("{other:?}"),
    }
    let plan = local.plan_thinning(Thin::at(Seq::new(5), pattern("/a"))).await.unwrap();
    assert_eq!((plan.values, plan.consumers.len(), plan.consumers[0].holds), (3, 1, true));
    assert_eq!(store.head().await.unwrap(), opened, "nothing was recorded");
    assert_eq!(log_after(&store, Seq::new(1)).await[..log.len()], log, "nothing was dropped");
    assert!(opened.seq > head.seq);
    let forced = local.thin(Thin::at(Seq::new(5), pattern("/a")).force()).await.unwrap();
    assert_eq!(forced.values, 3);
    let record = store.get("/.univrs/thinned/5").await.unwrap().unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record.value).unwrap();
    assert_eq!(record["lost"], serde_json::json!(["indexer"]));
    drop(consumer);
}

async fn who_why_and_what_was_thinned_stays_in_the_log<S: Store>(store: S, subject: &Subject) {
    store.set("/a", b"1".to_vec()).await.unwrap();
    store.set("/a", b"2".to_vec()).await.unwrap();
    let meta = Meta::new().actor("operator").reason("a month is enough");
    let thin = Thin::at(Seq::new(2), pattern("/a")).keep(1);
    let stamped = WithMeta::new(subject.local.opened(), meta.clone());
    let done = stamped.thin(thin).await.unwrap();
    let recorded = store.history("/.univrs/thinned/2", None, 9).await.unwrap();
    let said = recorded[0].meta.as_deref().unwrap();
    assert_eq!((said.cause(), &said.actor, &said.reason), (Some("thinned"), &meta.actor, &meta.reason));
    let record: serde_json::Value = serde_json::from_slice(recorded[0].value.as_deref().unwrap()).unwrap();
    let hash = done.at.hash.to_string();
    assert_eq!(record, serde_json::json!({"v": 1, "seq": 2, "hash": hash, "pattern": "/a", "keep": 1}));
    assert!(matches!(store.set("/.univrs/thinned/2", b"{}".to_vec()).await, Err(StateError::InvalidKey(_))));
}

async fn a_thinning_that_was_cut_off_goes_on_where_it_was<S: Store>(store: S, subject: &Subject) {
    for value in ["1", "2", "3"] {
        for part in 0..3 {
            let batch = (0..500).fold(Batch::new(), |batch, key| batch.set(format!("/{part}/{key}"), value));
            store.commit(batch).await.unwrap();
        }
    }
    let (log, at) = (log_of(&store).await, store.head().await.unwrap().seq);
    let local = subject.local.opened();
    let cut = Thin::at(at, pattern("/*")).progress(|_| panic!("as planned"));
    assert!(matches!(local.thin(cut).await, Err(StateError::Panicked(_))));
    let erased = |log: &[Change]| log.iter().filter(|change| change.is_erased()).count();
    let dropped = erased(&log_of(&store).await);
    assert_eq!(dropped, 500, "one slice");
    match local.thin(Thin::at(at, pattern("/0/*"))).await {
        Err(StateError::Busy(why)) => assert!(why.contains("resume_thinning"), "{why}"),
        other => panic!("{other:?}"),
    }
    // What was cut off is in the file. A log in memory has it as long as it lives.
    let local = if subject.path.is_some() { subject.reopened().await.local } else { subject.local.clone() };
    let resumed = local.opened().resume_thinning().await.unwrap().unwrap();
    assert_eq!((resumed.at.seq, resumed.values), (at, 2_500));
    assert_eq!(local.opened().resume_thinning().await.unwrap(), None);
    let left = log_of(&local.shared()).await;
    assert_eq!(left[..log.len()], thinned(&log, at, &pattern("/*"), 1));
    assert_eq!(left.len(), log.len() + 1, "it is recorded once");
}

on_every_backend!(
    a_thinning_that_was_cut_off_goes_on_where_it_was,
    values_that_were_superseded_are_gone_and_all_else_stays,
    no_version_and_one_are_the_same_because_the_newest_stays,
    what_cannot_be_thinned_is_refused_and_nothing_changes,
    who_why_and_what_was_thinned_stays_in_the_log,
);

#[derive(Debug, Clone)]
enum Step {
    /// Sets or deletes keys in one commit.
    Write(Vec<(usize, bool)>),
    /// Thins at the end of a commit, so many commits before the last one.
    Thin { back: usize, keys: usize, keep: usize },
    /// Compacts to the end of a commit, so many commits before the last one, and keeps the history of some keys.
    Compact { back: usize },
}

const KEYS: [&str; 5] = ["/a", "/b", "/kept/c", "/kept/d", "/e"];
const PATTERNS: [&str; 4] = ["/*", "/kept/*", "/a", "/**"];

fn step() -> impl Strategy<Value = Step> {
    let write = (0..KEYS.len(), prop::bool::weighted(0.7));
    prop_oneof![
        6 => prop::collection::vec(write, 1..5).prop_map(Step::Write),
        2 => (0..6_usize, 0..PATTERNS.len(), 0..4_usize)
            .prop_map(|(back, keys, keep)| Step::Thin { back, keys, keep }),
        1 => (2..8_usize).prop_map(|back| Step::Compact { back }),
    ]
}

/// Runs the steps on a store, and checks everything after each thinning.
async fn run(local: &Local, steps: &[Step]) {
    let (store, mut log) = (local.shared(), Vec::new());
    for (number, step) in steps.iter().enumerate() {
        let end = |log: &[Change], floor: Seq, back: usize| {
            let ends = log.iter().filter(|change| change.closes_commit() && change.seq > floor);
            ends.map(|change| change.seq).rev().nth(back)
        };
        let floor = local.floor().await.unwrap().seq;
        match step {
            Step::Write(writes) => {
                let batch = writes.iter().fold(Batch::new(), |batch, (key, set)| match set {
                    true => batch.set(KEYS[*key], number.to_string()),
                    false => batch.delete(KEYS[*key]),
                });
                store.commit(batch).await.unwrap();
            }
            Step::Thin { back, keys, keep } => {
                let Some(at) = end(&log, floor, *back) else { continue };
                let keys = pattern(PATTERNS[*keys]);
                let thin = Thin::at(at, keys.clone()).keep(*keep as u64);
                local.opened().thin(thin).await.unwrap();
                log = thinned(&log, at, &keys, *keep);
            }
            Step::Compact { back } => {
                let Some(to) = end(&log, floor, *back) else { continue };
                local.compact(Compact::before(to).keep(pattern("/kept/*")).force()).await.unwrap();
            }
        }
        let head = log.last().map_or(floor, |change| change.seq).max(local.floor().await.unwrap().seq);
        log.extend(log_after(&store, head).await);
        if !matches!(step, Step::Write(_)) {
            check(local, &log).await;
        }
    }
    check(local, &log).await;
    for key in ["/kept/c", "/kept/d"] {
        let expected: Vec<Change> = log.iter().rev().filter(|change| &*change.key == key).cloned().collect();
        assert_eq!(store.history(key, None, 10_000).await.unwrap(), expected, "the history of {key}");
    }
}

#[test]
fn random_histories_are_thinned_as_a_plain_model_says_on_every_backend() {
    let cases = if std::env::var_os("UNIVRS_LONG").is_some() { 2_000 } else { 20 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases, ..Config::default() });
    let steps = prop::collection::vec(step(), 1..25);
    let tried = runner.run(&steps, |steps| {
        runtime.block_on(async {
            let mut exports: Vec<Vec<u8>> = Vec::new();
            for subject in
                [Subject::memory(), Subject::sqlite_memory().await, Subject::disk_with(frugal()).await]
            {
                run(&subject.local, &steps).await;
                subject.audit().await;
                exports.push(subject.local.export(Export::new()).await.unwrap());
            }
            assert!(exports.iter().all(|export| *export == exports[0]), "backends export other bytes");
        });
        Ok(())
    });
    tried.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thinned_file_gets_smaller_and_its_reopened_store_goes_on() {
    let subject = Subject::disk().await;
    let store = subject.shared();
    for round in 0..40_u8 {
        let batch = (0..50).fold(Batch::new(), |batch, key| batch.set(format!("/{key}"), vec![round; 500]));
        store.commit(batch).await.unwrap();
    }
    let head = store.head().await.unwrap().seq;
    let folder = &subject;
    let subject = folder.reopened().await;
    let file_bytes = || std::fs::metadata(folder.path.as_deref().unwrap()).unwrap().len();
    let before = file_bytes();
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = told.clone();
    let thin =
        Thin::at(head, pattern("/*")).progress(move |now| kept.lock().unwrap().push((now.done, now.total)));
    let done = subject.local.opened().thin(thin).await.unwrap();
    assert_eq!((done.values, done.bytes), (39 * 50, 39 * 50 * 500));
    assert_eq!(told.lock().unwrap().last(), Some(&(head.as_u64(), head.as_u64())));
    let again = subject.reopened().await;
    let after = file_bytes();
    assert!(after * 2 < before, "{before} bytes became {after}");
    again.shared().set("/0", b"on".to_vec()).await.unwrap();
    again.audit().await;
}
