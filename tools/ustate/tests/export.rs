//! Every command that reads works on an export, too.

use snapbox::str;
use univrs_state::LocalStore;
use univrs_state::Seq;
use univrs_state::archive::Export;
use univrs_state::history::Point;

use crate::support::{Place, check};

/// An export of a whole log as `state.log`, one of a part of it as `part.log`, and what came after
/// the second change as `late.log`.
async fn exported() -> Place {
    let place = Place::new();
    for line in [
        "set /cluster/leader '\"node-1\"' --type json --actor scheduler@node-1",
        "set /nodes/n1 '{\"ready\":true}' --type json --correlation boot-7",
        "set /cluster/leader '\"node-7\"' --type json -m failover",
        "delete /nodes/n1 --actor gc@n1",
        "set /secret hunter2",
    ] {
        assert_eq!(place.code(line), 0, "{line}");
    }
    let store = place.open().await;
    store.export_to(Export::new(), place.path("state.log")).await.unwrap();
    let part = Export::new()
        .only("/cluster/*".parse().unwrap())
        .only("/secret".parse().unwrap())
        .redact("/secret".parse().unwrap());
    store.export_to(part, place.path("part.log")).await.unwrap();
    store.export_to(Export::new().after(Point::Seq(Seq::new(2))), place.path("late.log")).await.unwrap();
    store.close().await.unwrap();
    place
}

/// Lines that read, and answer the same from a store and from its export.
const READS: [&str; 19] = [
    "get /cluster/leader --meta",
    "get /cluster/leader --at 2",
    "get /nodes/n1",
    "list --values",
    "list --values --at head~2 --json",
    "tree --sizes",
    "log",
    "log 1..3 --json",
    "log /cluster/leader --reverse -o tsv",
    "show 3 head",
    "show 2 -o raw",
    "history /cluster/leader",
    "history /nodes/n1 --at 3 --json",
    "watch --after 0 --count 5 -o tsv",
    "get /cluster/leader --at mark:x",
    "get /cluster/leader --at 99",
    "get /cluster/leader --at hash:0123456789abcdef",
    "get /cluster/leader --at 2020-01-01",
    "log 2020-01-01..",
];

#[tokio::test]
async fn an_export_answers_as_its_store_does() {
    let place = exported().await;
    for line in READS {
        let (live, export) = (place.output(line), place.output(&format!("{line} --db state.log")));
        let hints = |output: &std::process::Output| place.shown(output).replace(" --db state.log", "");
        assert_eq!(hints(&live), hints(&export), "{line}");
    }
    assert_eq!(place.code("verify --db state.log"), 0);
}

