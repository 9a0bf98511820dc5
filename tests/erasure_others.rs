//! Erasure beside others: readers in its way, other processes, writers, and whoever cuts it off.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use univrs_state::archive::Export;
use univrs_state::log::Change;
use univrs_state::pattern::Pattern;
use univrs_state::retain::{Compact, Erase, Retention, Thin};
use univrs_state::{Batch, ErrorKind, LocalStore, MemoryStore, Seq, SqliteStore, StateError, StateStore};

use crate::erasure::{check, erased};
use crate::support::audit::{log_after, log_of};
use crate::support::child::Child;
use crate::support::{Local, Seeded, Subject, frugal, seed, value};

fn of(text: &str) -> Erase {
    Erase::of(text.parse().unwrap())
}

/// A store on disk where a key had this many values and was deleted, with the file of its log.
async fn deleted(values: u64) -> (Subject, SqliteStore, PathBuf) {
    let subject = Subject::disk().await;
    let Local::Sqlite(store) = &subject.local else { panic!("a store on disk") };
    for n in 0..values {
        store.set("/gone", value(n)).await.unwrap();
    }
    store.delete("/gone").await.unwrap();
    let log = subject.path.as_ref().unwrap().with_file_name("state.db-wal");
    let store = store.clone();
    (subject, store, log)
}

fn bytes(log: &Path) -> u64 {
    log.metadata().map_or(0, |found| found.len())
}

/// A writer of an export that holds it until it is told to go on.
struct Held(mpsc::Receiver<()>);

