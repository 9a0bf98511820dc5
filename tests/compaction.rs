//! Compaction: what lies before the floor is gone, and everything at or after it is as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use univrs_state::archive::{Archive, Export};
use univrs_state::history::{DeletedKey, Point};
use univrs_state::log::{Anchor, Change, ChangeKind, Timestamp};
use univrs_state::pattern::Pattern;
use univrs_state::retain::{Compact, Retention};
use univrs_state::verify::{NotProvable, Proved, Verify};
use univrs_state::{
    Batch, Entry, Limits, LocalStore, MemoryStore, Meta, Scan, Seq, SqliteStore, StateError, StateStore,
};

use crate::support::audit::log_after;
use crate::support::{Local, Store, Subject, audit::audit, folder, frugal, on_every_backend};

/// A request that takes a floor of any age.
fn before(seq: Seq) -> Compact {
    Compact::before(seq).force()
}

fn pattern(text: &str) -> Pattern {
    text.parse().unwrap()
}

/// The state after a position, as the fold of a whole log.
fn state(log: &[Change], at: Seq) -> BTreeMap<Arc<str>, Change> {
    let mut state = BTreeMap::new();
    for change in log.iter().filter(|change| change.seq <= at) {
        state.insert(change.key.clone(), change.clone());
    }
    state
}

/// The entries of a state, reserved keys included.
fn entries(state: &BTreeMap<Arc<str>, Change>) -> Vec<(String, Vec<u8>, u64, Seq)> {
    let live = state.values().filter(|change| change.kind != ChangeKind::Deleted);
    live.map(|c| (c.key.to_string(), c.value.as_deref().unwrap().to_vec(), c.version, c.seq)).collect()
}

fn shown(entries: Vec<Entry>) -> Vec<(String, Vec<u8>, u64, Seq)> {
    entries.into_iter().map(|e| (e.key, e.value, e.version, e.seq)).collect()
}

/// All entries at a point, reserved keys included.
async fn entries_at(store: &impl StateStore, at: Seq) -> Vec<(String, Vec<u8>, u64, Seq)> {
    let past = store.at(at.into()).await.unwrap();
    let mut found = Vec::new();
    for prefix in ["", "/.univrs/"] {
        let mut next = Some(Scan::prefix(prefix));
        while let Some(scan) = next {
            let page = past.scan(scan).await.unwrap();
            found.extend(shown(page.entries));
            next = page.next;
        }
    }
    found.sort();
    found
}

fn is_compacted<T: std::fmt::Debug>(read: Result<T, StateError>, floor: Seq) {
    match read {
        Err(StateError::Compacted { oldest, .. }) => assert_eq!(oldest, floor),
        other => panic!("{other:?} instead of Compacted"),
    }
}

/// A whole log, and which of its changes are left.
#[derive(Clone)]
struct Model {
    whole: Vec<Change>,
    left: BTreeSet<Seq>,
    floor: Seq,
}

fn matches(patterns: &[Pattern], key: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(key))
}

impl Model {
    fn of(whole: Vec<Change>) -> Self {
        let mut model = Self { whole: Vec::new(), left: BTreeSet::new(), floor: Seq::ZERO };
        model.extend(whole);
        model
    }

    fn extend(&mut self, changes: Vec<Change>) {
        self.left.extend(changes.iter().map(|change| change.seq));
        self.whole.extend(changes);
    }

    fn head(&self) -> Seq {
        self.whole.last().map_or(Seq::ZERO, |change| change.seq)
    }

    /// Drops what is superseded at a floor, and deletions before it that nothing goes on from.
    fn compact(&mut self, floor: Seq, keep: &[Pattern], forget: bool) {
        let replaced = |by: Seq| -> BTreeSet<Seq> {
            let by = self.whole.iter().filter(|change| change.seq <= by && self.left.contains(&change.seq));
            by.map(|change| change.prev).collect()
        };
        let (at_floor, ever) = (replaced(floor), replaced(Seq::MAX));
        for change in self.whole.iter().filter(|change| change.seq <= floor && !matches(keep, &change.key)) {
            let last = forget
                && change.seq < floor
                && change.kind == ChangeKind::Deleted
                && !ever.contains(&change.seq);
            if at_floor.contains(&change.seq) || last {
                self.left.remove(&change.seq);
            }
        }
        self.floor = floor;
    }

