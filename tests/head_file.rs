//! The chain cannot see that its tail is gone: with a lost write-ahead log, or an older copy put
//! back, everything hangs together and newer commits are missing. The head file beside the database names how far the log had reached.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use univrs_state::log::StoreId;
use univrs_state::options::Durability;
use univrs_state::{LocalStore, Meta, SqliteStore, StateError, StateStore};

use crate::support::{Local, audit};

const FILES: [&str; 3] = ["", "-wal", "-head"];

fn beside(file: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", file.display()))
}

/// Copies the files of an open store, as they are on disk at this moment.
fn copy(from: &Path, to: &Path) {
    for suffix in FILES {
        let source = beside(from, suffix);
        if source.exists() {
            std::fs::copy(source, beside(to, suffix)).unwrap();
        }
    }
}

async fn store_with(file: &Path, changes: u64) -> SqliteStore {
    let store = SqliteStore::open(file).await.unwrap();
    for n in 0..changes {
        store.set("/a", n.to_string().into_bytes()).await.unwrap();
    }
    store
}

async fn refusal(file: &Path) -> String {
    let error = SqliteStore::open(file).await.unwrap_err();
    assert!(matches!(error, StateError::Corrupted(_)), "{error}");
    let read_only = SqliteStore::options().read_only(true).open(file).await.unwrap_err();
    assert_eq!(read_only, error, "readers are told, too");
    error.to_string()
}

#[tokio::test]
async fn a_lost_write_ahead_log_is_noticed_and_says_how_much_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("live.db");
    let store = store_with(&file, 3).await;
    store.close().await.unwrap();
    let store = store_with(&file, 4).await;

    let copied = folder.path().join("copied.db");
    copy(&file, &copied);
    std::fs::remove_file(beside(&copied, "-wal")).unwrap();
    let error = refusal(&copied).await;
    assert!(error.contains("ends at 3, but had reached 7: 4 changes are missing"), "{error}");
    audit(&Local::Sqlite(store.clone())).await;
}

#[tokio::test]
async fn an_older_copy_that_went_on_is_noticed_by_its_hash() {
    let folder = tempfile::tempdir().unwrap();
    let (file, backup) = (folder.path().join("live.db"), folder.path().join("backup.db"));
    store_with(&file, 2).await.close().await.unwrap();
    copy(&file, &backup);
    store_with(&file, 1).await.close().await.unwrap();
    let newer = std::fs::read(beside(&file, "-head")).unwrap();
    // The older copy goes on without its head file, which comes back afterwards.
    std::fs::rename(&backup, &file).unwrap();
    std::fs::remove_file(beside(&file, "-head")).unwrap();
    store_with(&file, 5).await.close().await.unwrap();
    std::fs::write(beside(&file, "-head"), newer).unwrap();
    let error = refusal(&file).await;
    assert!(error.contains("another hash at 3"), "{error}");
}

#[tokio::test]
async fn a_loss_can_be_accepted_by_the_only_opener_and_stands_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("live.db");
    let store = store_with(&file, 3).await;
    let copied = folder.path().join("copied.db");
    store.close().await.unwrap();
    let store = store_with(&file, 1).await;
    copy(&file, &copied);
    drop(store);
    std::fs::remove_file(beside(&copied, "-wal")).unwrap();
    refusal(&copied).await;

    let other = rusqlite::Connection::open(&copied).unwrap();
    other.query_row("SELECT count(*) FROM changes", [], |_| Ok(())).unwrap();
    let error = SqliteStore::options().accept_loss(true).open(&copied).await.unwrap_err();
    assert!(error.to_string().contains("open elsewhere"), "{error}");
    drop(other);

    let store = SqliteStore::options().accept_loss(true).open(&copied).await.unwrap();
    let recorded = store.history("/.univrs/accepted-loss", None, 10).await.unwrap();
    let meta = recorded[0].meta.as_ref().unwrap();
    assert_eq!((recorded.len(), meta.cause()), (1, Some("loss_accepted")));
    assert!(meta.reason.as_ref().unwrap().contains("1 change is missing"), "{meta:?}");
    store.set("/a", b"on".to_vec()).await.unwrap();
    assert!(store.verify().await.unwrap().is_intact());
    store.close().await.unwrap();

    let store = SqliteStore::options().accept_loss(true).open(&copied).await.unwrap();
    assert_eq!(store.head().await.unwrap().seq.as_u64(), 5, "there is nothing left to accept");
}

