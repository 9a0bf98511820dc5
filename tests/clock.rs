//! A clock that is wrong: a leap ahead is refused before it pins the times of all later commits, a leap back is told,
//! and so is a newest commit that is ahead of the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use univrs_state::archive::{Archive, Export};
use univrs_state::history::Point;
use univrs_state::log::Timestamp;
use univrs_state::options::{Clock, SystemClock};
use univrs_state::stats::{About, Warning};
use univrs_state::{Batch, ErrorKind, LocalStore, Meta, Options, Seq, StateError, StateStore, WithMeta};

use crate::support::forged::chain;
use crate::support::{Local, START, Subject, audit, folder, log_of, options, value};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 24 * 60 * 60 * SECOND;

/// A clock that is set, beside one that only goes on. Neither goes on by itself.
#[derive(Clone)]
struct Watched {
    now: Arc<AtomicI64>,
    up: Arc<AtomicU64>,
}

impl Watched {
    fn new() -> Self {
        Self { now: Arc::new(AtomicI64::new(START)), up: Arc::new(AtomicU64::new(1_000)) }
    }

    /// Time passes.
    fn pass(&self, micros: i64) {
        self.now.fetch_add(micros, Ordering::SeqCst);
        self.up.fetch_add(micros.unsigned_abs(), Ordering::SeqCst);
    }

    /// Somebody sets the clock, by so much.
    fn leap(&self, micros: i64) {
        self.now.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for Watched {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now.load(Ordering::SeqCst))
    }

    fn uptime(&self) -> Option<Duration> {
        Some(Duration::from_micros(self.up.load(Ordering::SeqCst)))
    }
}