    fn change(&self, seq: Seq) -> &Change {
        &self.whole[usize::try_from(seq.as_u64()).unwrap() - 1]
    }

    /// The history of a key, newest first, and whether it goes on with what is gone.
    fn history(&self, key: &str) -> (Vec<Change>, bool) {
        let mut next =
            self.whole.iter().rfind(|change| &*change.key == key).map_or(Seq::ZERO, |change| change.seq);
        let mut history = Vec::new();
        while self.left.contains(&next) {
            history.push(self.change(next).clone());
            next = self.change(next).prev;
        }
        (history, next > Seq::ZERO)
    }
}

/// Checks everything that compactions promise, against the whole log as it was recorded.
async fn check(local: &Local, model: &Model) {
    let (store, floor, whole) = (local.shared(), model.floor, &model.whole);
    let report = local.verify().await.unwrap();
    assert!(report.is_intact(), "{:?}", report.findings);
    assert_eq!(local.floor().await.unwrap().seq, floor);
    assert_eq!(log_after(&store, floor).await, whole[usize::try_from(floor.as_u64()).unwrap()..]);
    for end in whole.iter().filter(|change| change.closes_commit()).map(|change| change.seq) {
        if end < floor {
            is_compacted(store.at(end.into()).await.map(drop), floor);
            is_compacted(store.changes(end, 1).await.map(drop), floor);
        } else {
            assert_eq!(entries_at(&store, end).await, entries(&state(whole, end)), "at {end}");
        }
    }
    let keys: BTreeSet<&str> = whole.iter().map(|change| &*change.key).collect();
    for key in keys {
        let versions = whole.iter().filter(|change| &*change.key == key).map(|change| change.version);
        assert!(versions.is_sorted_by(|one, next| one < next), "a version of {key} comes twice");
        let (expected, is_cut) = model.history(key);
        assert_eq!(store.history(key, None, 10_000).await.unwrap(), expected, "the history of {key}");
        let Some(first) = expected.last() else { continue };
        let earlier = store.history(key, Some(first.seq), 10).await;
        if is_cut {
            is_compacted(earlier, floor);
        } else {
            assert_eq!(earlier.unwrap(), Vec::new());
        }
    }
}

async fn compaction_drops_what_was_superseded_at_the_floor_and_nothing_else<S: Store>(
    store: S,
    subject: &Subject,
) {
    for round in 0..3 {
        for key in ["/a", "/b", "/kept/c"] {
            store.set(key, format!("{key}{round}").into_bytes()).await.unwrap();
        }
        store.delete("/b").await.unwrap();
    }
    store.commit(Batch::new().set("/d", "1").set("/d", "2").delete("/a")).await.unwrap();
    let whole = log_after(&store, Seq::ZERO).await;
    let floor = Seq::new(10);
    let kept = [pattern("/kept/*")];
    let compact = before(floor).keep(kept[0].clone());
    let compacted = subject.local.compact(compact).await.unwrap();
    assert_eq!(compacted.floor.seq, floor);
    // Of the first ten changes, those of /a at 9, of /kept/c at 3 and 7, of /b at 10 are left... each superseded one is gone.
    let left: Vec<u64> = vec![3, 7, 9, 10];
    assert_eq!((compacted.left, compacted.dropped), (left.len() as u64, 10 - left.len() as u64));
    let mut model = Model::of(whole);
    model.compact(floor, &kept, false);
    model.extend(log_after(&store, Seq::new(15)).await);
    check(&subject.local, &model).await;
    let report = subject.local.verify().await.unwrap();
    assert!(report.proved.contains(&Proved::Base { floor, changes: 4 }), "{:?}", report.proved);
    assert!(report.not_provable.contains(&NotProvable::BelowFloor(floor)));
}

