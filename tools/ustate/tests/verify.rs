//! verify, on whole stores and on ones where a byte was changed.

use std::fs;

use snapbox::str;

use crate::support::{Place, check};

fn stocked() -> Place {
    let place = Place::new();
    for line in [
        "set /billing/rate one-of-a-kind-100",
        "set /billing/currency EUR",
        "delete /billing/currency",
        "set /billing/rate one-of-a-kind-200",
    ] {
        assert_eq!(place.code(line), 0, "{line}");
    }
    place
}

#[test]
fn verify_says_what_is_proved_and_what_cannot_be() {
    let place = stocked();
    check(
        &place.transcript(&["verify", "verify --json", "verify -o tsv", "verify -o raw"]),
        str![[r#"
$ ustate verify
  proved        every change's bytes match its hash     4 changes
  proved        every link follows the one before it    4 links
  proved        kv_store equals the fold of the log     1 key and 1 deleted
  not provable  changes up to 4 could have been cut off or rewritten since; keep this head elsewhere:
                4:[HASH]
$ ustate verify --json
{"v":1,"type":"verification","intact":true,"head":"4:[HASH]","changes":4,"keys":1,"tombstones":1,"contradictions":0,"findings":[]}
$ ustate verify -o tsv
proved			every change's bytes match its hash: 4 changes
proved			every link follows the one before it: 4 links
proved			kv_store equals the fold of the log: 1 key and 1 deleted
not_provable	4		could have been cut off or rewritten since; keep this head elsewhere: 4:[HASH]
$ ustate verify -o raw
! error: verify has no raw output
!   use -o human or -o json
[exit 2]

"#]],
    );
    check(
        &Place::new().transcript(&["verify"]),
        str![[r#"
$ ustate verify
  proved        every change's bytes match its hash     0 changes
  proved        every link follows the one before it    0 links
  proved        kv_store equals the fold of the log     0 keys
  the log is empty

"#]],
    );
}

/// Where a text stands in the file.
fn places(bytes: &[u8], text: &str) -> Vec<usize> {
    bytes
        .windows(text.len())
        .enumerate()
        .filter(|(_, window)| *window == text.as_bytes())
        .map(|(at, _)| at)
        .collect()
}

#[test]
fn a_changed_byte_is_found_wherever_it_is_and_the_change_is_named() {
    let place = stocked();
    let whole = fs::read(place.path("state.db")).unwrap();
    let newest = places(&whole, "one-of-a-kind-200");
    assert_eq!(newest.len(), 2, "in the log and in the projection");
    let mut found = Vec::new();
    for at in [places(&whole, "one-of-a-kind-100")[0], newest[0], newest[1]] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(place.path("state.db"), &bytes).unwrap();
        let output = place.output("verify");
        assert_eq!(output.status.code(), Some(5));
        found.push(String::from_utf8(output.stdout).unwrap());
    }
    found.sort();
    check(
        &found.concat(),
        str![[r#"
  contradicted  1 /billing/rate: the value of change 1 does not match its hash (first of 1)
  contradicted  4 /billing/rate: the row of "/billing/rate" in kv_store does not match its checksum (first of 1)
  contradicted  4 /billing/rate: the value of change 4 does not match its hash (first of 1)

"#]],
    );
}

#[test]
fn a_contradiction_is_exit_5() {
    let place = stocked();
    let mut bytes = fs::read(place.path("state.db")).unwrap();
    let at = places(&bytes, "one-of-a-kind-100")[0];
    bytes[at] ^= 1;
    fs::write(place.path("state.db"), &bytes).unwrap();
    check(
        &place.transcript(&[
            "verify",
            "verify --json",
            "verify -o tsv",
            "show 1",
            "history /billing/rate",
            "get /billing/rate",
        ]),
        str![[r#"
$ ustate verify
  contradicted  1 /billing/rate: the value of change 1 does not match its hash (first of 1)
! error: 1 contradiction, first at 1
!   keep a copy of the file as it is; see whether a backup is whole
!   hint: ustate verify --db BACKUP
[exit 5]
$ ustate verify --json
{"v":1,"type":"verification","intact":false,"head":"4:[HASH]","changes":4,"keys":1,"tombstones":1,"contradictions":1,"findings":[{"seq":1,"key":"/billing/rate","what":"the value of change 1 does not match its hash"}]}
! {"v":1,"type":"error","code":"corrupted","exit":5,"message":"1 contradiction, first at 1","facts":["keep a copy of the file as it is; see whether a backup is whole"],"hint":"ustate verify --db BACKUP"}
[exit 5]
$ ustate verify -o tsv
contradicted	1	/billing/rate	the value of change 1 does not match its hash
! error: 1 contradiction, first at 1
!   keep a copy of the file as it is; see whether a backup is whole
!   hint: ustate verify --db BACKUP
[exit 5]
$ ustate show 1
! error: corrupted: the value of change 1 does not match its hash
!   hint: ustate verify
[exit 5]
$ ustate history /billing/rate
! error: corrupted: the value of change 1 does not match its hash
!   hint: ustate verify
[exit 5]
$ ustate get /billing/rate
one-of-a-kind-200

"#]],
    );
}
