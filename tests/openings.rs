//! Several openings of one file in one process: they share one store, unless their options forbid it, and each
//! closes for itself. A program once opened its file in each of 40 modules, for 546 descriptors and 208 threads.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rusqlite::Connection;
use tokio::task::unconstrained;
use univrs_state::log::{StoreId, Timestamp};
use univrs_state::options::{Clock, Durability, OsEntropy, SystemClock};
use univrs_state::{Limits, LocalStore, Options, SqliteStore, StateError, StateStore};

use crate::support::child::Child;
use crate::support::{Local, Seeded, Ticks, audit, folder, seq, value};

/// How many descriptors of this process are open on files in a folder. What another thread closes meanwhile is not
/// counted.
pub(crate) fn descriptors(folder: &Path) -> usize {
    let folder = folder.canonicalize().unwrap();
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    open.filter(|entry| fs::read_link(entry.path()).is_ok_and(|file| file.starts_with(&folder))).count()
}

/// How many threads of this process are of stores.
fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let name = |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm"));
    tasks.filter(|task| name(task).is_ok_and(|name| name.starts_with("univrs-state"))).count()
}

/// In a child of the test, which has no other stores: the descriptors and the threads of so many openings.
pub(crate) async fn costs(path: &Path, openings: usize) -> String {
    let mut stores = Vec::new();
    for _ in 0..openings {
        stores.push(SqliteStore::open(path).await.unwrap());
    }
    for (version, store) in (1..).zip(&stores) {
        assert_eq!(store.set("/a", value(version)).await, Ok(version));
    }
    // The threads that found the store to share end by themselves.
    while threads() > 5 {
        tokio::task::yield_now().await;
    }
    format!("{} {}", descriptors(path.parent().unwrap()), threads())
}

async fn open(options: Options, path: &Path) -> SqliteStore {
    options.open(path).await.unwrap()
}

/// Whether two openings share one store: then each knows the watches of the other.
async fn share(one: &SqliteStore, two: &SqliteStore) -> bool {
    let watch = one.watch("/is/it/shared").unwrap();
    let watchers = two.stats().await.unwrap().watchers;
    watchers.iter().any(|watcher| watcher.pattern == watch.pattern())
}

/// Audits the store at a path where nothing has it open; the number of its changes.
async fn ends_intact(path: &Path) -> usize {
    assert_eq!(descriptors(path.parent().unwrap()), 0, "everything was closed");
    let store = SqliteStore::open(path).await.unwrap();
    let changes = audit(&Local::Sqlite(store.clone())).await.len();
    store.close().await.unwrap();
    changes
}

#[tokio::test]
async fn forty_openings_of_one_file_cost_what_one_costs() {
    let mut told = Vec::new();
    for openings in ["1", "40"] {
        let folder = folder();
        let path = folder.path().join("state.db");
        told.push(Child::start().ask(&format!("costs\t{}\t{openings}", path.display())).unwrap());
        assert_eq!(ends_intact(&path).await.to_string(), openings);
    }
    println!("descriptors and threads of 1 opening and of 40: {told:?}");
    assert_eq!(told[0], told[1]);
    // As the README says of two cores, for each of which a thread reads.
    if std::thread::available_parallelism().unwrap().get() == 2 {
        let (descriptors, threads) = told[0].split_once(' ').unwrap();
        let said = format!("{descriptors} descriptors and {threads} threads");
        assert!(include_str!("../README.md").contains(&said), "{said}");
    }
}

#[tokio::test]
async fn openings_that_share_a_store_see_each_others_commits_at_once() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let (one, two) = (open(Options::new(), &path).await, open(Options::new(), &path).await);
    let mut watch = two.watch("/*").unwrap();
    for n in 1..=100 {
        let (writer, reader) = if n % 2 == 0 { (&one, &two) } else { (&two, &one) };
        assert_eq!(writer.set("/a", value(n)).await, Ok(n));
        assert_eq!(reader.version("/a").await, Ok(n));
        assert_eq!(watch.try_next().await.unwrap().unwrap().seq, seq(n));
    }
    assert_eq!(two.stats().await.unwrap().watchers, one.stats().await.unwrap().watchers);
    assert_eq!(one.head().await, two.head().await);
    one.close().await.unwrap();
    two.close().await.unwrap();
    assert_eq!(ends_intact(&path).await, 100);
}