fn told(warnings: &[Warning]) -> String {
    warnings.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_leap_ahead_of_over_a_day_is_refused_and_nothing_is_recorded() {
    for kind in 0..3 {
        let clock = Watched::new();
        let asked = || options().clock(clock.clone());
        let subject = match kind {
            0 => Subject::memory_with(asked()),
            1 => Subject::disk_with(asked()).await,
            _ => Subject::sqlite_memory_with(asked()).await,
        };
        let store = subject.shared();
        store.set("/a", value(1)).await.unwrap();
        clock.pass(40 * DAY); // Also while the machine is suspended.
        store.set("/a", value(2)).await.unwrap();
        clock.leap(DAY - 1);
        store.set("/a", value(3)).await.unwrap();
        let head = store.head().await.unwrap();
        clock.leap(27_000 * DAY);
        for _ in 0..2 {
            let error = store.set("/a", value(4)).await.unwrap_err();
            assert_eq!((error.kind(), error.code()), (ErrorKind::Storage, "clock_leapt"));
            assert!(!error.is_retryable(), "a program that tries again by itself would go on with that time");
            let says = error.to_string();
            for what in [
                "shows 2097-11-2",
                "should show about 2023-12-24T22:13:20",
                "set the clock right",
                "is right, accept the clock",
            ] {
                assert!(says.contains(what), "{what}: {says}");
            }
        }
        assert_eq!(store.head().await.unwrap(), head, "nothing was recorded");
        let warnings = subject.local.stats().await.unwrap().warnings;
        assert!(
            warnings.iter().any(|warning| warning.to_string().contains("the clock leapt ahead")),
            "{warnings:?}"
        );
        clock.leap(-27_000 * DAY);
        assert_eq!(store.set("/a", value(4)).await, Ok(4), "the clock was set right");
        let log = subject.audit().await;
        assert!(log.iter().all(|change| change.at.as_micros() < START + 50 * DAY));
    }
}

#[tokio::test]
async fn a_clock_that_is_right_after_a_leap_is_accepted_by_opening_the_store_again() {
    let clock = Watched::new();
    let subject = Subject::disk_with(options().clock(clock.clone())).await;
    subject.shared().set("/a", value(1)).await.unwrap();
    clock.leap(3 * DAY);
    let refused = subject.shared().set("/a", value(2)).await;
    assert!(matches!(refused, Err(StateError::ClockLeapt(_))), "{refused:?}");
    let again = subject.reopened().await;
    assert_eq!(again.shared().set("/a", value(2)).await, Ok(2));
    assert!(again.local.stats().await.unwrap().warnings.is_empty());
    let log = again.audit().await;
    assert_eq!(log[1].at.as_micros(), START + 3 * DAY);
}

#[tokio::test]
async fn a_clock_that_was_wrong_before_may_be_set_right() {
    // A machine without a battery starts in 1970.
    let clock = Watched::new();
    clock.now.store(17 * SECOND, Ordering::SeqCst);
    for subject in Subject::each_with(|| options().clock(clock.clone())).await {
        clock.now.store(17 * SECOND, Ordering::SeqCst);
        let store = subject.shared();
        store.set("/a", value(1)).await.unwrap();
        clock.now.store(START, Ordering::SeqCst);
        store.set("/a", value(2)).await.unwrap();
        clock.leap(2 * DAY);
        assert!(matches!(store.set("/a", value(3)).await, Err(StateError::ClockLeapt(_))), "it is right now");
        let log = subject.audit().await;
        assert_eq!(log[1].at.as_micros(), START);
    }
    // The log says that the clock was behind when the store was opened.
    let clock = Watched::new();
    let subject = Subject::disk_with(options().clock(clock.clone())).await;
    subject.shared().set("/a", value(1)).await.unwrap();
    clock.leap(-30 * DAY);
    let again = subject.reopened().await;
    again.shared().set("/a", value(2)).await.unwrap();
    clock.leap(90 * DAY);
    assert_eq!(again.shared().set("/a", value(3)).await, Ok(3));
    let log = again.audit().await;
    assert_eq!(log[1].at.as_micros(), START + 1);
    assert_eq!(log[2].at.as_micros(), START + 60 * DAY);
}

#[tokio::test]
async fn a_leap_back_is_told_and_so_is_a_newest_commit_that_is_ahead_of_the_clock() {
    let clock = Watched::new();
    let subject = Subject::disk_with(options().clock(clock.clone())).await;
    let store = subject.shared();
    store.set("/a", value(1)).await.unwrap();
    let stats = subject.local.stats().await.unwrap();
    assert_eq!((stats.ahead_of_clock, stats.warnings), (Duration::ZERO, Vec::new()));
    clock.leap(-100 * DAY);
    store.set("/a", value(2)).await.unwrap();
    let stats = subject.local.stats().await.unwrap();
    assert_eq!(stats.ahead_of_clock, Duration::from_micros((100 * DAY + 1).unsigned_abs()));
    let warnings = told(&stats.warnings);
    for what in [
        "time 2023-11-14T22:13:20.000001Z, 100 days ahead of the clock",
        "accept the clock",
        "the clock leapt back",
    ] {
        assert!(warnings.contains(what), "{what}: {warnings}");
    }
    let again = subject.reopened().await;
    let Local::Sqlite(sqlite) = &again.local else { panic!("a store on disk") };
    let [warning] = sqlite.warnings() else { panic!("one warning: {:?}", sqlite.warnings()) };
    assert!(warning.to_string().contains("100 days ahead of the clock"), "{warning}");
    assert_eq!((sqlite.warning(), warning.about), (Some(warning.as_ref()), About::Clock));
    again.audit().await;
}

#[tokio::test]
async fn a_clock_that_names_no_uptime_may_leap_and_is_asked_for_commits_alone() {
    for subject in Subject::each().await {
        let store = subject.shared();
        subject.local.stats().await.unwrap();
        store.set("/a", value(1)).await.unwrap();
        let stats = subject.local.stats().await.unwrap();
        assert_eq!((stats.ahead_of_clock, stats.warnings), (Duration::ZERO, Vec::new()));
        store.set("/a", value(2)).await.unwrap();
        let log = subject.audit().await;
        let times: Vec<i64> = log.iter().map(|change| change.at.as_micros()).collect();
        assert_eq!(times, [START, START + 1_000]);
    }
}

#[test]
fn the_clock_of_the_system_is_watched() {
    let (one, other) = (SystemClock.uptime().unwrap(), SystemClock.uptime().unwrap());
    assert!(Duration::ZERO < one && one <= other);
}

#[tokio::test]
async fn after_the_clock_was_accepted_later_commits_have_its_times_again() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let clock = Watched::new();
    clock.leap(27_000 * DAY);
    let wrong = Options::new().clock(clock.clone()).open(&path).await.unwrap();
    wrong.commit(Batch::new().set("/a", "1")).await.unwrap();
    wrong.close().await.unwrap();
    clock.leap(-27_000 * DAY);
    let store = Options::new().clock(clock.clone()).open(&path).await.unwrap();
    let meta = Meta::new().actor("operator").reason("it was 2097 on n7");
    let accepted = WithMeta::new(&store, meta).accept_clock().await.unwrap();
    assert_eq!((accepted.at, accepted.versions), (clock.now(), vec![1]));
    clock.pass(SECOND);
    let receipt = store.commit(Batch::new().set("/a", "2")).await.unwrap();
    assert_eq!(receipt.at, clock.now());
    let now: SystemTime = clock.now().into();
    let past = store.at(Timestamp::from(now).into()).await.unwrap();
    assert_eq!(past.get("/a").await.unwrap().unwrap().value, b"2", "what is there now is found by its time");
    assert!(store.verify().await.unwrap().is_intact());
    assert!(store.stats().await.unwrap().warnings.is_empty());
    let recorded = store.history("/.univrs/clock", None, 10).await.unwrap();
    let meta = recorded[0].meta.as_deref().unwrap();
    assert_eq!((meta.cause(), meta.actor.as_deref()), (Some("clock_accepted"), Some("operator")));
}