#[tokio::test]
async fn what_an_export_does_not_show_is_said_and_never_guessed() {
    let place = exported().await;
    let transcript = place.transcript(&[
        "list --db part.log",
        "list --values --db part.log -q",
        "list --values --db part.log -o tsv -q",
        "get /secret --db part.log -q",
        "get /nodes/n1 --db part.log -q --json",
        "log --db part.log -q -o tsv",
        "show 2 --db part.log -q",
        "show 5 --db part.log -q -o tsv",
        "log --db late.log -o tsv",
        "log 0.. --db late.log -q",
        "get /cluster/leader --at 1 --db late.log -q",
        "show 2 --db late.log -q",
        "history /cluster/leader --db late.log",
        "history /cluster/leader --diff --db late.log -q",
        "history /nodes/n1 --db part.log",
        "show 3 --diff --db late.log -q --json",
        "watch --after 0 --db late.log -q",
        "watch /b --db part.log -q --json",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate list --db part.log
/cluster/leader
/secret
! note: 2 changes of other keys are withheld from this export
$ ustate list --values --db part.log -q
/cluster/leader  "node-7"
/secret          (erased)
$ ustate list --values --db part.log -o tsv -q
/cluster/leader	2	3	[EXACT]	json	"node-7"
/secret				erased	
$ ustate get /secret --db part.log -q
! error: erased: the value that change 5 gave /secret is gone; its hash remains
[exit 6]
$ ustate get /nodes/n1 --db part.log -q --json
! {"v":1,"type":"error","code":"erased","exit":6,"message":"erased: 2 changes are withheld, and /nodes/n1 may be among them","facts":[]}
[exit 6]
$ ustate log --db part.log -q -o tsv
5	[EXACT]	created	/secret	erased		alice@ops	
3	[EXACT]	updated	/cluster/leader	json	"node-7"	alice@ops	failover
1	[EXACT]	created	/cluster/leader	json	"node-1"	scheduler@node-1	
$ ustate show 2 --db part.log -q
! error: change 2 is withheld from this export; the hash of its header remains
[exit 6]
$ ustate show 5 --db part.log -q -o tsv
5	[EXACT]	created	/secret	erased		alice@ops	
$ ustate log --db late.log -o tsv
5	[EXACT]	created	/secret	text	hunter2	alice@ops	
4	[EXACT]	deleted	/nodes/n1			gc@n1	
3	[EXACT]	updated	/cluster/leader	json	"node-7"	alice@ops	failover
! note: this export begins after 2
$ ustate log 0.. --db late.log -q
! error: the log begins after 2; what was asked for came before
[exit 6]
$ ustate get /cluster/leader --at 1 --db late.log -q
! error: the log begins after 2; what was asked for came before
[exit 6]
$ ustate show 2 --db late.log -q
! error: the log begins after 2; what was asked for came before
[exit 6]
$ ustate history /cluster/leader --db late.log
3  [TIME]  alice@ops  "node-7"   failover
! note: this export begins after 2
! note: the history before that is gone
$ ustate history /cluster/leader --diff --db late.log -q
3  [TIME]  alice@ops  "node-7"   failover
$ ustate history /nodes/n1 --db part.log
! note: 2 changes of other keys are withheld from this export
! error: erased: 2 changes are withheld, and /nodes/n1 may be among them
[exit 6]
$ ustate show 3 --diff --db late.log -q --json
{"v":1,"type":"change","seq":3,"commit_seq":3,"at":"[EXACT]","kind":"updated","key":"/cluster/leader","version":2,"prev":1,"bytes":8,"encoding":"json","value":"node-7","actor":"alice@ops","reason":"failover","hash":"[HASH]"}
$ ustate watch --after 0 --db late.log -q
! error: not supported: a part of a log cannot be watched, as changes would be missed: read its changes
!   hint: ustate log --reverse --db late.log
[exit 2]
$ ustate watch /b --db part.log -q --json
! {"v":1,"type":"error","code":"unsupported","exit":2,"message":"not supported: a part of a log cannot be watched, as changes would be missed: read its changes","facts":[],"hint":"ustate log --reverse --db part.log"}
[exit 2]

"#]],
    );
}

#[tokio::test]
async fn a_watch_of_an_export_ends_with_it() {
    let place = exported().await;
    let transcript = place.transcript(&[
        "watch --after 3 --db state.log -o tsv",
        "watch /cluster/leader --after 1 --caught-up --db state.log -o tsv",
        "watch --db state.log",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate watch --after 3 --db state.log -o tsv
4	[EXACT]	deleted	/nodes/n1			gc@n1	
5	[EXACT]	created	/secret	text	hunter2	alice@ops	
$ ustate watch /cluster/leader --after 1 --caught-up --db state.log -o tsv
3	[EXACT]	updated	/cluster/leader	json	"node-7"	alice@ops	failover
! note: caught up at 5
$ ustate watch --db state.log

"#]],
    );
}

#[tokio::test]
async fn an_export_is_only_read() {
    let place = exported().await;
    let before = std::fs::read(place.path("state.log")).unwrap();
    let transcript = place.transcript(&[
        "set /a 1 --db state.log",
        "set /a 1 --db part.log",
        "set /a 1 --db late.log --dry-run --json",
        "set /a 1 --db state.log --dry-run --json",
        "delete /cluster/leader --db state.log",
        "delete --prefix / --dry-run --db state.log",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate set /a 1 --db state.log
! error: state.log is an export, which is only read
!   hint: ustate import state.log --into NEW.db
[exit 2]
$ ustate set /a 1 --db part.log
! error: part.log is an export, which is only read
!   it is a part of a log; only of a whole one a store can be made
[exit 2]
$ ustate set /a 1 --db late.log --dry-run --json
! {"v":1,"type":"error","code":"read_only","exit":2,"message":"late.log is an export, which is only read","facts":["it is a part of a log; only of a whole one a store can be made"]}
[exit 2]
$ ustate set /a 1 --db state.log --dry-run --json
! {"v":1,"type":"error","code":"read_only","exit":2,"message":"state.log is an export, which is only read","facts":[],"hint":"ustate import state.log --into NEW.db"}
[exit 2]
$ ustate delete /cluster/leader --db state.log
! error: state.log is an export, which is only read
!   hint: ustate import state.log --into NEW.db
[exit 2]
$ ustate delete --prefix / --dry-run --db state.log
! error: state.log is an export, which is only read
!   hint: ustate import state.log --into NEW.db
[exit 2]

"#]],
    );
    assert_eq!(std::fs::read(place.path("state.log")).unwrap(), before);
}

#[tokio::test]
async fn an_export_that_is_cut_or_altered_is_not_read() {
    let place = exported().await;
    let whole = std::fs::read(place.path("state.log")).unwrap();
    std::fs::write(place.path("cut.log"), &whole[..whole.len() - 10]).unwrap();
    let mut altered = whole;
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    std::fs::write(place.path("altered.log"), &altered).unwrap();
    assert_eq!(place.code("list --db altered.log"), 5);
    let output = place.output("list --db cut.log --json");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.contains("\"code\":\"corrupted\"")), (Some(5), true), "{said}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_dash_is_standard_output() {
    let place = Place::new();
    assert_eq!(place.code("set /a 1"), 0);
    assert_eq!(place.code("export -O whole.log"), 0);
    let dashed = place.output("export -O -");
    assert_eq!(dashed.stdout, std::fs::read(place.path("whole.log")).unwrap());
    assert!(!place.path("-").exists());
}

#[tokio::test]
async fn an_export_as_text_is_not_read_back_which_is_said() {
    let place = exported().await;
    assert_eq!(place.code("export --text -O state.ndjson"), 0);
    std::fs::write(place.path("other.ndjson"), "{\"type\":\"other\"}\n").unwrap();
    let transcript = place.transcript(&[
        "list --db state.ndjson",
        "set /a 1 --db state.ndjson --json",
        "list --db other.ndjson",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate list --db state.ndjson
! error: cannot open [FOLDER]/state.ndjson: it is not a database
!   it is an export as text, which is not read back; export without --text
!   hint: ustate export -O state.log
[exit 3]
$ ustate set /a 1 --db state.ndjson --json
! {"v":1,"type":"error","code":"cannot_open","exit":3,"message":"cannot open [FOLDER]/state.ndjson: it is not a database","facts":["it is an export as text, which is not read back; export without --text"],"hint":"ustate export -O state.log"}
[exit 3]
$ ustate list --db other.ndjson
! error: cannot open [FOLDER]/other.ndjson: it is not a database
[exit 3]

"#]],
    );
}
