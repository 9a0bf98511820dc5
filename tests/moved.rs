//! The accident: a log rotation renamed the file, a clean-up removed another, and the processes
//! that had them open went on: every commit was acknowledged, into files that nobody found again.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use univrs_state::{LocalStore, SqliteStore, StateError, StateStore};

async fn store(folder: &TempDir) -> SqliteStore {
    let store = SqliteStore::open(folder.path().join("state.db")).await.unwrap();
    store.set("/a", b"before".to_vec()).await.unwrap();
    store
}

/// The commit is refused with words that say what to do, and leaves no trace.
async fn is_refused(store: &SqliteStore, file: &str) {
    let refused = store.set("/a", b"after".to_vec()).await;
    let Err(StateError::Storage(why)) = refused else { panic!("{refused:?}") };
    let why = why.what();
    assert!(why.contains(&format!("{file} was moved")) && why.contains("move it back"), "{why}");
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, b"before");
}

async fn ends_intact(store: SqliteStore) {
    let report = store.verify().await.unwrap();
    assert!(report.is_intact(), "{:?}", report.findings);
    store.close().await.unwrap();
}

fn rename(from: &Path, to: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let with = |path: &Path| format!("{}{suffix}", path.display());
        fs::rename(with(from), with(to)).unwrap();
    }
}

#[tokio::test]
async fn a_renamed_file_takes_no_commits_until_it_is_back() {
    let folder = TempDir::new().unwrap();
    let (here, there) = (folder.path().join("state.db"), folder.path().join("elsewhere.db"));
    let store = store(&folder).await;
    rename(&here, &there);
    is_refused(&store, "state.db").await;
    rename(&there, &here);
    store.set("/a", b"back".to_vec()).await.unwrap();
    ends_intact(store).await;
    let again = SqliteStore::open(&here).await.unwrap();
    assert_eq!(again.get("/a").await.unwrap().unwrap().value, b"back");
    ends_intact(again).await;
}

#[tokio::test]
async fn an_unlinked_file_takes_no_commits() {
    let folder = TempDir::new().unwrap();
    let store = store(&folder).await;
    fs::remove_file(folder.path().join("state.db")).unwrap();
    is_refused(&store, "state.db").await;
    ends_intact(store).await;
}

#[tokio::test]
async fn a_replaced_file_takes_no_commits_and_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let (here, other) = (folder.path().join("state.db"), folder.path().join("other.db"));
    let store = store(&folder).await;
    fs::write(&other, b"of somebody else").unwrap();
    fs::rename(&other, &here).unwrap();
    is_refused(&store, "state.db").await;
    ends_intact(store).await;
    assert_eq!(fs::read(&here).unwrap(), b"of somebody else");
}

// A clean-up removed what looked like left-overs. Commits went on into a log without a name, and were
// gone with the process; another process made a log of its own beside it.
#[tokio::test]
async fn a_store_whose_log_or_shared_memory_was_removed_takes_no_commits() {
    for name in ["state.db-wal", "state.db-shm"] {
        for replaced in [false, true] {
            let folder = TempDir::new().unwrap();
            let (here, there) = (folder.path().join(name), folder.path().join("elsewhere"));
            let store = store(&folder).await;
            fs::rename(&here, &there).unwrap();
            if replaced {
                fs::write(&here, b"").unwrap();
            }
            is_refused(&store, name).await;
            fs::rename(&there, &here).unwrap();
            store.set("/a", b"back".to_vec()).await.unwrap();
            ends_intact(store).await;

            let store = SqliteStore::open(folder.path().join("state.db")).await.unwrap();
            store.set("/a", b"before".to_vec()).await.unwrap();
            fs::remove_file(&here).unwrap();
            is_refused(&store, name).await;
            // Closing moves what it holds into the database.
            ends_intact(store).await;
            let again = SqliteStore::open(folder.path().join("state.db")).await.unwrap();
            assert_eq!(again.get("/a").await.unwrap().unwrap().value, b"before");
            ends_intact(again).await;
        }
    }
}
