//! A disk that is full, and a file that may not grow: only what does not fit fails, and the store
//! goes on.

use std::path::{Path, PathBuf};
use std::process::Command;

use univrs_state::archive::Export;
use univrs_state::options::Durability;
use univrs_state::{LocalStore, MemoryStore, Options, SqliteStore, StateError, StateStore};

use crate::support::child::Child;
use crate::support::{Subject, folder};

/// Fills the store of a child until a write is refused for want of room, then shows that small
/// writes go on. Returns how many writes were acknowledged.
fn fill(child: &mut Child, path: &Path) -> u64 {
    child.ask(&format!("open buffered\t{}", path.display())).unwrap();
    for n in 0..3 {
        child.ask(&format!("set\t/before/{n}\tx")).unwrap();
    }
    for n in 0..3 {
        // Larger than what fits in one piece.
        let error = child.ask(&format!("fill\t/big/{n}\t1000000")).unwrap_err();
        assert!(error.starts_with("storage_full"), "{error}");
        child.ask(&format!("set\t/small/{n}\tx")).expect("a small write goes on");
    }
    let mut written = 6;
    loop {
        match child.ask(&format!("fill\t/many/{written}\t20000")) {
            Ok(_) => written += 1,
            Err(error) => {
                assert!(error.starts_with("storage_full"), "{error}");
                break;
            }
        }
    }
    assert!(written > 6, "the premise: some of them fit");
    child.ask("set\t/after\tx").expect("what fits is taken");
    child.ask("verify").unwrap();
    written + 1
}

async fn check(path: &Path, written: u64) {
    let subject = Subject::open(Options::new().durability(Durability::Buffered), path).await;
    let log = subject.audit().await;
    assert_eq!(log.len() as u64, written, "what was refused left a trace, or what was acknowledged is gone");
    subject.shared().set("/later", vec![1; 1_000_000]).await.unwrap();
    subject.audit().await;
}

#[tokio::test]
async fn a_file_size_limit_fails_only_what_does_not_fit() {
    let folder = folder();
    let path = folder.path().join("state.db");
    // SIGXFSZ ignored, so that the write fails instead of killing the process.
    let limited = ["sh", "-c", "trap '' XFSZ; exec prlimit --fsize=800000 \"$@\"", "sh"];
    let mut child = Child::start_by(&limited, &std::env::current_exe().unwrap());
    let written = fill(&mut child, &path);
    child.kill();
    check(&path, written).await;
}

// A small commit takes five pages of the write-ahead log for a hundred bytes of data. The log
// reached the limit, and every write was refused until the store was opened again, though nearly
// all of it could have been moved and written over.
#[tokio::test]
async fn a_full_write_ahead_log_is_started_over_before_anything_is_refused() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let limited = ["sh", "-c", "trap '' XFSZ; exec prlimit --fsize=800000 \"$@\"", "sh"];
    let mut child = Child::start_by(&limited, &std::env::current_exe().unwrap());
    child.ask(&format!("open buffered\t{}", path.display())).unwrap();
    for n in 0..300 {
        child.ask(&format!("set\t/a/{}\tsmall", n % 10)).unwrap_or_else(|error| panic!("{error}, write {n}"));
    }
    child.ask("verify").unwrap();
    child.kill();
    check(&path, 300).await;
}

// What could not be written whole is no store, and is in nobody's way later.
#[tokio::test]
async fn a_store_that_does_not_fit_is_not_created_and_can_be_later() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let limited = ["sh", "-c", "trap '' XFSZ; exec prlimit --fsize=20000 \"$@\"", "sh"];
    let mut child = Child::start_by(&limited, &std::env::current_exe().unwrap());
    let error = child.ask(&format!("open\t{}", path.display())).unwrap_err();
    assert!(error.starts_with("storage_full") && error.contains("state.db cannot be created"), "{error}");
    child.kill();
    assert!(!path.exists());
    let subject = Subject::open(Options::new(), &path).await;
    assert!(subject.audit().await.is_empty());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4, "nothing is left of the draft");
}

// Each connection takes a few files; at whichever the system says no, nobody panics or hangs, and what
// was acknowledged is there.
#[tokio::test]
async fn a_process_that_may_open_no_more_files_is_told() {
    let folder = folder();
    let path = folder.path().join("state.db");
    Subject::open(Options::new(), &path).await.audit().await;
    let (mut refused, mut written) = (0, 0);
    for files in 12..40 {
        let limit = format!("--nofile={files}");
        let mut child = Child::start_by(&["prlimit", &limit], &std::env::current_exe().unwrap());
        // With the fewest, not even the test itself comes up.
        child.tell(&format!("open\t{}", path.display()));
        match child.answer() {
            Some(Ok(_)) => {
                child.ask("set\t/a\tx").unwrap();
                written += 1;
            }
            Some(Err(error)) => {
                assert!(
                    error.starts_with("connection: ") && error.contains("too many files are open"),
                    "{error}"
                );
                refused += 1;
            }
            None => assert_eq!((refused, written), (0, 0), "it died with {files} files"),
        }
    }
    assert!(refused > 0 && written > 0, "the premise: {refused} refused, {written} written");
    assert_eq!(Subject::open(Options::new(), &path).await.audit().await.len(), written);
}

