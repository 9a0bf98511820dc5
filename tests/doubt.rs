//! The accident: a store was killed, somebody put back an older copy of `state.db`, and left the newer
//! `state.db-wal` where it was. SQLite laid the one over the other, the store opened, answered wrong, and took
//! commits. `store::doubt` tries all states of a file under all logs on a simulated disk; here are real files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use tempfile::TempDir;
use univrs_state::options::Durability;
use univrs_state::{LocalStore, Options, SqliteStore, StateError, StateStore};

use crate::support::child::Child;
use crate::support::{Local, audit};

fn beside(file: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", file.display()))
}

/// Copies a file, with its times or without.
fn copy(from: &Path, to: &Path, keeps_times: bool) {
    fs::copy(from, to).unwrap();
    let time = if keeps_times { modified(from) } else { SystemTime::now() };
    File::options().write(true).open(to).unwrap().set_modified(time).unwrap();
}

fn modified(file: &Path) -> SystemTime {
    fs::metadata(file).unwrap().modified().unwrap()
}

/// Copies what is on disk of a store: what a kill would leave.
fn copy_all(from: &Path, to: &Path, keeps_times: bool) {
    for suffix in ["", "-wal", "-head"] {
        let (from, to) = (beside(from, suffix), beside(to, suffix));
        if from.exists() {
            copy(&from, &to, keeps_times);
        } else {
            let _ = fs::remove_file(to);
        }
    }
}

/// Options of an opening, and the number of changes that it verified.
fn observed() -> (Options, Arc<AtomicU64>) {
    let verified = Arc::new(AtomicU64::new(0));
    let count = verified.clone();
    let options = Options::new().opening_progress(move |progress| {
        assert!(progress.done <= progress.total);
        count.fetch_max(progress.done, Ordering::Relaxed);
    });
    (options, verified)
}

async fn set(store: &SqliteStore, from: u32, to: u32) {
    for n in from..to {
        let value = format!("{n};{}", "x".repeat(1500)).into_bytes();
        store.set(&format!("/k/{}", n % 60), value).await.unwrap();
    }
}

/// The path of a store that was killed with 130 changes; beside it lie its database with 20, as it was when the store
/// was closed, and the head file of then.
async fn killed(folder: &TempDir) -> PathBuf {
    let (live, file) = (folder.path().join("live.db"), folder.path().join("state.db"));
    let store = SqliteStore::open(&live).await.unwrap();
    set(&store, 0, 20).await;
    store.close().await.unwrap();
    copy(&live, &folder.path().join("older.db"), true);
    copy(&beside(&live, "-head"), &folder.path().join("older.db-head"), true);
    let store = SqliteStore::open(&live).await.unwrap();
    set(&store, 20, 120).await;
    store.close().await.unwrap();
    let store = SqliteStore::open(&live).await.unwrap();
    set(&store, 120, 130).await;
    copy_all(&live, &file, true);
    store.close().await.unwrap();
    file
}

type Contents = BTreeMap<PathBuf, (Vec<u8>, SystemTime)>;

/// The database and its log, and when they were changed.
fn contents(file: &Path) -> Contents {
    let files = ["", "-wal"].map(|suffix| beside(file, suffix));
    files.into_iter().map(|path| (path.clone(), (fs::read(&path).unwrap(), modified(&path)))).collect()
}

async fn is_refused(file: &Path) {
    let before = contents(file);
    let mut told = Vec::new();
    for read_only in [true, false] {
        for accept_loss in [false, !read_only] {
            let (options, verified) = observed();
            let opened = options.read_only(read_only).accept_loss(accept_loss).open(file).await;
            let error = opened.unwrap_err();
            assert!(verified.load(Ordering::Relaxed) > 0, "{error}");
            assert!(matches!(error, StateError::Corrupted(_)), "{error:?}");
            told.push(error.to_string());
            assert!(contents(file) == before, "a refusal leaves both files as they are");
        }
    }
    let (path, what) = (file.display().to_string(), "the database file and its log do not belong together");
    assert!(told[0].contains(&path) && told[0].contains(what) && told[0].contains("-wal"), "{}", told[0]);
    assert!(!told[0].contains("xxxx"), "an error shows no value");
    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
}

/// Opens it, verified or not, with all 130 changes.
async fn opens(file: &Path, is_verified: bool) {
    let (options, verified) = observed();
    let store = options.open(file).await.unwrap();
    assert_eq!(verified.load(Ordering::Relaxed), if is_verified { 130 } else { 0 });
    assert_eq!(store.head().await.unwrap().seq.as_u64(), 130);
    assert_eq!(audit(&Local::Sqlite(store.clone())).await.len(), 130);
    store.close().await.unwrap();
}