on_every_backend!(compaction_drops_what_was_superseded_at_the_floor_and_nothing_else);

/// The whole log as an export.
async fn exported(local: &Local) -> Vec<u8> {
    local.export(Export::new()).await.unwrap()
}

/// Imports an export into both backends: they verify, and export the same bytes again. An archive of it answers alike.
async fn imported(export: &[u8]) {
    let folder = folder();
    let (file, database) = (folder.path().join("export.log"), folder.path().join("state.db"));
    std::fs::write(&file, export).unwrap();
    let on_disk = SqliteStore::import(std::fs::File::open(&file).unwrap(), &database).await.unwrap();
    let in_memory = MemoryStore::import(export).unwrap();
    let archive = Archive::open(&file).await.unwrap();
    assert!(archive.verify().await.unwrap().is_intact());
    for local in [Local::Sqlite(on_disk), Local::Memory(in_memory)] {
        audit(&local).await;
        assert!(exported(&local).await == export, "it exports other bytes than it was made of");
        let (store, floor) = (local.shared(), local.floor().await.unwrap());
        assert_eq!(archive.floor(), floor);
        assert_eq!(all(&archive).await, all(&store).await);
        store.set("/after", b"1".to_vec()).await.unwrap();
        audit(&local).await;
    }
}

/// All entries now, and all keys that were deleted.
async fn all(store: &impl StateStore) -> (Vec<Entry>, Vec<DeletedKey>) {
    (crate::support::audit::entries(store, "").await, store.list_deleted("").await.unwrap())
}

#[derive(Debug, Clone)]
enum Step {
    /// Sets or deletes keys in one commit.
    Write(Vec<(usize, bool)>),
    /// Compacts to the end of a commit, so many commits before the last one.
    Compact { back: usize, keep: bool, forget: bool },
}

const KEYS: [&str; 6] = ["/a", "/b", "/c/d", "/kept/e", "/kept/f", "/g"];

fn step() -> impl Strategy<Value = Step> {
    let write = (0..KEYS.len(), prop::bool::weighted(0.6));
    prop_oneof![
        5 => prop::collection::vec(write, 1..5).prop_map(Step::Write),
        1 => (0..6_usize, any::<bool>(), any::<bool>())
            .prop_map(|(back, keep, forget)| Step::Compact { back, keep, forget }),
    ]
}

/// Runs the steps on a store, and checks everything after each compaction.
async fn run(local: &Local, steps: &[Step]) {
    let (store, kept) = (local.shared(), [pattern("/kept/*")]);
    let mut model = Model::of(Vec::new());
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Write(writes) => {
                let batch = Batch::new().commit_id(format!("id {}", number % 7));
                let batch = writes.iter().fold(batch, |batch, (key, set)| match set {
                    true => batch.set(KEYS[*key], number.to_string()),
                    false => batch.delete(KEYS[*key]),
                });
                match store.commit(batch).await {
                    Ok(_) | Err(StateError::CommitIdReused(_)) => {}
                    Err(error) => panic!("{error}"),
                }
                model.extend(log_after(&store, model.head()).await);
            }
            Step::Compact { back, keep, forget } => {
                let ends = model.whole.iter().filter(|c| c.closes_commit() && c.seq > model.floor);
                let Some(to) = ends.map(|change| change.seq).rev().nth(*back) else { continue };
                let keep = if *keep { &kept[..] } else { &[] };
                let compact = keep.iter().fold(before(to), |compact, pattern| compact.keep(pattern.clone()));
                let compact = if *forget { compact.forget() } else { compact };
                let plan = local.plan_compaction(compact.clone()).await.unwrap();
                let compacted = local.compact(compact).await.unwrap();
                assert_eq!((plan.dropped, plan.left), (compacted.dropped, compacted.left));
                assert_eq!(plan.floor, compacted.floor);
                let before = model.clone();
                model.compact(to, keep, *forget);
                let gone = before.left.difference(&model.left);
                let last = gone.filter(|seq| !model.whole.iter().any(|change| change.prev == **seq));
                assert_eq!(plan.forgotten, last.count() as u64);
                model.extend(log_after(&store, model.head()).await);
                assert_eq!(compacted.left, model.left.range(..=to).count() as u64);
                check(local, &model).await;
            }
        }
    }
    check(local, &model).await;
}

