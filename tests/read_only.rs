//! A store that its reader may not write: another user's file, in a folder that cannot be written.
//! The test runs itself again as that other user.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use univrs_state::{LocalStore, SqliteStore, StateError, StateStore};

use crate::support::child::Child;

const FILE: &str = "UNIVRS_READ_ONLY_FILE";

/// Makes the user nobody.
const NOBODY: [&str; 3] = ["--reuid=65534", "--regid=65534", "--clear-groups"];
/// The same, but `access` still asks for the user who started the process, whom nothing is forbidden.
const UNNOTICED: [&str; 3] = ["--euid=65534", "--egid=65534", "--clear-groups"];

/// Runs the test of this name as nobody, with the path in the environment.
fn as_nobody(test: &str, file: &Path) {
    as_user(&NOBODY, test, file);
}

fn as_user(user: &[&str], test: &str, file: &Path) {
    let own = std::env::current_exe().unwrap();
    // The folders of the build may be closed to others; a copy is not.
    let folder = file.parent().unwrap();
    let copy = folder.join("test-binary");
    std::fs::copy(own, &copy).unwrap();
    // Root may write everywhere; anybody else only loses the folder.
    let mut command = if copy.metadata().unwrap().uid() == 0 {
        let mut command = Command::new("setpriv");
        command.args(user).arg(&copy);
        command
    } else {
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o555)).unwrap();
        Command::new(&copy)
    };
    let output =
        command.args([test, "--exact", "--ignored", "--nocapture"]).env(FILE, file).output().unwrap();
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn given_file() -> PathBuf {
    let file: PathBuf = std::env::var_os(FILE).expect("run by another test").into();
    let probe = file.with_file_name("probe");
    assert!(std::fs::write(&probe, "").is_err(), "the premise: this user cannot write the folder");
    file
}

/// A folder that others may enter but not write, with a store that others may read.
async fn readable_store(folder: &Path) -> (SqliteStore, PathBuf) {
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
    let file = folder.join("with space & %41?.db");
    let store = SqliteStore::open(&file).await.unwrap();
    store.set("/a", b"1".to_vec()).await.unwrap();
    for name in std::fs::read_dir(folder).unwrap() {
        std::fs::set_permissions(name.unwrap().path(), PermissionsExt::from_mode(0o644)).unwrap();
    }
    (store, file)
}

#[tokio::test]
async fn a_closed_store_of_another_user_is_read_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (store, file) = readable_store(folder.path()).await;
    store.close().await.unwrap();
    as_nobody("read_only::nobody_reads_a_closed_store", &file);
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        3,
        "nothing was left beside file, head file and copy"
    );
}

// The system refuses more than the permissions show, as SELinux and Landlock do.
#[tokio::test]
async fn a_closed_store_is_read_where_only_an_attempt_shows_that_nothing_may_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let (store, file) = readable_store(folder.path()).await;
    store.close().await.unwrap();
    as_user(&UNNOTICED, "read_only::nobody_reads_a_closed_store", &file);
}

#[tokio::test]
#[ignore = "run by another test, as another user"]
async fn nobody_reads_a_closed_store() {
    let file = given_file();
    let store = SqliteStore::options().read_only(true).open(&file).await.unwrap();
    assert!(store.is_immutable());
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, b"1");
    assert!(store.verify().await.unwrap().is_intact());
    assert_eq!(store.set("/a", vec![]).await, Err(StateError::ReadOnly));
    let error = SqliteStore::open(&file).await.unwrap_err();
    assert!(
        matches!(&error, StateError::CannotOpen { why, .. } if why.what().contains("permissions")),
        "{error}"
    );
}

#[tokio::test]
async fn a_head_file_of_another_user_that_cannot_be_read_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let (store, file) = readable_store(folder.path()).await;
    store.close().await.unwrap();
    let head_file = PathBuf::from(format!("{}-head", file.display()));
    std::fs::set_permissions(head_file, PermissionsExt::from_mode(0o000)).unwrap();
    as_nobody("read_only::nobody_reads_a_store_without_its_head_file", &file);
}

