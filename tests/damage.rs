//! Damage that a store meets while it is open or when it opens: it is told, and goes no further.

use crate::support;
use std::io::Write;
use std::path::{Path, PathBuf};

use univrs_state::stats::Residency;
use univrs_state::{LocalStore, Scan, SqliteStore, StateError, StateStore};

async fn store_with(file: &Path, changes: u8) -> SqliteStore {
    let store = SqliteStore::open(file).await.unwrap();
    for n in 0..changes {
        store.set("/a", vec![n; 100]).await.unwrap();
    }
    store
}

fn file(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("state.db")
}

// What is sealed next rests on the hash and the time of the last change.
#[tokio::test]
async fn nothing_is_written_onto_a_damaged_end_of_the_log() {
    for damage in [
        "hash = zeroblob(32)",
        "at = 9223372036854775807",
        "value = zeroblob(100)",
        "key = '/b'",
        "until = 7",
        "before = hash",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        store_with(&file, 3).await.close().await.unwrap();
        std::fs::remove_file(folder.path().join("state.db-head")).unwrap();
        let raw = rusqlite::Connection::open(&file).unwrap();
        raw.execute(&format!("UPDATE changes SET {damage} WHERE seq = 3"), []).unwrap();
        drop(raw);

        let refused = SqliteStore::open(&file).await;
        assert!(matches!(refused, Err(StateError::Corrupted(_))), "{damage}: {refused:?}");
        let store = SqliteStore::options().read_only(true).open(&file).await.unwrap();
        assert!(matches!(store.head().await, Err(StateError::Corrupted(_))), "{damage}");
        let report = store.verify().await.unwrap();
        assert_eq!(report.findings[0].seq.map(u64::from), Some(3), "{damage}: {report:?}");
    }
}

#[tokio::test]
async fn a_damaged_row_is_never_served() {
    let damages = [
        "value = zeroblob(100)",
        "version = 7",
        "created_at = 1",
        "updated_at = 1",
        "seq = 1",
        "until = 7",
        "until = 0",
    ];
    for damage in damages {
        for resident_bytes in [0, 64 << 20] {
            let folder = tempfile::tempdir().unwrap();
            store_with(&file(&folder), 3).await.close().await.unwrap();
            let raw = rusqlite::Connection::open(file(&folder)).unwrap();
            raw.execute(&format!("UPDATE kv_store SET {damage}"), []).unwrap();
            // What is left in the log would be doubted when the store is opened.
            drop(raw);
            let options = SqliteStore::options().resident_bytes(resident_bytes);
            let store = options.open(file(&folder)).await.unwrap();
            let told = |result: Option<StateError>| matches!(result, Some(StateError::Corrupted(_)));
            assert!(told(store.get("/a").await.err()), "{damage}");
            assert!(told(store.get_many(&["/a"]).await.err()), "{damage}");
            assert!(told(store.scan(Scan::prefix("/")).await.err()), "{damage}");
            assert!(told(store.version("/a").await.err()), "{damage}");
            assert!(told(store.set("/a", vec![]).await.err()), "{damage}: nothing is built on it");
            assert!(!store.verify().await.unwrap().is_intact(), "{damage}");
            assert_ne!(store.stats().await.unwrap().residency, Residency::Whole, "{damage}");
        }
    }
}

#[tokio::test]
async fn what_is_in_memory_is_right_when_its_row_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_with(&file(&folder), 3).await;
    support::resident(&store).await;
    let raw = rusqlite::Connection::open(file(&folder)).unwrap();
    raw.execute("UPDATE kv_store SET value = zeroblob(100)", []).unwrap();
    for _ in 0..100 {
        match store.get("/a").await {
            Ok(entry) => assert_eq!(entry.unwrap().value, [2; 100]),
            Err(error) => assert!(matches!(error, StateError::Corrupted(_))),
        }
    }
    assert!(!store.verify().await.unwrap().is_intact());
}

// Entries that an index hides show where the whole table is read.
#[tokio::test]
async fn what_a_damaged_index_hides_is_found_when_the_state_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_with(&file(&folder), 3).await;
    store.set("/b", vec![]).await.unwrap();
    store.close().await.unwrap();
    let index = "name = 'sqlite_autoindex_kv_store_1'";
    let raw = rusqlite::Connection::open(file(&folder)).unwrap();
    let root = format!("SELECT rootpage FROM sqlite_schema WHERE {index}");
    let root: i64 = raw.query_row(&root, [], |row| row.get(0)).unwrap();
    // While the table has no index, a row is taken from it.
    raw.execute_batch(&format!(
        "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE {index}; \
         UPDATE sqlite_schema SET sql = replace(sql, 'PRIMARY KEY', '') WHERE name = 'kv_store'; \
         PRAGMA writable_schema = RESET; DELETE FROM kv_store WHERE key = '/b'; \
         PRAGMA writable_schema = ON; \
         UPDATE sqlite_schema SET sql = replace(sql, 'TEXT  NOT NULL', 'TEXT PRIMARY KEY NOT NULL') WHERE name = 'kv_store'; \
         INSERT INTO sqlite_schema VALUES ('index', 'sqlite_autoindex_kv_store_1', 'kv_store', {root}, NULL); \
         PRAGMA writable_schema = RESET;"
    ))
    .unwrap();
    drop(raw);
    let store = SqliteStore::open(file(&folder)).await.unwrap();
    while store.stats().await.unwrap().residency == Residency::Loading {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.stats().await.unwrap().residency, Residency::Failed);
    assert!(!store.verify().await.unwrap().is_intact());
}

#[tokio::test]
async fn the_end_of_the_log_is_checked_again_when_another_connection_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_with(&file(&folder), 3).await;
    let raw = rusqlite::Connection::open(file(&folder)).unwrap();
    raw.execute("UPDATE changes SET hash = zeroblob(32) WHERE seq = 3", []).unwrap();
    assert!(matches!(store.set("/a", vec![]).await, Err(StateError::Corrupted(_))));
    let last: i64 = raw.query_row("SELECT max(seq) FROM changes", [], |row| row.get(0)).unwrap();
    assert_eq!(last, 3);
}

#[tokio::test]
async fn a_watch_that_waits_learns_that_the_storage_failed() {
    let folder = tempfile::tempdir().unwrap();
    let file = file(&folder);
    store_with(&file, 5).await.close().await.unwrap();
    let store = SqliteStore::open(&file).await.unwrap();
    let mut watch = store.watch("/*").unwrap();
    let waits = tokio::spawn(async move { watch.try_next().await });
    // Another program writes over the files; in place, as they are mapped.
    for suffix in ["", "-wal", "-shm"] {
        let path = folder.path().join(format!("state.db{suffix}"));
        let mut open = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        let size = usize::try_from(open.metadata().unwrap().len()).unwrap();
        open.write_all(&vec![7; size.max(4096)]).unwrap();
    }
    let cause = waits.await.unwrap().unwrap_err();
    assert!(!matches!(cause, StateError::Closed), "{cause}");
}

#[tokio::test]
async fn an_endless_busy_timeout_is_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteStore::options().busy_timeout(std::time::Duration::MAX);
    let store = options.open(file(&folder)).await.unwrap();
    assert_eq!(store.set("/a", vec![]).await, Ok(1));
}
