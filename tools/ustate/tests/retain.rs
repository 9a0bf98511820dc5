//! What leaves the log, and who holds it back: compactions, and consumers.

use std::time::Duration;

use snapbox::str;
use univrs_state::log::Timestamp;
use univrs_state::options::Clock;
use univrs_state::{LocalStore, Options, Seq, SqliteStore, StateStore};

use crate::support::{Place, check};

/// A clock that stands, long ago.
struct Past;

impl Clock for Past {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000)
    }
}

/// The store, opened long ago: what is written to it is old enough to be compacted.
async fn long_ago(place: &Place) -> SqliteStore {
    Options::new().clock(Past).open(place.path("state.db")).await.unwrap()
}

/// Ten changes: three of /a, two of /kept, two of /gone, one of /b, and two consumers of 100 years and of a minute.
async fn stocked() -> Place {
    let place = Place::new();
    let store = long_ago(&place).await;
    for (key, value) in
        [("/a", "1"), ("/kept", "1"), ("/gone", "1"), ("/a", "2"), ("/kept", "2"), ("/b", "1")]
    {
        store.set(key, value.into()).await.unwrap();
    }
    store.delete("/gone").await.unwrap();
    store.set("/a", b"3".to_vec()).await.unwrap();
    for (name, hold) in [("billing", 36_500 * 86_400), ("mirror", 60)] {
        let consumer = store.consumer(name).pattern("/**").start(Seq::new(4));
        consumer.hold(Duration::from_secs(hold)).open().await.unwrap();
    }
    store.close().await.unwrap();
    place
}