#[test]
fn random_histories_are_compacted_as_a_plain_model_says_on_every_backend() {
    let cases = if std::env::var_os("UNIVRS_LONG").is_some() { 2_000 } else { 60 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases, ..Config::default() });
    let steps = prop::collection::vec(step(), 1..40);
    let tried = runner.run(&steps, |steps| {
        runtime.block_on(async {
            let mut exports = Vec::new();
            for subject in
                [Subject::memory(), Subject::sqlite_memory().await, Subject::disk_with(frugal()).await]
            {
                run(&subject.local, &steps).await;
                subject.audit().await;
                exports.push(exported(&subject.local).await);
            }
            assert!(exports.iter().all(|export| *export == exports[0]), "backends export other bytes");
            imported(&exports[0]).await;
        });
        Ok(())
    });
    tried.unwrap();
}

async fn a_floor_that_cannot_be_one_is_refused_and_nothing_changes<S: Store>(store: S, subject: &Subject) {
    store.set("/a", b"1".to_vec()).await.unwrap();
    store.commit(Batch::new().set("/b", "1").set("/b", "2").set("/c", "1")).await.unwrap();
    store.set("/a", b"2".to_vec()).await.unwrap();
    subject.local.compact(before(Seq::new(1))).await.unwrap();
    let head = store.head().await.unwrap();
    let refused = |compact: Compact| async { subject.local.compact(compact).await.unwrap_err() };
    let invalid = |error: StateError, what: &str| match error {
        StateError::InvalidArgument(why) => assert!(why.contains(what), "{why}"),
        other => panic!("{other:?} instead of a refusal that names {what:?}"),
    };
    is_compacted(Err::<(), _>(refused(before(Seq::ZERO)).await), Seq::new(1));
    invalid(refused(before(Seq::new(1))).await, "begins after 1 already");
    let (requested, before_it, last) = (Seq::new(3), Seq::new(1), Seq::new(4));
    assert_eq!(
        refused(before(requested)).await,
        StateError::InsideCommit { requested, before: before_it, last }
    );
    assert!(matches!(refused(before(Seq::new(9))).await, StateError::CursorDiverged(_)));
    invalid(refused(Compact::before(Seq::new(4))).await, "younger than 10 minutes");
    for floor in [Seq::ZERO, Seq::new(1), requested, Seq::new(9)] {
        let planned = subject.local.plan_compaction(before(floor)).await;
        assert_eq!(planned.unwrap_err(), refused(before(floor)).await, "a plan is refused alike");
    }
    assert_eq!(store.head().await.unwrap(), head, "nothing was recorded");
    assert_eq!(subject.local.floor().await.unwrap().seq, Seq::new(1));
}

