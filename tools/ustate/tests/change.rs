//! init, set, delete.

use snapbox::str;

use crate::support::{Place, check};

#[test]
fn init_creates_a_store_and_never_touches_another_file() {
    let place = Place::without_store();
    std::fs::write(place.path("notes.txt"), "mine").unwrap();
    let transcript = place.transcript(&[
        "init new/folder/state.db --dry-run",
        "get /a --db new/folder/state.db",
        "init new/folder/state.db",
        "init new/folder/state.db",
        "init notes.txt",
        "init json.db --json",
        "init tsv.db -o tsv",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate init new/folder/state.db --dry-run
would create new/folder/state.db
$ ustate get /a --db new/folder/state.db
! error: cannot open [FOLDER]/new/folder: it cannot be entered: No such file or directory (os error 2)
!   hint: ustate init new/folder/state.db
[exit 3]
$ ustate init new/folder/state.db
created new/folder/state.db
! note: store [STORE]; name it with: export USTATE_DB=new/folder/state.db
$ ustate init new/folder/state.db
! error: new/folder/state.db is a store already
!   its log ends at 0
!   hint: ustate log --db new/folder/state.db
[exit 1]
$ ustate init notes.txt
! error: cannot open [FOLDER]/notes.txt: it is not a database
[exit 3]
$ ustate init json.db --json
{"v":1,"type":"store","path":"json.db","store_id":"[STORE]","dry_run":false}
$ ustate init tsv.db -o tsv
tsv.db	[STORE]

"#]],
    );
    assert_eq!(std::fs::read(place.path("notes.txt")).unwrap(), b"mine");
}

#[test]
fn set_says_what_was_recorded() {
    let place = Place::new();
    let transcript = place.transcript(&[
        "set /nodes/n1 up --dry-run",
        "set /nodes/n1 up",
        "set /nodes/n1 down --dry-run --json",
        "set /nodes/n1 down --json",
        "set /nodes/n1 up -o tsv",
        "set /nodes/n1 up -q",
        "set /nodes/n1",
        "set /nodes/n1 {oops --type json",
        "set /nodes/n1 [1, --type json",
        "set /.univrs/x 1",
        "set nodes 1",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate set /nodes/n1 up --dry-run
would create /nodes/n1  version 1
$ ustate set /nodes/n1 up
1 set /nodes/n1  version 1
$ ustate set /nodes/n1 down --dry-run --json
{"v":1,"type":"receipt","key":"/nodes/n1","version":2,"dry_run":true}
$ ustate set /nodes/n1 down --json
{"v":1,"type":"receipt","seq":2,"at":"[EXACT]","key":"/nodes/n1","version":2,"head":"2:[HASH]"}
$ ustate set /nodes/n1 up -o tsv
3	/nodes/n1	3
$ ustate set /nodes/n1 up -q
$ ustate set /nodes/n1
! error: no value was given
!   give it as an argument, as - for standard input, or with --file
[exit 2]
$ ustate set /nodes/n1 {oops --type json
! error: the value is not JSON (line 1, column 2)
[exit 2]
$ ustate set /nodes/n1 [1, --type json
! error: the value is JSON that ends too early (line 1, column 3)
[exit 2]
$ ustate set /.univrs/x 1
! error: invalid key: "/.univrs/x": keys below /.univrs/ belong to the store
[exit 2]
$ ustate set nodes 1
! error: invalid key: it must start with '/'
!   the key comes first, then the value
[exit 2]

"#]],
    );
}

#[test]
fn a_condition_that_does_not_hold_is_answered_with_the_newer_change() {
    let place = Place::new();
    assert_eq!(place.code("set /leader a --if-absent"), 0);
    let transcript = place.transcript(&[
        "set /leader b --if-version 1 -m 'drain node-7' --actor bob@ops",
        "set /leader c --if-version 1",
        "set /leader c --if-version 1 --json",
        "set /leader c --if-version 1 --dry-run",
        "set /leader c --if-version 7",
        "set /leader c --if-absent",
        "set /follower c --if-version 1",
        "delete /leader -m gone",
        "set /leader c --if-version 2",
        "set /leader c --if-version 0",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate set /leader b --if-version 1 -m 'drain node-7' --actor bob@ops
2 set /leader  version 2
$ ustate set /leader c --if-version 1
! error: /leader has changed since version 1
!   it is now version 2 (seq 2), by bob@ops [AGO]
!   hint: ustate show 2
[exit 1]
$ ustate set /leader c --if-version 1 --json
! {"v":1,"type":"error","code":"version_conflict","exit":1,"message":"/leader has changed since version 1","facts":["it is now version 2 (seq 2), by bob@ops [AGO]"],"hint":"ustate show 2"}
[exit 1]
$ ustate set /leader c --if-version 1 --dry-run
! error: /leader has changed since version 1
!   it is now version 2 (seq 2), by bob@ops [AGO]
!   hint: ustate show 2
[exit 1]
$ ustate set /leader c --if-version 7
! error: /leader has not reached version 7
!   it is now version 2 (seq 2), by bob@ops [AGO]
!   hint: ustate show 2
[exit 1]
$ ustate set /leader c --if-absent
! error: /leader exists already
!   it is now version 2 (seq 2), by bob@ops [AGO]
!   hint: ustate show 2
[exit 1]
$ ustate set /follower c --if-version 1
! error: /follower does not exist, and never had version 1
[exit 1]
$ ustate delete /leader -m gone
3 deleted /leader
$ ustate set /leader c --if-version 2
! error: /leader has changed since version 2
!   it was deleted as version 3 (seq 3), by alice@ops [AGO]
!   hint: ustate show 3
[exit 1]
$ ustate set /leader c --if-version 0
4 set /leader  version 4

"#]],
    );
}

#[test]
fn values_come_from_the_command_line_a_file_or_standard_input_to_the_byte() {
    let place = Place::new();
    let bytes = b"\x00\xff\n\x1b[31m\r\n";
    std::fs::write(place.path("value.bin"), bytes).unwrap();
    assert_eq!(place.code("set /file --file value.bin"), 0);
    assert!(place.fed("set /stdin -", bytes).status.success());
    for key in ["/file", "/stdin"] {
        assert_eq!(place.output(&format!("get {key} -o raw")).stdout, bytes);
    }
    assert!(place.fed("set /json - --type json", b" [1, 2]\n").status.success());
    assert_eq!(place.output("get /json -o raw").stdout, b" [1, 2]\n", "stored as it came");
    assert_eq!(place.fed("set /stdin - --type text", bytes).status.code(), Some(2));
    assert_eq!(place.code("set /file --file missing.bin"), 7);
}

#[test]
fn delete_names_what_it_deleted_and_asks_before_a_prefix() {
    let place = Place::new();
    for key in ["/a", "/b", "/n/1", "/n/2", "/n/3"] {
        assert_eq!(place.code(&format!("set {key} x")), 0);
    }
    let transcript = place.transcript(&[
        "delete /a /missing --dry-run",
        "delete /a /missing",
        "delete /a",
        "delete /a /missing --json",
        "delete --prefix /n/",
        "delete --prefix /n/ --dry-run",
        "list /n/*",
        "delete --prefix /n/ --yes --json -m 'rack moved'",
        "delete --prefix /n/ --yes",
        "delete /b -o tsv",
        "delete --prefix '' --yes",
        "delete",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate delete /a /missing --dry-run
would delete /a
! note: /missing does not exist
$ ustate delete /a /missing
6 deleted /a
! note: /missing does not exist
$ ustate delete /a
! error: /a does not exist
!   nothing was recorded
[exit 1]
$ ustate delete /a /missing --json
! {"v":1,"type":"error","code":"key_not_found","exit":1,"message":"none of the keys exists","facts":["nothing was recorded"]}
[exit 1]
$ ustate delete --prefix /n/
! error: delete 3 keys starting with /n/ (/n/1, /n/2, /n/3)? there is no terminal to ask on
!   --yes deletes without asking, --dry-run lists the keys
[exit 2]
$ ustate delete --prefix /n/ --dry-run
would delete /n/1
would delete /n/2
would delete /n/3
$ ustate list /n/*
/n/1
/n/2
/n/3
$ ustate delete --prefix /n/ --yes --json -m 'rack moved'
{"v":1,"type":"receipt","first":7,"last":9,"at":"[EXACT]","head":"9:[HASH]","deleted":["/n/1","/n/2","/n/3"],"absent":[]}
$ ustate delete --prefix /n/ --yes
! error: no key starts with /n/
!   nothing was recorded
[exit 1]
$ ustate delete /b -o tsv
10	/b
$ ustate delete --prefix '' --yes
! error: invalid value '' for '--prefix <PREFIX>': a prefix starts with '/', which alone stands for every key
!   hint: ustate delete --help
[exit 2]
$ ustate delete
! error: the following required arguments were not provided: <KEY>...
!   hint: ustate delete --help
[exit 2]

"#]],
    );
}

#[test]
fn nothing_is_written_where_the_environment_says_so() {
    let place = Place::new();
    for line in ["set /a 1", "delete /a", "init other.db"] {
        let words: Vec<&str> = line.split(' ').collect();
        let output = place.command(&words).env("USTATE_READONLY", "1").output().unwrap();
        check(
            &place.shown(&output),
            str![[r#"
! error: USTATE_READONLY is set, so nothing is written
!   commands that only read work as ever
[exit 2]

"#]],
        );
    }
    assert!(!place.path("other.db").exists());
    assert!(place.command(&["list"]).env("USTATE_READONLY", "1").output().unwrap().status.success());
    assert!(
        place.command(&["set", "/a", "1"]).env("USTATE_READONLY", "0").output().unwrap().status.success()
    );
}

#[test]
fn who_writes_is_recorded_without_being_asked() {
    let place = Place::new();
    let mut set = place.command(&["set", "/a", "1"]);
    assert!(set.env_remove("USTATE_ACTOR").env("USER", "carol").output().unwrap().status.success());
    assert!(place.stdout("history /a").contains("  carol@"));
    assert_eq!(place.code("set /a 2 --actor dave --correlation t-7"), 0);
    assert!(place.stdout("show head").contains("actor       dave\ncorrelation t-7\n"));
}

#[test]
fn what_is_recorded_is_not_called_failed_where_the_database_cannot_grow() {
    let limited = |arguments: &str| {
        let place = Place::new();
        std::fs::create_dir(place.path("conf")).unwrap();
        std::fs::write(place.path("conf/large"), vec![b'x'; 100_000]).unwrap();
        for key in ["/a", "/b"] {
            assert_eq!(place.code(&format!("set {key} --file conf/large")), 0);
        }
        // There is room for a write-ahead log, but the database is nearly as large as it may be.
        let largest = place.path("state.db").metadata().unwrap().len() + 4_096;
        let ustate = env!("CARGO_BIN_EXE_ustate");
        let line = format!("trap '' XFSZ; exec prlimit --fsize={largest} {ustate} {arguments}");
        let shown = place.shown(&place.as_environment_of("sh").args(["-c", &line]).output().unwrap());
        assert_eq!(place.stdout("list"), "/a\n/b\n/c/large\n", "{arguments}");
        assert_eq!(place.code("verify"), 0);
        shown
    };
    check(
        &["set /c/large --file conf/large", "load conf --prefix /c --json"].map(limited).concat(),
        str![[r#"
3 set /c/large  version 1
! note: recorded, but the write-ahead log could not be moved into the database: storage full: a write was refused: the file reached a size limit, a quota is full, or the disk is failing
{"v":1,"type":"receipt","unchanged":0,"left_out":{"dot_files":0,"others":0},"first":3,"last":3,"at":"[EXACT]","head":"3:[HASH]","changes":[{"kind":"created","key":"/c/large"}]}
! note: recorded, but the write-ahead log could not be moved into the database: storage full: a write was refused: the file reached a size limit, a quota is full, or the disk is failing

"#]],
    );
}
