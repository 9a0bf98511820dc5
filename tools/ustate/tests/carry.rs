//! export, import: a log goes elsewhere whole, or less of it, and nothing else is believed.

use std::fs;
use std::process::Stdio;

use snapbox::str;
use univrs_state::{Batch, StateStore};

use crate::support::{Place, check};

/// A store whose log has four changes.
pub(crate) fn stocked() -> Place {
    let place = Place::new();
    for line in [
        "set /billing/rate 7",
        "set /billing/key hunter2",
        "set /nodes/n1 up --actor bob@ops",
        "delete /nodes/n1",
    ] {
        assert_eq!(place.code(line), 0, "{line}");
    }
    place
}

#[test]
fn an_export_says_what_is_in_it_and_goes_nowhere_twice() {
    let place = stocked();
    fs::create_dir(place.path("folder")).unwrap();
    check(
        &place.transcript(&[
            "export -O all.log",
            "export -O all.log",
            "export -O folder --json",
            "export -O missing/all.log",
            "export '/billing/*' -O billing.log --redact /billing/key --json",
            "export ..2 -O early.log -o tsv",
            "export 1.. -O late.log",
            "export 3..1 -O wrong.log",
            "export 1..2 2..3 -O wrong.log",
            "export billing -O wrong.log",
            "export --redact billing -O wrong.log",
            "export -O quiet.log -q",
            "export -o raw",
        ]),
        str![[r#"
$ ustate export -O all.log
exported 4 changes to all.log
head 4:[HASH]
$ ustate export -O all.log
! error: all.log exists, and is not written over
[exit 1]
$ ustate export -O folder --json
! {"v":1,"type":"error","code":"already_exists","exit":1,"message":"folder exists, and is not written over","facts":[]}
[exit 1]
$ ustate export -O missing/all.log
! error: cannot open missing/all.log: it cannot be written: No such file or directory (os error 2)
[exit 7]
$ ustate export '/billing/*' -O billing.log --redact /billing/key --json
{"v":1,"type":"exported","path":"billing.log","store":"[STORE]","floor":"0:[HASH]","head":"4:[HASH]","changes":2,"withheld":2,"redacted":1}
$ ustate export ..2 -O early.log -o tsv
early.log	2:[HASH]	2	0	0
$ ustate export 1.. -O late.log
exported 3 changes to late.log
head 4:[HASH]
$ ustate export 3..1 -O wrong.log
! error: the range begins at 3 and ends before that, at 1
!   exchange the two points
[exit 2]
$ ustate export 1..2 2..3 -O wrong.log
! error: more than one range was given
[exit 2]
$ ustate export billing -O wrong.log
! error: invalid value 'billing' for '[PATTERN|A..B]...': this is neither a pattern, which starts with '/', nor a range like 40..50
!   hint: ustate export --help
[exit 2]
$ ustate export --redact billing -O wrong.log
! error: invalid key: "billing": it must start with '/'
[exit 2]
$ ustate export -O quiet.log -q
$ ustate export -o raw
! error: export has no raw output
!   use -o human or -o json
[exit 2]

"#]],
    );
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&place.path("all.log").metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "for its owner alone");
    assert_eq!(fs::read(place.path("all.log")).unwrap(), fs::read(place.path("quiet.log")).unwrap());
    assert!(!place.path("wrong.log").exists());
}

#[test]
fn an_export_goes_to_standard_output_and_as_text() {
    let place = stocked();
    assert_eq!(place.code("export -O all.log"), 0);
    let piped = place.output("export");
    assert_eq!(piped.stdout, fs::read(place.path("all.log")).unwrap());
    assert!(String::from_utf8(piped.stderr).unwrap().starts_with("note: exported 4 changes; head 4:"));
    let text = place.stdout("export '/billing/*' 1..4 --text --redact /billing/key -q");
    let secret_salt =
        regex::Regex::new(r#""salt":"[^"]+""#).unwrap().replace_all(&text, r#""salt":"[SALT]""#);
    let times =
        regex::Regex::new(r#"("at"|"created_at"):\d+"#).unwrap().replace_all(&secret_salt, "$1:[MICROS]");
    check(
        &place.scrubbed(&times),
        str![[r#"
{"v":1,"type":"log","at":[MICROS],"floor":1,"hash":"[HASH]","store":"[STORE]"}
{"v":1,"type":"change","at":[MICROS],"commit_seq":2,"created_at":[MICROS],"erased":true,"hash":"[HASH]","key":"/billing/key","kind":"created","meta":{"actor":"alice@ops"},"prev":0,"seq":2,"value_hash":"[HASH]","version":1}
{"v":1,"type":"withheld","hash":"[HASH]","header_hash":"[HASH]","seq":3}
{"v":1,"type":"withheld","hash":"[HASH]","header_hash":"[HASH]","seq":4}
{"v":1,"type":"end","count":3,"hash":"[HASH]","seq":4}

"#]],
    );
}

#[test]
fn an_imported_store_is_the_same_store() {
    let place = stocked();
    assert_eq!(place.code("export -O all.log"), 0);
    check(
        &place.transcript(&[
            "import all.log --into copy.db",
            "import all.log --into copy.db",
            "import all.log --into state.db",
            "import all.log --into new/folder/json.db --json",
            "import all.log --into tsv.db -o tsv",
            "import all.log --into quiet.db -q",
            "log --db copy.db",
            "set /nodes/n1 back --db copy.db",
            "verify --db copy.db",
        ]),
        str![[r#"
$ ustate import all.log --into copy.db
imported 4 changes into copy.db
head 4:[HASH]
$ ustate import all.log --into copy.db
! error: copy.db exists, and is not written over
!   --into names a file that is not there yet
[exit 1]
$ ustate import all.log --into state.db
! error: state.db exists, and is not written over
!   --into names a file that is not there yet
[exit 1]
$ ustate import all.log --into new/folder/json.db --json
{"v":1,"type":"imported","path":"new/folder/json.db","changes":4,"head":"4:[HASH]"}
$ ustate import all.log --into tsv.db -o tsv
tsv.db	4:[HASH]
$ ustate import all.log --into quiet.db -q
$ ustate log --db copy.db
[TIME]  4 deleted /nodes/n1               by alice@ops
[TIME]  3 created /nodes/n1      up       by bob@ops
[TIME]  2 created /billing/key   hunter2  by alice@ops
[TIME]  1 created /billing/rate  7        by alice@ops
$ ustate set /nodes/n1 back --db copy.db
5 set /nodes/n1  version 3
$ ustate verify --db copy.db
  proved        every change's bytes match its hash     5 changes
  proved        every link follows the one before it    5 links
  proved        kv_store equals the fold of the log     3 keys
  proved        the storage around the rows is whole
  not provable  5 changes that no anchor covers could have been cut off or rewritten
  head          5:[HASH]
! note: an anchor that is kept elsewhere proves more: ustate anchor --db copy.db >> anchors.ndjson

"#]],
    );
    let piped = place.fed("import - --into piped.db", &fs::read(place.path("all.log")).unwrap());
    assert_eq!(piped.status.code(), Some(0));
    for copy in ["piped.db", "tsv.db"] {
        assert_eq!(
            place.output(&format!("export --db {copy}")).stdout,
            fs::read(place.path("all.log")).unwrap()
        );
        assert_eq!(place.stdout(&format!("log --db {copy} --json")), place.stdout("log --json"));
    }
}

#[test]
fn a_part_of_a_log_is_read_where_it_is() {
    let place = stocked();
    for line in [
        "export '/billing/*' -O billing.log",
        "export --redact /billing/key -O redacted.log",
        "export 2.. -O late.log",
        "export --text -O lines.log",
    ] {
        assert_eq!(place.code(line), 0, "{line}");
    }
    check(
        &place.transcript(&[
            "import billing.log --into new.db",
            "import late.log --into new.db",
            "import lines.log --into new.db",
            "import redacted.log --into new.db",
            "get /billing/key --db new.db",
            "export --db billing.log -O again.log",
            "export --db redacted.log '/billing/*' -O less.log",
        ]),
        str![[r#"
$ ustate import billing.log --into new.db
! error: billing.log: the export withholds change 3: it can be read, but a store that can be written needs all changes
!   hint: ustate list --db billing.log
[exit 6]
$ ustate import late.log --into new.db
! error: late.log: the export begins after change 2: it can be read, but a store that can be written needs the changes before it, or their base
!   hint: ustate list --db late.log
[exit 6]
$ ustate import lines.log --into new.db
! error: lines.log: this input is not an exported log
!   a log can be imported as 'ustate export' writes it, without --text
!   hint: ustate export -O state.log
[exit 3]
$ ustate import redacted.log --into new.db
imported 4 changes into new.db
head 4:[HASH]
$ ustate get /billing/key --db new.db
! error: erased: the value that change 2 gave /billing/key is gone; its hash remains
[exit 6]
$ ustate export --db billing.log -O again.log
exported 2 changes, 2 withheld to again.log
head 4:[HASH]
! note: 2 changes of other keys are withheld from this export
$ ustate export --db redacted.log '/billing/*' -O less.log
exported 2 changes, 2 withheld to less.log
head 4:[HASH]

"#]],
    );
    assert_eq!(fs::read(place.path("again.log")).unwrap(), fs::read(place.path("billing.log")).unwrap());
}

#[tokio::test]
async fn an_export_is_of_one_state_while_another_program_writes() {
    let place = stocked();
    let store = place.open().await;
    for round in 0..5 {
        let value = format!("{round}");
        store.commit(Batch::new().set("/a", value.clone()).set("/b", value)).await.unwrap();
        let (log, copy) = (format!("{round}.log"), format!("{round}.db"));
        assert_eq!(place.code(&format!("export -O {log}")), 0);
        assert_eq!(place.code(&format!("import {log} --into {copy}")), 0);
        let values = place.stdout(&format!("list /* --values --db {copy} -o tsv"));
        let values: Vec<&str> = values.lines().filter_map(|line| line.rsplit('\t').next()).collect();
        assert_eq!(values[..2], [&*round.to_string(); 2], "{values:?}");
    }
}

#[test]
fn a_closed_pipe_ends_an_export_quietly() {
    let place = stocked();
    fs::write(place.path("value"), vec![b'x'; 900_000]).unwrap();
    assert_eq!(place.code("set /large --file value"), 0);
    let mut child =
        place.command(&["export", "-q"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
