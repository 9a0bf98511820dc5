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
  proved        the storage around the rows is whole
  not provable  4 changes that no anchor covers could have been cut off or rewritten
  head          4:[HASH]
! note: an anchor that is kept elsewhere proves more: ustate anchor >> anchors.ndjson
$ ustate verify --json
{"v":1,"type":"verification","intact":true,"level":"full","head":"4:[HASH]","changes":4,"keys":1,"tombstones":1,"proved":[{"what":"values","changes":4},{"what":"links","changes":4},{"what":"projection","keys":1,"tombstones":1},{"what":"storage"}],"not_provable":[{"what":"after_anchor","changes":4}],"contradictions":0,"findings":[]}
$ ustate verify -o tsv
proved			every change's bytes match its hash: 4 changes
proved			every link follows the one before it: 4 links
proved			kv_store equals the fold of the log: 1 key and 1 deleted
proved			the storage around the rows is whole
not_provable	4		4 changes that no anchor covers could have been cut off or rewritten
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
  proved        the storage around the rows is whole
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
        &place.scrubbed(&found.concat()),
        str![[r#"
  contradicted  1 /billing/rate: the value of change 1 does not match its hash (first of 1)
                the field that was altered is its value; the links around it hold, so only this change was altered
  not provable  4 changes that no anchor covers could have been cut off or rewritten
  head          4:[HASH]
  contradicted  4 /billing/rate: the row of "/billing/rate" in kv_store does not match its checksum (first of 1)
  not provable  4 changes that no anchor covers could have been cut off or rewritten
  head          4:[HASH]
  contradicted  4 /billing/rate: the value of change 4 does not match its hash (first of 1)
                the field that was altered is its value
  not provable  4 changes that no anchor covers could have been cut off or rewritten
  head          4:[HASH]

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
                the field that was altered is its value; the links around it hold, so only this change was altered
  not provable  4 changes that no anchor covers could have been cut off or rewritten
  head          4:[HASH]
! error: 1 contradiction, first at 1
!   keep a copy of the file as it is; see whether a backup is whole
!   hint: ustate verify --db BACKUP
[exit 5]
$ ustate verify --json
{"v":1,"type":"verification","intact":false,"level":"full","head":"4:[HASH]","changes":4,"keys":1,"tombstones":1,"proved":[],"not_provable":[{"what":"after_anchor","changes":4}],"contradictions":1,"findings":[{"seq":1,"key":"/billing/rate","what":"the value of change 1 does not match its hash","field":"value","links_hold":true}]}
! {"v":1,"type":"error","code":"corrupted","exit":5,"message":"1 contradiction, first at 1","facts":["keep a copy of the file as it is; see whether a backup is whole"],"hint":"ustate verify --db BACKUP"}
[exit 5]
$ ustate verify -o tsv
contradicted	1	/billing/rate	the value of change 1 does not match its hash
not_provable	4		4 changes that no anchor covers could have been cut off or rewritten
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

#[test]
fn anchors_that_were_kept_prove_what_came_before_them() {
    let place = stocked();
    fs::write(
        place.path("anchors.ndjson"),
        place.stdout("anchor --at 1") + "\n" + &place.stdout("anchor --at 3"),
    )
    .unwrap();
    assert_eq!(place.stdout("anchor"), place.stdout("anchor --json"), "the same line in every form");
    assert_eq!(place.stdout("anchor"), place.stdout("anchor"), "and every time");
    check(
        &place.transcript(&[
            "anchor",
            "anchor --at 1 -o tsv",
            "anchor --at 99",
            "verify --anchor anchors.ndjson",
            "verify --level chain --anchor anchors.ndjson --json",
            "verify --level quick -o tsv --anchor anchors.ndjson",
            "export '/billing/rate' --redact '/*' -O rate.log",
            "verify --anchor anchors.ndjson --db rate.log",
            "export 3.. -O late.log",
            "verify --anchor anchors.ndjson --db late.log",
        ]),
        str![[r#"
$ ustate anchor
{"v":1,"type":"anchor","store":"[STORE]","seq":4,"hash":"[HASH]"}
$ ustate anchor --at 1 -o tsv
[STORE]	1	[HASH]
$ ustate anchor --at 99
! error: 99 lies beyond the end of the log
!   the log ends at 4
!   hint: ustate log -n 10
[exit 6]
$ ustate verify --anchor anchors.ndjson
  proved        every change's bytes match its hash     4 changes
  proved        every link follows the one before it    4 links
  proved        kv_store equals the fold of the log     1 key and 1 deleted
  proved        the storage around the rows is whole
  proved        2 anchors are in this chain             1 3
  not provable  1 change after the newest anchor (3) could have been cut off or rewritten
  head          4:[HASH]
$ ustate verify --level chain --anchor anchors.ndjson --json
{"v":1,"type":"verification","intact":true,"level":"chain","head":"4:[HASH]","changes":4,"keys":0,"tombstones":0,"proved":[{"what":"values","changes":4},{"what":"links","changes":4},{"what":"anchors","seqs":[1,3]}],"not_provable":[{"what":"after_anchor","changes":1,"anchor":3}],"contradictions":0,"findings":[]}
$ ustate verify --level quick -o tsv --anchor anchors.ndjson
proved			every change's bytes match its hash: 4 changes
proved			every link follows the one before it: 4 links
proved			2 anchors are in this chain: 1 3
not_provable	4		1 change after the newest anchor (3) could have been cut off or rewritten
$ ustate export '/billing/rate' --redact '/*' -O rate.log
exported 2 changes, 2 withheld, 2 redacted to rate.log
head 4:[HASH]
$ ustate verify --anchor anchors.ndjson --db rate.log
  proved        every change's bytes match its hash     0 changes
  proved        every link follows the one before it    4 links
  proved        the export is whole, from 0 to 4
  proved        2 anchors are in this chain             1 3
  not provable  1 change after the newest anchor (3) could have been cut off or rewritten
  not provable  2 values erased or redacted, of which only the hash is checked
  not provable  2 changes withheld, of which only the hash is checked
  head          4:[HASH]
! note: 2 changes of other keys are withheld from this export
$ ustate export 3.. -O late.log
exported 1 change to late.log
head 4:[HASH]
$ ustate verify --anchor anchors.ndjson --db late.log
  proved        every change's bytes match its hash     1 change
  proved        every link follows the one before it    1 link
  proved        the export is whole, from 3 to 4
  proved        1 anchor is in this chain               3
  not provable  1 change after the newest anchor (3) could have been cut off or rewritten
  not provable  the log begins after 3
  not provable  1 anchor is outside this export, which begins after 3 and ends with 4: 1
  head          4:[HASH]
! note: this export begins after 3

"#]],
    );
    let piped = place.fed("verify --anchor -", place.stdout("anchor").as_bytes());
    check(
        &place.shown(&piped),
        str![[r#"
  proved        every change's bytes match its hash     4 changes
  proved        every link follows the one before it    4 links
  proved        kv_store equals the fold of the log     1 key and 1 deleted
  proved        the storage around the rows is whole
  proved        1 anchor is in this chain               4
  head          4:[HASH]

"#]],
    );
}

#[test]
fn anchors_outside_an_exported_part_are_named_and_contradict_nothing() {
    let place = stocked();
    let anchors = [1, 3, 4].map(|seq| place.stdout(&format!("anchor --at {seq}")));
    fs::write(place.path("anchors.ndjson"), anchors.concat()).unwrap();
    check(
        &place.transcript(&[
            "export 2..3 -O part.log -q",
            "verify --anchor anchors.ndjson --db part.log",
            "verify --anchor anchors.ndjson --db part.log --level quick -o tsv",
            "verify --anchor anchors.ndjson --db part.log --level chain --json",
            "verify --db part.log -q",
            "export ..3 -O start.log -q",
            "verify --anchor anchors.ndjson --db start.log -q",
            "import start.log --into start.db -q",
            "verify --anchor anchors.ndjson --db start.db -q",
        ]),
        str![[r#"
$ ustate export 2..3 -O part.log -q
$ ustate verify --anchor anchors.ndjson --db part.log
  proved        every change's bytes match its hash     1 change
  proved        every link follows the one before it    1 link
  proved        the export is whole, from 2 to 3
  proved        1 anchor is in this chain               3
  not provable  the log begins after 2
  not provable  2 anchors are outside this export, which begins after 2 and ends with 3: 1 4
  head          3:[HASH]
! note: this export begins after 2
$ ustate verify --anchor anchors.ndjson --db part.log --level quick -o tsv
proved			every change's bytes match its hash: 1 change
proved			every link follows the one before it: 1 link
proved			the export is whole, from 2 to 3
proved			1 anchor is in this chain: 3
not_provable	3		the log begins after 2
not_provable	1		the anchor at 1: outside this export, which begins after 2 and ends with 3
not_provable	4		the anchor at 4: outside this export, which begins after 2 and ends with 3
! note: this export begins after 2
$ ustate verify --anchor anchors.ndjson --db part.log --level chain --json
{"v":1,"type":"verification","intact":true,"level":"chain","head":"3:[HASH]","changes":1,"keys":0,"tombstones":0,"proved":[{"what":"values","changes":1},{"what":"links","changes":1},{"what":"export","after":2,"to":3},{"what":"anchors","seqs":[3]}],"not_provable":[{"what":"below_floor","seq":2},{"what":"outside_export","anchor":1,"after":2,"to":3},{"what":"outside_export","anchor":4,"after":2,"to":3}],"contradictions":0,"findings":[]}
! note: this export begins after 2
$ ustate verify --db part.log -q
  proved        every change's bytes match its hash     1 change
  proved        every link follows the one before it    1 link
  proved        the export is whole, from 2 to 3
  not provable  1 change that no anchor covers could have been cut off or rewritten
  not provable  the log begins after 2
  head          3:[HASH]
$ ustate export ..3 -O start.log -q
$ ustate verify --anchor anchors.ndjson --db start.log -q
  proved        every change's bytes match its hash     3 changes
  proved        every link follows the one before it    3 links
  proved        the export is whole, from 0 to 3
  proved        2 anchors are in this chain             1 3
  not provable  1 anchor is outside this export, which begins after 0 and ends with 3: 4
  head          3:[HASH]
$ ustate import start.log --into start.db -q
$ ustate verify --anchor anchors.ndjson --db start.db -q
  contradicted  4: the log ends before the anchor at 4: 1 change is missing (first of 1)
  head          3:[HASH]
! error: 1 contradiction, first at 4
!   keep a copy of the file as it is; see whether a backup is whole
!   hint: ustate verify --db BACKUP
[exit 5]

"#]],
    );
    // Of many, people are shown the newest, and all if they ask.
    for n in 5..20 {
        assert_eq!(place.code(&format!("set /n {n}")), 0);
    }
    let all: String = (1..20).map(|seq| place.stdout(&format!("anchor --at {seq}"))).collect();
    fs::write(place.path("all.ndjson"), all).unwrap();
    let outside = |options: &str| {
        let shown = place.stdout(&format!("verify --anchor all.ndjson --db part.log{options}"));
        shown.lines().find(|line| line.contains("outside")).unwrap().to_owned()
    };
    assert!(outside("").ends_with("ends with 3: … 10 11 12 13 14 15 16 17 18 19"), "{}", outside(""));
    assert!(outside(" -v").ends_with("ends with 3: 1 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19"));
}

#[test]
fn a_log_that_was_cut_off_or_rewritten_contradicts_its_anchors() {
    let place = stocked();
    fs::write(place.path("anchors.ndjson"), place.stdout("anchor")).unwrap();
    assert_eq!(place.code("export ..3 -O cut.log"), 0);
    assert_eq!(place.code("import cut.log --into rewritten.db"), 0);
    assert_eq!(place.code("set /billing/rate 150 --db rewritten.db"), 0);
    assert_eq!(place.code("import cut.log --into cut.db"), 0);
    assert_eq!(place.code("init other.db"), 0);
    check(
        &place.transcript(&[
            "verify --db cut.db --anchor anchors.ndjson",
            "verify --db rewritten.db --anchor anchors.ndjson -o tsv",
            "verify --db rewritten.db --level quick --anchor anchors.ndjson --json",
            "verify --db other.db --anchor anchors.ndjson",
            "verify --db rewritten.db",
        ]),
        str![[r#"
$ ustate verify --db cut.db --anchor anchors.ndjson
  contradicted  4: the log ends before the anchor at 4: 1 change is missing (first of 1)
  not provable  3 changes that no anchor covers could have been cut off or rewritten
  head          3:[HASH]
! error: 1 contradiction, first at 4
!   keep a copy of the file as it is; see whether a backup is whole
!   hint: ustate verify --db BACKUP
[exit 5]
$ ustate verify --db rewritten.db --anchor anchors.ndjson -o tsv
contradicted	4		the log has another hash at 4 than the anchor that was kept
not_provable	4		4 changes that no anchor covers could have been cut off or rewritten
! error: 1 contradiction, first at 4
!   keep a copy of the file as it is; see whether a backup is whole
!   hint: ustate verify --db BACKUP
[exit 5]
$ ustate verify --db rewritten.db --level quick --anchor anchors.ndjson --json
{"v":1,"type":"verification","intact":false,"level":"quick","head":"4:[HASH]","changes":4,"keys":0,"tombstones":0,"proved":[],"not_provable":[{"what":"after_anchor","changes":4}],"contradictions":1,"findings":[{"seq":4,"what":"the log has another hash at 4 than the anchor that was kept"}]}
! {"v":1,"type":"error","code":"corrupted","exit":5,"message":"1 contradiction, first at 4","facts":["keep a copy of the file as it is; see whether a backup is whole"],"hint":"ustate verify --db BACKUP"}
[exit 5]
$ ustate verify --db other.db --anchor anchors.ndjson
  contradicted  4: the anchor at 4 is of store [STORE], this is [STORE] (first of 1)
  the log is empty
! error: 1 contradiction, first at 4
!   keep a copy of the file as it is; see whether a backup is whole
!   hint: ustate verify --db BACKUP
[exit 5]
$ ustate verify --db rewritten.db
  proved        every change's bytes match its hash     4 changes
  proved        every link follows the one before it    4 links
  proved        kv_store equals the fold of the log     1 key and 1 deleted
  proved        the storage around the rows is whole
  not provable  4 changes that no anchor covers could have been cut off or rewritten
  head          4:[HASH]
! note: an anchor that is kept elsewhere proves more: ustate anchor --db rewritten.db >> anchors.ndjson

"#]],
    );
}

#[test]
fn what_is_no_anchor_is_refused_by_its_line() {
    let place = stocked();
    let anchor = place.stdout("anchor");
    fs::write(place.path("bad.ndjson"), format!("{anchor}\n{{\"v\":1}}\n")).unwrap();
    fs::write(place.path("empty.ndjson"), "\n\n").unwrap();
    fs::write(place.path("bytes.ndjson"), [0xff, 0xfe]).unwrap();
    check(
        &place.transcript(&[
            "verify --anchor bad.ndjson",
            "verify --anchor empty.ndjson --json",
            "verify --anchor bytes.ndjson",
            "verify --anchor missing.ndjson",
            "verify --level deep",
            "anchor -o raw",
        ]),
        str![[r#"
$ ustate verify --anchor bad.ndjson
! error: bad.ndjson, line 3: this is no anchor
!   an anchor is a line like {"v":1,"type":"anchor","store":…,"seq":4711,"hash":…}
!   hint: ustate anchor
[exit 2]
$ ustate verify --anchor empty.ndjson --json
! {"v":1,"type":"error","code":"usage","exit":2,"message":"empty.ndjson has no anchor","facts":[],"hint":"ustate anchor"}
[exit 2]
$ ustate verify --anchor bytes.ndjson
! error: bytes.ndjson, line 1: this is no anchor
!   an anchor is a line like {"v":1,"type":"anchor","store":…,"seq":4711,"hash":…}
!   hint: ustate anchor
[exit 2]
$ ustate verify --anchor missing.ndjson
! error: cannot read missing.ndjson: No such file or directory (os error 2)
[exit 7]
$ ustate verify --level deep
! error: invalid value 'deep' for '--level <LEVEL>' [possible values: quick, chain, full]
!   hint: ustate verify --help
[exit 2]
$ ustate anchor -o raw
! error: anchor has no raw output
!   use -o human or -o json
[exit 2]

"#]],
    );
}

#[test]
fn a_damaged_export_is_not_to_be_verified_once_more() {
    let place = Place::new();
    assert_eq!(place.code("set /a one-of-a-kind"), 0);
    assert_eq!(place.code("export -O whole.log"), 0);
    let mut bytes = std::fs::read(place.path("whole.log")).unwrap();
    let at = bytes.windows(13).position(|window| window == b"one-of-a-kind").unwrap();
    bytes[at] ^= 1;
    std::fs::write(place.path("altered.log"), bytes).unwrap();
    check(
        &place.transcript(&["verify --db altered.log", "list --db altered.log"]),
        str![[r#"
$ ustate verify --db altered.log
! error: corrupted: altered.log: the value of change 1 does not match its hash
!   hint: ustate verify --db BACKUP
[exit 5]
$ ustate list --db altered.log
! error: corrupted: altered.log: the value of change 1 does not match its hash
!   hint: ustate verify --db altered.log
[exit 5]

"#]],
    );
}
