//! What can be made again of a log that is whole, where the entries beside it are not.

use snapbox::str;

use crate::support::{Place, check};

/// A store in which somebody altered rows by other means.
fn altered(sql: &str) -> Place {
    let place = Place::new();
    for line in ["set /a 1", "set /b 2", "delete /b", "set /a 3"] {
        assert_eq!(place.code(line), 0, "{line}");
    }
    let other = rusqlite::Connection::open(place.path("state.db")).unwrap();
    assert_eq!(other.execute(sql, []).unwrap(), 1);
    place
}

#[test]
fn entries_that_are_damaged_are_made_again_of_a_log_that_is_whole() {
    for sql in ["UPDATE kv_store SET value = x'34'", "DELETE FROM kv_store", "DELETE FROM tombstones"] {
        let place = altered(sql);
        let refused = place.output("verify -q");
        assert_eq!(refused.status.code(), Some(5), "{sql}");
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.starts_with("error: 1 contradiction, first at "), "{sql}: {said}");
        check(
            said.split_once('\n').unwrap().1,
            str![[r#"
  keep a copy of the file as it is; see whether a backup is whole
  the log itself is whole, and a new store can be made of it, entries and all
  hint: ustate export -O whole.log && ustate import whole.log --into NEW.db

"#]],
        );
        let transcript = place.transcript(&[
            "export -O whole.log",
            "import whole.log --into NEW.db",
            "verify --db NEW.db -q",
            "get /a --db NEW.db",
            "set /a 5 --if-version 2 --db NEW.db",
        ]);
        check(
            &transcript,
            str![[r#"
$ ustate export -O whole.log
exported 4 changes to whole.log
head 4:[HASH]
$ ustate import whole.log --into NEW.db
imported 4 changes into NEW.db
head 4:[HASH]
$ ustate verify --db NEW.db -q
  proved        every change's bytes match its hash     4 changes
  proved        every link follows the one before it    4 links
  proved        kv_store equals the fold of the log     1 key and 1 deleted
  proved        the storage around the rows is whole
  not provable  4 changes that no anchor covers could have been cut off or rewritten
  head          4:[HASH]
$ ustate get /a --db NEW.db
3
$ ustate set /a 5 --if-version 2 --db NEW.db
5 set /a  version 3

"#]],
        );
    }
}

#[test]
fn nothing_is_made_of_a_log_that_is_damaged_itself() {
    let place = altered("UPDATE changes SET value = x'34' WHERE seq = 1");
    check(
        &place.transcript(&["verify -q -o tsv", "verify --level chain -q -o tsv"]),
        str![[r#"
$ ustate verify -q -o tsv
contradicted	1	/a	the value of change 1 does not match its hash
not_provable	4		4 changes that no anchor covers could have been cut off or rewritten
! error: 1 contradiction, first at 1
!   keep a copy of the file as it is; see whether a backup is whole
!   hint: ustate verify --db BACKUP
[exit 5]
$ ustate verify --level chain -q -o tsv
contradicted	1	/a	the value of change 1 does not match its hash
not_provable	4		4 changes that no anchor covers could have been cut off or rewritten
! error: 1 contradiction, first at 1
!   keep a copy of the file as it is; see whether a backup is whole
!   hint: ustate verify --db BACKUP
[exit 5]

"#]],
    );
}

#[test]
fn a_log_that_contradicts_itself_is_not_said_to_make_a_new_store() {
    let place = Place::new();
    for n in 1..=4 {
        assert_eq!(place.code(&format!("set /n{n} v")), 0);
    }
    let other = rusqlite::Connection::open(place.path("state.db")).unwrap();
    other.execute("DELETE FROM kv_store WHERE key = '/n2'", []).unwrap();
    drop(other);
    let shown = place.shown(&place.output("verify"));
    assert!(shown.contains("the log itself is whole") && shown.contains("[exit 5]"), "{shown}");
    // The key begins again, so that its changes no longer follow each other.
    assert_eq!(place.code("set /n2 new"), 0);
    let shown = place.shown(&place.output("verify"));
    assert!(shown.contains("does not continue the key's previous change"), "{shown}");
    assert!(!shown.contains("the log itself is whole") && shown.contains("verify --db BACKUP"), "{shown}");
    let other = rusqlite::Connection::open(place.path("state.db")).unwrap();
    other.execute("DELETE FROM changes WHERE seq = 3", []).unwrap();
    drop(other);
    let shown = place.shown(&place.output("verify -o tsv"));
    let missing = shown.lines().find(|line| line.contains("change 3 is missing")).unwrap();
    assert_eq!(missing, "contradicted\t3\t\tchange 3 is missing: the next one is change 4");
    let shown = place.shown(&place.output("verify"));
    assert!(!shown.contains("only this change was altered"), "{shown}");
}
