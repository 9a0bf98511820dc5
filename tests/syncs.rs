//! Real system calls in their real order: whatever is acknowledged is on disk, even on a file system that keeps bytes
//! and names in memory until they are synced. The simulated disk of the random suites replaces exactly these calls.
//!
//! The accident: imports into a new folder were acknowledged, and gone after a loss of power, because the name of the
//! folder was never synced.

mod trace;

use std::fs;
use std::path::{Path, PathBuf};

use univrs_state::{LocalStore, Options, SqliteStore, StateStore};

use crate::support::child::Child;
use crate::support::{Subject, folder};
use trace::Trace;

/// A child whose system calls are traced, and the file of the trace.
fn traced(folder: &Path, more: &[&str]) -> (Child, PathBuf) {
    let file = folder.join("trace");
    let mut through = trace::through(&file);
    through.extend(more.iter().map(ToString::to_string));
    let through: Vec<&str> = through.iter().map(String::as_str).collect();
    (Child::start_by(&through, &std::env::current_exe().unwrap()), file)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    format!("{}{suffix}", path.display()).into()
}

/// Everything that a user needs to find this file again is on disk.
fn is_durable(trace: &Trace, path: &Path, folders: &[&Path], at: usize) {
    for folder in folders {
        assert!(trace.name_is_on_disk(folder, at), "the name of {} is not on disk", folder.display());
    }
    assert!(trace.name_is_on_disk(path, at), "the name of {} is not on disk", path.display());
    assert!(trace.bytes_are_on_disk(path, at), "the bytes of {} are not on disk", path.display());
}

/// The bytes of a file are on disk before it gets its name, so that no half file is found under it.
fn is_synced_before_it_is_named(trace: &Trace, path: &Path) {
    let named = trace.calls().find(|call| call.renames_to(path)).unwrap();
    let draft: PathBuf = named.arguments.split('"').nth(1).unwrap().into();
    assert!(trace.last_write(&draft, named.began()).is_some(), "the premise: a draft is written");
    assert!(trace.bytes_are_on_disk(&draft, named.began()), "{} is named first", path.display());
}

#[tokio::test]
async fn a_new_store_and_its_folders_are_on_disk_before_it_is_open() {
    let root = folder();
    let root_path = root.path().canonicalize().unwrap();
    let (a, b) = (root_path.join("a"), root_path.join("a/b"));
    let path = b.join("state.db");
    let (mut child, file) = traced(&root_path, &[]);
    child.ask(&format!("open\t{}", path.display())).unwrap();
    child.ask("set\t/a\t1").unwrap();
    child.end();
    let trace = Trace::read(&file);
    is_synced_before_it_is_named(&trace, &path);
    is_durable(&trace, &path, &[&a, &b], trace.answer("ok "));
    let acknowledged = trace.answer("ok 1");
    let log = beside(&path, "-wal");
    assert!(trace.last_write(&log, acknowledged).is_some(), "the premise: the commit is in the log");
    is_durable(&trace, &log, &[], acknowledged);
    Subject::open(Options::new(), &path).await.audit().await;
}

#[tokio::test]
async fn nothing_is_acknowledged_in_folders_that_another_process_made_and_has_not_synced() {
    let root = folder();
    let root_path = root.path().canonicalize().unwrap();
    let (a, b) = (root_path.join("a"), root_path.join("a/b"));
    fs::create_dir_all(&b).unwrap();
    let path = b.join("state.db");
    let (mut child, file) = traced(&root_path, &[]);
    child.ask(&format!("open\t{}", path.display())).unwrap();
    child.end();
    let trace = Trace::read(&file);
    is_durable(&trace, &path, &[&a, &b], trace.answer("ok "));
    // Another process that finds the file may be faster than the one that made it.
    fs::remove_file(&file).unwrap();
    let (mut second, file) = traced(&root_path, &[]);
    second.ask(&format!("open\t{}", path.display())).unwrap();
    second.ask("set\t/a\t1").unwrap();
    second.end();
    let trace = Trace::read(&file);
    is_durable(&trace, &path, &[&a, &b], trace.answer("ok "));
    // Later ones only sync the name of the file, because a commit shows that the folders are on disk.
    fs::remove_file(&file).unwrap();
    let (mut third, file) = traced(&root_path, &[]);
    third.ask(&format!("open\t{}", path.display())).unwrap();
    third.end();
    let trace = Trace::read(&file);
    is_durable(&trace, &path, &[], trace.answer("ok "));
    assert!(!trace.name_is_on_disk(&a, trace.answer("ok ")), "it takes time for nothing");
    Subject::open(Options::new(), &path).await.audit().await;
}