async fn a_plan_names_who_is_in_the_way_and_changes_nothing<S: Store>(store: S, subject: &Subject) {
    let reason = Meta::new().reason("x".repeat(100));
    store.commit(Batch::new().set("/a", "1").meta(reason)).await.unwrap();
    for value in ["2", "3"] {
        store.set("/a", value.into()).await.unwrap();
    }
    let local = subject.local.opened();
    for (name, start) in [("behind", 1), ("there", 2)] {
        local.consumer(name).pattern("/a").start(Seq::new(start)).open().await.unwrap();
    }
    local.mark("before", Seq::new(1).into()).await.unwrap();
    local.mark("there", Seq::new(2).into()).await.unwrap();
    let (log, floor) = (log_after(&store, Seq::ZERO).await, Seq::new(2));
    for compact in [before(floor), before(floor).spare_marks()] {
        let plan = local.plan_compaction(compact).await.unwrap();
        let [consumer] = &plan.consumers[..] else { panic!("{:?}", plan.consumers) };
        assert_eq!((&*consumer.name, consumer.cursor.seq(), consumer.holds), ("behind", Seq::new(1), true));
        let [mark] = &plan.marks[..] else { panic!("{:?}", plan.marks) };
        assert_eq!((&*mark.name, mark.head.seq), ("before", Seq::new(1)));
        assert_eq!((plan.before.seq, plan.floor.seq, plan.dropped, plan.left), (Seq::ZERO, floor, 1, 1));
        assert!((104..120).contains(&plan.dropped_bytes), "key, value and metadata: {}", plan.dropped_bytes);
        assert_eq!(plan.left_bytes, 3);
    }
    let young = local.plan_compaction(Compact::before(floor)).await.unwrap_err();
    assert!(matches!(&young, StateError::InvalidArgument(why) if why.contains("younger than 10 minutes")));
    assert_eq!(log_after(&store, Seq::ZERO).await, log, "nothing was recorded");
    assert_eq!(local.floor().await.unwrap().seq, Seq::ZERO);
    let held = local.compact(before(Seq::new(1))).await;
    assert!(held.is_ok(), "neither the consumer nor the mark at the floor is in the way: {held:?}");
}

async fn who_why_and_when_a_log_was_compacted_stays_in_it<S: Store>(store: S, subject: &Subject) {
    store.set("/a", b"1".to_vec()).await.unwrap();
    store.set("/a", b"2".to_vec()).await.unwrap();
    let meta = Meta::new().actor("operator").reason("a year is enough");
    let compacted = match subject.local.clone() {
        Local::Memory(store) => store.with_meta(meta.clone()).compact(before(Seq::new(2))).await,
        Local::Sqlite(store) => store.with_meta(meta.clone()).compact(before(Seq::new(2))).await,
    };
    let compacted = compacted.unwrap();
    let history = store.history("/.univrs/compaction", None, 9).await.unwrap();
    let causes: Vec<_> =
        history.iter().map(|change| change.meta.as_deref().unwrap().cause().unwrap()).collect();
    assert_eq!(causes, ["compacted", "compacting"]);
    for change in &history {
        let said = change.meta.as_deref().unwrap();
        assert_eq!((&said.actor, &said.reason), (&meta.actor, &meta.reason));
    }
    let record: serde_json::Value = serde_json::from_slice(history[0].value.as_deref().unwrap()).unwrap();
    assert_eq!(record["digest"], compacted.digest.to_string());
    assert_eq!((&record["floor"], &record["count"]), (&2.into(), &1.into()));
    let forged = store.set("/.univrs/compaction", b"{}".to_vec()).await;
    assert!(matches!(forged, Err(StateError::InvalidKey(_))));
}

async fn a_record_of_a_compaction_that_can_begin_can_also_end<S: Store>(store: S, subject: &Subject) {
    for n in 0..3 {
        store.set("/a", vec![n]).await.unwrap();
    }
    // The record that ends a compaction is longer by the digest.
    let keeping = |bytes: usize| {
        let patterns = (0..bytes / 1_003).map(|n| pattern(&format!("/{n:0>999}")));
        let last = pattern(&format!("/{}", "x".repeat(bytes % 1_003)));
        patterns.chain([last]).fold(before(Seq::new(2)), Compact::keep)
    };
    let too_long = subject.local.compact(keeping(1 << 20)).await;
    assert!(
        matches!(&too_long, Err(StateError::LimitExceeded(why)) if why.what.contains("/.univrs/compaction")),
        "{too_long:?}"
    );
    assert_eq!(subject.local.floor().await.unwrap().seq, Seq::ZERO);
    let most = (0..400).step_by(20).map(|less| (1 << 20) - less);
    let mut ended = false;
    for bytes in most {
        match subject.local.compact(keeping(bytes)).await {
            Err(StateError::LimitExceeded(_)) => {
                assert_eq!(subject.local.floor().await.unwrap().seq, Seq::ZERO, "it has not begun");
            }
            compacted => {
                compacted.unwrap();
                ended = true;
                break;
            }
        }
    }
    assert!(ended, "the premise: one of them fits");
}

