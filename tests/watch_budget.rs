//! All watches of a store share one budget of memory. What does not fit is read again; nobody waits for a watch that is
//! not polled.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use univrs_state::watch::{SnapshotEvent, SnapshotWatch};
use univrs_state::{Batch, Options, Seq, StateStore, WatchEvent, WatchStream};

use crate::support::child::{Child, peak_kib};
use crate::support::{Subject, folder, options, seq};

/// A watch that waits this long waits for ever.
const LONG: Duration = Duration::from_secs(120);
const KIB: usize = 1 << 10;

/// Stores of each kind that have this budget, and one that reads everything from its file.
async fn each(bytes: usize) -> Vec<Subject> {
    let with = |options: Options| options.watch_bytes(bytes);
    let mut subjects: Vec<Subject> = Subject::each_with(|| with(options())).await.into();
    subjects.push(Subject::disk_with(with(options().resident_bytes(0))).await);
    subjects
}

fn byte(n: u64) -> u8 {
    u8::try_from(n % 256).unwrap()
}

/// Writes large values, each of which replaces one.
async fn write(store: &impl StateStore, changes: u64, bytes: usize) {
    for n in 0..changes {
        store.set(&format!("/large/{}", n % 4), vec![byte(n); bytes]).await.unwrap();
    }
}

async fn held(subject: &Subject) -> usize {
    usize::try_from(subject.local.stats().await.unwrap().watch_bytes).unwrap()
}

async fn next(watch: &mut WatchStream) -> WatchEvent {
    timeout(LONG, watch.try_next()).await.expect("nobody waits for ever").unwrap().unwrap()
}