impl io::Write for Held {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is said while somebody reads an older state: all is erased, but the log has it.
async fn check_held(store: &SqliteStore, refused: StateError, who: &str) {
    assert!(refused.kind() == ErrorKind::Storage && refused.is_retryable(), "{refused:?}");
    match refused {
        StateError::Busy(why) => {
            assert!(why.contains("erased for every reader") && why.contains("write-ahead log"), "{why}");
            assert!(why.contains(who) && why.contains("resume_erasure"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert!(log_of(store).await.iter().all(|change| &*change.key != "/gone" || change.value.is_none()));
    let past = store.at(Seq::new(1).into()).await.unwrap();
    assert!(matches!(past.get("/gone").await, Err(StateError::Erased(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_stays_keeps_the_values_in_the_log_file_and_that_is_said() {
    let (subject, store, log) = deleted(20).await;
    let (release, held) = mpsc::channel();
    let exporting = store.clone();
    let export = tokio::spawn(async move { exporting.export(Export::new(), Held(held)).await });
    while store.stats().await.unwrap().wal_readers.is_empty() {
        store.set("/other", value(1)).await.unwrap();
    }
    let refused = store.erase(of("/gone")).await.unwrap_err();
    check_held(&store, refused, "an export of this store").await;
    let refused = store.resume_erasure().await.unwrap_err();
    check_held(&store, refused, "an export of this store").await;
    assert!(bytes(&log) > 0);
    // Whoever wants to know and not to wait is told.
    store.commit(Batch::new().set("/gone", "again")).await.unwrap();
    store.delete("/gone").await.unwrap();
    let done = store.erase(of("/gone").beside_readers()).await.unwrap();
    assert_eq!((done.values, done.swept), (1, false));
    drop(release);
    export.await.unwrap().unwrap();
    let resumed = store.resume_erasure().await.unwrap().unwrap();
    assert_eq!((resumed.values, resumed.bytes, resumed.swept, bytes(&log)), (0, 0, true, 0));
    assert_eq!(store.resume_erasure().await.unwrap(), None);
    subject.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_that_reads_one_state_keeps_the_values_in_the_log_file_until_it_is_gone() {
    let (subject, store, log) = deleted(20).await;
    let mut other = Child::start();
    let process = other.ask(&format!("hold\t{}", subject.path.as_ref().unwrap().display())).unwrap();
    let refused = store.erase(of("/gone")).await.unwrap_err();
    check_held(&store, refused, &format!("process {process}")).await;
    other.kill();
    let resumed = store.resume_erasure().await.unwrap().unwrap();
    assert_eq!((resumed.values, resumed.swept, bytes(&log)), (0, true, 0));
    // From now on it is known that there is nothing to do, whoever reads what.
    let mut reader = Child::start();
    store.set("/other", value(1)).await.unwrap();
    reader.ask(&format!("hold\t{}", subject.path.as_ref().unwrap().display())).unwrap();
    store.set("/other", value(2)).await.unwrap();
    assert_eq!(store.resume_erasure().await.unwrap(), None);
    // A process that does not know it is careful.
    let mut another = Child::start();
    another.ask(&format!("open\t{}", subject.path.as_ref().unwrap().display())).unwrap();
    let told = another.ask("resume erasure").unwrap_err();
    assert!(told.starts_with("busy") && told.contains("resume_erasure"), "{told}");
    reader.kill();
    assert_eq!(another.ask("resume erasure").unwrap(), "Some(0)");
    assert_eq!(another.ask("resume erasure").unwrap(), "None");
    subject.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_shows_no_erased_value_whatever_it_had_read_before() {
    let (subject, store, log) = deleted(200).await;
    let path = subject.path.as_ref().unwrap();
    let mut others = [Child::start(), Child::start(), Child::start()];
    for other in &mut others {
        other.ask(&format!("open\t{}", path.display())).unwrap();
    }
    let [watching, reading, erasing] = &mut others;
    assert_eq!(reading.ask("values\t/gone\t7").unwrap(), "200 Ok(true)");
    watching.ask("watch the values before\t203").unwrap();
    assert_eq!(erasing.ask("erase\t/gone").unwrap(), "200");
    assert_eq!(bytes(&log), 0);
    assert_eq!(reading.ask("values\t/gone\t7").unwrap(), "0 Err(\"erased\")");
    assert!(log_of(&store).await.iter().all(|change| &*change.key != "/gone" || change.value.is_none()));
    store.set("/end", value(1)).await.unwrap();
    // It had read all of them before.
    assert_eq!(watching.answer().unwrap().unwrap(), "0 of 200");
    reading.ask("verify").unwrap();
    subject.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_that_is_dropped_anywhere_is_ended_by_whoever_resumes_it() {
    let random = Seeded::from(seed());
    for subject in [Subject::memory(), Subject::sqlite_memory().await, Subject::disk().await] {
        let (store, local) = (subject.shared(), subject.local.opened());
        for round in 0..20_u64 {
            for value in ["1", "2"] {
                let batch = (0..600).fold(Batch::new(), |batch, n| batch.set(format!("/{round}/{n}"), value));
                store.commit(batch).await.unwrap();
            }
            let before = log_of(&store).await;
            let polls = random.below(40);
            let mut erasing = Box::pin(local.erase(of("/*").leave_live()));
            for _ in 0..polls {
                tokio::select! {
                    biased;
                    ended = &mut erasing => {
                        ended.unwrap();
                        break;
                    }
                    () = tokio::task::yield_now() => {}
                }
            }
            drop(erasing);
            local.resume_erasure().await.unwrap();
            let after = log_of(&store).await;
            // Each of its commits was made or not. One that was made is done.
            let recorded = after.len() > before.len();
            let expected = if recorded { erased(&before, &"/*".parse().unwrap()) } else { before };
            assert!(after[..expected.len()] == expected, "round {round}, {polls} polls");
            local.erase(of("/*").leave_live()).await.unwrap();
        }
        subject.audit().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_whose_process_is_killed_is_ended_by_another_one() {
    let random = Seeded::from(seed());
    let subject = Subject::disk_with(frugal()).await;
    let store = subject.shared();
    let (mut cut, rounds) = (0, 5_u64);
    for round in 0..rounds {
        for _ in 0..3 {
            let batch =
                (0..1_000).fold(Batch::new(), |batch, n| batch.set(format!("/{round}/{n}"), vec![b'x'; 300]));
            store.commit(batch).await.unwrap();
        }
        let delete = (0..1_000).fold(Batch::new(), |batch, n| batch.delete(format!("/{round}/{n}")));
        store.commit(delete).await.unwrap();
        let before = log_of(&store).await;
        let mut child = Child::start();
        child.ask(&format!("open\t{}", subject.path.as_ref().unwrap().display())).unwrap();
        child.tell(&format!("erase\t/{round}/*"));
        // Mostly it is killed when it has just recorded what goes, or in the midst of its slices.
        while store.head().await.unwrap().seq.as_u64() == before.len() as u64 {
            tokio::task::yield_now().await;
        }
        for _ in 0..random.below(2_000) {
            tokio::task::yield_now().await;
        }
        child.kill();
        let left = |log: &[Change]| log.iter().filter(|change| change.value.is_some()).count();
        let found = left(&log_of(&store).await[..before.len()]);
        let expected = erased(&before, &format!("/{round}/*").parse().unwrap());
        let resumed = subject.local.opened().resume_erasure().await.unwrap();
        let values = resumed.map_or(0, |resumed| resumed.values);
        assert_eq!(values, (found - left(&expected)) as u64);
        cut += u64::from(values > 0);
        assert!(log_of(&store).await[..before.len()] == expected, "round {round}");
    }
    println!("{cut} of {rounds} erasures were cut off");
    subject.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_go_on_and_what_they_write_meanwhile_is_left() {
    for subject in [Subject::memory(), Subject::sqlite_memory().await, Subject::disk_with(frugal()).await] {
        let store = subject.shared();
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let store = store.clone();
                tokio::spawn(async move {
                    for n in 0..300_u64 {
                        let key = format!("/{writer}/{}", n % 5);
                        if n % 7 == 6 {
                            store.delete(&key).await.unwrap();
                        } else {
                            store.set(&key, value(n)).await.unwrap();
                        }
                    }
                })
            })
            .collect();
        let mut judged = Seq::ZERO;
        while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
            let done = subject.local.opened().erase(of("/*").leave_live()).await.unwrap();
            judged = done.at.seq;
        }
        for writer in writers {
            writer.await.unwrap();
        }
        let log = log_of(&store).await;
        // All that was superseded when it was last judged is gone, and nothing that was not superseded since.
        let until: Vec<Change> = log.iter().filter(|change| change.seq <= judged).cloned().collect();
        let due = erased(&until, &"/*".parse().unwrap());
        assert!(due == until, "something is left up to {judged}");
        let all = erased(&log, &"/*".parse().unwrap());
        let kept = |(change, all): &(&Change, &Change)| !change.is_erased() || all.is_erased();
        assert!(log.iter().zip(&all).all(|pair| kept(&pair)), "a live value is gone");
        subject.audit().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_and_a_compaction_that_were_both_cut_off_end_in_either_order() {
    for (erase_first, resume_first) in [(true, true), (true, false), (false, true), (false, false)] {
        for subject in [Subject::memory(), Subject::disk().await] {
            let (store, local) = (subject.shared(), subject.local.opened());
            for _ in 0..3 {
                let batch = (0..1_000).fold(Batch::new(), |batch, n| batch.set(format!("/k/{n}"), "1"));
                store.commit(batch.set("/kept/a", "1")).await.unwrap();
            }
            let (before, to) = (log_of(&store).await, Seq::new(2 * 1_001));
            // When it has looked through the log, which has one change more after the other was cut off.
            let end = before.len() as u64 + 1;
            let erase = of("/*").leave_live().progress(move |now| assert!(now.done <= end, "as planned"));
            let compact = Compact::before(to)
                .keep("/kept/*".parse().unwrap())
                .force()
                .progress(move |now| assert!(now.done <= to.as_u64(), "as planned"));
            for erases in [erase_first, !erase_first] {
                let cut = if erases {
                    local.erase(erase.clone()).await.map(drop)
                } else {
                    local.compact(compact.clone()).await.map(drop)
                };
                assert!(matches!(cut, Err(StateError::Panicked(_))), "{cut:?}");
            }
            let subject = if subject.path.is_some() { subject.reopened().await } else { subject };
            let local = subject.local.opened();
            for resumes in [resume_first, !resume_first] {
                if resumes {
                    local.resume_erasure().await.unwrap();
                } else {
                    assert!(local.resume_compaction().await.unwrap().is_some());
                }
            }
            let mut left = erased(&before, &"/*".parse().unwrap());
            left.extend(log_after(&subject.shared(), Seq::new(before.len() as u64)).await);
            check(&subject.local, &left).await;
            assert_eq!(local.floor().await.unwrap().seq, to);
            let kept = subject.shared().history("/kept/a", None, 9).await.unwrap();
            assert_eq!(kept.iter().map(Change::is_erased).collect::<Vec<_>>(), [false, true, true]);
            subject.audit().await;
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Sets or deletes keys in one commit.
    Write(Vec<(usize, bool)>),
    Erase {
        keys: usize,
        leave_live: bool,
    },
    /// Thins and compacts to the end of a commit, so many commits before the last one.
    Thin {
        back: usize,
        keep: u64,
    },
    Compact {
        back: usize,
        forget: bool,
    },
}

const KEYS: [&str; 5] = ["/a", "/b", "/kept/c", "/kept/d", "/e"];
const PATTERNS: [&str; 5] = ["/*", "/kept/*", "/a", "/**", "/*/c"];

fn step() -> impl Strategy<Value = Step> {
    let write = (0..KEYS.len(), prop::bool::weighted(0.6));
    prop_oneof![
        6 => prop::collection::vec(write, 1..5).prop_map(Step::Write),
        3 => (0..PATTERNS.len(), any::<bool>()).prop_map(|(keys, leave_live)| Step::Erase { keys, leave_live }),
        1 => (0..6_usize, 0..4_u64).prop_map(|(back, keep)| Step::Thin { back, keep }),
        1 => (2..8_usize, any::<bool>()).prop_map(|(back, forget)| Step::Compact { back, forget }),
    ]
}

/// Runs the steps on a store, and checks everything after each but a write.
async fn run(local: &Local, steps: &[Step]) {
    let (store, mut log): (_, Vec<Change>) = (local.shared(), Vec::new());
    for (number, step) in steps.iter().enumerate() {
        let floor = local.floor().await.unwrap().seq;
        let end = |back: usize| {
            let ends = log.iter().filter(|change| change.closes_commit() && change.seq > floor);
            ends.map(|change| change.seq).rev().nth(back)
        };
        match step {
            Step::Write(writes) => {
                let batch = writes.iter().fold(Batch::new(), |batch, (key, set)| match set {
                    true => batch.set(KEYS[*key], number.to_string()),
                    false => batch.delete(KEYS[*key]),
                });
                store.commit(batch).await.unwrap();
            }
            Step::Erase { keys, leave_live } => {
                let pattern: Pattern = PATTERNS[*keys].parse().unwrap();
                let plan = local.opened().plan_erasure(Erase::of(pattern.clone())).await.unwrap();
                let last: BTreeMap<&str, &Change> = log.iter().map(|change| (&*change.key, change)).collect();
                let live = last.values().filter(|last| pattern.matches(&last.key) && last.value.is_some());
                assert_eq!(plan.live, live.count() as u64, "keys that exist");
                let erase = Erase::of(pattern.clone());
                let erase = if *leave_live { erase.leave_live() } else { erase };
                let head = store.head().await.unwrap();
                match local.opened().erase(erase).await {
                    Err(StateError::Held(_)) if plan.live > 0 && !leave_live => {
                        assert_eq!(store.head().await.unwrap(), head);
                    }
                    done => {
                        let done = done.unwrap();
                        assert!(done.swept && (done.values, done.bytes) == (plan.values, plan.bytes));
                        assert_eq!(store.head().await.unwrap() == head, done.values == 0);
                        log = erased(&log, &pattern);
                    }
                }
            }
            Step::Thin { back, keep } => {
                let Some(at) = end(*back) else { continue };
                let thin = Thin::at(at, "/kept/*".parse().unwrap()).keep(*keep);
                local.opened().thin(thin).await.unwrap();
                // What it drops, its own tests say.
                let after = log_after(&store, floor).await;
                for change in &mut log {
                    let now = after.iter().find(|now| now.seq == change.seq);
                    if now.is_some_and(Change::is_erased) {
                        (change.value, change.salt) = (None, None);
                    }
                }
                for key in ["/kept/c", "/kept/d"] {
                    let base = store.history(key, Some(floor.next()), 1_000).await.unwrap_or_default();
                    for change in log.iter_mut().filter(|change| &*change.key == key) {
                        if base.iter().any(|now| now.seq == change.seq && now.is_erased()) {
                            (change.value, change.salt) = (None, None);
                        }
                    }
                }
            }
            Step::Compact { back, forget } => {
                let Some(to) = end(*back) else { continue };
                let compact = Compact::before(to).keep("/kept/*".parse().unwrap()).force();
                local.compact(if *forget { compact.forget() } else { compact }).await.unwrap();
            }
        }
        let head = log.last().map_or(floor, |change| change.seq).max(local.floor().await.unwrap().seq);
        log.extend(log_after(&store, head).await);
        if !matches!(step, Step::Write(_)) {
            check(local, &log).await;
        }
    }
    check(local, &log).await;
    assert_eq!(local.opened().resume_erasure().await.unwrap().map_or(0, |done| done.values), 0);
}

#[test]
fn random_histories_are_erased_as_a_plain_model_says_on_every_backend() {
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
            let imported = MemoryStore::import(io::Cursor::new(exports[0].clone())).unwrap();
            let again = Local::Memory(imported).export(Export::new()).await.unwrap();
            assert!(again == exports[0], "an import is another store");
        });
        Ok(())
    });
    tried.unwrap();
}
