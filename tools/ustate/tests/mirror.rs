//! load --delete: links, folders that are empty or change, and what is said of what goes.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use snapbox::str;
use univrs_state::{Batch, LocalStore, StateStore};

use crate::support::{Place, check};

/// What Kubernetes mounts of a `ConfigMap`: links to files behind a link that is exchanged as a whole.
fn config_map(place: &Place, version: &str, files: &[(&str, &str)]) {
    let root = place.path("conf");
    fs::create_dir_all(root.join(version)).unwrap();
    for (name, text) in files {
        fs::write(root.join(version).join(name), text).unwrap();
        if !root.join(name).is_symlink() {
            symlink(format!("..data/{name}"), root.join(name)).unwrap();
        }
    }
    let _ = fs::remove_file(root.join("..new"));
    symlink(version, root.join("..new")).unwrap();
    fs::rename(root.join("..new"), root.join("..data")).unwrap();
}

const MIRROR: &str = "load conf --prefix /config --delete --yes";

#[test]
fn a_folder_of_links_to_its_own_files_is_loaded_as_what_they_lead_to() {
    let place = Place::new();
    config_map(&place, "..2026_1", &[("app.toml", "threads = 4"), ("rate", "7")]);
    fs::create_dir(place.path("conf/sub")).unwrap();
    fs::write(place.path("conf/sub/file"), "x").unwrap();
    symlink("sub", place.path("conf/also")).unwrap();
    assert_eq!(place.code("set /config/old x"), 0);
    let mut transcript = place.transcript(&[MIRROR]);
    config_map(&place, "..2026_2", &[("app.toml", "threads = 8"), ("rate", "7")]);
    transcript += &place.transcript(&[MIRROR, "list --values"]);
    check(
        &transcript,
        str![[r#"
$ ustate load conf --prefix /config --delete --yes
2 set /config/also/file  x
3 set /config/app.toml  threads = 4
4 set /config/rate  7
5 set /config/sub/file  x
6 deleted /config/old
! note: left out: 2 dot files
$ ustate load conf --prefix /config --delete --yes
7 set /config/app.toml  threads = 8
! note: left out: 3 dot files
$ ustate list --values
/config/also/file  x
/config/app.toml   threads = 8
/config/rate       7
/config/sub/file   x

"#]],
    );
}

#[test]
fn a_link_that_leads_elsewhere_stops_it_before_anything_is_written() {
    let place = Place::new();
    fs::create_dir_all(place.path("conf/sub")).unwrap();
    fs::create_dir(place.path("conf-2")).unwrap();
    fs::write(place.path("conf/file"), "x").unwrap();
    fs::write(place.path("conf-2/secret"), "hunter2").unwrap();
    assert_eq!(place.code("set /config/old x"), 0);
    let mut transcript = String::new();
    for (to, name) in [
        ("../conf-2/secret", "link"),
        ("/etc/passwd", "link"),
        ("../../conf-2", "sub/link"),
        ("nowhere", "link"),
        ("link", "link"),
        (".", "sub/loop"),
        ("..", "sub/loop"),
        ("sub/loop", "ring"),
    ] {
        symlink(to, place.path("conf").join(name)).unwrap();
        if name == "ring" {
            symlink("../sub", place.path("conf/sub/loop")).unwrap();
        }
        transcript.extend([name, " -> ", to, "\n", &place.transcript(&[MIRROR])]);
        fs::remove_file(place.path("conf").join(name)).unwrap();
    }
    fs::remove_file(place.path("conf/sub/loop")).unwrap();
    check(
        &transcript,
        str![[r#"
link -> ../conf-2/secret
$ ustate load conf --prefix /config --delete --yes
! error: the link conf/link leads out of the folder
!   nothing was written; put a dot before its name to leave it out
[exit 2]
link -> /etc/passwd
$ ustate load conf --prefix /config --delete --yes
! error: the link conf/link leads out of the folder
!   nothing was written; put a dot before its name to leave it out
[exit 2]
sub/link -> ../../conf-2
$ ustate load conf --prefix /config --delete --yes
! error: the link conf/sub/link leads out of the folder
!   nothing was written; put a dot before its name to leave it out
[exit 2]
link -> nowhere
$ ustate load conf --prefix /config --delete --yes
! error: the link conf/link leads nowhere: No such file or directory (os error 2)
!   nothing was written; put a dot before its name to leave it out
[exit 2]
link -> link
$ ustate load conf --prefix /config --delete --yes
! error: the link conf/link leads nowhere: Too many levels of symbolic links (os error 40)
!   nothing was written; put a dot before its name to leave it out
[exit 2]
sub/loop -> .
$ ustate load conf --prefix /config --delete --yes
! error: conf/sub/loop leads back to a folder that it is in
!   nothing was written; put a dot before its name to leave it out
[exit 2]
sub/loop -> ..
$ ustate load conf --prefix /config --delete --yes
! error: conf/sub/loop leads back to a folder that it is in
!   nothing was written; put a dot before its name to leave it out
[exit 2]
ring -> sub/loop
$ ustate load conf --prefix /config --delete --yes
! error: conf/sub/loop leads back to a folder that it is in
!   nothing was written; put a dot before its name to leave it out
[exit 2]

"#]],
    );
    assert_eq!(place.stdout("list"), "/config/old\n");
    assert_eq!(place.code(MIRROR), 0);
    assert_eq!(place.stdout("list"), "/config/file\n");
}

#[test]
fn an_empty_folder_deletes_nothing_unless_that_is_asked_for() {
    let place = Place::new();
    fs::create_dir(place.path("conf")).unwrap();
    for line in ["set /config/a 1", "set /config/b 2", "set /configuration x"] {
        assert_eq!(place.code(line), 0);
    }
    let mut transcript = place.transcript(&[MIRROR, "load conf --prefix /config --delete --dry-run --json"]);
    fs::write(place.path("conf/.hidden"), "x").unwrap();
    transcript += &place.transcript(&[
        MIRROR,
        "load conf --prefix /config --yes",
        "load conf --prefix /config --allow-empty",
        "load conf --prefix /config --delete --allow-empty",
        "load conf --prefix /nothing --delete --yes",
    ]);
    assert_eq!(place.stdout("list").lines().count(), 3);
    transcript += &place.transcript(&["load conf --prefix /config --delete --allow-empty --yes -q", "list"]);
    check(
        &transcript,
        str![[r#"
$ ustate load conf --prefix /config --delete --yes
! error: conf has no files, so --delete would delete all that is below /config/: 2 keys
!   nothing was written; if it is meant to be empty, --allow-empty deletes them
[exit 2]
$ ustate load conf --prefix /config --delete --dry-run --json
! {"v":1,"type":"error","code":"empty_source","exit":2,"message":"conf has no files, so --delete would delete all that is below /config/: 2 keys","facts":["nothing was written; if it is meant to be empty, --allow-empty deletes them"]}
[exit 2]
$ ustate load conf --prefix /config --delete --yes
! error: conf has no files, so --delete would delete all that is below /config/: 2 keys
!   left out: 1 dot file
!   nothing was written; if it is meant to be empty, --allow-empty deletes them
[exit 2]
$ ustate load conf --prefix /config --yes
! note: left out: 1 dot file
! note: 0 files unchanged, so nothing was written
$ ustate load conf --prefix /config --allow-empty
! error: the following required arguments were not provided: --delete
!   hint: ustate load --help
[exit 2]
$ ustate load conf --prefix /config --delete --allow-empty
! note: left out: 1 dot file
! error: delete 2 keys without a file (/config/a, /config/b)? there is no terminal to ask on
!   --yes deletes without asking, --dry-run says what would be done
[exit 2]
$ ustate load conf --prefix /nothing --delete --yes
! note: left out: 1 dot file
! note: 0 files unchanged, so nothing was written
$ ustate load conf --prefix /config --delete --allow-empty --yes -q
4 deleted /config/a
5 deleted /config/b
$ ustate list
/configuration

"#]],
    );
}

#[tokio::test]
async fn what_is_deleted_is_said_however_quiet_the_command_is() {
    let place = Place::new();
    let store = place.open().await;
    store.commit(Batch::new().set("/a", "1").set("/b", "2").set("/c/d", "3")).await.unwrap();
    store.set("/c/e", b"4".to_vec()).await.unwrap();
    store.set("/a", b"5".to_vec()).await.unwrap();
    store.close().await.unwrap();
    fs::create_dir(place.path("conf")).unwrap();
    fs::write(place.path("conf/new"), "x").unwrap();
    check(
        &place.transcript(&[
            "restore --all --to 3 --dry-run -q",
            "restore --all --to 3 --yes -q",
            "delete /a /none -q",
            "delete --prefix /b --yes -q",
            "load conf --prefix /c --delete --dry-run -q",
            "load conf --prefix /c --delete --yes -q",
            "set /f 1 -q",
            "restore --undo head -q",
        ]),
        str![[r#"
$ ustate restore --all --to 3 --dry-run -q
would delete /c/e
$ ustate restore --all --to 3 --yes -q
7 deleted /c/e
$ ustate delete /a /none -q
8 deleted /a
$ ustate delete --prefix /b --yes -q
9 deleted /b
$ ustate load conf --prefix /c --delete --dry-run -q
would delete /c/d
$ ustate load conf --prefix /c --delete --yes -q
11 deleted /c/d
$ ustate set /f 1 -q
$ ustate restore --undo head -q
13 deleted /f

"#]],
    );
}

#[test]
fn a_folder_that_is_exchanged_meanwhile_is_loaded_whole_or_not_at_all() {
    const VERSIONS: usize = 50;
    let place = Place::new();
    let names: Vec<String> = (0..20).map(|n| format!("file{n:02}")).collect();
    for version in 0..VERSIONS {
        let text = version.to_string();
        let files: Vec<(&str, &str)> = names.iter().map(|name| (&**name, &*text)).collect();
        config_map(&place, &format!("..{version}"), &files);
    }
    let done = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        scope.spawn(|| {
            for version in (0..VERSIONS).cycle() {
                config_map(&place, &format!("..{version}"), &[]);
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let seen: Vec<_> = (0..10).map(|_| (place.output(MIRROR), place.output("list --values"))).collect();
        // Before anything is judged: a failure would wait for the other thread.
        done.store(true, Ordering::Relaxed);
        seen
    });
    for (load, list) in seen {
        let (stderr, list) =
            (String::from_utf8(load.stderr).unwrap(), String::from_utf8(list.stdout).unwrap());
        assert!(load.status.success() || stderr.contains("changed each time"), "{stderr}");
        let mut values: Vec<&str> =
            list.lines().map(|line| line.split_whitespace().last().unwrap()).collect();
        assert!(values.is_empty() || values.len() == 20);
        values.dedup();
        assert!(values.len() <= 1, "of one version: {values:?}");
    }
    assert_eq!(place.code(MIRROR), 0);
    assert_eq!(place.stdout("list").lines().count(), 20);
    assert_eq!(place.code("verify"), 0);
}