#[tokio::test]
async fn a_loss_is_recorded_with_who_accepts_it_and_why_and_else_with_what_was_lost() {
    let said = [
        (Meta::new(), None, "1 change is missing"),
        (Meta::new().actor("alice@ops"), Some("alice@ops"), "1 change is missing"),
        (Meta::new().actor("alice@ops").reason("ticket 12").label("l", "v"), Some("alice@ops"), "ticket 12"),
    ];
    for (meta, actor, reason) in said {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("live.db");
        store_with(&file, 1).await.close().await.unwrap();
        std::fs::remove_file(&file).unwrap();
        let options = SqliteStore::options().accept_loss(true);
        let long = options.clone().loss_meta(Meta::new().reason("x".repeat(1100)));
        let error = long.open(&file).await.unwrap_err().to_string();
        assert!(error.contains("the option loss_meta has") && error.contains("the limit is 1024"), "{error}");
        let only_said = SqliteStore::options().loss_meta(meta.clone()).open(&file).await.unwrap_err();
        assert!(only_said.to_string().contains("accept_loss"), "it is not accepted by that: {only_said}");
        assert!(!file.exists(), "nothing was made");

        let store = options.loss_meta(meta.clone()).open(&file).await.unwrap();
        let recorded = store.history("/.univrs/accepted-loss", None, 10).await.unwrap();
        let found = recorded[0].meta.as_deref().unwrap();
        assert_eq!((found.cause(), found.actor.as_deref()), (Some("loss_accepted"), actor));
        assert!(found.reason.as_ref().unwrap().contains(reason), "{found:?}");
        assert_eq!(found.labels, meta.labels);
        // It is of the loss alone, and not of what the store writes later.
        store.set("/a", b"1".to_vec()).await.unwrap();
        assert_eq!(store.history("/a", None, 1).await.unwrap()[0].meta, None);
        assert!(store.verify().await.unwrap().is_intact());
    }
}

#[tokio::test]
async fn a_missing_head_file_is_no_alarm_and_an_unreadable_one_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("live.db");
    for durability in [Durability::Synced, Durability::Buffered] {
        let store = SqliteStore::options().durability(durability).open(&file).await.unwrap();
        store.set("/a", b"1".to_vec()).await.unwrap();
        store.close().await.unwrap();
        std::fs::remove_file(beside(&file, "-head")).unwrap();
        let store = SqliteStore::open(&file).await.unwrap();
        assert_eq!(store.warning(), None);
        store.close().await.unwrap();

        std::fs::write(beside(&file, "-head"), [7; 600]).unwrap();
        let store = SqliteStore::open(&file).await.unwrap();
        assert!(store.warning().unwrap().contains("-head cannot be read"), "{:?}", store.warning());
        store.close().await.unwrap();
        let store = SqliteStore::open(&file).await.unwrap();
        assert_eq!(store.warning(), None, "it is written anew");
        audit(&Local::Sqlite(store.clone())).await;
        store.close().await.unwrap();
        std::fs::remove_file(&file).unwrap();
        std::fs::remove_file(beside(&file, "-head")).unwrap();
    }
}

/// A closed store with three changes, whose database is then removed, or emptied.
async fn without_database(folder: &Path, removed: bool) -> (PathBuf, StoreId) {
    let file = folder.join("live.db");
    let store = store_with(&file, 3).await;
    let id = store.store_id();
    store.close().await.unwrap();
    if removed {
        std::fs::remove_file(&file).unwrap();
    } else {
        std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(0).unwrap();
    }
    (file, id)
}

/// Names and contents of the files in a folder.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

