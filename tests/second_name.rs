//! The accident: a file was reached by two names, one of them a hard link, or mounted alone into a container. SQLite
//! finds the write-ahead log by the name. So two writers had a log each, and half of what they acknowledged was gone.

use std::fs;
use std::path::{Path, PathBuf};

use univrs_state::{LocalStore, Options, SqliteStore, StateError, StateStore};

use crate::support::child::Child;
use crate::support::{Subject, folder, value};

/// A closed store with one commit, and the path of another name for it.
async fn closed_store(folder: &Path) -> (PathBuf, PathBuf) {
    let path = folder.join("state.db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.set("/a", value(1)).await.unwrap();
    store.close().await.unwrap();
    (path, folder.join("other.db"))
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_file_with_two_names_is_not_written_under_either_until_one_is_left() {
    let folder = folder();
    let (path, other) = closed_store(folder.path()).await;
    fs::hard_link(&path, &other).unwrap();
    let before = files(folder.path());
    for name in [&path, &other] {
        let refused = SqliteStore::open(name).await.unwrap_err();
        assert!(matches!(refused, StateError::CannotOpen { .. }), "{refused:?}");
        let why = refused.to_string();
        assert!(why.contains("has 2 names (hard links)") && why.contains("remove the other names"), "{why}");
    }
    assert_eq!(files(folder.path()), before, "a refusal leaves nothing");
    fs::remove_file(&other).unwrap();
    let subject = Subject::open(Options::new(), &path).await;
    assert_eq!(subject.local.shared().set("/a", value(2)).await, Ok(2));
    subject.audit().await;
}

#[tokio::test]
async fn a_name_that_is_added_while_the_store_is_open_stops_its_commits_until_it_is_gone() {
    let folder = folder();
    let (path, other) = closed_store(folder.path()).await;
    let subject = Subject::open(Options::new(), &path).await;
    fs::hard_link(&path, &other).unwrap();
    let refused = subject.local.shared().set("/a", value(2)).await;
    let Err(StateError::Storage(why)) = refused else { panic!("{refused:?}") };
    assert!(why.what().contains("state.db has 2 names"), "{}", why.what());
    assert_eq!(subject.local.shared().get("/a").await.unwrap().unwrap().value, value(1));
    fs::remove_file(&other).unwrap();
    assert_eq!(subject.local.shared().set("/a", value(3)).await, Ok(2), "the refused write left no trace");
    subject.audit().await;
}

#[tokio::test]
async fn a_file_with_two_names_and_no_log_is_read_with_a_warning() {
    let folder = folder();
    let (path, other) = closed_store(folder.path()).await;
    fs::hard_link(&path, &other).unwrap();
    let before = files(folder.path());
    let store = SqliteStore::options().read_only(true).open(&other).await.unwrap();
    assert!(store.is_immutable());
    let warning = store.warning().unwrap();
    assert!(
        warning.contains("other.db has 2 names") && warning.contains("as a file that does not change"),
        "{warning}"
    );
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, value(1));
    assert!(store.verify().await.unwrap().is_intact());
    store.close().await.unwrap();
    assert_eq!(files(folder.path()), before, "nothing is made beside it");
}

#[tokio::test]
async fn a_file_with_two_names_is_read_with_the_log_of_its_own_name() {
    let folder = folder();
    let (path, other) = closed_store(folder.path()).await;
    let mut child = Child::start();
    child.ask(&format!("open\t{}", path.display())).unwrap();
    child.ask("set\t/a\tnew").unwrap();
    fs::hard_link(&path, &other).unwrap();
    let store = SqliteStore::options().read_only(true).open(&path).await.unwrap();
    assert!(!store.is_immutable());
    let warning = store.warning().unwrap();
    assert!(warning.contains("state.db has 2 names") && warning.contains("log of this name"), "{warning}");
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, b"new");
    store.close().await.unwrap();
    fs::remove_file(&other).unwrap();
    child.ask("close").unwrap();
    Subject::open(Options::new(), &path).await.audit().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_that_is_mounted_alone_is_read_with_a_warning_and_not_written() {
    let folder = folder();
    let (path, _) = closed_store(folder.path()).await;
    let inside = folder.path().join("container");
    fs::create_dir(&inside).unwrap();
    let alone = inside.join("state.db");
    fs::write(&alone, "").unwrap();
    let mount = format!(
        "mount --bind '{}' '{}' && echo '@ok mounted' && exec \"$@\"",
        path.display(),
        alone.display()
    );
    let through = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &mount, "sh"];
    let mut child = Child::start_by(&through, &std::env::current_exe().unwrap());
    if child.answer().is_none() {
        println!("hosts: NOT RUN, a file that is mounted alone: unshare is not allowed here");
        return;
    }
    let refused = child.ask(&format!("open\t{}", alone.display())).unwrap_err();
    assert!(
        refused.contains("is mounted as a single file") && refused.contains("mount the folder"),
        "{refused}"
    );
    child.ask(&format!("open read-only\t{}", alone.display())).unwrap();
    assert!(child.ask("warning").unwrap().contains("as a file that does not change"));
    assert!(child.ask("head").unwrap().starts_with("1:"));
    child.ask("verify").unwrap();
    // The folder is the same wherever it is mounted.
    child.ask(&format!("open\t{}", path.display())).unwrap();
    assert_eq!(child.ask("set\t/a\tnew").unwrap(), "2");
    child.ask("close").unwrap();
    child.end();
    assert_eq!(files(&inside), ["state.db"], "nothing is made beside the mounted file");
    Subject::open(Options::new(), &path).await.audit().await;
}