#[tokio::test]
async fn a_time_means_the_newest_commit_at_or_before_it_also_where_the_clock_was_accepted() {
    let clock = Watched::new();
    for subject in Subject::each_with(|| options().clock(clock.clone())).await {
        clock.now.store(START, Ordering::SeqCst);
        let store = subject.shared();
        // Times of commits in days, span by span; each span but the first begins where the clock is accepted.
        let mut commits = Vec::new();
        for days in [vec![0, 1], vec![900, 901, 902], vec![2, 3], vec![1], vec![1, 2]] {
            clock.now.store(START + days[0] * DAY, Ordering::SeqCst);
            if !commits.is_empty() {
                commits.push(subject.local.accept_clock().await.unwrap());
            }
            for day in days {
                clock.now.store(START + day * DAY, Ordering::SeqCst);
                commits
                    .push(store.commit(Batch::new().set("/a", value(1)).set("/b", value(2))).await.unwrap());
            }
        }
        let ends: Vec<_> = commits.iter().map(|commit| (commit.at.as_micros(), commit.head.seq)).collect();
        assert!(ends.iter().any(|(at, _)| *at > START + 900 * DAY) && !ends.is_sorted(), "{ends:?}");
        let whole = archive(&subject, Export::new()).await;
        let later = archive(&subject, Export::new().after(ends[3].1)).await;
        let other = archive(&subject, Export::new().only("/a".parse().unwrap())).await;
        // The commits that accept the clock are withheld there.
        let shown: Vec<_> =
            ends.iter().zip(&commits).filter(|(_, commit)| commit.versions.len() == 2).collect();
        let shown: Vec<_> = shown.into_iter().map(|(end, _)| *end).collect();
        let due =
            |time: i64, known: &[(i64, Seq)]| known.iter().rev().find(|end| end.0 <= time).map(|end| end.1);
        for time in ends.iter().flat_map(|(at, _)| [at - 1, *at, at + 1]) {
            let point = || Point::from(Timestamp::from_micros(time));
            for (found, known) in [
                (store.at(point()).await, &ends[..]),
                (whole.at(point()).await, &ends),
                (later.at(point()).await, &ends[3..]),
                (other.at(point()).await, &shown),
            ] {
                match (found, due(time, known)) {
                    (Ok(past), Some(end)) => assert_eq!(past.head().seq, end, "{time} of {known:?}"),
                    (Err(StateError::InvalidArgument(why)), None) => {
                        assert!(why.contains("that time"), "{why}");
                    }
                    (found, due) => panic!("{time} of {known:?}: {found:?} and not {due:?}"),
                }
            }
        }
        subject.audit().await;
    }
}