#[tokio::test]
async fn limits_and_the_refusal_of_writes_are_of_the_opening() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let writer = open(Options::new(), &path).await;
    let mut limits = Limits::default();
    limits.value_bytes = 3;
    let narrow = open(Options::new().limits(limits), &path).await;
    let reader = open(Options::new().read_only(true), &path).await;
    assert!(share(&writer, &narrow).await && share(&writer, &reader).await, "the premise");
    writer.set("/a", b"long".to_vec()).await.unwrap();
    assert!(matches!(narrow.set("/a", b"long".to_vec()).await, Err(StateError::LimitExceeded(_))));
    assert_eq!(narrow.set("/a", b"new".to_vec()).await, Ok(2));
    assert_eq!(reader.get("/a").await.unwrap().unwrap().value, b"new");
    assert_eq!(reader.set("/a", Vec::new()).await, Err(StateError::ReadOnly));
    assert_eq!(reader.delete("/a").await, Err(StateError::ReadOnly));
    assert!(!reader.is_immutable());
    let wrong = Options::new().limits({
        let mut limits = Limits::default();
        limits.page_entries = 0;
        limits
    });
    assert!(matches!(wrong.open(&path).await, Err(StateError::InvalidArgument(_))));
    for store in [writer, narrow, reader] {
        store.close().await.unwrap();
    }
    assert_eq!(ends_intact(&path).await, 2);
}

#[tokio::test]
async fn one_opening_closes_for_its_own_handles_and_watches_and_the_last_one_closes_the_store() {
    for dropped in [false, true] {
        let folder = folder();
        let path = folder.path().join("state.db");
        let (one, two) = (open(Options::new(), &path).await, open(Options::new(), &path).await);
        one.set("/a", value(1)).await.unwrap();
        let (clone, past) = (one.clone(), one.at(seq(1).into()).await.unwrap());
        let (mut ends, mut fresh) = (one.watch("/*").unwrap(), one.watch_after("/*", seq(0).into()).unwrap());
        let mut snapshot = one.watch_with_snapshot("/*").unwrap();
        let mut goes_on = two.watch("/*").unwrap();
        let waits = tokio::spawn(async move { ends.try_next().await });
        let sees = tokio::spawn(async move { (goes_on.try_next().await, goes_on) });
        tokio::task::yield_now().await;
        if dropped {
            drop((one, clone, past));
        } else {
            one.close().await.unwrap();
            one.close().await.unwrap();
            assert_eq!(clone.get("/a").await, Err(StateError::Closed));
            assert_eq!(clone.set("/a", value(2)).await, Err(StateError::Closed));
            assert_eq!(clone.head().await, Err(StateError::Closed));
            assert_eq!(clone.changes(seq(0), 1).await, Err(StateError::Closed));
            assert!(matches!(clone.watch("/*"), Err(StateError::Closed)));
            assert!(matches!(clone.verify().await, Err(StateError::Closed)));
            assert!(matches!(clone.stats().await, Err(StateError::Closed)));
            assert_eq!(past.get("/a").await, Err(StateError::Closed));
        }
        assert_eq!(waits.await.unwrap(), Err(StateError::Closed));
        assert_eq!(fresh.try_next().await, Err(StateError::Closed));
        assert!(matches!(snapshot.try_next().await, Err(StateError::Closed)));

        assert!(!sees.is_finished(), "a watch of the other opening waits on");
        assert_eq!(two.set("/a", value(2)).await, Ok(2));
        let (event, mut goes_on) = sees.await.unwrap();
        assert_eq!(event.unwrap().unwrap().seq, seq(2));
        let again = open(Options::new(), &path).await;
        two.close().await.unwrap();
        assert_eq!(goes_on.try_next().await, Err(StateError::Closed));
        assert_eq!(again.version("/a").await, Ok(2));
        again.close().await.unwrap();
        assert!(!path.with_file_name("state.db-wal").exists(), "the last one moved the log");
        assert_eq!(ends_intact(&path).await, 2);
    }
}