#[tokio::test]
async fn the_limits_of_a_program_are_not_in_the_way_of_a_compaction() {
    let mut limits = Limits::default();
    (limits.value_bytes, limits.batch_bytes, limits.page_entries) = (16, 200, 2);
    let store = MemoryStore::new();
    for name in ["one", "two", "three"] {
        store.consumer(name).pattern("/*").open().await.unwrap();
    }
    store.set("/a", "1".into()).await.unwrap();
    let folder = folder();
    let (file, path) = (folder.path().join("export.log"), folder.path().join("state.db"));
    store.export_to(Export::new(), &file).await.unwrap();
    let export = std::fs::File::open(&file).unwrap();
    SqliteStore::import(export, &path).await.unwrap().close().await.unwrap();
    let store = SqliteStore::options().limits(limits).open(&path).await.unwrap();
    let floor = store.head().await.unwrap().seq;
    store.compact(before(floor)).await.unwrap();
    assert!(store.verify().await.unwrap().is_intact());
}

async fn a_time_before_the_floor_is_compacted<S: Store>(store: S, subject: &Subject) {
    for n in 0..3 {
        store.set("/a", vec![n]).await.unwrap();
    }
    let history = store.history("/a", None, 3).await.unwrap();
    let times: Vec<_> = history.iter().rev().map(|change| change.at).collect();
    let floor = Seq::new(2);
    subject.local.compact(before(floor)).await.unwrap();
    is_compacted(store.at(times[0].into()).await.map(drop), floor);
    for (time, value) in [(times[1], 1), (times[2], 2)] {
        let entry = store.at(time.into()).await.unwrap().get("/a").await.unwrap().unwrap();
        assert_eq!(entry.value, [value]);
    }
}

async fn a_deletion_that_a_later_change_goes_on_from_is_not_forgotten<S: Store>(store: S, subject: &Subject) {
    store.set("/a", b"1".to_vec()).await.unwrap();
    store.delete("/a").await.unwrap();
    store.set("/b", b"1".to_vec()).await.unwrap();
    store.set("/a", b"2".to_vec()).await.unwrap();
    let whole = log_after(&store, Seq::ZERO).await;
    subject.local.compact(before(Seq::new(3)).forget()).await.unwrap();
    assert_eq!(store.history("/a", None, 9).await.unwrap(), [whole[3].clone(), whole[1].clone()]);
    let mut model = Model::of(whole);
    model.compact(Seq::new(3), &[], true);
    model.extend(log_after(&store, Seq::new(4)).await);
    check(&subject.local, &model).await;
}

async fn an_id_of_a_commit_below_the_floor_counts_as_never_used<S: Store>(store: S, subject: &Subject) {
    let batch = |value: &str| Batch::new().commit_id("once").set("/a", value);
    let first = store.commit(batch("1")).await.unwrap();
    store.set("/b", b"1".to_vec()).await.unwrap();
    subject.local.compact(before(first.last)).await.unwrap();
    let again = store.commit(batch("1")).await.unwrap();
    assert!(again.last > first.last, "it was recorded anew");
    let retried = store.commit(batch("1")).await.unwrap();
    assert_eq!(retried.last, again.last, "the new one is remembered");
}