#[tokio::test]
#[ignore = "run by another test, as another user"]
async fn nobody_reads_a_store_without_its_head_file() {
    let store = SqliteStore::options().read_only(true).open(given_file()).await.unwrap();
    let warning = store.warning().unwrap();
    assert!(warning.contains("-head cannot be read") && warning.contains("denied"), "{warning}");
    assert!(store.verify().await.unwrap().is_intact());
}

#[tokio::test]
async fn an_open_store_of_another_user_is_read_beside_its_writer() {
    let folder = tempfile::tempdir().unwrap();
    let (store, file) = readable_store(folder.path()).await;
    as_nobody("read_only::nobody_reads_an_open_store", &file);
    store.set("/a", b"2".to_vec()).await.unwrap();
    assert!(store.verify().await.unwrap().is_intact());
}

#[tokio::test]
#[ignore = "run by another test, as another user"]
async fn nobody_reads_an_open_store() {
    let store = SqliteStore::options().read_only(true).open(given_file()).await.unwrap();
    assert!(!store.is_immutable());
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, b"1");
}

// The index of a log is made by who may write; without one, a reader cannot tell what the log holds.
#[tokio::test]
async fn a_log_that_cannot_be_recovered_by_its_reader_is_told_by_that_name() {
    let folder = tempfile::tempdir().unwrap();
    let (store, file) = readable_store(folder.path()).await;
    let copy = tempfile::tempdir().unwrap();
    std::fs::set_permissions(copy.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let all = format!(
        "cp {0}/* {1}/ && rm {1}/*-shm && chmod 644 {1}/*",
        folder.path().display(),
        copy.path().display()
    );
    assert!(std::process::Command::new("sh").args(["-c", &all]).status().unwrap().success());
    let copied = copy.path().join(file.file_name().unwrap());
    as_nobody("read_only::nobody_is_told_of_a_log_without_its_index", &copied);
    // Who may write recovers it.
    let copied = SqliteStore::open(&copied).await.unwrap();
    assert!(copied.verify().await.unwrap().is_intact());
    assert_eq!(copied.get("/a").await.unwrap().unwrap().value, b"1");
    drop(store);
}

#[tokio::test]
#[ignore = "run by another test, as another user"]
async fn nobody_is_told_of_a_log_without_its_index() {
    let file = given_file();
    let error = SqliteStore::options().read_only(true).open(&file).await.unwrap_err();
    let StateError::CannotOpen { path, why } = &error else { panic!("{error}") };
    assert_eq!(path, &file);
    assert!(why.what().contains("write-ahead log that cannot be recovered here"), "{error}");
}

// The shared memory of a copy is not that of the store, and this user may not make it anew.
#[tokio::test]
async fn a_copy_of_an_open_store_is_read_by_another_user() {
    let folder = tempfile::tempdir().unwrap();
    let (store, file) = readable_store(folder.path()).await;
    let copy = tempfile::tempdir().unwrap();
    std::fs::set_permissions(copy.path(), PermissionsExt::from_mode(0o755)).unwrap();
    // In a process of its own: this one would lose its locks on the files.
    let all = format!("cp {0}/* {1}/ && chmod 644 {1}/*", folder.path().display(), copy.path().display());
    assert!(std::process::Command::new("sh").args(["-c", &all]).status().unwrap().success());
    as_nobody("read_only::nobody_reads_an_open_store", &copy.path().join(file.file_name().unwrap()));
    drop(store);
}

/// A process of nobody's that has a closed store open as a file that does not change.
fn nobody_with(file: &Path) -> Child {
    let folder = file.parent().unwrap();
    let copy = folder.join("test-binary");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut child = if copy.metadata().unwrap().uid() == 0 {
        Child::start_by(&[["setpriv"].as_slice(), &NOBODY].concat(), &copy)
    } else {
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o555)).unwrap();
        Child::start_by(&[], &copy)
    };
    child.ask(&format!("open read-only\t{}", file.display())).unwrap();
    assert_eq!(child.ask("is immutable"), Ok("true".into()), "the premise");
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
    child
}

fn tells_of_the_owner(answer: &Result<String, String>) {
    let Err(why) = answer else { panic!("{answer:?}") };
    assert!(why.starts_with("storage_error: ") && why.contains("is written by its owner"), "{why}");
}