#[tokio::test]
async fn what_was_ordered_by_one_opening_is_recorded_when_it_is_closed() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let (one, two) = (open(Options::new(), &path).await, open(Options::new(), &path).await);
    let mut context = Context::from_waker(Waker::noop());
    for n in 1..=100 {
        // Polled once and dropped: ordered, and nobody waits for the answer.
        let polled = Box::pin(unconstrained(one.set("/a", value(n)))).as_mut().poll(&mut context);
        assert!(matches!(polled, Poll::Pending | Poll::Ready(Ok(_))));
    }
    one.close().await.unwrap();
    assert_eq!(two.version("/a").await, Ok(100));
    two.close().await.unwrap();
    assert_eq!(ends_intact(&path).await, 100);
}

#[tokio::test]
async fn openings_share_where_what_is_of_the_whole_store_is_equal_or_not_set() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let id = StoreId::from_bytes([4; 16]);
    let clock = Options::new().clock(Ticks::from(7)).entropy(Seeded::from(7));
    let first = clock.store_id(id).busy_timeout(Duration::from_secs(60)).resident_bytes(1 << 20);
    let store = open(first.clone(), &path).await;
    store.set("/a", value(1)).await.unwrap();
    let equal = [
        first.clone(),
        Options::new(),
        Options::new().store_id(id).durability(Durability::Synced).create(false),
        Options::new().busy_timeout(Duration::from_secs(60)).resident_bytes(1 << 20).read_only(true),
        Options::new().wal_cap(256 << 20),
    ];
    for options in equal {
        let other = open(options.clone(), &path).await;
        assert!(share(&store, &other).await, "{options:?}");
        other.close().await.unwrap();
    }
    let differ = [
        Options::new().clock(Ticks::from(7)),
        Options::new().clock(SystemClock),
        Options::new().entropy(Seeded::from(7)),
        Options::new().entropy(OsEntropy),
        Options::new().busy_timeout(Duration::from_secs(5)),
        Options::new().wal_cap(8 << 20),
        Options::new().resident_bytes(0),
        Options::new().accept_loss(true),
        Options::new().unshared(),
    ];
    for options in differ {
        let other = open(options.clone(), &path).await;
        assert!(!share(&store, &other).await, "{options:?}");
        assert_eq!(other.version("/a").await, Ok(1));
        other.close().await.unwrap();
    }
    let refused = [
        Options::new().store_id(StoreId::from_bytes([5; 16])),
        Options::new().durability(Durability::Buffered),
    ];
    for options in refused {
        let error = options.open(&path).await.unwrap_err();
        assert!(matches!(error, StateError::CannotOpen { .. }), "{error}");
    }
    store.close().await.unwrap();
    // What is not set is the default, and naming the default is equal.
    let store = open(Options::new(), &path).await;
    let named = Options::new().clock(SystemClock).entropy(OsEntropy).busy_timeout(Duration::from_secs(5));
    let other = open(named.resident_bytes(64 << 20), &path).await;
    assert!(share(&store, &other).await);
    store.close().await.unwrap();
    other.close().await.unwrap();
    assert_eq!(ends_intact(&path).await, 1);
}