async fn watches_go_on_over_a_compaction_or_say_that_it_took_what_they_need<S: Store>(
    store: S,
    subject: &Subject,
) {
    for n in 0..10 {
        store.set("/a", vec![n]).await.unwrap();
    }
    let mut live = store.watch("/*").unwrap();
    let at = |seq: u64| store.history("/a", Some(Seq::new(seq + 1)), 1);
    let (early, floor) = (at(3).await.unwrap()[0].head(), at(5).await.unwrap()[0].head());
    let cursor = |head| univrs_state::Cursor::new(subject.local.store_id(), head);
    let (early, from_floor) = (cursor(early), cursor(floor));
    subject.local.compact(before(Seq::new(5))).await.unwrap();
    let mut late = store.watch_after("/*", early).unwrap();
    is_compacted(late.try_next().await, Seq::new(5));
    let mut resumed = store.watch_after("/a", from_floor).unwrap();
    for seq in 6..=10 {
        let event = resumed.try_next().await.unwrap().unwrap();
        assert_eq!(event.seq, Seq::new(seq));
        assert_eq!(
            event.old_value,
            Some(vec![u8::try_from(seq).unwrap() - 2]),
            "the one before is in the base"
        );
    }
    store.set("/a", b"on".to_vec()).await.unwrap();
    let event = live.try_next().await.unwrap().unwrap();
    assert_eq!((event.seq, event.new_value), (Seq::new(13), Some(b"on".to_vec())));
}

async fn a_forgotten_key_that_is_made_anew_stands_once_and_has_a_new_version<S: Store>(
    store: S,
    subject: &Subject,
) {
    for key in ["/gone", "/again", "/lives"] {
        store.set(key, b"1".to_vec()).await.unwrap();
    }
    store.commit(Batch::new().delete("/gone").delete("/again")).await.unwrap();
    store.set("/lives", b"2".to_vec()).await.unwrap();
    let floor = store.head().await.unwrap().seq;
    subject.local.compact(before(floor).forget()).await.unwrap();
    assert!(store.list_deleted("/").await.unwrap().is_empty());
    assert!(store.history("/gone", None, 9).await.unwrap().is_empty());
    let version = store.set("/again", b"2".to_vec()).await.unwrap();
    assert_eq!(version, floor.as_u64() + 1);
    assert_eq!(store.set("/new", b"1".to_vec()).await.unwrap(), floor.as_u64() + 1);
    assert_eq!(store.set("/lives", b"3".to_vec()).await.unwrap(), 3);
    assert_eq!(store.list("/").await.unwrap(), ["/again", "/lives", "/new"]);
    store.delete("/again").await.unwrap();
    assert_eq!(store.list_deleted("/").await.unwrap().len(), 1);
    let since = |seq| store.commit(Batch::new().expect_unchanged_since("/quiet/", seq).set("/x", "1"));
    assert!(since(floor).await.is_ok());
    assert!(
        matches!(since(floor.previous()).await, Err(StateError::Rejected(_))),
        "something may be forgotten"
    );
}

async fn an_anchor_before_the_floor_is_not_provable_and_one_at_it_is<S: Store>(store: S, subject: &Subject) {
    let mut anchors = Vec::new();
    for n in 0..6 {
        store.set("/a", vec![n]).await.unwrap();
        anchors.push(Anchor::new(subject.local.store_id(), store.head().await.unwrap()));
    }
    subject.local.compact(before(Seq::new(4))).await.unwrap();
    let report = match &subject.local {
        Local::Memory(store) => store.verify_with(Verify::full().anchors(anchors)).await,
        Local::Sqlite(store) => store.verify_with(Verify::full().anchors(anchors)).await,
    };
    let report = report.unwrap();
    assert!(report.is_intact(), "{:?}", report.findings);
    assert!(report.proved.contains(&Proved::Anchors((4..=6).map(Seq::new).collect())), "{:?}", report.proved);
    let floor = Seq::new(4);
    for anchor in (1..=3).map(Seq::new) {
        assert!(report.not_provable.contains(&NotProvable::AnchorBelowFloor { anchor, floor }));
    }
}

