//! The accident: a log rotation renamed the file, a clean-up removed another, a backup was put back
//! over a store that was open, and the processes that had it open went on: every commit was
//! acknowledged, into files that nobody found again; reads answered the old state for ever, and a
//! watch stayed silent while others wrote.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::timeout;
use univrs_state::{ErrorKind, LocalStore, Options, SqliteStore, StateError, StateStore};

use crate::support::child::Child;
use crate::support::{PATIENCE, Subject, buffered, folder, value};

/// A folder that may be renamed, with a store in it that has one change.
struct Place {
    above: TempDir,
}

impl Place {
    async fn new() -> Self {
        let place = Self { above: folder() };
        fs::create_dir(place.folder()).unwrap();
        let store = SqliteStore::open(place.file()).await.unwrap();
        store.set("/a", value("before")).await.unwrap();
        store.close().await.unwrap();
        place
    }

    fn folder(&self) -> PathBuf {
        self.above.path().join("data")
    }

    fn file(&self) -> PathBuf {
        self.folder().join("state.db")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        self.folder().join(format!("state.db{suffix}"))
    }

    fn away(&self) -> PathBuf {
        self.above.path().join("away")
    }

    /// Another store, closed, with one change.
    async fn backup(&self) -> PathBuf {
        let path = self.above.path().join("backup.db");
        let store = SqliteStore::open(&path).await.unwrap();
        store.set("/a", value("of the backup")).await.unwrap();
        store.close().await.unwrap();
        path
    }

