//! Every class of failure has its exit code, says what, the facts, and what to do.

use std::os::unix::fs::symlink;

use snapbox::str;

use crate::support::{Place, check};

#[test]
fn what_is_no_store_is_never_taken_for_an_empty_one() {
    let place = Place::new();
    std::fs::create_dir(place.path("folder")).unwrap();
    std::fs::write(place.path("notes.txt"), "not a database at all, but long enough to look at").unwrap();
    std::fs::write(place.path("empty"), "").unwrap();
    symlink(place.path("state.db"), place.path("link")).unwrap();
    let other = rusqlite::Connection::open(place.path("other.db")).unwrap();
    other.execute_batch("CREATE TABLE t (x)").unwrap();
    let transcript = place.transcript(&[
        "list --db missing.db",
        "list --db missing/state.db --json",
        "set /a 1 --db missing.db",
        "list --db folder",
        "list --db notes.txt",
        "list --db empty",
        "set /a 1 --db empty",
        "list --db other.db",
        "list --db link",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate list --db missing.db
! error: cannot open [FOLDER]/missing.db: it does not exist
!   hint: ustate init missing.db
[exit 3]
$ ustate list --db missing/state.db --json
! {"v":1,"type":"error","code":"cannot_open","exit":3,"message":"cannot open [FOLDER]/missing: it cannot be entered: No such file or directory (os error 2)","facts":[],"hint":"ustate init missing/state.db"}
[exit 3]
$ ustate set /a 1 --db missing.db
! error: cannot open [FOLDER]/missing.db: it does not exist
!   hint: ustate init missing.db
[exit 3]
$ ustate list --db folder
! error: cannot open [FOLDER]/folder: it is a directory, but a store is a file
[exit 3]
$ ustate list --db notes.txt
! error: cannot open [FOLDER]/notes.txt: it is not a database
[exit 3]
$ ustate list --db empty
! error: cannot open [FOLDER]/empty: it is empty, not a store
[exit 3]
$ ustate set /a 1 --db empty
! error: cannot open [FOLDER]/empty: it is empty, not a store
[exit 3]
$ ustate list --db other.db
! error: cannot open [FOLDER]/other.db: it is a database of something else, not a store
[exit 3]
$ ustate list --db link
! error: cannot open [FOLDER]/link: it is a symbolic link; open the file that it points to
[exit 3]

"#]],
    );
    assert!(!place.path("missing.db").exists() && !place.path("missing").exists());
    assert_eq!(std::fs::read(place.path("empty")).unwrap(), b"");
}

#[test]
fn a_place_where_nothing_can_be_made_has_the_code_of_the_library_and_no_hint_to_make_it() {
    let place = Place::new();
    std::fs::write(place.path("text"), "no folder").unwrap();
    assert_eq!(place.code("set /b 1"), 0);
    assert_eq!(place.code("set /a 1"), 0);
    assert_eq!(place.code("export -q -O full.log"), 0);
    assert_eq!(place.code("export -q /a -O part.log"), 0);
    let transcript = place.transcript(&[
        "import full.log --into text/x.db --json",
        "export -O text/x.log --json",
        "import full.log --into state.db/",
        "export -O full.log/",
        "init text/x.db",
        "init text/in/x.db",
        "list --db text/x.db",
        "init new.db/",
        "list --db new.db/",
        "list /a --db part.log",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate import full.log --into text/x.db --json
! {"v":1,"type":"error","code":"cannot_open","exit":7,"message":"cannot open [FOLDER]/text: it is not a directory, but a store is to be in it","facts":[]}
[exit 7]
$ ustate export -O text/x.log --json
! {"v":1,"type":"error","code":"cannot_open","exit":7,"message":"cannot open text/x.log: it cannot be written: Not a directory (os error 20)","facts":[]}
[exit 7]
$ ustate import full.log --into state.db/
! error: cannot open state.db/: it ends with '/', but a store is a file
[exit 7]
$ ustate export -O full.log/
! error: cannot open full.log/: it ends with '/', but an export is a file
[exit 7]
$ ustate init text/x.db
! error: cannot open [FOLDER]/text: it is not a directory, but a store is to be in it
[exit 3]
$ ustate init text/in/x.db
! error: cannot open [FOLDER]/text: it is not a directory, but a store is to be in it
[exit 3]
$ ustate list --db text/x.db
! error: cannot open [FOLDER]/text/x.db: it cannot be looked at: Not a directory (os error 20)
[exit 3]
$ ustate init new.db/
! error: cannot open new.db/: it ends with '/', but a store is a file
[exit 3]
$ ustate list --db new.db/
! error: cannot open new.db/: it ends with '/', but a store is a file
[exit 3]
$ ustate list /a --db part.log
/a
! note: 1 change of other keys is withheld from this export

"#]],
    );
}

#[test]
fn a_store_must_be_named() {
    let place = Place::without_store();
    let output = place.command(&["list"]).env_remove("USTATE_DB").output().unwrap();
    check(
        &place.shown(&output),
        str![[r#"
! error: no store was named
!   give --db PATH, or set USTATE_DB
!   hint: export USTATE_DB=state.db
[exit 2]

"#]],
    );
}

#[test]
fn usage_errors_are_exit_2_and_json_where_json_was_asked_for() {
    let place = Place::new();
    let transcript = place.transcript(&[
        "get",
        "get --json",
        "frobnicate",
        "get /a -o xml",
        "watch --after soon",
        "get //",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate get
! error: the following required arguments were not provided: <KEY>
!   hint: ustate get --help
[exit 2]
$ ustate get --json
! {"v":1,"type":"error","code":"usage","exit":2,"message":"the following required arguments were not provided: <KEY>","facts":[],"hint":"ustate get --help"}
[exit 2]
$ ustate frobnicate
! error: unrecognized subcommand 'frobnicate'
!   hint: ustate --help
[exit 2]
$ ustate get /a -o xml
! error: invalid value 'xml' for '--output <FORMAT>' [possible values: human, json, ndjson, tsv, raw]
!   hint: ustate get --help
[exit 2]
$ ustate watch --after soon
! error: invalid value 'soon' for '--after <CURSOR>': this is no point in the history; use a number, head, head~10, a time like [TIME], 2026-09-01 or 2h-ago, mark:NAME, or hash:PREFIX
!   hint: ustate watch --help
[exit 2]
$ ustate get //
! error: invalid key: "//": empty segment at byte 0
[exit 2]

"#]],
    );
}

#[test]
fn hints_name_the_store_where_the_environment_does_not() {
    let place = Place::new();
    assert_eq!(place.code("set /a 1 --db state.db"), 0);
    std::fs::rename(place.path("state.db"), place.path("my state.db")).unwrap();
    let transcript = place.transcript(&["set /a 2 --if-absent --db 'my state.db'"]);
    check(
        &transcript,
        str![[r#"
$ ustate set /a 2 --if-absent --db 'my state.db'
! error: /a exists already
!   it is now version 1 (seq 1), by alice@ops [AGO]
!   hint: ustate show 1 --db 'my state.db'
[exit 1]

"#]],
    );
}

#[test]
fn a_store_that_another_process_keeps_is_busy() {
    let place = Place::new();
    let other = rusqlite::Connection::open(place.path("state.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let transcript = place.transcript(&["set /a 1 --busy-timeout 50ms --json", "list"]);
    check(
        &transcript,
        str![[r#"
$ ustate set /a 1 --busy-timeout 50ms --json
! {"v":1,"type":"error","code":"busy","exit":4,"message":"busy: another process, or another opening of the file, holds the store; try again, or raise the busy timeout","facts":[]}
[exit 4]
$ ustate list
! note: no key matches /*

"#]],
    );
}

#[test]
fn a_file_that_cannot_be_written_is_exit_7() {
    let place = Place::new();
    let transcript = place.transcript(&["watch --cursor-file missing/agent.cursor"]);
    check(
        &transcript,
        str![[r#"
$ ustate watch --cursor-file missing/agent.cursor
! error: cannot write missing/agent.cursor: No such file or directory (os error 2)
[exit 7]

"#]],
    );
}

// With six descriptors the runtime panicked.
#[test]
fn with_too_few_descriptors_every_command_fails_with_words_and_leaves_the_store_alone() {
    let place = Place::new();
    place.stdout("set /a 1");
    let before = place.stdout("log --json");
    let left = |name: &str| -> Vec<String> {
        let all = std::fs::read_dir(place.path(".")).unwrap().map(|file| file.unwrap().file_name());
        all.filter_map(|file| file.into_string().ok()).filter(|file| file.starts_with(name)).collect()
    };
    for line in ["get /a", "set /b 2 --if-version 7", "verify", "stats", "history /a", "init new.db"] {
        let (mut failed, mut started) = (0, 0);
        // With fewer, the system cannot load a program.
        for limit in 4..=40 {
            let ustate = format!("ulimit -n {limit}; exec \"$0\" {line}");
            let mut command = place.as_environment_of("sh");
            let output = command.args(["-c", &ustate, env!("CARGO_BIN_EXE_ustate")]).output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                !errors.contains("panicked") && output.status.code() != Some(101),
                "{limit} {line}: {errors}"
            );
            if errors.to_lowercase().contains("too many") {
                failed += 1;
                assert!(errors.contains("ulimit -n"), "{limit} {line}: {errors}");
                assert_eq!(output.status.code(), Some(7), "{limit} {line}: {output:?}");
                // Nothing is half done: the same command succeeds later.
                assert_eq!(left("new.db"), Vec::<String>::new(), "{limit} {line}");
            } else {
                started += 1;
                assert_eq!(output.status.success(), !line.starts_with("set"), "{limit} {line}: {output:?}");
                for file in left("new.db") {
                    std::fs::remove_file(place.path(&file)).unwrap();
                }
            }
        }
        assert!(failed >= 5 && started >= 5, "{line}: {failed} failed, {started} did not");
    }
    assert_eq!(place.stdout("log --json"), before);
    place.stdout("verify");
}

// Nine of thirty said so.
#[test]
fn of_many_that_create_one_store_at_once_exactly_one_says_so() {
    let place = Place::new();
    let all: Vec<_> = (0..30).map(|_| place.start("init here/new.db -q --json")).collect();
    let (mut created, mut others) = (0, 0);
    for one in all {
        match one.code() {
            0 => created += 1,
            1 => others += 1,
            code => panic!("exit code {code}"),
        }
    }
    assert_eq!((created, others), (1, 29));
    assert_eq!(place.code("verify --db here/new.db -q"), 0);
}

/// Runs this in a name space of its own with a disk of so many KiB at `disk`; `None` where this user may not.
#[cfg(target_os = "linux")]
fn on_a_disk_of(place: &Place, kib: u32, line: &str) -> Option<std::process::Output> {
    let script = format!(
        "mkdir -p disk && mount -t tmpfs -o size={kib}k tmpfs disk || exit 99\n\
         \"$0\" {line}\ncode=$?\nfind disk -type f >&2\nexit $code"
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, env!("CARGO_BIN_EXE_ustate")]);
    let output = command.current_dir(place.path(".")).output().ok()?;
    (!matches!(output.status.code(), Some(99) | None))
        .then_some(output)
        .filter(|output| !String::from_utf8_lossy(&output.stderr).contains("unshare:"))
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_full_disk_nothing_is_created_and_the_error_says_so() {
    let (mut full, mut created) = (0, 0);
    for kib in (4..=200).step_by(12) {
        let place = Place::new();
        let Some(output) = on_a_disk_of(&place, kib, "init disk/state.db") else {
            println!("NOT RUN: this user may not mount a disk");
            return;
        };
        let says = String::from_utf8(output.stderr).unwrap();
        match output.status.code() {
            Some(0) => created += 1,
            Some(7) => {
                assert!(says.starts_with("error: storage full: "), "{kib} KiB: {says}");
                assert!(
                    !says.contains("disk/state.db-") && !says.contains("\ndisk/"),
                    "{kib} KiB left: {says}"
                );
                full += 1;
            }
            code => panic!("{kib} KiB: {code:?}, {says}"),
        }
    }
    assert!(full > 3 && created > 3, "{full} were full, {created} were not");
}