/// A small file system in memory, unmounted in the end.
struct Mount(PathBuf);

impl Mount {
    /// One of 800 KiB; none if this is not allowed to mount.
    fn small(disk: &Path) -> Option<Self> {
        std::fs::create_dir(disk).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=800k", "tmpfs"]).arg(disk).output();
        mounted.is_ok_and(|mount| mount.status.success()).then(|| Self(disk.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_fails_only_what_does_not_fit() {
    let folder = folder();
    let disk = folder.path().join("disk");
    let path = disk.join("state.db");
    if let Some(mount) = Mount::small(&disk) {
        let mut child = Child::start();
        let written = fill(&mut child, &path);
        child.kill();
        let larger = Command::new("mount").args(["-o", "remount,size=20m"]).arg(&disk).status().unwrap();
        assert!(larger.success());
        check(&path, written).await;
        drop(mount);
        println!("hosts: a disk was full, mounted as root");
        return;
    }
    // A user who may not mount may do so in a namespace of their own, which ends with the child.
    let mount = format!(
        "mount -t tmpfs -o size=800k tmpfs '{}' && echo '@ok mounted' && exec \"$@\"",
        disk.display()
    );
    let through = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &mount, "sh"];
    let mut child = Child::start_by(&through, &std::env::current_exe().unwrap());
    if child.answer().is_none() {
        println!("hosts: NOT RUN, a full disk: neither mount nor unshare is allowed here");
        return;
    }
    let written = fill(&mut child, &path);
    let head = child.ask("head").unwrap();
    assert!(head.starts_with(&format!("{written}:")), "{head}, but {written} were acknowledged");
    println!("hosts: a disk was full, mounted in a namespace");
}

// A full disk has no room for the index of the write-ahead log, and passes: the file may be written later, so
// it is not read as one that does not change.
#[tokio::test]
async fn a_store_on_a_full_disk_is_told_as_such_to_those_who_only_read_too() {
    let folder = folder();
    let disk = folder.path().join("disk");
    let Some(mount) = Mount::small(&disk) else {
        println!("hosts: NOT RUN, opening a store on a full disk: mounting needs root");
        return;
    };
    let path = disk.join("state.db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.set("/a", b"1".to_vec()).await.unwrap();
    store.close().await.unwrap();
    // The last connection removes the files beside the database, which gives room.
    while std::fs::read_dir(&disk).unwrap().any(|file| file.unwrap().file_name() == "state.db-shm") {
        tokio::task::yield_now().await;
    }
    let filler = disk.join("filler");
    let full = std::fs::write(&filler, vec![7; 1 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    for read_only in [true, false] {
        let error = SqliteStore::options().read_only(read_only).open(&path).await.unwrap_err();
        assert!(matches!(error, StateError::StorageFull(_)), "read_only {read_only}: {error:?}");
        assert!(error.to_string().contains("state.db"), "{error}");
    }
    std::fs::remove_file(filler).unwrap();
    let store = SqliteStore::options().read_only(true).open(&path).await.unwrap();
    assert!(!store.is_immutable());
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, b"1");
    store.close().await.unwrap();
    assert_eq!(Subject::open(Options::new(), &path).await.audit().await.len(), 1);
    drop(mount);
}

#[tokio::test]
async fn an_export_and_an_import_that_do_not_fit_leave_nothing_behind() {
    let folder = folder();
    let disk = folder.path().join("disk");
    let Some(mount) = Mount::small(&disk) else {
        println!("hosts: NOT RUN, an export onto a full disk: mounting needs root");
        return;
    };
    let store = MemoryStore::new();
    for n in 0..4_000 {
        store.set(&format!("/k/{n}"), vec![7; 300]).await.unwrap();
    }
    let full = |error: &StateError| matches!(error, StateError::StorageFull(_));
    let error = store.export_to(Export::new(), disk.join("state.log")).await.unwrap_err();
    assert!(full(&error), "{error}");
    let export = folder.path().join("state.log");
    store.export_to(Export::new(), &export).await.unwrap();
    let file = std::fs::File::open(export).unwrap();
    let error = SqliteStore::import(file, disk.join("state.db")).await.unwrap_err();
    assert!(full(&error), "{error}");
    assert_eq!(std::fs::read_dir(&disk).unwrap().count(), 0, "something is left behind");
    drop(mount);
}