    /// Does it; returns the name that the store must tell.
    async fn suffer(&self, accident: Accident) -> &'static str {
        match accident {
            Accident::Renamed => fs::rename(self.file(), self.away()).unwrap(),
            Accident::FolderRenamed => fs::rename(self.folder(), self.away()).unwrap(),
            Accident::Removed => fs::remove_file(self.file()).unwrap(),
            Accident::MadeAnew => {
                for suffix in ["", "-wal", "-shm", "-head"] {
                    let _ = fs::remove_file(self.beside(suffix));
                }
                let mut other = Child::start();
                assert!(other.ask(&format!("open\t{}", self.file().display())).is_ok());
                assert_eq!(other.ask("set\t/a\tof the new store"), Ok("1".into()));
                other.ask("close").unwrap();
            }
            Accident::BackupRenamedOver => fs::rename(self.backup().await, self.file()).unwrap(),
            Accident::SideRemoved(suffix) => fs::remove_file(self.beside(suffix)).unwrap(),
            Accident::SideReplaced(suffix) => {
                fs::write(self.away(), b"").unwrap();
                fs::rename(self.away(), self.beside(suffix)).unwrap();
            }
        }
        match accident {
            Accident::SideRemoved("-wal") | Accident::SideReplaced("-wal") => "state.db-wal was moved",
            Accident::SideRemoved(_) | Accident::SideReplaced(_) => "state.db-shm was moved",
            _ => "state.db was moved",
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Accident {
    Renamed,
    FolderRenamed,
    Removed,
    MadeAnew,
    BackupRenamedOver,
    SideRemoved(&'static str),
    SideReplaced(&'static str),
}

const ACCIDENTS: [Accident; 9] = [
    Accident::Renamed,
    Accident::FolderRenamed,
    Accident::Removed,
    Accident::MadeAnew,
    Accident::BackupRenamedOver,
    Accident::SideRemoved("-wal"),
    Accident::SideReplaced("-wal"),
    Accident::SideRemoved("-shm"),
    Accident::SideReplaced("-shm"),
];

/// The kinds of handles: with the state in memory, without it, and read-only.
fn kinds() -> [(&'static str, Options); 4] {
    [
        ("resident", Options::new()),
        ("in the file", Options::new().resident_bytes(0)),
        ("read-only", Options::new().read_only(true)),
        ("read-only in the file", Options::new().read_only(true).resident_bytes(0)),
    ]
}

fn tells(cause: &StateError, told: &str) {
    let StateError::Storage(why) = cause else { panic!("{cause}") };
    assert!(why.what().contains(told) && why.what().contains("open it again"), "{cause}");
    assert_eq!((cause.kind(), cause.is_retryable()), (ErrorKind::Storage, false));
}

/// Every call returns the cause.
async fn has_ended(store: &SqliteStore, cause: &StateError) {
    assert_eq!(store.get("/a").await.as_ref(), Err(cause));
    assert_eq!(store.list("/").await.as_ref(), Err(cause));
    assert_eq!(store.version("/a").await.as_ref(), Err(cause));
    assert_eq!(store.head().await.as_ref(), Err(cause));
    assert_eq!(store.changes(0.into(), 9).await.as_ref(), Err(cause));
    assert_eq!(store.history("/a", None, 9).await.as_ref(), Err(cause));
    assert_eq!(store.watch("/*").err().as_ref(), Some(cause));
    assert_eq!(store.verify().await.err().as_ref(), Some(cause));
    assert_eq!(store.stats().await.err().as_ref(), Some(cause));
    assert_eq!(store.set("/a", value("after")).await.as_ref(), Err(cause));
}

/// Runs one test for each accident and each kind of handle, all at once.
async fn for_each<F: Future<Output = ()> + Send + 'static>(
    test: impl Fn(Accident, &'static str, Options) -> F,
) {
    let mut all = JoinSet::new();
    for accident in ACCIDENTS {
        for (name, options) in kinds() {
            println!("{accident:?}, {name}");
            all.spawn(test(accident, name, options));
        }
    }
    while let Some(ended) = all.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_ends_with_its_cause_and_so_does_every_later_call() {
    for_each(|accident, name, options| async move {
        let place = Place::new().await;
        let store = options.open(place.file()).await.unwrap();
        let mut watch = store.watch("/*").unwrap();
        let told = place.suffer(accident).await;
        let ended = timeout(PATIENCE, watch.try_next()).await;
        let cause = ended.unwrap_or_else(|_| panic!("{accident:?}, {name}: silent")).unwrap_err();
        tells(&cause, told);
        has_ended(&store, &cause).await;
        let _ = store.close().await;
    })
    .await;
}

// The state in memory was answered for ever: no read asked the system for anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_only_read_ends_without_a_watch() {
    for_each(|accident, name, options| async move {
        let place = Place::new().await;
        let store = options.open(place.file()).await.unwrap();
        assert_eq!(store.get("/a").await.unwrap().unwrap().value, value("before"));
        let told = place.suffer(accident).await;
        let reads = async {
            loop {
                match store.get("/a").await {
                    Ok(entry) => assert_eq!(entry.unwrap().value, value("before"), "{accident:?}"),
                    Err(cause) => break cause,
                }
                tokio::task::yield_now().await;
            }
        };
        let cause =
            timeout(PATIENCE, reads).await.unwrap_or_else(|_| panic!("{accident:?}, {name}: it goes on"));
        tells(&cause, told);
        has_ended(&store, &cause).await;
        let _ = store.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_write_is_refused_at_once_and_ends_reads_and_watches() {
    for accident in ACCIDENTS {
        let place = Place::new().await;
        let store = SqliteStore::open(place.file()).await.unwrap();
        let mut watch = store.watch("/*").unwrap();
        let told = place.suffer(accident).await;
        let cause = store.set("/a", value("after")).await.unwrap_err();
        tells(&cause, told);
        assert_eq!(watch.try_next().await, Err(cause.clone()));
        has_ended(&store, &cause).await;
        let _ = store.close().await;
    }
}

// Meanwhile another process may have opened the file where it was, with a log of its own.
#[tokio::test]
async fn a_store_stays_ended_when_its_files_are_back_and_goes_on_when_it_is_opened_again() {
    for accident in [Accident::Renamed, Accident::FolderRenamed] {
        let place = Place::new().await;
        let store = SqliteStore::open(place.file()).await.unwrap();
        assert_eq!(store.set("/a", value("newest")).await, Ok(2));
        place.suffer(accident).await;
        let cause = store.set("/a", value("after")).await.unwrap_err();
        let back = if matches!(accident, Accident::Renamed) { place.file() } else { place.folder() };
        fs::rename(place.away(), back).unwrap();
        has_ended(&store, &cause).await;
        store.close().await.unwrap();

        let again = SqliteStore::open(place.file()).await.unwrap();
        assert_eq!(again.get("/a").await.unwrap().unwrap().value, value("newest"));
        assert_eq!(again.set("/a", value("back")).await, Ok(3));
        assert!(again.verify().await.unwrap().is_intact());
        again.close().await.unwrap();
    }
}

// A clean-up removed what looked like left-overs. Commits went on into a log without a name, and were
// gone with the process; another process made a log of its own beside it.
#[tokio::test]
async fn closing_moves_what_a_removed_log_holds_into_the_database() {
    for suffix in ["-wal", "-shm"] {
        let place = Place::new().await;
        let store = SqliteStore::open(place.file()).await.unwrap();
        assert_eq!(store.set("/a", value("newest")).await, Ok(2));
        place.suffer(Accident::SideRemoved(suffix)).await;
        assert!(store.set("/a", value("after")).await.is_err());
        store.close().await.unwrap();
        let again = SqliteStore::open(place.file()).await.unwrap();
        assert_eq!(again.get("/a").await.unwrap().unwrap().value, value("newest"));
        assert!(again.verify().await.unwrap().is_intact());
        again.close().await.unwrap();
    }
}

#[tokio::test]
async fn closing_leaves_a_file_of_somebody_else_alone() {
    let place = Place::new().await;
    let store = SqliteStore::open(place.file()).await.unwrap();
    assert_eq!(store.set("/a", value("newest")).await, Ok(2));
    fs::write(place.away(), b"of somebody else").unwrap();
    fs::rename(place.away(), place.file()).unwrap();
    tells(&store.close().await.unwrap_err(), "state.db was moved");
    assert_eq!(fs::read(place.file()).unwrap(), b"of somebody else");
    assert!(place.beside("-wal").exists(), "it may be theirs by now");
}

// The last checkpoint wrote old pages over those of the process that had opened the files anew, and removed
// its log.
#[tokio::test]
async fn closing_harms_nobody_who_has_opened_the_file_with_a_log_of_their_own() {
    let place = Place { above: folder() };
    fs::create_dir(place.folder()).unwrap();
    let store = buffered().open(place.file()).await.unwrap();
    assert_eq!(store.set("/a", value("lost with its log")).await, Ok(1));
    place.suffer(Accident::SideRemoved("-wal")).await;
    place.suffer(Accident::SideRemoved("-shm")).await;
    let mut other = Child::start();
    other.ask(&format!("open\t{}", place.file().display())).unwrap();
    assert_eq!(other.ask("set\t/b\t1"), Ok("1".into()));
    other.kill();
    tells(&store.close().await.unwrap_err(), "state.db-wal was moved");

    let again = SqliteStore::open(place.file()).await.unwrap();
    assert_eq!(again.get("/b").await.unwrap().unwrap().value, value("1"));
    assert_eq!(again.get("/a").await.unwrap(), None);
    assert!(again.verify().await.unwrap().is_intact());
    again.close().await.unwrap();
}

// A folder that nobody may enter for a moment ended the store for good: every look that failed counted as a removed file.
#[tokio::test]
async fn files_that_cannot_be_looked_at_for_a_moment_refuse_a_commit_and_end_nothing() {
    let place = Place::new().await;
    let store = SqliteStore::open(place.file()).await.unwrap();
    let mut watch = store.watch("/a").unwrap();
    let head = store.head().await.unwrap();
    // A link to itself: the system cannot say what is below it.
    fs::rename(place.folder(), place.away()).unwrap();
    std::os::unix::fs::symlink(place.folder(), place.folder()).unwrap();
    for _ in 0..2 {
        let refused = store.set("/a", value("meanwhile")).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Storage, "{refused:?}");
        assert!(refused.to_string().contains("state.db cannot be looked at now"), "{refused}");
    }
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, value("before"));
    fs::remove_file(place.folder()).unwrap();
    fs::rename(place.away(), place.folder()).unwrap();
    assert_eq!(store.head().await.unwrap(), head, "nothing was recorded");
    assert_eq!(store.set("/a", value("after")).await, Ok(2));
    let event = timeout(PATIENCE, watch.try_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(event.seq, store.head().await.unwrap().seq);
    store.close().await.unwrap();
    Subject::open(Options::new(), &place.file()).await.audit().await;
}