// The accident: a file system check emptied the file. The next start made a new store of it, without
// a word, though the head file named a hundred thousand changes.
#[tokio::test]
async fn a_database_that_is_gone_beside_its_head_file_is_a_loss_and_not_a_new_store() {
    for removed in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let (file, id) = without_database(folder.path(), removed).await;
        let before = contents(folder.path());
        let error = refusal(&file).await;
        assert!(error.contains("ends at 0, but had reached 3: 3 changes are missing"), "{error}");
        assert!(error.contains("accept_loss") && error.contains("-head"), "it says what to do: {error}");
        let no_creation = SqliteStore::options().create(false).open(&file).await.unwrap_err();
        assert_eq!(no_creation.to_string(), error);
        assert!(contents(folder.path()) == before, "a refusal leaves everything as it is");

        let store = SqliteStore::options().accept_loss(true).open(&file).await.unwrap();
        assert_eq!(store.store_id(), id, "cursors tell by the hash");
        let recorded = store.history("/.univrs/accepted-loss", None, 10).await.unwrap();
        let meta = recorded[0].meta.as_ref().unwrap();
        assert_eq!((recorded.len(), meta.cause()), (1, Some("loss_accepted")));
        assert!(meta.reason.as_ref().unwrap().contains("3 changes are missing"), "{meta:?}");
        store.close().await.unwrap();
        let store = SqliteStore::open(&file).await.unwrap();
        assert_eq!(store.head().await.unwrap().seq.as_u64(), 1);
        assert!(store.verify().await.unwrap().is_intact());
    }
}

#[tokio::test]
async fn a_store_that_was_removed_with_its_head_file_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (file, id) = without_database(folder.path(), true).await;
    std::fs::remove_file(beside(&file, "-head")).unwrap();
    let store = SqliteStore::open(&file).await.unwrap();
    assert_ne!(store.store_id(), id);
    assert!(audit(&Local::Sqlite(store)).await.is_empty());
}

// SQLite deletes the log of a database that is empty. All that was left of a store would be lost by
// trying to open it.
#[tokio::test]
async fn a_write_ahead_log_whose_database_is_gone_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (live, file) = (folder.path().join("live.db"), folder.path().join("copied.db"));
    let store = store_with(&live, 3).await;
    std::fs::copy(beside(&live, "-wal"), beside(&file, "-wal")).unwrap();
    audit(&Local::Sqlite(store)).await;
    for prepared in [false, true] {
        if prepared {
            std::fs::write(&file, "").unwrap();
        }
        let before = contents(folder.path());
        for accept_loss in [false, true] {
            let error = SqliteStore::options().accept_loss(accept_loss).open(&file).await.unwrap_err();
            assert!(matches!(error, StateError::CannotOpen { .. }), "{error:?}");
            assert!(error.to_string().contains("-wal away"), "{error}");
        }
        let read_only = SqliteStore::options().read_only(true).open(&file).await.unwrap_err();
        assert!(read_only.to_string().contains("-wal away"), "{read_only}");
        assert!(contents(folder.path()) == before);
    }
    std::fs::remove_file(beside(&file, "-wal")).unwrap();
    audit(&Local::Sqlite(SqliteStore::open(&file).await.unwrap())).await;
}

// A folder or a link in its place stopped reads, too, with the advice of a database.
#[cfg(unix)]
#[tokio::test]
async fn what_is_in_the_place_of_a_head_file_is_a_note_to_readers_and_refuses_writers() {
    let folder = tempfile::tempdir().unwrap();
    let (file, head) = (folder.path().join("live.db"), folder.path().join("live.db-head"));
    store_with(&file, 1).await.close().await.unwrap();
    for (target, named) in
        [(None, "directory"), (Some("nowhere"), "remove it"), (Some("live.db"), "remove it")]
    {
        std::fs::remove_file(&head).unwrap();
        match target {
            None => std::fs::create_dir(&head).unwrap(),
            Some(target) => std::os::unix::fs::symlink(target, &head).unwrap(),
        }
        let reader = SqliteStore::options().read_only(true).open(&file).await.unwrap();
        assert_eq!(reader.head().await.unwrap().seq.as_u64(), 1);
        let warning = reader.warning().unwrap();
        assert!(warning.contains("live.db-head cannot be read") && warning.contains(named), "{warning}");
        reader.close().await.unwrap();
        let error = SqliteStore::open(&file).await.unwrap_err();
        assert!(
            matches!(&error, StateError::CannotOpen { path, .. } if path.ends_with("live.db-head")),
            "{error:?}"
        );
        assert!(error.to_string().to_lowercase().contains(named), "{error}");
        let _ = std::fs::remove_dir(&head);
        let _ = std::fs::remove_file(&head);
        audit(&Local::Sqlite(SqliteStore::open(&file).await.unwrap())).await;
    }
}