async fn archive(subject: &Subject, export: Export) -> Archive {
    let bytes = subject.local.export(export).await.unwrap();
    Archive::read(bytes.as_slice()).unwrap()
}

#[tokio::test]
async fn a_clock_that_leapt_and_is_right_is_accepted_without_opening_the_store_again() {
    let clock = Watched::new();
    for subject in Subject::each_with(|| options().clock(clock.clone())).await {
        let store = subject.shared();
        store.set("/a", value(1)).await.unwrap();
        clock.leap(3 * DAY);
        assert!(matches!(store.set("/a", value(2)).await, Err(StateError::ClockLeapt(_))));
        let accepted = subject.local.accept_clock().await.unwrap();
        assert_eq!(accepted.at, clock.now());
        store.set("/a", value(2)).await.unwrap();
        let last = subject.audit().await.pop().unwrap();
        assert_eq!(last.at.as_micros(), clock.now().as_micros() + 1);
        assert!(subject.local.stats().await.unwrap().warnings.is_empty());
        // It is watched as before.
        clock.leap(3 * DAY);
        assert!(matches!(store.set("/a", value(3)).await, Err(StateError::ClockLeapt(_))));
        clock.leap(-6 * DAY);
    }
}

#[tokio::test]
async fn the_clocks_key_is_written_by_accepting_the_clock_alone() {
    for subject in Subject::each().await {
        let store = subject.shared();
        for batch in [Batch::new().set("/.univrs/clock", "{}"), Batch::new().delete("/.univrs/clock")] {
            assert!(matches!(store.commit(batch).await, Err(StateError::InvalidKey(_))));
        }
        subject.local.accept_clock().await.unwrap();
        // What a program read from the log and writes again does not accept the clock.
        let meta = store.changes(Seq::ZERO, 9).await.unwrap()[0].meta.as_deref().unwrap().clone();
        let copied = store.commit(Batch::new().set("/a", "1").meta(meta)).await.unwrap();
        assert_eq!(copied.head.seq, Seq::new(2));
        let log = subject.audit().await;
        assert_eq!(log[1].meta, None);
    }
}

// No clock counts as later than the year 9999, so no program records such a time.
#[tokio::test]
async fn after_the_latest_time_that_there_is_only_the_accepted_clock_goes_on_and_the_error_says_so() {
    let made = options().memory().unwrap();
    made.set("/a", value(1)).await.unwrap();
    let (id, mut log) = (made.store_id(), log_of(&made).await);
    let latest = Timestamp::from_micros(i64::MAX);
    (log[0].at, log[0].created_at) = (latest, latest);
    chain(id, &mut log);
    let clock = Watched::new();
    let store = Options::new().store_id(id).clock(clock.clone()).replay(log).unwrap();
    let warnings = told(&store.stats().await.unwrap().warnings);
    assert!(
        warnings.contains("so no commit can follow it: ") && !warnings.contains("later commits"),
        "{warnings}"
    );
    assert!(warnings.contains("accept the clock"), "{warnings}");
    let refused = store.set("/a", value(2)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(
        refused.to_string().ends_with("then accept the clock, and times go on from its time"),
        "{refused}"
    );
    assert_eq!(store.accept_clock().await.unwrap().at, clock.now());
    store.set("/a", value(2)).await.unwrap();
    assert!(store.stats().await.unwrap().warnings.is_empty());
    assert_eq!(audit(&Local::Memory(store)).await.len(), 3);
}
