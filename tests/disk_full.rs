//! A disk that is full, and a file that may not grow: only what does not fit fails, and the store
//! goes on.

use std::path::{Path, PathBuf};
use std::process::Command;

use univrs_state::{Durability, Options};

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

/// A small file system in memory, unmounted in the end.
struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_fails_only_what_does_not_fit() {
    let folder = folder();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=800k", "tmpfs"]).arg(&disk).output();
    if !mounted.is_ok_and(|mount| mount.status.success()) {
        println!("not run: mounting needs root");
        return;
    }
    let mount = Mount(disk.clone());
    let mut child = Child::start();
    let written = fill(&mut child, &disk.join("state.db"));
    child.kill();
    let larger = Command::new("mount").args(["-o", "remount,size=20m"]).arg(&disk).status().unwrap();
    assert!(larger.success());
    check(&disk.join("state.db"), written).await;
    drop(mount);
}