#[tokio::test]
async fn a_compaction_says_what_goes_and_who_is_in_the_way_before_it_drops_anything() {
    let place = stocked().await;
    place.stdout("anchor --at 2 -q");
    std::fs::write(
        place.path("anchors.ndjson"),
        place.stdout("anchor --at 2") + &place.stdout("anchor --at 5") + &place.stdout("anchor --at 7"),
    )
    .unwrap();
    place.stdout("mark add early 3");
    let transcript = place.transcript(&[
        "compact --before 7 --dry-run --anchor anchors.ndjson",
        "compact --before 7 --dry-run --forget --keep /kept --force",
        "compact --before 4 --dry-run --spare-marks",
        "compact --before 7 --dry-run --json --anchor anchors.ndjson",
        "compact --before 7 --dry-run --force -o tsv",
        "compact --before 7 --yes",
        "compact --before 7 --force",
        "compact --before head --dry-run",
        "compact --before 0 --dry-run",
        "compact --resume",
        "compact --resume --dry-run --json",
        "compact",
        "compact --before 7 --anchor anchors.ndjson",
        "compact --before 7 --archive anchors.ndjson --yes",
        "log -n 1 -o tsv",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate compact --before 7 --dry-run --anchor anchors.ndjson
would drop 3 changes (15 B), and begin the log after 7
would leave 4 changes (17 B) up to there
  the consumer billing, at 4: in the way for 36500 d; --force passes it by
  the consumer mirror, at 4: loses its place; not heard of for 1 min
  the mark early, of 3: gone then
  2 anchors would stop being provable: 2 5
! error: held back: the log cannot be compacted to 7 as it is
!   hint: ustate consumers
[exit 1]
$ ustate compact --before 7 --dry-run --forget --keep /kept --force
would drop 2 changes (9 B), and begin the log after 7
would leave 5 changes (23 B) up to there
  the consumer billing, at 4: loses its place, as it is forced
  the consumer mirror, at 4: loses its place; not heard of for 1 min
  the mark early, of 3: gone then
$ ustate compact --before 4 --dry-run --spare-marks
would drop 1 change (3 B), and begin the log after 4
would leave 3 changes (15 B) up to there
  the mark early, of 3: in the way
! error: held back: the log cannot be compacted to 4 as it is
!   hint: ustate mark list
[exit 1]
$ ustate compact --before 7 --dry-run --json --anchor anchors.ndjson
{"v":1,"type":"compaction","dry_run":true,"refused":true,"before":"0:[HASH]","floor":"7:[HASH]","dropped":3,"dropped_bytes":15,"left":4,"left_bytes":17,"forgotten":0,"consumers":[{"name":"billing","seq":4,"lag":7,"pattern":"/**","hold_seconds":3153600000,"holds":true,"recorded":"[EXACT]","generation":1,"cursor":"[STORE]:4:[HASH]"},{"name":"mirror","seq":4,"lag":7,"pattern":"/**","hold_seconds":60,"holds":false,"recorded":"[EXACT]","generation":1,"cursor":"[STORE]:4:[HASH]"}],"marks":[{"name":"early","seq":3}],"anchors":[2,5]}
! {"v":1,"type":"error","code":"held","exit":1,"message":"held back: the log cannot be compacted to 7 as it is","facts":["the consumer billing, at 4: in the way for 36500 d; --force passes it by","the consumer mirror, at 4: loses its place; not heard of for 1 min","the mark early, of 3: gone then"],"hint":"ustate consumers"}
[exit 1]
$ ustate compact --before 7 --dry-run --force -o tsv
floor	7
dropped	3
dropped_bytes	15
left	4
left_bytes	17
forgotten	0
consumer	billing	4	holds
consumer	mirror	4	passed
mark	early	3
$ ustate compact --before 7 --yes
! error: held back: the log cannot be compacted to 7 as it is
!   the consumer billing, at 4: in the way for 36500 d; --force passes it by
!   the consumer mirror, at 4: loses its place; not heard of for 1 min
!   the mark early, of 3: gone then
!   hint: ustate consumers
[exit 1]
$ ustate compact --before 7 --force
! error: drop 3 changes (15 B) up to 7 for good? there is no terminal to ask on
!   --yes drops them without asking, --dry-run says who is in the way
[exit 2]
$ ustate compact --before head --dry-run
! error: invalid argument: the commit at 11 is younger than 10 minutes: open scans and retries may need what lies before it; name an earlier position, or force it
[exit 2]
$ ustate compact --before 0 --dry-run
! error: invalid argument: the log begins after 0 already, and can only be compacted to a later position
[exit 2]
$ ustate compact --resume
! note: no compaction was cut off, so there is nothing to finish
$ ustate compact --resume --dry-run --json
! note: no compaction was cut off, so there is nothing to finish
$ ustate compact
! error: the following required arguments were not provided: --before <POINT>
!   hint: ustate compact --help
[exit 2]
$ ustate compact --before 7 --anchor anchors.ndjson
! error: the following required arguments were not provided: --dry-run
!   hint: ustate compact --help
[exit 2]
$ ustate compact --before 7 --archive anchors.ndjson --yes
! error: anchors.ndjson exists, and is not written over
[exit 1]
$ ustate log -n 1 -o tsv
11	[EXACT]	created	/.univrs/marks/early	json	{"hash":"[HASH]","seq":3,"v":1}	alice@ops	

"#]],
    );
}

#[tokio::test]
async fn a_compaction_archives_what_goes_and_the_log_begins_after_it() {
    let place = stocked().await;
    let transcript = place.transcript(&[
        "compact --before 7 --force --forget --keep /kept --archive old.log --yes -m 'ticket 7'",
        "verify --db old.log --level chain",
        "get /gone --at 3 --db old.log",
        "get /a --at 7",
        "get /a --at 6",
        "history /kept -o tsv",
        "history /gone",
        "history /.univrs/compaction -n 1 -o tsv",
        "compact --before 7 --force --yes",
        "compact --before 3 --force --yes",
        "compact --before 8 --force --yes --json",
        "doctor -o tsv",
        "verify",
    ]);
    let transcript: String = transcript
        .lines()
        .filter(|line| !line.starts_with("ok\t") || line.contains("\tlog\t") || line.contains("consumers"))
        .flat_map(|line| [line, "\n"])
        .collect();
    check(
        &transcript,
        str![[r#"
$ ustate compact --before 7 --force --forget --keep /kept --archive old.log --yes -m 'ticket 7'
dropped 2 changes, and left 5 up to 7
! note: everything up to 7 is in old.log
$ ustate verify --db old.log --level chain
  proved        every change's bytes match its hash     7 changes
  proved        every link follows the one before it    7 links
  proved        the export is whole, from 0 to 7
  not provable  7 changes that no anchor covers could have been cut off or rewritten
  head          7:[HASH]
! note: an anchor that is kept elsewhere proves more: ustate anchor --db old.log >> anchors.ndjson
$ ustate get /gone --at 3 --db old.log
1
$ ustate get /a --at 7
2
$ ustate get /a --at 6
! error: the log begins after 7; what was asked for came before
[exit 6]
$ ustate history /kept -o tsv
5	[EXACT]	updated	/kept	json	2		
2	[EXACT]	created	/kept	json	1		
$ ustate history /gone
7  [TIME]    deleted
! note: the history before that is gone
$ ustate history /.univrs/compaction -n 1 -o tsv
12	[EXACT]	updated	/.univrs/compaction	json	{"v":1,"floor":7,"hash":"[HASH]","at":1700000000000006,"keep":["/kept"],"forgotten":{"floor":7,"version":7,"keep":["/kept"]},"lost":["billing","mirror"],"count":5,"digest":"[HASH]"}	alice@ops	ticket 7
$ ustate compact --before 7 --force --yes
! error: invalid argument: the log begins after 7 already, and can only be compacted to a later position
[exit 2]
$ ustate compact --before 3 --force --yes
! error: the log begins after 7; what was asked for came before
[exit 6]
$ ustate compact --before 8 --force --yes --json
{"v":1,"type":"compaction","floor":"8:[HASH]","dropped":2,"left":4,"digest":"[HASH]"}
$ ustate doctor -o tsv
ok	log	begins after 8, ends at 14
warning	consumer	billing is at 4, before the log begins
warning	consumer	mirror is at 4, before the log begins
ok	consumers	2 consumers; mirror is 10 changes behind
! error: 2 things to see to
[exit 1]
$ ustate verify
  proved        every change's bytes match its hash     10 changes
  proved        every link follows the one before it    10 links
  proved        kv_store equals the fold of the log      6 keys and 1 deleted
  proved        the storage around the rows is whole
  proved        what is left up to 8 is what the compaction left: 4 changes
  not provable  6 changes that no anchor covers could have been cut off or rewritten
  not provable  the log begins after 8
  head          14:[HASH]
! note: an anchor that is kept elsewhere proves more: ustate anchor >> anchors.ndjson

"#]],
    );
}

#[tokio::test]
async fn consumers_are_listed_moved_and_removed() {
    let place = stocked().await;
    let transcript = place.transcript(&[
        "consumers",
        "consumers list -o tsv",
        "consumers list --json",
        "consumers reset billing --to 8 --dry-run",
        "consumers reset billing --to 8 -m 'ticket 8'",
        "consumers reset mirror --to head --json",
        "consumers reset nobody --to 8",
        "consumers reset billing --to 99",
        "consumers reset billing",
        "consumers remove mirror --dry-run -o tsv",
        "consumers remove mirror",
        "consumers remove mirror",
        "consumers",
        "history /.univrs/consumers/mirror -n 1 --json",
        "compact --before 8 --yes",
        "consumers remove billing -q",
        "consumers",
        "consumers -o raw",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate consumers
billing  4  6 behind  /**  holds for 36500 d
mirror   4  6 behind  /**  held for 1 min
$ ustate consumers list -o tsv
billing	4	6	/**	3153600000	holds	[EXACT]
mirror	4	6	/**	60	passed	[EXACT]
$ ustate consumers list --json
{"v":1,"type":"consumer","name":"billing","seq":4,"lag":6,"pattern":"/**","hold_seconds":3153600000,"holds":true,"recorded":"[EXACT]","generation":1,"cursor":"[STORE]:4:[HASH]"}
{"v":1,"type":"consumer","name":"mirror","seq":4,"lag":6,"pattern":"/**","hold_seconds":60,"holds":false,"recorded":"[EXACT]","generation":1,"cursor":"[STORE]:4:[HASH]"}
$ ustate consumers reset billing --to 8 --dry-run
would move billing from 4 to 8
$ ustate consumers reset billing --to 8 -m 'ticket 8'
moved billing from 4 to 8
$ ustate consumers reset mirror --to head --json
{"v":1,"type":"consumer","name":"mirror","from":4,"seq":11,"cursor":"[STORE]:11:[HASH]"}
$ ustate consumers reset nobody --to 8
! error: there is no consumer nobody
!   hint: ustate consumers
[exit 1]
$ ustate consumers reset billing --to 99
! error: 99 lies beyond the end of the log
!   the log ends at 12
!   hint: ustate log -n 10
[exit 6]
$ ustate consumers reset billing
! error: the following required arguments were not provided: --to <POINT>
!   hint: ustate consumers --help
[exit 2]
$ ustate consumers remove mirror --dry-run -o tsv
mirror
$ ustate consumers remove mirror
removed the consumer mirror
$ ustate consumers remove mirror
! error: there is no consumer mirror
!   hint: ustate consumers
[exit 1]
$ ustate consumers
billing  8  5 behind  /**  holds for 36500 d
$ ustate history /.univrs/consumers/mirror -n 1 --json
{"v":1,"type":"change","seq":13,"commit_seq":13,"at":"[EXACT]","kind":"deleted","key":"/.univrs/consumers/mirror","version":3,"prev":12,"actor":"alice@ops","hash":"[HASH]"}
$ ustate compact --before 8 --yes
dropped 4 changes, and left 4 up to 8
$ ustate consumers remove billing -q
$ ustate consumers
! note: there are no consumers
$ ustate consumers -o raw
! error: consumers has no raw output
!   use -o human or -o json
[exit 2]

"#]],
    );
    for command in ["compact --resume", "consumers remove billing", "consumers reset billing --to 1"] {
        let words: Vec<&str> = command.split(' ').collect();
        let refused = place.command(&words).env("USTATE_READONLY", "1").output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{command}");
    }
}
