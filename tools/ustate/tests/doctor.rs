//! doctor: the files of a store and where they are, with what needs attention.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use regex::Regex;
use snapbox::str;
use univrs_state::{LocalStore, StateStore};

use crate::support::{Place, check};

/// What a doctor says, without what differs from machine to machine.
fn examined(place: &Place, lines: &[&str]) -> String {
    let mut text = place.transcript(lines);
    for (pattern, name) in [
        (r#"(file system(?:  |\t|","ok":true,"what":"))[a-z0-9.]+"#, "$1[KIND]"),
        (r"\b3\.\d+\.\d+\b", "[VERSION]"),
        (r"\d+\.\d KiB", "[SIZE]"),
        (r"process \d+", "process [ID]"),
    ] {
        text = Regex::new(pattern).unwrap().replace_all(&text, name).into_owned();
    }
    text
}

#[test]
fn a_store_in_good_health_is_said_to_be() {
    let place = Place::new();
    assert_eq!(place.code("set /a 1"), 0);
    let before = place.stdout("anchor");
    check(
        &examined(&place, &["doctor", "doctor --json", "doctor -o tsv", "doctor -o raw"]),
        str![[r#"
$ ustate doctor
  ok       file         [SIZE]
  ok       permissions  mode 600
  ok       file system  [KIND]
  ok       journal      write-ahead log, 0 B
  ok       readers      none of an older state
  ok       schema       format 1
  ok       SQLite       [VERSION]
  ok       log          ends at 1
  ok       clock        not behind the newest commit
  ok       head file    agrees with the log
  ok       writes       it can be opened to write
$ ustate doctor --json
{"v":1,"type":"health","healthy":true,"checks":[{"check":"file","ok":true,"what":"[SIZE]"},{"check":"permissions","ok":true,"what":"mode 600"},{"check":"file system","ok":true,"what":"[KIND]"},{"check":"journal","ok":true,"what":"write-ahead log, 0 B"},{"check":"readers","ok":true,"what":"none of an older state"},{"check":"schema","ok":true,"what":"format 1"},{"check":"SQLite","ok":true,"what":"[VERSION]"},{"check":"log","ok":true,"what":"ends at 1"},{"check":"clock","ok":true,"what":"not behind the newest commit"},{"check":"head file","ok":true,"what":"agrees with the log"},{"check":"writes","ok":true,"what":"it can be opened to write"}]}
$ ustate doctor -o tsv
ok	file	[SIZE]
ok	permissions	mode 600
ok	file system	[KIND]
ok	journal	write-ahead log, 0 B
ok	readers	none of an older state
ok	schema	format 1
ok	SQLite	[VERSION]
ok	log	ends at 1
ok	clock	not behind the newest commit
ok	head file	agrees with the log
ok	writes	it can be opened to write
$ ustate doctor -o raw
! error: doctor has no raw output
!   use -o human or -o json
[exit 2]

"#]],
    );
    assert_eq!(place.stdout("anchor"), before, "nothing was recorded");
    let output = place.command(&["doctor"]).env("USTATE_READONLY", "1").output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("not tried, as USTATE_READONLY is set"));
}

#[test]
fn what_should_be_seen_to_is_exit_1() {
    let place = Place::new();
    assert_eq!(place.code("set /a 1"), 0);
    fs::set_permissions(place.path("state.db"), PermissionsExt::from_mode(0o644)).unwrap();
    fs::remove_file(place.path("state.db-head")).unwrap();
    check(
        &examined(&place, &["doctor", "doctor --json", "doctor"]),
        str![[r#"
$ ustate doctor
  ok       file         [SIZE]
  warning  permissions  mode 644
                        others may read or write all that is in it: chmod 600 state.db
  ok       file system  [KIND]
  ok       journal      write-ahead log, 0 B
  ok       readers      none of an older state
  ok       schema       format 1
  ok       SQLite       [VERSION]
  ok       log          ends at 1
  ok       clock        not behind the newest commit
  warning  head file    state.db-head is missing
                        without it a lost end of the log cannot be told; the next write makes it
  ok       writes       it can be opened to write
! error: 2 things to see to
[exit 1]
$ ustate doctor --json
{"v":1,"type":"health","healthy":false,"checks":[{"check":"file","ok":true,"what":"[SIZE]"},{"check":"permissions","ok":false,"what":"mode 644","advice":"others may read or write all that is in it: chmod 600 state.db"},{"check":"file system","ok":true,"what":"[KIND]"},{"check":"journal","ok":true,"what":"write-ahead log, 0 B"},{"check":"readers","ok":true,"what":"none of an older state"},{"check":"schema","ok":true,"what":"format 1"},{"check":"SQLite","ok":true,"what":"[VERSION]"},{"check":"log","ok":true,"what":"ends at 1"},{"check":"clock","ok":true,"what":"not behind the newest commit"},{"check":"head file","ok":true,"what":"agrees with the log"},{"check":"writes","ok":true,"what":"it can be opened to write"}]}
! {"v":1,"type":"error","code":"warnings","exit":1,"message":"1 thing to see to","facts":[]}
[exit 1]
$ ustate doctor
  ok       file         [SIZE]
  warning  permissions  mode 644
                        others may read or write all that is in it: chmod 600 state.db
  ok       file system  [KIND]
  ok       journal      write-ahead log, 0 B
  ok       readers      none of an older state
  ok       schema       format 1
  ok       SQLite       [VERSION]
  ok       log          ends at 1
  ok       clock        not behind the newest commit
  ok       head file    agrees with the log
  ok       writes       it can be opened to write
! error: 1 thing to see to
[exit 1]

"#]],
    );
}

#[test]
fn of_a_database_that_is_no_readable_store_the_files_are_looked_at() {
    let place = Place::new();
    assert_eq!(place.code("set /a 1"), 0);
    fs::set_permissions(place.path("state.db"), PermissionsExt::from_mode(0o644)).unwrap();
    let other = rusqlite::Connection::open(place.path("state.db")).unwrap();
    other.execute_batch("DROP TABLE kv_store").unwrap();
    drop(other);
    check(
        &examined(&place, &["doctor", "doctor --json"]),
        str![[r#"
$ ustate doctor
  ok       file         [SIZE]
  warning  permissions  mode 644
                        others may read or write all that is in it: chmod 600 state.db
  ok       file system  [KIND]
  ok       journal      write-ahead log, 0 B
  ok       readers      none of an older state
  warning  store        it cannot be read
                        the error says why
! error: cannot open [FOLDER]/state.db: it has no table "kv_store", which every store has
[exit 3]
$ ustate doctor --json
{"v":1,"type":"health","healthy":false,"checks":[{"check":"file","ok":true,"what":"[SIZE]"},{"check":"permissions","ok":false,"what":"mode 644","advice":"others may read or write all that is in it: chmod 600 state.db"},{"check":"file system","ok":true,"what":"[KIND]"},{"check":"journal","ok":true,"what":"write-ahead log, 0 B"},{"check":"readers","ok":true,"what":"none of an older state"},{"check":"store","ok":false,"what":"it cannot be read","advice":"the error says why"}]}
! {"v":1,"type":"error","code":"cannot_open","exit":3,"message":"cannot open [FOLDER]/state.db: it has no table \"kv_store\", which every store has","facts":[]}
[exit 3]

"#]],
    );
}

#[test]
fn a_database_in_another_mode_is_said_to_be() {
    let place = Place::new();
    assert_eq!(place.code("set /a 1"), 0);
    let other = rusqlite::Connection::open(place.path("state.db")).unwrap();
    let mode: String = other.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "delete", "the premise");
    drop(other);
    check(
        &examined(&place, &["doctor -o tsv", "doctor -o tsv"]),
        str![[r#"
$ ustate doctor -o tsv
ok	file	[SIZE]
ok	permissions	mode 600
ok	file system	[KIND]
warning	journal	no write-ahead log
ok	readers	none of an older state
ok	schema	format 1
ok	SQLite	[VERSION]; last written by [VERSION]
ok	log	ends at 1
warning	reads	as a file that nobody changes
ok	clock	not behind the newest commit
ok	head file	agrees with the log
ok	writes	it can be opened to write
! error: 2 things to see to
[exit 1]
$ ustate doctor -o tsv
ok	file	[SIZE]
ok	permissions	mode 600
ok	file system	[KIND]
ok	journal	write-ahead log, 0 B
ok	readers	none of an older state
ok	schema	format 1
ok	SQLite	[VERSION]; last written by [VERSION]
ok	log	ends at 1
ok	clock	not behind the newest commit
ok	head file	agrees with the log
ok	writes	it can be opened to write

"#]],
    );
}

#[tokio::test]
async fn a_store_that_others_use_is_examined() {
    let place = Place::new();
    let store = place.open().await;
    store.set("/a", vec![1; 10_000]).await.unwrap();
    let reader = rusqlite::Connection::open(place.path("state.db")).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let rows: i64 = reader.query_row("SELECT count(*) FROM changes", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1);
    store.set("/a", vec![2; 10_000]).await.unwrap();
    let shown = examined(&place, &["doctor"]);
    assert!(shown.contains("process [ID] (main-"), "{shown}");
    assert!(!shown.contains("warning"), "{shown}");
    reader.execute_batch("COMMIT").unwrap();
    let shown = examined(&place, &["doctor"]);
    assert!(shown.contains("none of an older state"), "{shown}");
    drop(reader);
    let other = rusqlite::Connection::open(place.path("state.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let shown = examined(&place, &["doctor --busy-timeout 50ms -o tsv"]);
    drop(other);
    check(
        &shown,
        str![[r#"
$ ustate doctor --busy-timeout 50ms -o tsv
ok	file	[SIZE]
ok	permissions	mode 600
ok	file system	[KIND]
ok	journal	write-ahead log, 0 B
ok	readers	none of an older state
ok	schema	format 1
ok	SQLite	[VERSION]; last written by [VERSION]
ok	log	ends at 2
ok	clock	not behind the newest commit
ok	head file	agrees with the log
ok	writes	it can be opened to write

"#]],
    );
    store.set("/a", b"3".to_vec()).await.unwrap();
    assert!(store.verify().await.unwrap().is_intact(), "nothing was disturbed");
}

#[test]
fn what_is_no_store_has_the_exit_code_of_every_command() {
    let place = Place::new();
    assert_eq!(place.code("set /a one-of-a-kind"), 0);
    assert_eq!(place.code("export -O state.log"), 0);
    fs::write(place.path("notes.txt"), "not a database").unwrap();
    let transcript =
        examined(&place, &["doctor --db missing.db", "doctor --db notes.txt", "doctor --db state.log"]);
    check(
        &transcript,
        str![[r#"
$ ustate doctor --db missing.db
! error: cannot open [FOLDER]/missing.db: it does not exist
!   hint: ustate init missing.db
[exit 3]
$ ustate doctor --db notes.txt
! error: cannot open [FOLDER]/notes.txt: it is not a database
[exit 3]
$ ustate doctor --db state.log
! error: state.log is an export, whose bytes prove themselves
!   hint: ustate verify --db state.log
[exit 2]

"#]],
    );
    // The newest change is gone, which the head file tells.
    fs::copy(place.path("state.db"), place.path("old.db")).unwrap();
    assert_eq!(place.code("set /a 2"), 0);
    fs::copy(place.path("old.db"), place.path("state.db")).unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(place.path(&format!("state.db{suffix}")));
    }
    check(
        &examined(&place, &["doctor"]),
        str![[r#"
$ ustate doctor
  ok       file         [SIZE]
  ok       permissions  mode 600
  ok       file system  [KIND]
  ok       journal      write-ahead log, 0 B
  ok       readers      none of an older state
  warning  store        it cannot be read
                        the error says why
! error: corrupted: [FOLDER]/state.db: the log ends at 1, but had reached 2: 1 change is missing; bring back [FOLDER]/state.db and [FOLDER]/state.db-wal as they were, or accept the loss by opening it once with the option accept_loss
!   hint: ustate doctor --accept-loss --db state.db
[exit 5]

"#]],
    );
}

/// `timeout` ends a command that waits for a writer, which nobody is.
#[test]
fn a_named_pipe_is_refused_and_not_waited_for() {
    let place = Place::new();
    for pipe in ["pipe", "piped.db-shm"] {
        assert!(place.as_environment_of("mkfifo").arg(pipe).status().unwrap().success());
    }
    fs::copy(place.path("state.db"), place.path("piped.db")).unwrap();
    let mut transcript = String::new();
    for line in [
        "doctor --db pipe",
        "verify --db piped.db",
        "list --db pipe",
        "verify --db pipe",
        "init pipe",
        "watch --cursor-file pipe",
    ] {
        let mut command = place.as_environment_of("timeout");
        command.args(["300", env!("CARGO_BIN_EXE_ustate")]).args(line.split(' '));
        transcript.extend(["$ ustate ", line, "\n", &place.shown(&command.output().unwrap())]);
    }
    check(
        &transcript,
        str![[r#"
$ ustate doctor --db pipe
! error: cannot open [FOLDER]/pipe: it is not a regular file
[exit 3]
$ ustate verify --db piped.db
! error: cannot open [FOLDER]/piped.db-shm: it is not a regular file
[exit 3]
$ ustate list --db pipe
! error: cannot open [FOLDER]/pipe: it is not a regular file
[exit 3]
$ ustate verify --db pipe
! error: cannot open [FOLDER]/pipe: it is not a regular file
[exit 3]
$ ustate init pipe
! error: cannot open [FOLDER]/pipe: it is not a regular file
[exit 3]
$ ustate watch --cursor-file pipe
! error: pipe is not a regular file
[exit 2]

"#]],
    );
}

#[test]
fn a_database_with_a_journal_of_another_program_is_not_read_around_it() {
    let place = Place::new();
    assert_eq!(place.code("set /a 1"), 0);
    let other = rusqlite::Connection::open(place.path("state.db")).unwrap();
    let mode: String = other.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "delete", "the premise");
    drop(other);
    assert_eq!(place.stdout("get /a -q"), "1\n");
    // What it had begun to write, and was to be taken back.
    std::fs::write(place.path("state.db-journal"), [1; 1_024]).unwrap();
    check(
        &place.transcript(&["get /a"]),
        str![[r#"
$ ustate get /a
! error: cannot open [FOLDER]/state.db: it was left in the middle of a change, which [FOLDER]/state.db-journal undoes: open it once with a program that may write
[exit 3]

"#]],
    );
}

#[test]
fn what_other_programs_keep_in_the_file_is_named_and_what_is_in_the_way_comes_with_its_removal() {
    let place = Place::new();
    assert_eq!(place.code("set /a 1"), 0);
    let other = rusqlite::Connection::open(place.path("state.db")).unwrap();
    other.execute_batch("ANALYZE; CREATE TABLE extra (a)").unwrap();
    let shown = place.transcript(&["get /a", "doctor -o tsv"]);
    let named = r#"[FOLDER]/state.db also has what no store makes, and which is left alone: table "sqlite_stat1", table "sqlite_stat4", table "extra""#;
    assert!(
        shown.contains(&format!("! note: {named}\n1\n")) || shown.contains(&format!("1\n! note: {named}\n")),
        "{shown}"
    );
    assert!(shown.contains(&format!("warning\tothers\t{named}")), "{shown}");
    assert!(shown.contains("ok\thead file\tagrees with the log"), "{shown}");
    other.execute_batch("CREATE INDEX by_key ON changes (key)").unwrap();
    check(
        &examined(&place, &["get /a", "doctor -q"]),
        str![[r#"
$ ustate get /a
! error: cannot open [FOLDER]/state.db: it has an index "by_key" on its table "changes", which no store has: remove it with the statement DROP INDEX "by_key";
[exit 3]
$ ustate doctor -q
  ok       file         [SIZE]
  ok       permissions  mode 600
  ok       file system  [KIND]
  ok       journal      write-ahead log, [SIZE]
  ok       readers      none of an older state
  warning  store        it cannot be read
                        the error says why
! error: cannot open [FOLDER]/state.db: it has an index "by_key" on its table "changes", which no store has: remove it with the statement DROP INDEX "by_key";
[exit 3]

"#]],
    );
}
