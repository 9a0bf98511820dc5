//! The accident: a service opened its store, then forked to become a daemon. The child had neither the
//! threads that answer nor the locks that SQLite believes to have, and waited for ever.

#![allow(unsafe_code)]

use std::path::Path;
use std::time::{Duration, Instant};

use univrs_state::options::{Entropy, OsEntropy};
use univrs_state::watch::SnapshotWatch;
use univrs_state::{LocalStore, Options, SqliteStore, StateError, StateStore, WatchStream};

use crate::support::child::Child;
use crate::support::{PATIENCE, Subject, folder, value};

/// Runs this in a fork, on a thread of its own, so that it knows nothing of the runtime; what it says.
fn in_a_fork(act: impl FnOnce() -> String + Send + 'static) -> String {
    let report = tempfile::NamedTempFile::new().unwrap();
    let path = report.path().to_owned();
    std::thread::spawn(move || {
        // SAFETY: the fork has this thread alone; it runs what is tested, writes a file, and ends
        // without the exit handlers of its parent. The C library lets it allocate.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let said = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
            let _ = std::fs::write(path, said.unwrap_or_else(|_| "it panicked".into()));
            // SAFETY: see above.
            unsafe { libc::_exit(0) };
        }
        assert!(child > 0, "the premise: a process can be forked");
        let (mut status, start) = (0, Instant::now());
        // SAFETY: the child is this process's, and nobody else waits for it.
        while unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == 0 {
            if start.elapsed() > PATIENCE {
                // SAFETY: it has not been waited for, so it is still that child.
                unsafe { libc::kill(child, libc::SIGKILL) };
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(status, 0, "the fork hung or crashed");
    })
    .join()
    .unwrap();
    std::fs::read_to_string(report.path()).unwrap()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// What a fork is told by a handle, watches and an opening that it has no right to. A watch says it once.
fn use_it(store: &SqliteStore, mut watch: WatchStream, mut snapshot: SnapshotWatch, path: &Path) -> String {
    let foreign = |error: Option<StateError>| error == Some(StateError::Forked);
    let refusals = run(async {
        let opened = Options::new().open(path).await.err();
        [
            foreign(store.get("/a").await.err()),
            foreign(store.set("/a", value("fork")).await.err()),
            foreign(store.head().await.err()),
            foreign(store.verify().await.err()),
            foreign(store.watch("/*").err()),
            foreign(watch.try_next().await.err()),
            watch.try_next().await == Ok(None),
            foreign(snapshot.try_next().await.err()),
            snapshot.try_next().await == Ok(None),
            foreign(store.close().await.err()),
            foreign(opened),
        ]
    });
    format!("{refusals:?}")
}

/// In a child of the test: forks with a store open; what the fork was told.
pub(crate) async fn fork(path: &Path) -> String {
    let store = SqliteStore::open(path).await.unwrap();
    store.set("/a", value(1)).await.unwrap();
    let (watch, snapshot) = (store.watch("/b").unwrap(), store.watch_with_snapshot("/b").unwrap());
    let (shared, path) = (store.clone(), path.to_owned());
    let said = in_a_fork(move || {
        let said = use_it(&shared, watch, snapshot, &path);
        // The last handle is dropped, which waits for nobody.
        drop(shared);
        said
    });
    store.set("/a", value(2)).await.unwrap();
    store.close().await.unwrap();
    said
}

/// In a child of the test: forks with a store of SQLite in memory; what the fork was told.
pub(crate) async fn fork_in_memory() -> String {
    let store = SqliteStore::in_memory().await.unwrap();
    store.set("/a", value(1)).await.unwrap();
    let shared = store.clone();
    let said = in_a_fork(move || {
        let (read, written) = run(async { (shared.get("/a").await, shared.set("/a", value("fork")).await) });
        format!("{:?} {:?}", read.map(|_| ()), written)
    });
    store.set("/a", value(2)).await.unwrap();
    assert!(store.verify().await.unwrap().is_intact());
    said
}

/// In a child of the test: forks after it has closed its store; what the fork could do.
pub(crate) async fn close_and_fork(path: &Path) -> String {
    let store = SqliteStore::open(path).await.unwrap();
    store.set("/a", value(1)).await.unwrap();
    store.close().await.unwrap();
    let path = path.to_owned();
    in_a_fork(move || {
        run(async {
            let store = SqliteStore::open(&path).await.unwrap();
            let version = store.set("/a", value("fork")).await.unwrap();
            store.close().await.unwrap();
            version.to_string()
        })
    })
}

/// In a child of the test: forks after some random bytes were drawn; whether both then draw the same.
pub(crate) fn draw_and_fork() -> bool {
    let entropy = std::sync::Arc::new(OsEntropy);
    let draw = |entropy: &OsEntropy| {
        let mut salt = [0; 16];
        assert!(entropy.fill(&mut salt), "the premise: the system has random bytes");
        format!("{salt:?}")
    };
    draw(&entropy);
    let forked = entropy.clone();
    in_a_fork(move || draw(&forked)) == draw(&entropy)
}

#[tokio::test]
async fn a_fork_draws_other_random_bytes_than_the_process_that_it_comes_from() {
    assert_eq!(Child::start().ask("draw and fork"), Ok("false".into()));
}

#[tokio::test]
async fn a_fork_is_told_that_the_store_is_not_its_own_and_harms_nothing() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let mut child = Child::start();
    let said = child.ask(&format!("fork\t{}", path.display())).unwrap();
    assert_eq!(said, format!("{:?}", [true; 11]));
    assert_eq!(Subject::open(Options::new(), &path).await.audit().await.len(), 2);
}

#[tokio::test]
async fn a_fork_with_nothing_but_a_store_in_memory_is_told_too() {
    let told = Child::start().ask("fork in memory").unwrap();
    assert_eq!(told, "Err(Forked) Err(Forked)");
}

#[tokio::test]
async fn a_fork_of_a_process_without_open_stores_opens_its_own() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let mut child = Child::start();
    assert_eq!(child.ask(&format!("close and fork\t{}", path.display())), Ok("2".into()));
    assert_eq!(Subject::open(Options::new(), &path).await.audit().await.len(), 2);
}
