//! replay: the log once more, into a store or through a command.

use std::fs;

use snapbox::str;
use univrs_state::{Batch, LocalStore, Meta, StateStore};

use crate::support::{Place, check};

/// Four commits, the third of two changes.
async fn stocked() -> Place {
    let place = Place::new();
    for line in ["set /a 1", "set /b 2 --actor bob@ops -m 'ticket 12'"] {
        assert_eq!(place.code(line), 0, "{line}");
    }
    let store = place.open().await;
    let batch = Batch::new().set("/a", "3").delete("/b").meta(Meta::new().correlation("c"));
    store.commit(batch).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(place.code("set /c 4"), 0);
    place
}

#[tokio::test]
async fn a_replayed_store_is_the_same_and_is_compared() {
    let place = stocked().await;
    assert_eq!(place.code("export -O state.log"), 0);
    let transcript = place.transcript(&[
        "replay --into new.db --check",
        "replay --into new.db --check",
        "replay ..4 --into early.db --check --json",
        "replay --into quiet.db -q",
        "replay --into plain.db",
        "replay --into tsv.db -o tsv",
        "replay --into of_export.db --check --db state.log",
        "list --values --db early.db",
    ]);
    let seconds = regex::Regex::new(r"in \d+\.\d s").unwrap().replace_all(&transcript, "in [SECONDS] s");
    let short = regex::Regex::new(r"\b(\d):[0-9a-f]{4}…").unwrap().replace_all(&seconds, "$1:[SHORT]…");
    check(
        &short,
        str![[r#"
$ ustate replay --into new.db --check
replayed 5 changes in [SECONDS] s; state at 5 equals the source: 2 keys, head 5:[SHORT]…
$ ustate replay --into new.db --check
! error: new.db exists, and is not written over
!   --into names a file that is not there yet
[exit 1]
$ ustate replay ..4 --into early.db --check --json
{"v":1,"type":"replayed","path":"early.db","changes":4,"head":"4:[HASH]","checked":true,"keys":1}
$ ustate replay --into quiet.db -q
$ ustate replay --into plain.db
replayed 5 changes in [SECONDS] s; plain.db is at 5:[SHORT]…
$ ustate replay --into tsv.db -o tsv
tsv.db	5:[HASH]	5
$ ustate replay --into of_export.db --check --db state.log
replayed 5 changes in [SECONDS] s; state at 5 equals the source: 2 keys, head 5:[SHORT]…
$ ustate list --values --db early.db
/a  3

"#]],
    );
    for copy in ["new.db", "of_export.db"] {
        assert_eq!(place.stdout(&format!("log --json --db {copy}")), place.stdout("log --json"));
    }
}

#[tokio::test]
async fn each_commit_is_given_to_a_command_or_printed() {
    let place = stocked().await;
    let transcript = place.transcript(&[
        "replay -o ndjson",
        "replay 2..5 --json",
        "replay 1.. -- sh -c 'echo $USTATE_FIRST-$USTATE_SEQ $USTATE_BY $USTATE_REASON $USTATE_CORRELATION $USTATE_DB'",
        "replay ..2 -- sh -c 'echo $USTATE_SEQ'",
        "replay ..4 --speed 1000000x -- sh -c 'wc -l'",
        "replay 5.. -- true",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate replay -o ndjson
{"v":1,"type":"commit","first":1,"last":1,"at":"[EXACT]","actor":"alice@ops","changes":[{"v":1,"type":"change","seq":1,"commit_seq":1,"at":"[EXACT]","kind":"created","key":"/a","version":1,"prev":0,"bytes":1,"encoding":"json","value":1,"actor":"alice@ops","hash":"[HASH]"}]}
{"v":1,"type":"commit","first":2,"last":2,"at":"[EXACT]","actor":"bob@ops","reason":"ticket 12","changes":[{"v":1,"type":"change","seq":2,"commit_seq":2,"at":"[EXACT]","kind":"created","key":"/b","version":1,"prev":0,"bytes":1,"encoding":"json","value":2,"actor":"bob@ops","reason":"ticket 12","hash":"[HASH]"}]}
{"v":1,"type":"commit","first":3,"last":4,"at":"[EXACT]","correlation":"c","changes":[{"v":1,"type":"change","seq":3,"commit_seq":4,"at":"[EXACT]","kind":"updated","key":"/a","version":2,"prev":1,"bytes":1,"encoding":"json","value":3,"correlation":"c","hash":"[HASH]"},{"v":1,"type":"change","seq":4,"commit_seq":4,"at":"[EXACT]","kind":"deleted","key":"/b","version":2,"prev":2,"correlation":"c","hash":"[HASH]"}]}
{"v":1,"type":"commit","first":5,"last":5,"at":"[EXACT]","actor":"alice@ops","changes":[{"v":1,"type":"change","seq":5,"commit_seq":5,"at":"[EXACT]","kind":"created","key":"/c","version":1,"prev":0,"bytes":1,"encoding":"json","value":4,"actor":"alice@ops","hash":"[HASH]"}]}
$ ustate replay 2..5 --json
{"v":1,"type":"commit","first":3,"last":4,"at":"[EXACT]","correlation":"c","changes":[{"v":1,"type":"change","seq":3,"commit_seq":4,"at":"[EXACT]","kind":"updated","key":"/a","version":2,"prev":1,"bytes":1,"encoding":"json","value":3,"correlation":"c","hash":"[HASH]"},{"v":1,"type":"change","seq":4,"commit_seq":4,"at":"[EXACT]","kind":"deleted","key":"/b","version":2,"prev":2,"correlation":"c","hash":"[HASH]"}]}
{"v":1,"type":"commit","first":5,"last":5,"at":"[EXACT]","actor":"alice@ops","changes":[{"v":1,"type":"change","seq":5,"commit_seq":5,"at":"[EXACT]","kind":"created","key":"/c","version":1,"prev":0,"bytes":1,"encoding":"json","value":4,"actor":"alice@ops","hash":"[HASH]"}]}
$ ustate replay 1.. -- sh -c 'echo $USTATE_FIRST-$USTATE_SEQ $USTATE_BY $USTATE_REASON $USTATE_CORRELATION $USTATE_DB'
2-2 bob@ops ticket 12 [FOLDER]/state.db
3-4 c [FOLDER]/state.db
5-5 alice@ops [FOLDER]/state.db
$ ustate replay ..2 -- sh -c 'echo $USTATE_SEQ'
1
2
$ ustate replay ..4 --speed 1000000x -- sh -c 'wc -l'
1
1
1
$ ustate replay 5.. -- true

"#]],
    );
    assert_eq!(place.code("replay -- sh -c 'cat >> all.ndjson'"), 0);
    assert_eq!(fs::read_to_string(place.path("all.ndjson")).unwrap(), place.stdout("replay -o ndjson"));
}

#[tokio::test]
async fn the_first_failure_ends_a_replay_and_is_named() {
    let place = stocked().await;
    check(
        &place.transcript(&[
            "replay -- sh -c 'echo $USTATE_SEQ; test $USTATE_SEQ != 4'",
            "replay 4.. -- false",
            "replay --json -- ./missing",
        ]),
        str![[r#"
$ ustate replay -- sh -c 'echo $USTATE_SEQ; test $USTATE_SEQ != 4'
1
2
4
! error: sh failed (exit status: 1) at the commit 3 to 4
!   2.. begins with it again
[exit 1]
$ ustate replay 4.. -- false
! error: false failed (exit status: 1) at 5
!   4.. begins with it again
[exit 1]
$ ustate replay --json -- ./missing
! {"v":1,"type":"error","code":"io","exit":7,"message":"cannot run ./missing: No such file or directory (os error 2)","facts":["0.. begins with it again"]}
[exit 7]

"#]],
    );
}

#[tokio::test]
async fn what_cannot_be_replayed_is_said() {
    let place = stocked().await;
    for line in ["export /a -O part.log", "export 2.. -O late.log"] {
        assert_eq!(place.code(line), 0);
    }
    check(
        &place.transcript(&[
            "replay",
            "replay -o tsv",
            "replay -o raw",
            "replay --check -- true",
            "replay --into new.db -- true",
            "replay --into new.db --speed 1x",
            "replay --speed 0x -- true",
            "replay 2.. --into new.db",
            "replay 3",
            "replay --into state.db",
            "replay --into new.db --db part.log",
            "replay --into new.db --db late.log",
            "replay -o ndjson --db late.log -q",
            "replay 1.. -o ndjson --db late.log -q",
        ]),
        str![[r#"
$ ustate replay
! error: it was not said where to replay to
!   give --into NEW for a store, -- COMMAND for each commit, or -o ndjson to see them
!   hint: ustate replay -o ndjson
[exit 2]
$ ustate replay -o tsv
! error: it was not said where to replay to
!   give --into NEW for a store, -- COMMAND for each commit, or -o ndjson to see them
!   hint: ustate replay -o ndjson
[exit 2]
$ ustate replay -o raw
! error: replay has no raw output
!   use -o human or -o json
[exit 2]
$ ustate replay --check -- true
! error: the argument '--check' cannot be used with '[COMMAND]...'
!   hint: ustate replay --help
[exit 2]
$ ustate replay --into new.db -- true
! error: the argument '--into <NEW>' cannot be used with '[COMMAND]...'
!   hint: ustate replay --help
[exit 2]
$ ustate replay --into new.db --speed 1x
! error: the argument '--into <NEW>' cannot be used with '--speed <SPEED>'
!   hint: ustate replay --help
[exit 2]
$ ustate replay --speed 0x -- true
! error: invalid value '0x' for '--speed <SPEED>': a speed is 1x, 10x, 0.5x or max
!   hint: ustate replay --help
[exit 2]
$ ustate replay 2.. --into new.db
! error: a new store needs the log from its first change, not from 2
!   hint: ustate replay ..5 --into new.db
[exit 2]
$ ustate replay 3
! error: invalid value '3' for '[A..B]': this is neither a pattern, which starts with '/', nor a range like 40..50
!   hint: ustate replay --help
[exit 2]
$ ustate replay --into state.db
! error: state.db exists, and is not written over
!   --into names a file that is not there yet
[exit 1]
$ ustate replay --into new.db --db part.log
! note: 3 changes of other keys are withheld from this export
! error: erased: the export withholds change 2: it can be read, but a store that can be written needs all changes
[exit 6]
$ ustate replay --into new.db --db late.log
! note: this export begins after 2
! error: a new store needs the log from its first change, not from 2
!   this export does not have it
[exit 2]
$ ustate replay -o ndjson --db late.log -q
{"v":1,"type":"commit","first":3,"last":4,"at":"[EXACT]","correlation":"c","changes":[{"v":1,"type":"change","seq":3,"commit_seq":4,"at":"[EXACT]","kind":"updated","key":"/a","version":2,"prev":1,"bytes":1,"encoding":"json","value":3,"correlation":"c","hash":"[HASH]"},{"v":1,"type":"change","seq":4,"commit_seq":4,"at":"[EXACT]","kind":"deleted","key":"/b","version":2,"prev":2,"correlation":"c","hash":"[HASH]"}]}
{"v":1,"type":"commit","first":5,"last":5,"at":"[EXACT]","actor":"alice@ops","changes":[{"v":1,"type":"change","seq":5,"commit_seq":5,"at":"[EXACT]","kind":"created","key":"/c","version":1,"prev":0,"bytes":1,"encoding":"json","value":4,"actor":"alice@ops","hash":"[HASH]"}]}
$ ustate replay 1.. -o ndjson --db late.log -q
! {"v":1,"type":"error","code":"compacted","exit":6,"message":"the log begins after 2; what was asked for came before","facts":[]}
[exit 6]

"#]],
    );
    assert!(!place.path("new.db").exists());
    let output = place.command(&["replay", "--into", "new.db"]).env("USTATE_READONLY", "1").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test]
async fn a_damaged_log_is_not_replayed() {
    let place = stocked().await;
    assert_eq!(place.code("set /secret one-of-a-kind"), 0);
    let mut bytes = fs::read(place.path("state.db")).unwrap();
    let at = bytes.windows(13).position(|window| window == b"one-of-a-kind").unwrap();
    bytes[at] ^= 1;
    fs::write(place.path("state.db"), bytes).unwrap();
    check(
        &place.transcript(&["replay --into new.db", "replay -q -- true", "export -O new.log"]),
        str![[r#"
$ ustate replay --into new.db
! error: corrupted: the value of change 6 does not match its hash
!   hint: ustate verify
[exit 5]
$ ustate replay -q -- true
! error: corrupted: the value of change 6 does not match its hash
!   hint: ustate verify
[exit 5]
$ ustate export -O new.log
! error: corrupted: the value of change 6 does not match its hash
!   hint: ustate verify
[exit 5]

"#]],
    );
    assert!(!place.path("new.db").exists() && !place.path("new.log").exists());
}

#[tokio::test]
async fn a_closed_pipe_ends_a_replay_quietly() {
    let place = stocked().await;
    let store = place.open().await;
    let batch = (0..5_000).fold(Batch::new(), |batch, n| batch.set(format!("/k/{n}"), "x".repeat(500)));
    store.commit(batch).await.unwrap();
    let mut running = place.start("replay -o ndjson");
    assert!(!running.line().is_empty());
    let output = running.hang_up();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