// The watch stayed silent for ever, and reads answered the state of when the file was opened.
#[tokio::test]
async fn a_watch_of_a_file_that_does_not_change_ends_when_its_owner_opens_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, file) = readable_store(folder.path()).await;
    store.close().await.unwrap();
    let mut nobody = nobody_with(&file);
    nobody.tell("watch to the end");
    assert_eq!(nobody.answer(), Some(Ok("it watches".into())));
    let store = SqliteStore::open(&file).await.unwrap();
    tells_of_the_owner(&nobody.answer().unwrap());
    for call in ["get\t/a", "head", "verify"] {
        tells_of_the_owner(&nobody.ask(call));
    }
    // Opened again, it is read live.
    nobody.ask(&format!("open read-only\t{}", file.display())).unwrap();
    assert_eq!(nobody.ask("is immutable"), Ok("false".into()));
    assert_eq!(store.set("/a", b"2".to_vec()).await, Ok(2));
    assert!(nobody.ask("head").unwrap().starts_with("2:"));
    store.close().await.unwrap();
}

#[tokio::test]
async fn reads_of_a_file_that_does_not_change_end_when_it_was_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (store, file) = readable_store(folder.path()).await;
    store.close().await.unwrap();
    let mut nobody = nobody_with(&file);
    // Nobody reads meanwhile, and no file stays beside the database.
    let store = SqliteStore::open(&file).await.unwrap();
    assert_eq!(store.set("/a", b"2".to_vec()).await, Ok(2));
    store.close().await.unwrap();
    // The file is read for it, and that is checked at once.
    tells_of_the_owner(&nobody.ask("verify"));
    while nobody.ask("get\t/a").is_ok() {}
    tells_of_the_owner(&nobody.ask("get\t/a"));
}

// An empty journal was taken for one that must be undone: reads refused the file, and the next write mended it.
#[tokio::test]
async fn a_store_that_another_program_took_out_of_its_journal_mode_is_read_and_written() {
    for mode in ["DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF"] {
        for writes in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("state.db");
            let store = SqliteStore::open(&file).await.unwrap();
            store.set("/a", b"1".to_vec()).await.unwrap();
            store.close().await.unwrap();
            let other = rusqlite::Connection::open(&file).unwrap();
            other.query_row(&format!("PRAGMA journal_mode = {mode}"), [], |_| Ok(())).unwrap();
            if writes {
                other.execute_batch("UPDATE meta SET value = value").unwrap();
            }
            other.close().unwrap();
            let journal = folder.path().join("state.db-journal");
            let left = journal.metadata().ok().map(|left| left.len());
            match mode {
                "TRUNCATE" => assert_eq!(left, Some(0), "the premise"),
                "PERSIST" => assert!(left.is_some(), "the premise"),
                _ => assert_eq!(left, None, "the premise"),
            }

            let reader = SqliteStore::options().read_only(true).open(&file).await.unwrap();
            assert!(reader.is_immutable());
            assert_eq!(reader.get("/a").await.unwrap().unwrap().value, b"1", "{mode}");
            assert!(reader.verify().await.unwrap().is_intact());
            reader.close().await.unwrap();

            let store = SqliteStore::open(&file).await.unwrap();
            assert_eq!(store.set("/a", b"2".to_vec()).await, Ok(2));
            store.close().await.unwrap();
            let reader = SqliteStore::options().read_only(true).open(&file).await.unwrap();
            assert!(!reader.is_immutable(), "a write has put it back into its mode");
            assert_eq!(reader.get("/a").await.unwrap().unwrap().value, b"2", "{mode}");
            reader.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_journal_that_must_be_undone_is_refused_to_a_reader() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.db");
    let store = SqliteStore::open(&file).await.unwrap();
    store.set("/a", b"1".to_vec()).await.unwrap();
    store.close().await.unwrap();
    let other = rusqlite::Connection::open(&file).unwrap();
    other.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(())).unwrap();
    other.close().unwrap();
    // The first byte of a journal that is in use; nothing follows that SQLite would undo.
    std::fs::write(folder.path().join("state.db-journal"), [0xd9; 512]).unwrap();
    let error = SqliteStore::options().read_only(true).open(&file).await.unwrap_err();
    assert!(matches!(error, StateError::CannotOpen { .. }), "{error}");
    let store = SqliteStore::open(&file).await.unwrap();
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, b"1");
    store.close().await.unwrap();
}