#[tokio::test]
async fn an_import_and_an_export_are_on_disk_with_their_folders_before_they_are_told() {
    let root = folder();
    let root_path = root.path().canonicalize().unwrap();
    let (from, log) = (root_path.join("from.db"), root_path.join("state.log"));
    let (a, b) = (root_path.join("a"), root_path.join("a/b"));
    let (made, path) = (b.join("c"), b.join("c/state.db"));
    fs::create_dir_all(&b).unwrap();
    let (mut child, file) = traced(&root_path, &[]);
    child.ask(&format!("open\t{}", from.display())).unwrap();
    child.ask("set\t/a\t1").unwrap();
    child.ask("close").unwrap();
    child.ask(&format!("open\t{}", from.display())).unwrap();
    child.ask(&format!("export\t{}", log.display())).unwrap();
    child.ask("head").unwrap();
    child.ask(&format!("import\t{}\t{}", log.display(), path.display())).unwrap();
    let head = child.ask("head").unwrap();
    child.end();
    let trace = Trace::read(&file);
    is_synced_before_it_is_named(&trace, &log);
    is_durable(&trace, &log, &[], trace.answer(&format!("ok {head}")));
    is_synced_before_it_is_named(&trace, &path);
    let named = trace.calls().find(|call| call.renames_to(&path)).unwrap();
    for folder in [&a, &b, &made] {
        assert!(trace.name_is_on_disk(folder, named.began()), "{} is not on disk", folder.display());
    }
    let opened =
        trace.calls().find(|call| call.writes(&beside(&path, "-wal"))).map_or(usize::MAX, trace::Call::began);
    assert!(trace.name_is_on_disk(&path, opened), "it is opened before its name is on disk");
    assert!(!trace.calls().any(|call| call.name.starts_with("link")), "a crash would leave a second name");
    Subject::open(Options::new(), &path).await.audit().await;
}

#[tokio::test]
async fn the_head_file_of_a_buffered_store_names_only_what_is_on_disk() {
    let root = folder();
    let root_path = root.path().canonicalize().unwrap();
    let path = root_path.join("state.db");
    let (mut child, file) = traced(&root_path, &[]);
    child.ask(&format!("open buffered\t{}", path.display())).unwrap();
    for n in 0..3 {
        child.ask(&format!("set\t/a\t{n}")).unwrap();
    }
    child.ask("close").unwrap();
    child.end();
    let trace = Trace::read(&file);
    let (log, head) = (beside(&path, "-wal"), beside(&path, "-head"));
    let acknowledged = trace.answer("ok 3");
    assert!(!trace.bytes_are_on_disk(&log, acknowledged), "the premise: a buffered commit is not synced");
    // The log may go only when the database holds on disk what was in it.
    let emptied =
        |call: &&trace::Call| call.name == "ftruncate" && call.writes(&log) || call.names_removed(&log);
    let emptied = trace.calls().filter(emptied).find(|call| call.began() > acknowledged).unwrap();
    assert!(trace.last_write(&path, emptied.began()).is_some(), "the premise: the log was moved");
    assert!(trace.bytes_are_on_disk(&path, emptied.began()), "the log went before the database was synced");
    // A slot of the head file: 16 bytes of the store, 8 of the position.
    let names_the_end = |call: &&trace::Call| {
        call.writes(&head) && call.bytes().get(16..24) == Some(&[0, 0, 0, 0, 0, 0, 0, 3])
    };
    let recorded: Vec<_> =
        trace.calls().filter(names_the_end).filter(|call| call.began() < emptied.began()).collect();
    assert!(!recorded.is_empty(), "closing records the head");
    for call in recorded {
        assert!(trace.bytes_are_on_disk(&log, call.began()), "a head was recorded that is not on disk");
    }
    Subject::open(Options::new(), &path).await.audit().await;
}

// After a failed sync the system may have dropped what was not written, and still show it to whoever reads.
#[tokio::test]
async fn a_log_whose_sync_failed_is_emptied_so_that_nobody_is_served_from_it() {
    let root = folder();
    let root_path = root.path().canonicalize().unwrap();
    let path = root_path.join("state.db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.set("/a", b"1".to_vec()).await.unwrap();
    store.close().await.unwrap();
    let (log, mut failed) = (beside(&path, "-wal"), 0);
    // The sync that fails is counted per thread: somewhere among the first is that of the writer's commit.
    for nth in 1..=8 {
        let inject = format!("inject=fsync,fdatasync:error=EIO:when={nth}");
        let (mut child, _) = traced(&root_path, &["-e", &inject]);
        let opened = child.ask(&format!("open\t{}", path.display()));
        if let Err(error) = opened.and_then(|_| child.ask("set\t/a\tunknown"))
            && error.starts_with("outcome_unknown")
        {
            assert_eq!(
                fs::metadata(&log).unwrap().len(),
                0,
                "the log still has the commit whose sync failed"
            );
            failed += 1;
        }
        child.end();
    }
    assert!(failed > 0, "no sync of a commit failed");
    Subject::open(Options::new(), &path).await.audit().await;
}