async fn a_time_before_the_floor_is_gone_and_one_at_it_is_the_floor<S: Store>(store: S, subject: &Subject) {
    let mut times = Vec::new();
    for n in 0..6 {
        let receipt = store.commit(Batch::new().set("/a", vec![n])).await.unwrap();
        times.push(receipt.at);
    }
    subject.local.compact(before(Seq::new(4))).await.unwrap();
    for (place, time) in times.iter().enumerate() {
        match store.at(Point::Time(*time)).await {
            Ok(past) => assert_eq!(past.seq(), Seq::new(place as u64 + 1)),
            Err(error) => {
                assert!(place < 3 && matches!(error, StateError::Compacted { .. }), "{place}: {error}");
            }
        }
    }
    let between = Timestamp::from_micros(times[3].as_micros() + 1);
    assert_eq!(store.at(between.into()).await.unwrap().seq(), Seq::new(4));
}

async fn an_export_with_its_base_begins_at_any_point_and_becomes_a_store<S: Store>(
    store: S,
    subject: &Subject,
) {
    for n in 0..12 {
        store
            .commit(Batch::new().set("/a", vec![n]).set(format!("/{n}"), "1").delete(format!("/{}", n / 2)))
            .await
            .unwrap();
    }
    let whole = log_after(&store, Seq::ZERO).await;
    let ends: Vec<Seq> =
        whole.iter().filter(|change| change.closes_commit()).map(|change| change.seq).collect();
    subject.local.compact(before(ends[3])).await.unwrap();
    for end in &ends[3..] {
        let export = subject.local.export(Export::new().after(*end).with_base()).await.unwrap();
        let copy = MemoryStore::import(&export[..]).unwrap();
        assert_eq!(copy.head().await.unwrap(), store.head().await.unwrap());
        assert_eq!(entries_at(&copy, *end).await, entries(&state(&whole, *end)), "at {end}");
        assert_eq!(all(&copy).await, all(&store).await);
        let local = Local::Memory(copy);
        audit(&local).await;
        assert!(exported(&local).await == export);
        let without = subject.local.export(Export::new().after(*end)).await.unwrap();
        assert!(matches!(MemoryStore::import(&without[..]), Err(StateError::Erased(_))));
    }
}

on_every_backend!(
    an_anchor_before_the_floor_is_not_provable_and_one_at_it_is,
    a_time_before_the_floor_is_gone_and_one_at_it_is_the_floor,
    an_export_with_its_base_begins_at_any_point_and_becomes_a_store,
    a_floor_that_cannot_be_one_is_refused_and_nothing_changes,
    a_plan_names_who_is_in_the_way_and_changes_nothing,
    who_why_and_when_a_log_was_compacted_stays_in_it,
    a_record_of_a_compaction_that_can_begin_can_also_end,
    a_time_before_the_floor_is_compacted,
    a_deletion_that_a_later_change_goes_on_from_is_not_forgotten,
    an_id_of_a_commit_below_the_floor_counts_as_never_used,
    watches_go_on_over_a_compaction_or_say_that_it_took_what_they_need,
    a_forgotten_key_that_is_made_anew_stands_once_and_has_a_new_version,
);

#[tokio::test]
async fn a_head_file_from_before_the_floor_is_no_loss_and_the_file_gets_smaller() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let head_file = folder.path().join("state.db-head");
    let store = SqliteStore::open(&path).await.unwrap();
    for n in 0..200_u8 {
        store.set("/a", vec![n; 5_000]).await.unwrap();
    }
    store.close().await.unwrap();
    let (old, large) = (std::fs::read(&head_file).unwrap(), path.metadata().unwrap().len());
    let store = SqliteStore::open(&path).await.unwrap();
    for n in 0..3 {
        store.set("/b", vec![n]).await.unwrap();
    }
    store.compact(before(Seq::new(203))).await.unwrap();
    store.close().await.unwrap();
    let small = path.metadata().unwrap().len();
    assert!(small < large / 5, "{small} bytes of {large} are left");
    std::fs::write(&head_file, old).unwrap();
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.floor().await.unwrap().seq, Seq::new(203));
    audit(&Local::Sqlite(store)).await;
}
