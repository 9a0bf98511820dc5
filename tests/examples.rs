//! The examples are the first thing that people run, and each checks its own claim. Here they run
//! as programs, the way a reader runs them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use std::{env, fs};

use univrs_state::{Cursor, LocalStore, Seq, SqliteStore, StateStore};

/// Runs an example in a folder; returns what it printed.
fn run(name: &str, folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(built(name)).args(arguments).current_dir(folder).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{printed}\n{errors}", output.status);
    assert_eq!(errors, "", "{name} complains");
    printed
}

/// The built example. `cargo test` builds examples, `cargo test --test main` does not: then one
/// that is missing, or older than the sources, is built here.
fn built(name: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap();
    let example = folder.join("examples").join(name).with_extension(env::consts::EXE_EXTENSION);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = ["src", "schema", "tools/examples", "Cargo.lock"].map(|part| newest(&root.join(part)));
    if !example.exists() || Some(newest(&example)) < sources.into_iter().max() {
        let profile = match folder.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            profile => profile,
        };
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "--example", name, "--profile", profile])
            .arg("--target-dir")
            .arg(folder.parent().unwrap())
            .current_dir(root)
            .status()
            .unwrap();
        assert!(built.success(), "{name} does not build");
    }
    example
}

/// When the newest file at or below a path was written.
fn newest(path: &Path) -> SystemTime {
    if !path.is_dir() {
        return path.metadata().unwrap().modified().unwrap();
    }
    fs::read_dir(path).unwrap().map(|entry| newest(&entry.unwrap().path())).max().unwrap()
}

/// What follows a word in the printed lines.
fn number_after(printed: &str, word: &str) -> u64 {
    let line = printed.lines().find(|line| line.trim_start().starts_with(word)).expect(word);
    line.trim_start()[word.len()..].split_whitespace().next().unwrap().parse().expect(line)
}

#[tokio::test]
async fn quickstart_resumes_from_its_cursor() {
    let folder = tempfile::tempdir().unwrap();
    let cursor = || fs::read_to_string(folder.path().join("state.db.cursor")).unwrap();
    let seq = |cursor: &str| cursor.trim_end().parse::<Cursor>().unwrap().seq();

    let first = run("quickstart", folder.path(), &[]);
    assert!(first.contains("none yet: the watch starts at the beginning"), "{first}");
    assert!(first.contains("refused, leaves no trace: version conflict: expected 1, found 2"), "{first}");
    assert!(first.contains("watched  every change from 1 to 5,"), "{first}");
    assert!(!first.contains("deleted"), "it is deleted after the watch\n{first}");
    let saved = cursor();
    assert_eq!(seq(&saved), Seq::new(5));

    let second = run("quickstart", folder.path(), &[]);
    assert!(second.contains("the watch resumes there"), "{second}");
    let missed = second.find("     6  deleted  /workloads/web").expect(&second);
    assert!(missed > second.find("missed since the cursor was saved").unwrap(), "{second}");
    assert!(missed < second.find("--  this run").unwrap(), "{second}");
    assert!(second.contains("watched  every change from 6 to 11,"), "{second}");
    assert!(!second.contains("     5  "), "what was seen is not seen again\n{second}");
    assert_eq!(seq(&cursor()), Seq::new(11));
    assert!(!folder.path().join("state.db.cursor.new").exists());

    // A crash between the work and its cursor: the changes come again, none is left out.
    fs::write(folder.path().join("state.db.cursor"), saved).unwrap();
    let third = run("quickstart", folder.path(), &[]);
    assert!(third.contains("watched  every change from 6 to 17,"), "{third}");

    let store = SqliteStore::open(folder.path().join("state.db")).await.unwrap();
    assert_eq!(store.get_json::<u64>("/quickstart/runs").await.unwrap(), Some(3));
    assert!(store.verify().await.unwrap().is_intact());
}

#[test]
fn quickstart_does_not_take_the_cursor_of_another_store() {
    let folder = tempfile::tempdir().unwrap();
    run("quickstart", folder.path(), &["one.db"]);
    fs::rename(folder.path().join("one.db.cursor"), folder.path().join("two.db.cursor")).unwrap();
    let printed = run("quickstart", folder.path(), &["two.db"]);
    assert!(printed.contains("no position in this log: the cursor is of store"), "{printed}");
    assert!(printed.contains("watched  every change from 1 to 5,"), "{printed}");
}

#[test]
fn quickstart_does_not_take_a_cursor_from_before_an_older_copy_was_restored() {
    let folder = tempfile::tempdir().unwrap();
    let (db, copy) = (folder.path().join("state.db"), folder.path().join("copy.db"));
    run("quickstart", folder.path(), &[]);
    fs::copy(&db, &copy).unwrap();
    run("quickstart", folder.path(), &[]);
    for name in ["state.db-wal", "state.db-shm", "state.db-head"] {
        let _ = fs::remove_file(folder.path().join(name));
    }
    fs::rename(&copy, &db).unwrap();
    // It goes on from the copy and soon has as many changes as before: only the hash tells.
    let printed = run("quickstart", folder.path(), &[]);
    assert!(
        printed.contains("no position in this log: the log has another hash at position 11"),
        "{printed}"
    );
    assert!(printed.contains("watched  every change from 1 to 11,"), "{printed}");
}

#[test]
fn reconciler_neither_loses_nor_repeats_when_it_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let printed = run("reconciler", folder.path(), &[]);
    assert_eq!(printed.matches("kill -9").count(), 20, "{printed}");
    let desired = number_after(&printed, "desired changes");
    assert!(desired >= 300, "{printed}");
    assert_eq!(number_after(&printed, "acted on"), desired, "{printed}");
    assert!(number_after(&printed, "verified") > 2 * desired, "{printed}");
}

#[test]
fn credits_are_neither_made_nor_lost_by_transfers_that_race() {
    let folder = tempfile::tempdir().unwrap();
    let printed = run("credits", folder.path(), &[]);
    let (done, refused) = (number_after(&printed, "done"), number_after(&printed, "refused"));
    assert_eq!(done + refused, 24 * 12, "{printed}");
    assert!(refused > 0 && number_after(&printed, "overtaken") > 0, "nothing was contended\n{printed}");
    assert_eq!(number_after(&printed, "verified"), 6 + 2 * done, "{printed}");
    assert!(printed.contains("by task-") && printed.contains(" pays ada "), "{printed}");
}
