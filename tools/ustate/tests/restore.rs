//! restore: what was comes back as new changes, and nobody's later work goes unasked.

use snapbox::str;
use univrs_state::{Batch, LocalStore, Meta, StateStore};

use crate::support::{Place, check};

/// Rate and limits by one commit after the other; then a commit that breaks both.
async fn broken() -> Place {
    let place = Place::new();
    for line in ["set /config/rate 7", "set /config/limits 100", "set /nodes/n1 up"] {
        assert_eq!(place.code(line), 0, "{line}");
    }
    let store = place.open().await;
    let batch = Batch::new().set("/config/rate", "0").delete("/config/limits").set("/config/new", "x");
    store.commit(batch.meta(Meta::new().actor("deploy@ci").reason("rollout 88"))).await.unwrap();
    store.close().await.unwrap();
    place
}

#[tokio::test]
async fn a_restore_says_what_it_would_do_and_does_it() {
    let place = broken().await;
    check(
        &place.transcript(&[
            "restore --prefix /config/ --to 3 --dry-run",
            "restore --prefix /config/ --to 3",
            "restore --prefix /config/ --to 3 --dry-run --json",
            "restore /config/rate --to 3 -m 'ticket 12'",
            "restore /config/rate --to 3",
            "restore --prefix /config/ --to 3 --yes --json",
            "restore --all --to 6 --yes -o tsv",
            "log 3..",
            "log 7.. --json",
            "restore --all --to head --yes --json",
            "verify -q -o tsv",
        ]),
        str![[r#"
$ ustate restore --prefix /config/ --to 3 --dry-run
would set /config/limits  100
would delete /config/new
would set /config/rate  7
$ ustate restore --prefix /config/ --to 3
! error: restore 3 keys to what they were at 3 (/config/limits, /config/new, /config/rate)? there is no terminal to ask on
!   --yes restores without asking, --dry-run says what would be done
[exit 2]
$ ustate restore --prefix /config/ --to 3 --dry-run --json
{"v":1,"type":"receipt","restored_from":3,"dry_run":true,"changes":[{"kind":"created","key":"/config/limits"},{"kind":"deleted","key":"/config/new"},{"kind":"updated","key":"/config/rate"}]}
$ ustate restore /config/rate --to 3 -m 'ticket 12'
7 set /config/rate  7
$ ustate restore /config/rate --to 3
! note: nothing differs from what was at 3
$ ustate restore --prefix /config/ --to 3 --yes --json
{"v":1,"type":"receipt","restored_from":3,"first":8,"last":9,"at":"[EXACT]","head":"9:[HASH]","changes":[{"kind":"created","key":"/config/limits"},{"kind":"deleted","key":"/config/new"}]}
$ ustate restore --all --to 6 --yes -o tsv
10	deleted	/config/limits
11	created	/config/new
12	updated	/config/rate
$ ustate log 3..
[TIME]  12 updated /config/rate    0    by alice@ops
[TIME]  11 created /config/new     x    by alice@ops
[TIME]  10 deleted /config/limits       by alice@ops
[TIME]   9 deleted /config/new          by alice@ops
[TIME]   8 created /config/limits  100  by alice@ops
[TIME]   7 updated /config/rate    7    by alice@ops  "ticket 12"
[TIME]   6 created /config/new     x    by deploy@ci  "rollout 88"
[TIME]   5 deleted /config/limits       by deploy@ci  "rollout 88"
[TIME]   4 updated /config/rate    0    by deploy@ci  "rollout 88"
$ ustate log 7.. --json
{"v":1,"type":"change","seq":12,"commit_seq":12,"at":"[EXACT]","kind":"updated","key":"/config/rate","version":4,"prev":7,"bytes":1,"encoding":"json","value":0,"actor":"alice@ops","cause":"restored","labels":{"restored_from":"6"},"hash":"[HASH]"}
{"v":1,"type":"change","seq":11,"commit_seq":12,"at":"[EXACT]","kind":"created","key":"/config/new","version":3,"prev":9,"bytes":1,"encoding":"text","value":"x","actor":"alice@ops","cause":"restored","labels":{"restored_from":"6"},"hash":"[HASH]"}
{"v":1,"type":"change","seq":10,"commit_seq":12,"at":"[EXACT]","kind":"deleted","key":"/config/limits","version":4,"prev":8,"actor":"alice@ops","cause":"restored","labels":{"restored_from":"6"},"hash":"[HASH]"}
{"v":1,"type":"change","seq":9,"commit_seq":9,"at":"[EXACT]","kind":"deleted","key":"/config/new","version":2,"prev":6,"actor":"alice@ops","cause":"restored","labels":{"restored_from":"3"},"hash":"[HASH]"}
{"v":1,"type":"change","seq":8,"commit_seq":9,"at":"[EXACT]","kind":"created","key":"/config/limits","version":3,"prev":5,"bytes":3,"encoding":"json","value":100,"actor":"alice@ops","cause":"restored","labels":{"restored_from":"3"},"hash":"[HASH]"}
$ ustate restore --all --to head --yes --json
{"v":1,"type":"receipt","restored_from":12,"changes":[]}
$ ustate verify -q -o tsv
proved			every change's bytes match its hash: 12 changes
proved			every link follows the one before it: 12 links
proved			kv_store equals the fold of the log: 3 keys and 1 deleted
proved			the storage around the rows is whole
not_provable	12		12 changes that no anchor covers could have been cut off or rewritten

"#]],
    );
}

#[tokio::test]
async fn an_undo_takes_one_commit_back() {
    let place = broken().await;
    assert_eq!(place.code("set /nodes/n1 down"), 0);
    check(
        &place.transcript(&[
            "restore --undo 5 --dry-run",
            "restore --undo 5 -m 'rollout 88 broke it'",
            "log 7..10 --json",
            "list --values",
            "restore --undo 5",
            "restore --undo head -q",
            "list --values",
        ]),
        str![[r#"
$ ustate restore --undo 5 --dry-run
would set /config/limits  100
would delete /config/new
would set /config/rate  7
$ ustate restore --undo 5 -m 'rollout 88 broke it'
8 set /config/limits  100
9 deleted /config/new
10 set /config/rate  7
$ ustate log 7..10 --json
{"v":1,"type":"change","seq":10,"commit_seq":10,"at":"[EXACT]","kind":"updated","key":"/config/rate","version":3,"prev":4,"bytes":1,"encoding":"json","value":7,"actor":"alice@ops","reason":"rollout 88 broke it","cause":"restored","labels":{"restored_from":"3","undone":"6"},"hash":"[HASH]"}
{"v":1,"type":"change","seq":9,"commit_seq":10,"at":"[EXACT]","kind":"deleted","key":"/config/new","version":2,"prev":6,"actor":"alice@ops","reason":"rollout 88 broke it","cause":"restored","labels":{"restored_from":"3","undone":"6"},"hash":"[HASH]"}
{"v":1,"type":"change","seq":8,"commit_seq":10,"at":"[EXACT]","kind":"created","key":"/config/limits","version":3,"prev":5,"bytes":3,"encoding":"json","value":100,"actor":"alice@ops","reason":"rollout 88 broke it","cause":"restored","labels":{"restored_from":"3","undone":"6"},"hash":"[HASH]"}
$ ustate list --values
/config/limits  100
/config/rate    7
/nodes/n1       down
$ ustate restore --undo 5
! note: nothing differs from what was at 3
$ ustate restore --undo head -q
11 deleted /config/limits
$ ustate list --values
/config/new   x
/config/rate  0
/nodes/n1     down

"#]],
    );
}

#[tokio::test]
async fn an_undo_never_takes_back_what_others_did_since() {
    let place = broken().await;
    assert_eq!(place.code("set /config/rate 9 --actor bob@ops"), 0);
    check(
        &place.transcript(&[
            "restore --undo 4",
            "restore --undo 4 --json",
            "restore --undo 4 --dry-run",
            "log 7..",
            "restore --undo 4 --force",
            "list --values",
        ]),
        str![[r#"
$ ustate restore --undo 4
! error: /config/rate has changed since 6
!   it was set at 7, by bob@ops [AGO]
!   --force takes that back, too
!   hint: ustate show 7
[exit 1]
$ ustate restore --undo 4 --json
! {"v":1,"type":"error","code":"changed_since","exit":1,"message":"/config/rate has changed since 6","facts":["it was set at 7, by bob@ops [AGO]","--force takes that back, too"],"hint":"ustate show 7"}
[exit 1]
$ ustate restore --undo 4 --dry-run
! error: /config/rate has changed since 6
!   it was set at 7, by bob@ops [AGO]
!   --force takes that back, too
!   hint: ustate show 7
[exit 1]
$ ustate log 7..
! note: no change matches
$ ustate restore --undo 4 --force
8 set /config/limits  100
9 deleted /config/new
10 set /config/rate  7
$ ustate list --values
/config/limits  100
/config/rate    7
/nodes/n1       up

"#]],
    );
    // A key that came and went since is no longer as the commit left it.
    let place = broken().await;
    assert_eq!(place.code("set /config/limits 5"), 0);
    assert_eq!(place.code("delete /config/limits --actor bob@ops"), 0);
    check(
        &place.transcript(&["restore --undo 4"]),
        str![[r#"
$ ustate restore --undo 4
! error: /config/limits has changed since 6
!   it was deleted at 8, by bob@ops [AGO]
!   --force takes that back, too
!   hint: ustate show 8
[exit 1]

"#]],
    );
}

#[tokio::test]
async fn what_cannot_be_restored_is_said_and_nothing_is_recorded() {
    let place = broken().await;
    assert_eq!(place.code("export --redact /config/rate -O redacted.log"), 0);
    assert_eq!(place.code("import redacted.log --into redacted.db"), 0);
    assert_eq!(place.code("set /config/rate 1 --db redacted.db"), 0);
    check(
        &place.transcript(&[
            "restore",
            "restore /config/rate",
            "restore /config/rate --all --to 1",
            "restore --undo 4 --to 1",
            "restore /config/rate --to 1 --force",
            "restore /config/rat --to 3",
            "restore config --to 3",
            "restore --prefix '' --to 3",
            "restore /config/rate --to 99",
            "restore /config/rate --to 5",
            "restore --undo 99",
            "restore --undo 0",
            "restore /config/rate --to 3 -o raw",
            "restore /config/rate --to 3 --db redacted.log",
            "restore /config/rate --to 3 --db redacted.db",
            "restore /config/rate --to 3 --db redacted.db --dry-run",
        ]),
        str![[r#"
$ ustate restore
! error: the following required arguments were not provided: --to <POINT> <KEY|--prefix <PREFIX>|--all|--undo <SEQ>>
!   hint: ustate restore --help
[exit 2]
$ ustate restore /config/rate
! error: the following required arguments were not provided: --to <POINT>
!   hint: ustate restore --help
[exit 2]
$ ustate restore /config/rate --all --to 1
! error: the argument '[KEY]...' cannot be used with '--all'
!   hint: ustate restore --help
[exit 2]
$ ustate restore --undo 4 --to 1
! error: the argument '--undo <SEQ>' cannot be used with '--to <POINT>'
!   hint: ustate restore --help
[exit 2]
$ ustate restore /config/rate --to 1 --force
! error: the argument '--to <POINT>' cannot be used with '--force'
!   hint: ustate restore --help
[exit 2]
$ ustate restore /config/rat --to 3
! error: /config/rat does not exist and never did
!   nothing was recorded
[exit 1]
$ ustate restore config --to 3
! error: invalid key: "config": it must start with '/'
[exit 2]
$ ustate restore --prefix '' --to 3
! error: invalid value '' for '--prefix <PREFIX>': a prefix starts with '/', which alone stands for every key
!   hint: ustate restore --help
[exit 2]
$ ustate restore /config/rate --to 99
! error: 99 lies beyond the end of the log
!   the log ends at 6
!   hint: ustate log -n 10
[exit 6]
$ ustate restore /config/rate --to 5
! error: 5 is inside a commit, where no state was
!   the commit goes from 4 to 6; before it is the state at 3, after it the one at 6
!   hint: ustate show 5
[exit 2]
$ ustate restore --undo 99
! error: there is no change 99
!   the log ends at 6
!   hint: ustate log -n 10
[exit 1]
$ ustate restore --undo 0
! error: there is no change 0
!   the log ends at 6
!   hint: ustate log -n 10
[exit 1]
$ ustate restore /config/rate --to 3 -o raw
! error: restore has no raw output
!   use -o human or -o json
[exit 2]
$ ustate restore /config/rate --to 3 --db redacted.log
! error: redacted.log is an export, which is only read
!   hint: ustate import redacted.log --into NEW.db
[exit 2]
$ ustate restore /config/rate --to 3 --db redacted.db
! error: the value that /config/rate had then is gone; its hash remains
!   nothing was recorded
[exit 6]
$ ustate restore /config/rate --to 3 --db redacted.db --dry-run
! error: the value that /config/rate had then is gone; its hash remains
!   nothing was recorded
[exit 6]

"#]],
    );
    assert!(place.stdout("anchor").contains("\"seq\":6,"));
    let output = place
        .command(&["restore", "/config/rate", "--to", "3"])
        .env("USTATE_READONLY", "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}