#[tokio::test]
async fn an_older_database_under_a_newer_log_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = killed(&folder).await;
    let older = folder.path().join("older.db");
    let kept = folder.path().join("kept.db");
    copy_all(&file, &kept, true);
    for keeps_times in [true, false] {
        copy(&older, &file, keeps_times);
        is_refused(&file).await;
        // With its own head file, which names it, and with none.
        copy(&beside(&older, "-head"), &beside(&file, "-head"), true);
        is_refused(&file).await;
        fs::remove_file(beside(&file, "-head")).unwrap();
        is_refused(&file).await;
        copy(&beside(&kept, "-head"), &beside(&file, "-head"), true);
    }
    // What the message says helps.
    copy(&kept, &file, true);
    opens(&file, false).await;
    copy_all(&kept, &file, true);
    copy(&older, &file, true);
    fs::rename(beside(&file, "-wal"), folder.path().join("away")).unwrap();
    let error = SqliteStore::open(&file).await.unwrap_err().to_string();
    assert!(error.contains("ends at 20, but had reached 130"), "{error}");
    let store = SqliteStore::options().accept_loss(true).open(&file).await.unwrap();
    assert_eq!(store.head().await.unwrap().seq.as_u64(), 21, "the loss is recorded");
    assert!(store.verify().await.unwrap().is_intact());
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_vacuumed_copy_under_a_newer_log_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = killed(&folder).await;
    let older = rusqlite::Connection::open(folder.path().join("older.db")).unwrap();
    let vacuumed = folder.path().join("vacuumed.db");
    older.execute("VACUUM INTO ?1", [vacuumed.to_str().unwrap()]).unwrap();
    drop(older);
    fs::rename(&vacuumed, &file).unwrap();
    is_refused(&file).await;
}

#[tokio::test]
async fn an_older_log_over_a_newer_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = killed(&folder).await;
    let log = fs::read(beside(&file, "-wal")).unwrap();
    let store = SqliteStore::open(&file).await.unwrap();
    set(&store, 130, 230).await;
    store.close().await.unwrap();
    fs::write(beside(&file, "-wal"), log).unwrap();
    is_refused(&file).await;
}

#[tokio::test]
async fn a_store_that_was_killed_or_closed_is_not_doubted() {
    for durability in ["open", "open buffered"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.db");
        for life in 0..4 {
            let mut child = Child::start();
            child.ask(&format!("{durability}\t{}", file.display())).unwrap();
            for n in 0..30 {
                child.ask(&format!("fill\t/{n}\t{}", 2000 + life)).unwrap();
            }
            if life == 3 {
                child.ask("close").unwrap();
            }
            child.kill();
            let is_left = beside(&file, "-wal").exists();
            assert_eq!(is_left, life < 3, "the premise");
            let (options, verified) = observed();
            let store = options.read_only(life == 0).open(&file).await.unwrap();
            assert_eq!(verified.load(Ordering::Relaxed), 0, "{durability} {life}");
            audit(&Local::Sqlite(store.clone())).await;
            store.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_copy_that_keeps_no_times_is_verified_once_with_progress() {
    let folder = tempfile::tempdir().unwrap();
    let (file, copied) = (killed(&folder).await, folder.path().join("copied.db"));
    copy_all(&file, &copied, false);
    let (options, verified) = observed();
    let reader = options.read_only(true).open(&copied).await.unwrap();
    assert_eq!(verified.load(Ordering::Relaxed), 130);
    // Beside one that is sure, nobody doubts.
    opens(&copied, false).await;
    reader.close().await.unwrap();
    copy_all(&file, &copied, false);
    opens(&copied, true).await;
    opens(&copied, false).await;
    // One that keeps them is not doubted.
    copy_all(&file, &copied, true);
    opens(&copied, false).await;
}

// A version without pairs went on with the store: what it wrote into the head file names no pair.
#[tokio::test]
async fn a_head_file_without_pairs_is_missing_knowledge_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = killed(&folder).await;
    let mut head = fs::read(beside(&file, "-head")).unwrap();
    for slot in [0, 512] {
        head[slot + 72..slot + 128].fill(0);
    }
    fs::write(beside(&file, "-head"), &head[..584]).unwrap();
    let (options, verified) = observed();
    let store = options.open(&file).await.unwrap();
    assert_eq!((verified.load(Ordering::Relaxed), store.warning()), (130, None));
    set(&store, 130, 131).await;
    copy_all(&file, &folder.path().join("again.db"), true);
    store.close().await.unwrap();
    let (options, verified) = observed();
    let store = options.open(folder.path().join("again.db")).await.unwrap();
    assert_eq!(verified.load(Ordering::Relaxed), 0, "it is known now");
    audit(&Local::Sqlite(store)).await;
}

#[tokio::test]
async fn a_database_that_was_replaced_while_another_process_has_it_open_is_doubted() {
    let folder = tempfile::tempdir().unwrap();
    let file = killed(&folder).await;
    let mut child = Child::start();
    child.ask(&format!("open\t{}", file.display())).unwrap();
    let (options, verified) = observed();
    options.open(&file).await.unwrap().close().await.unwrap();
    assert_eq!(verified.load(Ordering::Relaxed), 0, "beside one that is sure, nobody doubts");
    for n in 0..3 {
        child.ask(&format!("fill\t/{n}\t10")).unwrap();
    }
    // An older copy takes the name, and the child goes on to hold the log that lies there.
    fs::rename(folder.path().join("older.db"), &file).unwrap();
    is_refused(&file).await;
    child.kill();
    is_refused(&file).await;
}

#[tokio::test]
async fn a_progress_function_that_panics_fails_the_opening_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = killed(&folder).await;
    copy(&file, &folder.path().join("state.db-copy"), false);
    fs::rename(folder.path().join("state.db-copy"), &file).unwrap();
    let opened = Options::new().opening_progress(|_| panic!("on purpose")).open(&file).await;
    assert!(matches!(opened, Err(StateError::Panicked(_))), "{opened:?}");
    assert!(Options::new().durability(Durability::Synced).open(&file).await.is_ok());
}