/// Checks the event at this position of what [`write`] wrote.
fn check(event: &WatchEvent, at: u64, bytes: usize) {
    let value = |n: u64| Some(vec![byte(n); bytes]);
    assert_eq!(event.seq, seq(at));
    assert_eq!(event.new_value, value(at - 1), "{at}");
    assert_eq!(event.old_value, at.checked_sub(5).and_then(value), "{at}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_watches_that_lag_hold_no_more_than_the_budget_and_show_everything() {
    const BUDGET: usize = 1_000 * KIB;
    for subject in each(BUDGET).await {
        let store = subject.shared();
        write(&store, 20, 60 * KIB).await;
        let mut watches: Vec<_> =
            (0..100).map(|_| store.watch_after("/large/*", Seq::ZERO.into()).unwrap()).collect();
        for at in 1..=20 {
            for watch in &mut watches {
                check(&next(watch).await, at, 60 * KIB);
            }
            assert!(held(&subject).await <= BUDGET);
        }
        write(&store, 4, 60 * KIB).await;
        for watch in &mut watches {
            assert_eq!(next(watch).await.seq, seq(21));
        }
        assert!(held(&subject).await <= BUDGET);
        watches.truncate(1);
        assert!(held(&subject).await <= 4 * 120 * KIB + 4 * KIB, "what is dropped gives back");
        drop(watches);
        assert_eq!(held(&subject).await, 0);
        subject.audit().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_are_polled_at_once_all_come_to_the_end() {
    for subject in each(500 * KIB).await {
        let store = subject.shared();
        write(&store, 10, 100 * KIB).await;
        let tasks = (0..20).map(|n| {
            let (store, start) = (store.clone(), Seq::ZERO.into());
            tokio::spawn(async move {
                let mut watch = store.watch_after("/large/*", start).unwrap();
                if n % 2 == 0 {
                    for at in 1..=30 {
                        check(&next(&mut watch).await, at, 100 * KIB);
                    }
                } else {
                    let mut commits = watch.commits();
                    for at in 1..=30 {
                        let commit = timeout(LONG, commits.try_next()).await.unwrap().unwrap().unwrap();
                        assert_eq!(commit.len(), 1);
                        check(&commit[0], at, 100 * KIB);
                    }
                }
            })
        });
        let tasks: Vec<_> = tasks.collect();
        for n in 10..30_u64 {
            store.set(&format!("/large/{}", n % 4), vec![byte(n); 100 * KIB]).await.unwrap();
        }
        for task in tasks {
            timeout(LONG, task).await.expect("nobody waits for ever").unwrap();
        }
        assert_eq!(held(&subject).await, 0);
        subject.audit().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_are_never_polled_again_keep_nothing_from_others() {
    for subject in each(400 * KIB).await {
        let store = subject.shared();
        write(&store, 12, 50 * KIB).await;
        let start = || Seq::ZERO.into();
        let mut idle: Vec<_> = (0..30).map(|_| store.watch_after("/large/*", start()).unwrap()).collect();
        for watch in &mut idle {
            check(&next(watch).await, 1, 50 * KIB);
        }
        // Some were polled and then left alone before their first page came.
        let mut left: Vec<_> = (0..30).map(|_| store.watch_after("/large/*", start()).unwrap()).collect();
        for watch in &mut left {
            let _ = timeout(Duration::ZERO, watch.try_next()).await;
        }
        let mut one = store.watch_after("/large/*", start()).unwrap();
        for at in 1..=12 {
            check(&next(&mut one).await, at, 50 * KIB);
        }
        let mut snapshot = store.watch_with_snapshot("/*").unwrap();
        assert_eq!(entries(&mut snapshot).await.len(), 4);
        // They have lost nothing but memory.
        for (watch, seen) in idle.iter_mut().map(|watch| (watch, 1)).chain(left.iter_mut().map(|w| (w, 0))) {
            for at in watch.cursor().seq().as_u64().max(seen) + 1..=12 {
                check(&next(watch).await, at, 50 * KIB);
            }
        }
        subject.audit().await;
    }
}

async fn entries(watch: &mut SnapshotWatch) -> BTreeMap<String, usize> {
    let mut entries = BTreeMap::new();
    loop {
        match timeout(LONG, watch.try_next()).await.expect("nobody waits for ever").unwrap().unwrap() {
            SnapshotEvent::Entry(entry) => {
                assert!(entries.insert(entry.key, entry.value.len()).is_none(), "an entry came twice");
            }
            SnapshotEvent::End(_) => return entries,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_larger_than_the_budget_goes_through() {
    for budget in [1, 100 * KIB] {
        for subject in each(budget).await {
            let store = subject.shared();
            write(&store, 6, 80 * KIB).await;
            let five =
                |n: u8| (0..5).fold(Batch::new(), |b, m| b.set(format!("/five/{m}"), vec![n; 50 * KIB]));
            store.commit(five(1)).await.unwrap();
            store.commit(five(2)).await.unwrap();
            let start = || Seq::ZERO.into();
            let mut held_by_others = store.watch_after("/*", start()).unwrap();
            next(&mut held_by_others).await;
            let mut watch = store.watch_after("/*", start()).unwrap();
            for at in 1..=6 {
                check(&next(&mut watch).await, at, 80 * KIB);
            }
            for at in 7..=16 {
                let event = next(&mut watch).await;
                assert_eq!((event.seq, event.old_value.is_some()), (seq(at), at > 11));
            }
            let mut commits = store.watch_after("/five/*", start()).unwrap().commits();
            for old in [false, true] {
                let commit = timeout(LONG, commits.try_next()).await.unwrap().unwrap().unwrap();
                assert_eq!(commit.len(), 5);
                assert!(commit.iter().all(|event| event.old_value.is_some() == old));
            }
            let mut snapshot = store.watch_with_snapshot("/*").unwrap();
            assert_eq!(entries(&mut snapshot).await.len(), 9);
            for at in 2..=16 {
                assert_eq!(next(&mut held_by_others).await.seq, seq(at));
            }
            subject.audit().await;
        }
    }
}

// A start that is only a number is looked up again, if what was read after it is lost before any of it was delivered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_lost_its_first_commit_begins_where_it_was_to_begin() {
    for subject in each(100 * KIB).await {
        let store = subject.shared();
        for n in 0..3_u8 {
            let five = (0..5).fold(Batch::new(), |b, m| b.set(format!("/five/{m}"), vec![n; 50 * KIB]));
            store.commit(five).await.unwrap();
        }
        for start in [5, 7] {
            let mut commits = store.watch_after("/five/*", seq(start).into()).unwrap().commits();
            // It has read its first commit, and reads what that replaced.
            let mut polls = 0;
            let early = poll_fn(|context| {
                polls += 1;
                match pin!(commits.try_next()).poll(context) {
                    Poll::Pending if polls == 2 => Poll::Ready(None),
                    poll => poll.map(Some),
                }
            });
            let early = timeout(LONG, early).await.expect("the page is read");
            // Another one takes the room.
            let mut other = store.watch_after("/*", Seq::ZERO.into()).unwrap();
            for at in 1..=15 {
                assert_eq!(next(&mut other).await.seq, seq(at));
            }
            let commit = match early {
                Some(commit) => commit,
                None => timeout(LONG, commits.try_next()).await.expect("nobody waits for ever"),
            };
            let commit = commit.unwrap().unwrap();
            let seqs: Vec<u64> = commit.iter().map(|event| event.seq.as_u64()).collect();
            assert_eq!(seqs, [6, 7, 8, 9, 10]);
            assert!(commit.iter().all(|event| event.old_value.is_some()));
        }
        subject.audit().await;
    }
}

// A page may be lost when a part of a commit was delivered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_delivered_of_a_commit_is_not_delivered_again() {
    for subject in each(150 * KIB).await {
        let store = subject.shared();
        for n in 0..3_u8 {
            let ten = (0..10).fold(Batch::new(), |b, m| b.set(format!("/{m}"), vec![n; 10 * KIB]));
            store.commit(ten).await.unwrap();
        }
        let mut watches: Vec<_> =
            (0..5).map(|_| store.watch_after("/*", Seq::ZERO.into()).unwrap()).collect();
        watches.push(store.watch_after("/*", seq(13).into()).unwrap());
        for at in 1..=30 {
            for watch in &mut watches[..5] {
                let event = next(watch).await;
                assert_eq!((event.seq, event.old_value.is_some()), (seq(at), at > 10));
                assert_eq!(watch.cursor().seq(), seq(at / 10 * 10));
            }
            if at <= 20 {
                assert_eq!(next(&mut watches[5]).await.seq, seq(10 + at), "from the start of the commit");
            }
        }
        subject.audit().await;
    }
}

// Of the newest commits, of the log, and of a log where few changes match.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_larger_than_a_page_comes_in_parts_as_events_and_whole_as_a_commit() {
    const OTHERS: u64 = 600;
    let mixed = |n: u8| {
        let others = (0..OTHERS).fold(Batch::new(), |b, m| b.set(format!("/many/{m}"), "x"));
        (0..20).fold(others, |b, m| b.set(format!("/few/{m:02}"), vec![n; 20 * KIB]))
    };
    for subject in each(100 * KIB).await {
        let store = subject.shared();
        let commit = OTHERS + 20;
        let mut watches = vec![store.watch("/few/*").unwrap(), store.watch("/*").unwrap()];
        for n in 1..=3 {
            store.commit(mixed(n)).await.unwrap();
        }
        let after = |pattern| store.watch_after(pattern, Seq::ZERO.into()).unwrap();
        watches.extend(["/few/*", "/*", "/few/*", "/*"].map(after));
        let mut turned = Vec::new();
        for (which, mut watch) in watches.into_iter().enumerate() {
            let first = if watch.pattern() == "/*" { 1 } else { OTHERS + 1 };
            let due: Vec<u64> = (0..3).flat_map(|n| n * commit + first..=(n + 1) * commit).collect();
            // Some become watches of commits within the second one.
            let parts = if which < 4 { due.len() } else { due.len() / 2 };
            for at in &due[..parts] {
                let event = next(&mut watch).await;
                assert_eq!((event.seq, event.old_value.is_some()), (seq(*at), *at > commit));
                assert_eq!(watch.cursor().seq(), seq(at / commit * commit), "the last whole commit");
                if at % 20 == 10 {
                    assert!(held(&subject).await <= 100 * KIB);
                }
            }
            if parts < due.len() {
                turned.push((watch.commits(), due[parts..].to_vec()));
            }
        }
        for (mut commits, due) in turned {
            let rest = due.iter().filter(|at| **at <= 2 * commit).count();
            for part in [&due[..rest], &due[rest..]] {
                let events = timeout(LONG, commits.try_next()).await.unwrap().unwrap().unwrap();
                assert_eq!(events.iter().map(|event| event.seq.as_u64()).collect::<Vec<_>>(), part);
                assert_eq!(commits.cursor().seq().as_u64(), *part.last().unwrap());
            }
        }
        subject.audit().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_stays_one_state_when_a_part_of_it_is_lost() {
    for subject in each(100 * KIB).await {
        let store = subject.shared();
        for n in 0..20 {
            store.set(&format!("/k/{n:02}"), vec![1; 20 * KIB]).await.unwrap();
        }
        store.set("/one", vec![1; 20 * KIB]).await.unwrap();
        let mut snapshots: Vec<_> = (0..8).map(|_| store.watch_with_snapshot("/k/*").unwrap()).collect();
        let mut one = store.watch_with_snapshot("/one").unwrap();
        let entry = async |watch: &mut SnapshotWatch| match timeout(LONG, watch.try_next())
            .await
            .expect("nobody waits for ever")
            .unwrap()
            .unwrap()
        {
            SnapshotEvent::Entry(entry) => (entry.key, entry.value[0]),
            other => panic!("{other:?}"),
        };
        assert_eq!(entry(&mut one).await, ("/one".to_owned(), 1));
        for n in 0..20 {
            for watch in &mut snapshots {
                assert_eq!(entry(watch).await, (format!("/k/{n:02}"), 1), "of the state where it began");
            }
            assert!(held(&subject).await <= 100 * KIB);
            // The state goes on meanwhile.
            store.set(&format!("/k/{:02}", 19 - n), vec![2; 30 * KIB]).await.unwrap();
            store.set(&format!("/k/{n:02}-new"), vec![2; 100]).await.unwrap();
            store.delete("/one").await.unwrap();
        }
        for watch in &mut snapshots {
            assert!(
                matches!(timeout(LONG, watch.try_next()).await, Ok(Ok(Some(SnapshotEvent::End(at)))) if at.seq() == seq(21))
            );
            let Ok(Ok(Some(SnapshotEvent::Change(first)))) = timeout(LONG, watch.try_next()).await else {
                panic!()
            };
            assert_eq!(first.seq, seq(22));
        }
        assert!(
            matches!(timeout(LONG, one.try_next()).await, Ok(Ok(Some(SnapshotEvent::End(at)))) if at.seq() == seq(21))
        );
        subject.audit().await;
    }
}

// Two pages and what they replaced were 13 MiB for each of them.
#[tokio::test]
async fn a_hundred_watches_of_large_values_take_little_memory() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let subject = Subject::open(options(), &path).await;
    write(&subject.shared(), 60, KIB << 10).await;
    let mut child = Child::start();
    child.ask(&format!("open\t{}", path.display())).unwrap();
    let grown: u64 = child.ask("memory of lagging watches\t100").unwrap().parse().unwrap();
    println!("100 watches that lag behind values of 1 MiB take {} MiB", grown >> 10);
    assert!(grown < 300 << 10, "{grown} KiB within a budget of 64 MiB");
    child.kill();
    subject.audit().await;
}

/// Follows a log to its end: `turns` takes one event of each watch in turn, `tasks` all events of each in a task of its
/// own, and `commits` whole commits. What this process read meanwhile, by how much its peak of memory grew, both in KiB,
/// and milliseconds.
pub(crate) async fn cost(path: &Path, bytes: usize, way: &str, watches: u64) -> String {
    let store = options().watch_bytes(bytes).open(path).await.unwrap();
    let end = store.head().await.unwrap().seq;
    let mut watches: Vec<_> =
        (0..watches).map(|_| store.watch_after("/*", Seq::ZERO.into()).unwrap()).collect();
    let (read, peak, begin) = (read_kib(), peak_kib(), Instant::now());
    let told = || {
        let millis = begin.elapsed().as_millis();
        format!("{} {} {millis}", read_kib() - read, peak_kib() - peak)
    };
    if way == "turns" {
        for _ in 0..end.as_u64() {
            for watch in &mut watches {
                next(watch).await;
            }
        }
        return told();
    }
    let whole = way == "commits";
    let tasks = watches.into_iter().map(|mut watch| {
        tokio::spawn(async move {
            if whole {
                let mut commits = watch.commits();
                while commits.cursor().seq() < end {
                    timeout(LONG, commits.try_next()).await.expect("nobody waits for ever").unwrap().unwrap();
                }
            } else {
                while next(&mut watch).await.seq < end {}
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    told()
}

/// What this process has read from files, in KiB.
fn read_kib() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let bytes = io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
    bytes.parse::<u64>().unwrap() >> 10
}

/// How many times each of some watches reads a log of `commits` large commits, with a budget of four of them.
async fn times_read(commits: u8, commit: u32, value_bytes: u32, way: &str, watches: u32) -> f64 {
    let folder = folder();
    let path = folder.path().join("state.db");
    let subject = Subject::open(options(), &path).await;
    for n in 0..commits {
        let batch = (0..commit / value_bytes)
            .fold(Batch::new(), |b, m| b.set(format!("/{m}"), vec![n; value_bytes as usize]));
        subject.shared().commit(batch).await.unwrap();
    }
    let mut child = Child::start();
    let asked = format!("cost of watches\t{}\t{}\t{way}\t{watches}", path.display(), 4 * commit);
    let cost = child.ask(&asked).unwrap();
    let cost: Vec<f64> = cost.split(' ').map(|word| word.parse().unwrap()).collect();
    child.end();
    subject.audit().await;
    let times = cost[0] * 1024.0 / f64::from(commits) / f64::from(commit) / f64::from(watches);
    println!(
        "{watches} watches in {way}, {commits} commits of {} MiB, values of {} KiB: each reads the log {times:.2} \
         times; {} MiB, {} ms",
        commit >> 20,
        value_bytes >> 10,
        cost[1] / 1024.0,
        cost[2]
    );
    times
}

// Once each took the page of another after some events, and all read the whole commit again for the next ones.
#[tokio::test]
async fn watches_behind_a_large_commit_read_it_little_more_than_once_each() {
    for (way, watches) in [("turns", 10), ("tasks", 40)] {
        let times = times_read(2, 4 << 20, 64 << 10, way, watches).await;
        assert!(times < 3.0, "{times} times in {way}");
    }
}

// Once those that had waited long took what others had just read, before these could deliver it.
#[tokio::test]
async fn watches_of_more_than_their_share_read_it_a_few_times_at_most() {
    let times = times_read(2, 4 << 20, 64 << 10, "commits", 20).await;
    assert!(times < 4.0, "{times} times for whole commits");
    let times = times_read(2, 4 << 20, 1_000 << 10, "tasks", 100).await;
    assert!(times < 3.0, "{times} times for large values");
}