#[tokio::test]
async fn a_store_for_reading_is_shared_by_readers_and_the_one_that_can_be_written_by_all() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let made = open(Options::new(), &path).await;
    made.set("/a", value(1)).await.unwrap();
    made.close().await.unwrap();
    let read_only = || Options::new().read_only(true);
    let (reader, second) = (open(read_only(), &path).await, open(read_only(), &path).await);
    assert!(share(&reader, &second).await);
    let writer = open(Options::new(), &path).await;
    assert!(!share(&reader, &writer).await, "who writes has a store of its own");
    writer.set("/a", value(2)).await.unwrap();
    for store in [&reader, &second] {
        assert_eq!(store.version("/a").await, Ok(2));
        assert_eq!(store.set("/a", value(3)).await, Err(StateError::ReadOnly));
    }
    let third = open(read_only(), &path).await;
    assert!(share(&writer, &third).await && !share(&reader, &third).await, "later readers share that one");
    assert_eq!(third.set("/a", value(3)).await, Err(StateError::ReadOnly));
    reader.close().await.unwrap();
    second.close().await.unwrap();
    writer.close().await.unwrap();
    assert_eq!(third.version("/a").await, Ok(2), "and keeps it open");
    third.close().await.unwrap();
    assert_eq!(ends_intact(&path).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_open_one_new_file_at_once_however_they_spell_it_share_one_store() {
    let other = folder();
    let alone = {
        let store = open(Options::new(), &other.path().join("state.db")).await;
        store.set("/a", value(1)).await.unwrap();
        descriptors(other.path())
    };
    for _ in 0..10 {
        let folder = folder();
        std::os::unix::fs::symlink(folder.path().join("new"), folder.path().join("link")).unwrap();
        let new = folder.path().join("new/state.db");
        let spelled =
            [new.clone(), folder.path().join("new/./state.db"), folder.path().join("new/../new/state.db")];
        let tasks: Vec<_> = (0..12)
            .map(|n| {
                let path = spelled[n % 3].clone();
                tokio::spawn(async move { SqliteStore::open(path).await.unwrap() })
            })
            .collect();
        let mut stores = Vec::new();
        for task in tasks {
            stores.push(task.await.unwrap());
        }
        stores.push(SqliteStore::open(folder.path().join("link/state.db")).await.unwrap());
        for (version, store) in (1..).zip(&stores) {
            assert_eq!(store.set("/a", value(version)).await, Ok(version));
        }
        assert_eq!(descriptors(folder.path()), alone);
        for store in stores {
            store.close().await.unwrap();
        }
        assert_eq!(ends_intact(&new).await, 13);
    }
}

#[tokio::test]
async fn an_opening_that_failed_or_was_given_up_is_in_nobodys_way() {
    let folder = folder();
    let path = folder.path().join("state.db");
    fs::create_dir(&path).unwrap();
    for _ in 0..2 {
        assert!(matches!(SqliteStore::open(&path).await, Err(StateError::CannotOpen { .. })));
    }
    fs::remove_dir(&path).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..10 {
        let polled = Box::pin(SqliteStore::open(&path)).as_mut().poll(&mut context).map(drop);
        assert!(polled.is_pending(), "the premise: it is given up while it opens");
    }
    let store = open(Options::new(), &path).await;
    store.set("/a", value(1)).await.unwrap();
    store.close().await.unwrap();
    // Those that were given up close by themselves.
    while descriptors(folder.path()) > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ends_intact(&path).await, 1);
}

// One lock was held while any file was opened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opening_that_waits_for_another_process_does_not_hold_up_that_of_another_file() {
    let folder = folder();
    let (path, other) = (folder.path().join("state.db"), folder.path().join("other.db"));
    SqliteStore::open(&path).await.unwrap().close().await.unwrap();
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE").unwrap();
    let waits = Options::new().busy_timeout(Duration::from_secs(3_600));
    let slow = tokio::spawn({
        let path = path.clone();
        async move { waits.open(&path).await.unwrap() }
    });
    let opened = async {
        for n in 1..=20 {
            let store = SqliteStore::open(&other).await.unwrap();
            assert_eq!(store.set("/a", value(n)).await, Ok(n));
            store.close().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(120), opened).await.expect("it waits for the other file");
    assert!(!slow.is_finished(), "the premise: the first one waits");
    drop(raw);
    slow.await.unwrap().close().await.unwrap();
    assert_eq!(ends_intact(&other).await, 20);
}

#[tokio::test]
async fn a_file_that_was_replaced_is_opened_anew() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let old = open(Options::new(), &path).await;
    old.set("/old", value(1)).await.unwrap();
    for _ in 0..5 {
        for file in fs::read_dir(folder.path()).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        let new = open(Options::new(), &path).await;
        assert!(new.store_id() != old.store_id() && !new.exists("/old").await.unwrap());
        assert_eq!(new.set("/new", value(1)).await, Ok(1));
        new.close().await.unwrap();
        let (one, two) = (open(Options::new(), &path).await, open(Options::new(), &path).await);
        assert!(share(&one, &two).await);
        assert_eq!(two.set("/new", value(2)).await, Ok(2));
        one.close().await.unwrap();
        two.close().await.unwrap();
    }
    assert!(old.set("/old", value(2)).await.is_err());
    assert!(matches!(old.close().await, Err(StateError::Storage(_))));
    assert_eq!(ends_intact(&path).await, 2);
}

// An opening beside a store whose log was removed must not be given that store, which takes no commits.
#[tokio::test]
async fn a_store_whose_log_was_replaced_is_not_shared() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let store = open(Options::new(), &path).await;
    store.set("/a", value(1)).await.unwrap();
    let (log, away) = (folder.path().join("state.db-wal"), folder.path().join("away"));
    fs::rename(&log, &away).unwrap();
    if let Ok(other) = Options::new().open(&path).await {
        assert!(!share(&store, &other).await);
    }
    let _ = fs::remove_file(&log);
    fs::rename(&away, &log).unwrap();
    let shares = open(Options::new(), &path).await;
    assert!(share(&store, &shares).await);
    assert_eq!(shares.version("/a").await, Ok(1));
    drop((store, shares));
    assert_eq!(ends_intact(&path).await, 1);
}

