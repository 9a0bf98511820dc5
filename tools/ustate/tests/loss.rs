//! A store whose newest commits are gone is opened when that is accepted, and never before.

use snapbox::str;

use crate::support::{Place, check};

/// A store of which an older copy was brought back: its newest change is gone.
fn older() -> Place {
    let place = Place::new();
    assert_eq!(place.code("set /a 1"), 0);
    std::fs::copy(place.path("state.db"), place.path("old.db")).unwrap();
    assert_eq!(place.code("set /a 2"), 0);
    std::fs::rename(place.path("old.db"), place.path("state.db")).unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(place.path(&format!("state.db{suffix}")));
    }
    place
}

#[test]
fn a_lost_end_is_accepted_by_the_command_that_the_error_names() {
    let place = older();
    let transcript = place.transcript(&[
        "get /a",
        "verify --json",
        "get /a --accept-loss",
        "set /a 3 --dry-run --accept-loss",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate get /a
! error: corrupted: [FOLDER]/state.db: the log ends at 1, but had reached 2: 1 change is missing; bring back [FOLDER]/state.db and [FOLDER]/state.db-wal as they were, or accept the loss by opening it once with the option accept_loss
!   hint: ustate doctor --accept-loss --db state.db
[exit 5]
$ ustate verify --json
! {"v":1,"type":"error","code":"corrupted","exit":5,"message":"corrupted: [FOLDER]/state.db: the log ends at 1, but had reached 2: 1 change is missing; bring back [FOLDER]/state.db and [FOLDER]/state.db-wal as they were, or accept the loss by opening it once with the option accept_loss","facts":[],"hint":"ustate doctor --accept-loss --db state.db"}
[exit 5]
$ ustate get /a --accept-loss
! error: --accept-loss is recorded in the store, which this command does not do
!   set, doctor and init do, unless they rehearse
!   hint: ustate doctor --accept-loss --db state.db
[exit 2]
$ ustate set /a 3 --dry-run --accept-loss
! error: --accept-loss is recorded in the store, which this command does not do
!   set, doctor and init do, unless they rehearse
!   hint: ustate doctor --accept-loss --db state.db
[exit 2]

"#]],
    );
    let said = place.stdout("doctor --accept-loss --db state.db -o tsv");
    assert!(said.contains("ok\tlog\tends at 2\n"), "{said}");
    assert!(
        said.contains("ok\tloss\tthe last one was accepted at 2 by alice@ops \"the log ends at 1"),
        "{said}"
    );
    let transcript = place.transcript(&["get /a", "log -o tsv", "verify -q -o tsv"]);
    check(
        &transcript,
        str![[r#"
$ ustate get /a
1
$ ustate log -o tsv
2	[EXACT]	created	/.univrs/accepted-loss	json	{"reached":{"seq":2,"hash":"[HASH]"},"ends":{"seq":1,"hash":"[HASH]"}}	alice@ops	the log ends at 1, but had reached 2: 1 change is missing
1	[EXACT]	created	/a	json	1	alice@ops	
$ ustate verify -q -o tsv
proved			every change's bytes match its hash: 2 changes
proved			every link follows the one before it: 2 links
proved			kv_store equals the fold of the log: 2 keys
proved			the storage around the rows is whole
not_provable	2		2 changes that no anchor covers could have been cut off or rewritten

"#]],
    );
}

#[test]
fn a_write_can_accept_a_loss_where_writing_is_allowed() {
    let place = older();
    let refused = place.command(&["doctor", "--accept-loss"]).env("USTATE_READONLY", "1").output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let transcript = place.transcript(&["set /a 3", "set /a 3 --accept-loss", "log -o tsv"]);
    check(
        &transcript,
        str![[r#"
$ ustate set /a 3
! error: corrupted: [FOLDER]/state.db: the log ends at 1, but had reached 2: 1 change is missing; bring back [FOLDER]/state.db and [FOLDER]/state.db-wal as they were, or accept the loss by opening it once with the option accept_loss
!   hint: ustate doctor --accept-loss --db state.db
[exit 5]
$ ustate set /a 3 --accept-loss
3 set /a  version 2
$ ustate log -o tsv
3	[EXACT]	updated	/a	json	3	alice@ops	
2	[EXACT]	created	/.univrs/accepted-loss	json	{"reached":{"seq":2,"hash":"[HASH]"},"ends":{"seq":1,"hash":"[HASH]"}}	alice@ops	the log ends at 1, but had reached 2: 1 change is missing
1	[EXACT]	created	/a	json	1	alice@ops	

"#]],
    );
}

#[test]
fn a_database_that_is_gone_is_begun_anew_by_the_command_that_the_error_names() {
    let place = older();
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(place.path(&format!("state.db{suffix}")));
    }
    let transcript =
        place.transcript(&["list", "init state.db", "init --accept-loss state.db -q", "log -o tsv"]);
    check(
        &transcript,
        str![[r#"
$ ustate list
! error: corrupted: [FOLDER]/state.db is missing or empty: the log ends at 0, but had reached 2: 2 changes are missing; bring back [FOLDER]/state.db and [FOLDER]/state.db-wal as they were, or accept the loss by opening it once with the option accept_loss; where it was removed on purpose, remove [FOLDER]/state.db-head, too
!   hint: ustate init --accept-loss state.db
[exit 5]
$ ustate init state.db
! error: corrupted: [FOLDER]/state.db is missing or empty: the log ends at 0, but had reached 2: 2 changes are missing; bring back [FOLDER]/state.db and [FOLDER]/state.db-wal as they were, or accept the loss by opening it once with the option accept_loss; where it was removed on purpose, remove [FOLDER]/state.db-head, too
!   hint: ustate init --accept-loss state.db
[exit 5]
$ ustate init --accept-loss state.db -q
$ ustate log -o tsv
1	[EXACT]	created	/.univrs/accepted-loss	json	{"reached":{"seq":2,"hash":"[HASH]"},"ends":{"seq":0,"hash":"[HASH]"}}	alice@ops	the log ends at 0, but had reached 2: 2 changes are missing

"#]],
    );
}

#[test]
fn who_accepts_a_loss_and_why_is_recorded_and_said_beforehand() {
    let place = older();
    let transcript = place.transcript(&[
        "doctor --dry-run",
        "doctor --accept-loss --dry-run -m 'ticket 12'",
        "doctor --accept-loss --dry-run --actor bob -m 'ticket 12' --json",
        "doctor --accept-loss --dry-run --actor bob -m 'ticket 12' -o tsv",
        "doctor --accept-loss --accept-clock --dry-run",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate doctor --dry-run
! error: without --accept-loss or --accept-clock nothing is recorded, so there is nothing to rehearse
!   hint: ustate doctor
[exit 2]
$ ustate doctor --accept-loss --dry-run -m 'ticket 12'
would accept the loss by alice@ops "ticket 12": [FOLDER]/state.db: the log ends at 1, but had reached 2: 1 change is missing
$ ustate doctor --accept-loss --dry-run --actor bob -m 'ticket 12' --json
{"v":1,"type":"loss","accepted":false,"dry_run":true,"lost":"[FOLDER]/state.db: the log ends at 1, but had reached 2: 1 change is missing","actor":"bob","reason":"ticket 12"}
$ ustate doctor --accept-loss --dry-run --actor bob -m 'ticket 12' -o tsv
[FOLDER]/state.db: the log ends at 1, but had reached 2: 1 change is missing	bob	ticket 12
$ ustate doctor --accept-loss --accept-clock --dry-run
would accept the loss by alice@ops: [FOLDER]/state.db: the log ends at 1, but had reached 2: 1 change is missing
! note: whether the clock is to be accepted can be told when the loss was accepted

"#]],
    );
    assert_eq!(place.code("get /a"), 5, "nothing was recorded");
    let accept = ["doctor", "--accept-loss", "-m", "ticket 12", "--correlation", "r-7", "-q"];
    // Tests of health are others: the permissions of this folder are what they are.
    place.command(&accept).env("USTATE_ACTOR", "carol@ops").output().unwrap();
    let transcript = place.transcript(&[
        "log -o tsv -n 1",
        "show head --json",
        "doctor --accept-loss --dry-run",
        "verify -q",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate log -o tsv -n 1
2	[EXACT]	created	/.univrs/accepted-loss	json	{"reached":{"seq":2,"hash":"[HASH]"},"ends":{"seq":1,"hash":"[HASH]"}}	carol@ops	ticket 12
$ ustate show head --json
{"v":1,"type":"change","seq":2,"commit_seq":2,"at":"[EXACT]","kind":"created","key":"/.univrs/accepted-loss","version":1,"prev":0,"bytes":186,"encoding":"json","value":{"reached":{"seq":2,"hash":"[HASH]"},"ends":{"seq":1,"hash":"[HASH]"}},"actor":"carol@ops","reason":"ticket 12","correlation":"r-7","cause":"loss_accepted","hash":"[HASH]"}
$ ustate doctor --accept-loss --dry-run
! note: nothing was lost, so nothing would be recorded
$ ustate verify -q
  proved        every change's bytes match its hash     2 changes
  proved        every link follows the one before it    2 links
  proved        kv_store equals the fold of the log     2 keys
  proved        the storage around the rows is whole
  not provable  2 changes that no anchor covers could have been cut off or rewritten
  head          2:[HASH]

"#]],
    );
}

#[test]
fn a_loss_that_another_command_accepts_has_its_origin() {
    let place = older();
    assert_eq!(place.code("set /a 3 --accept-loss --actor bob -m again"), 0);
    let place_of_none = older();
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(place_of_none.path(&format!("state.db{suffix}")));
    }
    check(
        &place.transcript(&["log -o tsv -n 2"]),
        str![[r#"
$ ustate log -o tsv -n 2
3	[EXACT]	updated	/a	json	3	bob	again
2	[EXACT]	created	/.univrs/accepted-loss	json	{"reached":{"seq":2,"hash":"[HASH]"},"ends":{"seq":1,"hash":"[HASH]"}}	bob	again

"#]],
    );
    let transcript = place_of_none.transcript(&[
        "init state.db --accept-loss --dry-run --actor bob -m anew",
        "init state.db --accept-loss -q --actor bob -m anew",
        "log -o tsv",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate init state.db --accept-loss --dry-run --actor bob -m anew
would create state.db
! note: would accept the loss by bob "anew": [FOLDER]/state.db is missing or empty: the log ends at 0, but had reached 2: 2 changes are missing
$ ustate init state.db --accept-loss -q --actor bob -m anew
$ ustate log -o tsv
1	[EXACT]	created	/.univrs/accepted-loss	json	{"reached":{"seq":2,"hash":"[HASH]"},"ends":{"seq":0,"hash":"[HASH]"}}	bob	anew

"#]],
    );
}
