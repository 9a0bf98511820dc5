//! The accident: an operator looked at a store as root, and the head file that this made beside it belonged to root. The
//! owner of the store was locked out. The same befell a group that shared a store.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use univrs_state::{LocalStore, Options, SqliteStore, StateStore};

use crate::support::child::Child;
use crate::support::{Subject, folder};

/// A folder of a user and a group, and a copy of the test binary that others may run; `None` if this is not root.
fn folder_of(user: u32, group: u32) -> Option<(TempDir, PathBuf)> {
    let folder = folder();
    let copy = folder.path().join("test-binary");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o770)).unwrap();
    if copy.metadata().unwrap().uid() != 0 {
        println!("hosts: NOT RUN, stores of other users: only root may play them");
        return None;
    }
    chown(folder.path(), Some(user), Some(group)).unwrap();
    Some((folder, copy))
}

fn child_of(user: u32, group: u32, binary: &Path) -> Child {
    let (user, group) = (format!("--reuid={user}"), format!("--regid={group}"));
    Child::start_by(&["setpriv", &user, &group, "--clear-groups"], binary)
}

fn owner(path: &Path) -> (u32, u32, u32) {
    let found = path.metadata().unwrap();
    (found.uid(), found.gid(), found.mode() & 0o777)
}

#[tokio::test]
async fn a_store_stays_that_of_its_owner_when_root_writes_it_first_or_finds_the_head_file_missing() {
    const USER: u32 = 65_534;
    let Some((folder, binary)) = folder_of(USER, USER) else { return };
    let (path, head) = (folder.path().join("state.db"), folder.path().join("state.db-head"));
    let mut user = child_of(USER, USER, &binary);
    user.ask(&format!("open\t{}", path.display())).unwrap();
    user.ask("set\t/a\t1").unwrap();
    user.ask("close").unwrap();
    assert_eq!(owner(&head), (USER, USER, 0o600));
    fs::remove_file(&head).unwrap();
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.set("/a", b"2".to_vec()).await, Ok(2));
    for suffix in ["", "-wal", "-shm", "-head"] {
        let beside = folder.path().join(format!("state.db{suffix}"));
        assert_eq!(owner(&beside), (USER, USER, 0o600), "{suffix}");
    }
    store.close().await.unwrap();
    user.ask(&format!("open\t{}", path.display())).unwrap();
    assert_eq!(user.ask("set\t/a\t3").unwrap(), "3");
    user.ask("close").unwrap();
    // What an older version left is mended by whoever may.
    chown(&head, Some(0), Some(0)).unwrap();
    assert!(user.ask(&format!("open\t{}", path.display())).unwrap_err().contains("state.db-head"));
    SqliteStore::open(&path).await.unwrap().close().await.unwrap();
    assert_eq!(owner(&head), (USER, USER, 0o600));
    user.ask(&format!("open\t{}", path.display())).unwrap();
    user.ask("close").unwrap();
    user.end();
    Subject::open(Options::new(), &path).await.audit().await;
}

#[tokio::test]
async fn a_store_that_a_group_may_write_is_written_by_each_of_the_group() {
    const GROUP: u32 = 65_000;
    let Some((folder, binary)) = folder_of(0, GROUP) else { return };
    let path = folder.path().join("state.db");
    // Prepared by the operator, as an empty file that the group may write.
    fs::write(&path, "").unwrap();
    chown(&path, None, Some(GROUP)).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o660)).unwrap();
    for (user, version) in [(65_534, "1"), (65_533, "2")] {
        let mut child = child_of(user, GROUP, &binary);
        child.ask(&format!("open\t{}", path.display())).unwrap();
        assert_eq!(child.ask("set\t/a\tvalue").unwrap(), version);
        assert_eq!(owner(&folder.path().join("state.db-head")).1, GROUP);
        assert_eq!(owner(&folder.path().join("state.db-head")).2, 0o660);
        child.ask("close").unwrap();
        child.end();
    }
    Subject::open(Options::new(), &path).await.audit().await;
}
