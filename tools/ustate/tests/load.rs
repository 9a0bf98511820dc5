//! load: a folder of files becomes keys, in one commit or not at all.

use std::fs;
use std::process::Command;

use snapbox::str;
use univrs_state::StateStore;

use crate::support::{Place, check};

/// A folder with files of every kind.
fn folder() -> Place {
    let place = Place::new();
    fs::create_dir_all(place.path("conf/nodes/n1")).unwrap();
    fs::create_dir(place.path("conf/.git")).unwrap();
    for (name, text) in [
        ("app.toml", "threads = 4\n"),
        ("nodes/n1/status", "up"),
        ("ünï code", ""),
        (".hidden", "x"),
        (".git/config", "x"),
    ] {
        fs::write(place.path("conf").join(name), text).unwrap();
    }
    assert!(Command::new("mkfifo").arg(place.path("conf/pipe")).status().unwrap().success());
    place
}

#[test]
fn each_file_is_a_key_and_unchanged_ones_are_skipped() {
    let place = folder();
    let mut transcript = place.transcript(&[
        "load conf --prefix /config --dry-run",
        "load conf --prefix /config -m 'release 88'",
        "load conf --prefix /config/",
        "load conf --prefix /config/ --json",
    ]);
    fs::write(place.path("conf/app.toml"), [0xff, 0]).unwrap();
    fs::remove_file(place.path("conf/ünï code")).unwrap();
    fs::write(place.path("conf/new"), "1").unwrap();
    transcript += &place.transcript(&[
        "load conf --prefix /config --dry-run --json -q",
        "load conf --prefix /config -o tsv -q",
        "load conf --prefix /config --delete -q",
        "load conf --prefix /config --delete --dry-run -q",
        "load conf --prefix /config --delete --yes -q --json",
        "load conf/nodes --prefix / -q -o tsv",
        "log -o tsv",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate load conf --prefix /config --dry-run
would set /config/app.toml  threads = 4\n
would set /config/nodes/n1/status  up
would set /config/ünï code  (empty)
! note: left out: 2 dot files, 1 special file
$ ustate load conf --prefix /config -m 'release 88'
1 set /config/app.toml  threads = 4\n
2 set /config/nodes/n1/status  up
3 set /config/ünï code  (empty)
! note: left out: 2 dot files, 1 special file
$ ustate load conf --prefix /config/
! note: left out: 2 dot files, 1 special file
! note: 3 files unchanged, so nothing was written
$ ustate load conf --prefix /config/ --json
{"v":1,"type":"receipt","unchanged":3,"left_out":{"dot_files":2,"others":1},"changes":[]}
! note: left out: 2 dot files, 1 special file
$ ustate load conf --prefix /config --dry-run --json -q
{"v":1,"type":"receipt","unchanged":1,"left_out":{"dot_files":2,"others":1},"dry_run":true,"changes":[{"kind":"updated","key":"/config/app.toml"},{"kind":"created","key":"/config/new"}]}
$ ustate load conf --prefix /config -o tsv -q
4	updated	/config/app.toml
5	created	/config/new
$ ustate load conf --prefix /config --delete -q
! error: delete 1 key without a file (/config/ünï code)? there is no terminal to ask on
!   --yes deletes without asking, --dry-run says what would be done
[exit 2]
$ ustate load conf --prefix /config --delete --dry-run -q
would delete /config/ünï code
$ ustate load conf --prefix /config --delete --yes -q --json
{"v":1,"type":"receipt","unchanged":3,"left_out":{"dot_files":2,"others":1},"first":6,"last":6,"at":"[EXACT]","head":"6:[HASH]","changes":[{"kind":"deleted","key":"/config/ünï code"}]}
$ ustate load conf/nodes --prefix / -q -o tsv
7	created	/n1/status
$ ustate log -o tsv
7	[EXACT]	created	/n1/status	text	up	alice@ops	
6	[EXACT]	deleted	/config/ünï code			alice@ops	
5	[EXACT]	created	/config/new	json	1	alice@ops	
4	[EXACT]	updated	/config/app.toml	base64	/wA=	alice@ops	
3	[EXACT]	created	/config/ünï code	text		alice@ops	release 88
2	[EXACT]	created	/config/nodes/n1/status	text	up	alice@ops	release 88
1	[EXACT]	created	/config/app.toml	text	threads = 4\n	alice@ops	release 88

"#]],
    );
    assert_eq!(place.output("get /config/app.toml -o raw").stdout, [0xff, 0]);
    assert_eq!(place.code("verify"), 0);
}

#[test]
fn a_name_that_is_no_key_stops_it_before_anything_is_written() {
    let place = folder();
    let long = "x".repeat(200);
    let deep = [&*long; 6].join("/");
    let mut transcript = String::new();
    for (what, name) in [
        ("a star", "zz*".to_owned()),
        ("a line break", "a\nb".to_owned()),
        ("an escape", "a\u{1b}[2J".to_owned()),
        ("a long path", deep),
    ] {
        let path = place.path("conf").join(&name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "x").unwrap();
        let shown = place.transcript(&["load conf --prefix /config"]).replace(&long, "[LONG]");
        transcript.extend([what, "\n", &shown]);
        fs::remove_file(path).unwrap();
    }
    let name: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(vec![b'a', 0xff]);
    fs::write(place.path("conf").join(&name), "x").unwrap();
    transcript += &place.transcript(&["load conf --prefix /config"]);
    fs::remove_file(place.path("conf").join(name)).unwrap();
    transcript += &place.transcript(&[
        "load conf --prefix /.univrs --dry-run",
        "load conf --prefix config",
        "load conf",
        "load missing --prefix /config",
        "load conf/app.toml --prefix /config",
        "load conf --prefix /config --db missing.db",
        "load conf --prefix /config -o raw",
    ]);
    check(
        &transcript,
        str![[r#"
a star
$ ustate load conf --prefix /config
! error: conf/zz* makes no key: invalid key: "/config/zz*": '*' at byte 10 is reserved for patterns
!   nothing was written; rename it, or put a dot before its name to leave it out
[exit 2]
a line break
$ ustate load conf --prefix /config
! error: conf/a\nb makes no key: invalid key: "/config/a\nb": control character U+000A at byte 9
!   nothing was written; rename it, or put a dot before its name to leave it out
[exit 2]
an escape
$ ustate load conf --prefix /config
! error: conf/a\u{1b}[2J makes no key: invalid key: "/config/a\u{1b}[2J": control character U+001B at byte 9
!   nothing was written; rename it, or put a dot before its name to leave it out
[exit 2]
a long path
$ ustate load conf --prefix /config
! error: conf/[LONG]/[LONG]/[LONG]/[LONG]/[LONG]/[LONG] makes no key: invalid key: "/config/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…": it has 1213 bytes, at most 1024 are allowed
!   nothing was written; rename it, or put a dot before its name to leave it out
[exit 2]
$ ustate load conf --prefix /config
! error: conf/a� makes no key: its name is not UTF-8
!   nothing was written; rename it, or put a dot before its name to leave it out
[exit 2]
$ ustate load conf --prefix /.univrs --dry-run
! error: conf/app.toml makes no key: keys below /.univrs/ belong to the store
!   nothing was written; rename it, or put a dot before its name to leave it out
[exit 2]
$ ustate load conf --prefix config
! error: invalid value 'config' for '--prefix <PREFIX>': a prefix starts with '/', which alone stands for every key
!   hint: ustate load --help
[exit 2]
$ ustate load conf
! error: the following required arguments were not provided: --prefix <PREFIX>
!   hint: ustate load --help
[exit 2]
$ ustate load missing --prefix /config
! error: cannot read missing: No such file or directory (os error 2)
[exit 7]
$ ustate load conf/app.toml --prefix /config
! error: cannot read conf/app.toml: Not a directory (os error 20)
[exit 7]
$ ustate load conf --prefix /config --db missing.db
! error: cannot open [FOLDER]/missing.db: it does not exist
!   hint: ustate init missing.db
[exit 3]
$ ustate load conf --prefix /config -o raw
! error: load has no raw output
!   use -o human or -o json
[exit 2]

"#]],
    );
    assert!(place.stdout("anchor").contains("\"seq\":0,"), "nothing was written");
}

#[test]
fn what_does_not_fit_one_commit_is_refused_whole() {
    let place = Place::new();
    fs::create_dir(place.path("large")).unwrap();
    fs::write(place.path("large/one"), vec![0; (1 << 20) + 1]).unwrap();
    fs::create_dir(place.path("many")).unwrap();
    for n in 0..17 {
        fs::write(place.path(&format!("many/{n:02}")), vec![n; 1 << 20]).unwrap();
    }
    fs::create_dir(place.path("small")).unwrap();
    for n in 0..10_001 {
        fs::write(place.path(&format!("small/{n}")), "x").unwrap();
    }
    check(
        &place.transcript(&[
            "load large --prefix /k",
            "load many --prefix /k --dry-run",
            "load many --prefix /k --json",
            "load small --prefix /k",
        ]),
        str![[r#"
$ ustate load large --prefix /k
! error: large/one is too large: a value has 1.0 MiB at most
!   nothing was written
[exit 2]
$ ustate load many --prefix /k --dry-run
! error: many is too much for one commit, which has 16.0 MiB at most
!   nothing was written
!   hint: ustate load many/SUBFOLDER --prefix /k/SUBFOLDER
[exit 2]
$ ustate load many --prefix /k --json
! {"v":1,"type":"error","code":"limit_exceeded","exit":2,"message":"many is too much for one commit, which has 16.0 MiB at most","facts":["nothing was written"],"hint":"ustate load many/SUBFOLDER --prefix /k/SUBFOLDER"}
[exit 2]
$ ustate load small --prefix /k
! error: small is too much for one commit, which has 10 000 changes at most
!   nothing was written
!   hint: ustate load small/SUBFOLDER --prefix /k/SUBFOLDER
[exit 2]

"#]],
    );
    assert!(place.stdout("anchor").contains("\"seq\":0,"), "nothing was written");
    // What is there already takes no room.
    fs::rename(place.path("many/16"), place.path("last")).unwrap();
    for n in 8..16 {
        fs::rename(place.path(&format!("many/{n:02}")), place.path(&format!("{n:02}"))).unwrap();
    }
    assert_eq!(place.code("load many --prefix /k"), 0);
    for n in 8..16 {
        fs::rename(place.path(&format!("{n:02}")), place.path(&format!("many/{n:02}"))).unwrap();
    }
    fs::rename(place.path("last"), place.path("many/16")).unwrap();
    assert_eq!(place.stdout("load many --prefix /k -o tsv").lines().count(), 9);
}

#[tokio::test]
async fn a_load_goes_into_a_store_that_is_in_use() {
    let place = folder();
    let store = place.open().await;
    store.set("/config/app.toml", b"threads = 4\n".to_vec()).await.unwrap();
    store.set("/config/old", b"x".to_vec()).await.unwrap();
    assert_eq!(place.code("load conf --prefix /config --delete --yes"), 0);
    let keys = store.list("/config/").await.unwrap();
    assert_eq!(keys, ["/config/app.toml", "/config/nodes/n1/status", "/config/ünï code"]);
    let commits = store.changes(2.into(), 10).await.unwrap();
    assert_eq!((commits.len(), commits[0].changes.len()), (1, 3), "one commit");
    let output =
        place.command(&["load", "conf", "--prefix", "/x"]).env("USTATE_READONLY", "1").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