#[tokio::test]
async fn stores_in_memory_are_never_shared() {
    let (one, two) = (SqliteStore::in_memory().await.unwrap(), SqliteStore::in_memory().await.unwrap());
    one.set("/a", value(1)).await.unwrap();
    assert!(!two.exists("/a").await.unwrap() && one.store_id() != two.store_id());
    one.close().await.unwrap();
    two.set("/a", value(1)).await.unwrap();
    assert!(two.verify().await.unwrap().is_intact());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_open_write_and_close_over_and_over_lose_nothing() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let path = path.clone();
            tokio::spawn(async move {
                let key = format!("/{task}");
                for n in 1..=25 {
                    let store = SqliteStore::open(&path).await.unwrap();
                    assert_eq!(store.set(&key, value(n)).await, Ok(n));
                    assert_eq!(store.version(&key).await, Ok(n));
                    if n % 2 == 0 {
                        store.close().await.unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(ends_intact(&path).await, 8 * 25);
}

/// The descriptors of a process on files in a folder, and all of them.
fn descriptors_of(process: u32, folder: &Path) -> (usize, usize) {
    let folder = folder.canonicalize().unwrap();
    let open: Vec<_> = fs::read_dir(format!("/proc/{process}/fd")).unwrap().flatten().collect();
    let here =
        open.iter().filter(|entry| fs::read_link(entry.path()).is_ok_and(|file| file.starts_with(&folder)));
    (here.count(), open.len())
}

fn allow_descriptors(process: u32, most: usize) {
    let (process, limit) = (process.to_string(), format!("--nofile={most}:"));
    assert!(Command::new("prlimit").args(["--pid", &process, &limit]).status().unwrap().success());
}

#[tokio::test]
async fn a_process_with_too_few_descriptors_is_told_so_and_opens_when_it_has_more() {
    let folder = folder();
    let path = folder.path().join("state.db");
    SqliteStore::open(&path).await.unwrap().close().await.unwrap();
    let mut child = Child::start();
    child.ask("head of nothing").unwrap_err();
    let base = descriptors_of(child.id(), folder.path()).1;
    let (mut refused, mut opened) = (0, 0);
    for spare in 0..=20 {
        allow_descriptors(child.id(), base + spare);
        for command in ["open", "open read-only"] {
            match child.ask(&format!("{command}\t{}", path.display())) {
                Ok(_) => {
                    opened += 1;
                    child.ask("close").unwrap();
                }
                Err(why) => {
                    refused += 1;
                    assert!(why.starts_with("connection: ") && why.contains("ulimit -n"), "{spare}: {why}");
                }
            }
            // The threads of an opening that failed close what they have by themselves.
            while descriptors_of(child.id(), folder.path()).0 > 0 {
                tokio::task::yield_now().await;
            }
        }
    }
    assert!(refused >= 10 && opened >= 4, "{refused} refused, {opened} opened");
    allow_descriptors(child.id(), base + 100);
    child.ask(&format!("open\t{}", path.display())).unwrap();
    assert_eq!(child.ask("set\t/a\t1"), Ok("1".into()));
    child.ask("close").unwrap();
    assert_eq!(ends_intact(&path).await, 1);
}

/// A clock that tells when it is dropped.
struct Told(Option<tokio::sync::oneshot::Sender<()>>);

impl Clock for Told {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1)
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.take().unwrap().send(());
    }
}

// They were kept until the process opened another file.
#[tokio::test]
async fn what_a_program_gave_to_a_store_ends_with_its_last_handle() {
    for closes in [false, true] {
        let folder = folder();
        let path = folder.path().join("state.db");
        let (tell, told) = tokio::sync::oneshot::channel();
        let store = open(Options::new().clock(Told(Some(tell))), &path).await;
        store.set("/a", value(1)).await.unwrap();
        if closes {
            store.close().await.unwrap();
        }
        drop(store);
        told.await.unwrap();
        audit(&Local::Sqlite(open(Options::new(), &path).await)).await;
    }
}
