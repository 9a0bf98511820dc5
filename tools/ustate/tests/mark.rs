//! Marks: names of points, made, listed, used wherever a point is taken, moved and removed.

use snapbox::str;

use crate::support::{Place, check};

fn stocked() -> Place {
    let place = Place::new();
    assert_eq!(place.code("set /a 1"), 0);
    assert_eq!(place.code("set /a 2"), 0);
    place
}

#[test]
fn a_mark_is_made_listed_used_moved_and_removed() {
    let place = stocked();
    let transcript = place.transcript(&[
        "mark list",
        "mark add good 1 --dry-run",
        "mark add good 1 -m 'ticket 12'",
        "mark add good 1",
        "mark add good",
        "mark add good --json --dry-run --move",
        "mark add before-88 --actor bob",
        "mark list",
        "mark list --json",
        "mark list -o tsv",
        "get /a --at mark:good",
        "log mark:good.. /a -o tsv",
        "diff mark:good..mark:before-88",
        "anchor --at mark:good -o tsv",
        "show mark:good -o raw",
        "restore /a --to mark:good --dry-run",
        "mark add again mark:good -q",
        "mark add good head --move",
        "history /.univrs/marks/good -o tsv",
        "mark remove again --dry-run",
        "mark remove again --json",
        "mark remove again",
        "mark list -o tsv",
        "list",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate mark list
! note: there are no marks
$ ustate mark add good 1 --dry-run
1 would mark good
$ ustate mark add good 1 -m 'ticket 12'
1 marked good
$ ustate mark add good 1
1 is marked already: good
$ ustate mark add good
! error: the mark good is at 1 already
!   --move takes the name from there
!   hint: ustate mark list
[exit 1]
$ ustate mark add good --json --dry-run --move
{"v":1,"type":"mark","name":"good","seq":3,"hash":"[HASH]","dry_run":true}
$ ustate mark add before-88 --actor bob
3 marked before-88
$ ustate mark list
before-88  3  by bob
good       1  by alice@ops  "ticket 12"
$ ustate mark list --json
{"v":1,"type":"mark","name":"before-88","seq":3,"hash":"[HASH]","actor":"bob"}
{"v":1,"type":"mark","name":"good","seq":1,"hash":"[HASH]","actor":"alice@ops","reason":"ticket 12"}
$ ustate mark list -o tsv
before-88	3	[HASH]	bob	
good	1	[HASH]	alice@ops	ticket 12
$ ustate get /a --at mark:good
1
$ ustate log mark:good.. /a -o tsv
2	[EXACT]	updated	/a	json	2	alice@ops	
$ ustate diff mark:good..mark:before-88
updated /a  1 → 2  by alice@ops
$ ustate anchor --at mark:good -o tsv
[STORE]	1	[HASH]
$ ustate show mark:good -o raw
1$ ustate restore /a --to mark:good --dry-run
would set /a  1
$ ustate mark add again mark:good -q
$ ustate mark add good head --move
5 marked good
$ ustate history /.univrs/marks/good -o tsv
6	[EXACT]	updated	/.univrs/marks/good	json	{"hash":"[HASH]","seq":5,"v":1}	alice@ops	
3	[EXACT]	created	/.univrs/marks/good	json	{"hash":"[HASH]","seq":1,"v":1}	alice@ops	ticket 12
$ ustate mark remove again --dry-run
would remove the mark again
$ ustate mark remove again --json
{"v":1,"type":"mark","name":"again","seq":1,"hash":"[HASH]","removed":true}
$ ustate mark remove again
! error: there is no mark again
!   hint: ustate mark list
[exit 1]
$ ustate mark list -o tsv
before-88	3	[HASH]	bob	
good	5	[HASH]	alice@ops	
$ ustate list
/a

"#]],
    );
}

#[test]
fn what_is_wrong_with_a_mark_is_said() {
    let place = stocked();
    assert_eq!(place.code("mark add good"), 0);
    assert_eq!(place.code("export -O whole.log -q"), 0);
    assert_eq!(place.code("export /a -O part.log -q"), 0);
    let transcript = place.transcript(&[
        "get /a --at mark:bad",
        "get /a --at mark:bad --json",
        "get /a --at mark:a..b",
        "get /a --at 'mark:a b'",
        "mark add 'a b'",
        "mark add a/b",
        "mark add x 99",
        "mark add x mark:bad",
        "mark add x -o raw",
        "mark",
        "set /.univrs/marks/x 1",
        "mark list --db whole.log -o tsv",
        "get /a --at mark:good --db whole.log",
        "mark add x --db whole.log",
        "get /a --at mark:good --db part.log",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate get /a --at mark:bad
! error: there is no mark bad
!   hint: ustate mark list
[exit 6]
$ ustate get /a --at mark:bad --json
! {"v":1,"type":"error","code":"unknown_mark","exit":6,"message":"there is no mark bad","facts":[],"hint":"ustate mark list"}
[exit 6]
$ ustate get /a --at mark:a..b
! error: invalid value 'mark:a..b' for '--at <POINT>': the name "a..b" of a mark: '..' at byte 1 stands for a range
!   hint: ustate get --help
[exit 2]
$ ustate get /a --at 'mark:a b'
! error: invalid value 'mark:a b' for '--at <POINT>': the name "a b" of a mark: ' ' at byte 1 is not allowed; use ASCII letters, digits, '-', '_' and '.'
!   hint: ustate get --help
[exit 2]
$ ustate mark add 'a b'
! error: invalid value 'a b' for '<NAME>': the name "a b" of a mark: ' ' at byte 1 is not allowed; use ASCII letters, digits, '-', '_' and '.'
!   hint: ustate mark --help
[exit 2]
$ ustate mark add a/b
! error: invalid value 'a/b' for '<NAME>': the name "a/b" of a mark: '/' at byte 1 is not allowed; use ASCII letters, digits, '-', '_' and '.'
!   hint: ustate mark --help
[exit 2]
$ ustate mark add x 99
! error: 99 lies beyond the end of the log
!   the log ends at 3
!   hint: ustate log -n 10
[exit 6]
$ ustate mark add x mark:bad
! error: there is no mark bad
!   hint: ustate mark list
[exit 6]
$ ustate mark add x -o raw
! error: mark has no raw output
!   use -o human or -o json
[exit 2]
$ ustate mark
good  2  by alice@ops
$ ustate set /.univrs/marks/x 1
! error: invalid key: "/.univrs/marks/x": keys below /.univrs/ belong to the store
[exit 2]
$ ustate mark list --db whole.log -o tsv
good	2	[HASH]	alice@ops	
$ ustate get /a --at mark:good --db whole.log
2
$ ustate mark add x --db whole.log
! error: whole.log is an export, which is only read
!   hint: ustate import whole.log --into NEW.db
[exit 2]
$ ustate get /a --at mark:good --db part.log
! note: 1 change of other keys is withheld from this export
! error: erased: 1 changes are withheld, and /.univrs/marks/good may be among them
[exit 6]

"#]],
    );
    for command in ["mark add x", "mark remove good"] {
        let words: Vec<&str> = command.split(' ').collect();
        let refused = place.command(&words).env("USTATE_READONLY", "1").output().unwrap();
        assert_eq!(refused.status.code(), Some(2));
    }
    assert_eq!(place.stdout("mark list -o tsv").lines().count(), 1);
}

#[test]
fn marks_come_along_into_a_new_store() {
    let place = stocked();
    assert_eq!(place.code("mark add good 1"), 0);
    assert_eq!(place.code("export -O whole.log -q"), 0);
    assert_eq!(place.code("import whole.log --into imported.db -q"), 0);
    assert_eq!(place.code("replay --into replayed.db -q"), 0);
    for copy in ["imported.db", "replayed.db"] {
        assert_eq!(place.stdout(&format!("get /a --at mark:good --db {copy}")), "1\n");
        assert_eq!(place.code(&format!("verify -q --db {copy}")), 0);
    }
}
