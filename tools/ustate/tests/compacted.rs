//! A store whose log was compacted: what is left is shown, and what is gone is named.

use snapbox::str;
use univrs_state::retain::{Compact, Retention};
use univrs_state::{LocalStore, Seq};

use crate::support::{Place, check};

/// A store whose log begins after 4, the second change of /a.
async fn compacted() -> Place {
    let place = Place::new();
    for line in ["set /a 1", "set /b 1", "set /c 1", "set /a 2", "delete /b", "set /a 3"] {
        place.stdout(line);
    }
    let store = place.open().await;
    store.compact(Compact::before(Seq::new(4)).force()).await.unwrap();
    store.close().await.unwrap();
    place
}

#[tokio::test]
#[allow(clippy::too_many_lines)] // what is expected is one text
async fn what_is_left_of_a_compacted_log_is_shown_by_every_command() {
    let place = compacted().await;
    check(
        &place.transcript(&[
            "get /a",
            "get /c --at 4",
            "list --values",
            "log /a /b",
            "log --reverse -n 1",
            "history /a",
            "history /c",
            "show 5",
            "show 3",
            "show 1",
            "diff 4..",
            "diff ..",
            "blame /a",
            "stats",
            "stats --by prefix -o tsv",
            "verify",
            "anchor --at 4",
            "watch --after 4 --count 1",
            "export -O part.log",
            "import part.log --into copy.db",
            "replay --into again.db --check -o tsv",
            "replay -o tsv -- true",
            "bisect --good 4 --bad head -- grep -q /a.:2",
            "restore /a --to 4",
        ]),
        str![[r#"
$ ustate get /a
3
$ ustate get /c --at 4
1
$ ustate list --values
/a  3
/c  1
$ ustate log /a /b
[TIME]  6 updated /a  3  by alice@ops
[TIME]  5 deleted /b     by alice@ops
$ ustate log --reverse -n 1
[TIME]  5 deleted /b  by alice@ops
$ ustate history /a
6  [TIME]  alice@ops  3
4  [TIME]  alice@ops  2
! note: the history before that is gone
$ ustate history /c
3  [TIME]  alice@ops  created 1
$ ustate show 5
change      5 deleted /b
version     2
at          [EXACT] ([AGO])
actor       alice@ops
previous    2
hash        [HASH]
$ ustate show 3
! error: the log begins after 4; what was asked for came before
[exit 6]
$ ustate show 1
! error: the log begins after 4; what was asked for came before
[exit 6]
$ ustate diff 4..
updated /a  2 → 3  by alice@ops
deleted /b  1  by alice@ops
$ ustate diff ..
updated /a  2 → 3  by alice@ops
deleted /b  1  by alice@ops
$ ustate blame /a
6  [TIME]  alice@ops    3
! note: the history before 4 is gone; what is older counts as of then
$ ustate stats
store       [STORE]
head        8:[HASH]
changes     4 in 4 commits
written     333 B
keys        2 and 1 deleted
size        2 B
first       [EXACT] ([AGO])
last        [EXACT] ([AGO])
$ ustate stats --by prefix -o tsv
/.univrs	2	2	332	[EXACT]	0	0
/a	1	1	1	[EXACT]	1	1
/b	1	1	0	[EXACT]	0	0
/c	0	0	0		1	1
$ ustate verify
  proved        every change's bytes match its hash     7 changes
  proved        every link follows the one before it    7 links
  proved        kv_store equals the fold of the log     3 keys and 1 deleted
  proved        the storage around the rows is whole
  proved        what is left up to 4 is what the compaction left: 3 changes
  not provable  4 changes that no anchor covers could have been cut off or rewritten
  not provable  the log begins after 4
  head          8:[HASH]
! note: an anchor that is kept elsewhere proves more: ustate anchor >> anchors.ndjson
$ ustate anchor --at 4
{"v":1,"type":"anchor","store":"[STORE]","seq":4,"hash":"[HASH]"}
$ ustate watch --after 4 --count 1
[CLOCK]  5 deleted /b  by alice@ops
$ ustate export -O part.log
exported 4 changes to part.log
head 8:[HASH]
$ ustate import part.log --into copy.db
imported 4 changes into copy.db
head 8:[HASH]
$ ustate replay --into again.db --check -o tsv
again.db	8:[HASH]	4
$ ustate replay -o tsv -- true
$ ustate bisect --good 4 --bad head -- grep -q /a.:2
6 is the first bad commit: /a by alice@ops   (2 steps)
! note: 4 is good
! note: 8 is bad
! note: 6 is bad
! note: 5 is good
! note: what it changed: ustate diff 5..6
$ ustate restore /a --to 4
9 set /a  2

"#]],
    );
}

#[tokio::test]
async fn what_a_compaction_dropped_is_named_as_gone() {
    let place = compacted().await;
    check(
        &place.transcript(&[
            "get /a --at 3",
            "get /a --at 0",
            "get /a --at head~9",
            "get /a --at 2020-01-01",
            "log 1..",
            "log head~9.. /a",
            "log 2020-01-01.. /a",
            "diff 0..",
            "watch --after 1 --count 1",
            "replay 1.. -o json",
            "replay 5.. --into late.db",
            "restore /a --to 1",
            "restore --undo 4",
            "restore --undo 2",
            "show hash:00000000000000000000",
        ]),
        str![[r#"
$ ustate get /a --at 3
! error: the log begins after 4; what was asked for came before
[exit 6]
$ ustate get /a --at 0
! error: the log begins after 4; what was asked for came before
[exit 6]
$ ustate get /a --at head~9
! error: head~9 is before 4, where the log begins
!   what came before is gone
!   hint: ustate log --reverse -n 1
[exit 6]
$ ustate get /a --at 2020-01-01
! error: 2020-01-01 is before 4, where the log begins
!   what came before is gone
!   hint: ustate log --reverse -n 1
[exit 6]
$ ustate log 1..
! error: the log begins after 4; what was asked for came before
[exit 6]
$ ustate log head~9.. /a
[TIME]  6 updated /a  3  by alice@ops
$ ustate log 2020-01-01.. /a
[TIME]  6 updated /a  3  by alice@ops
! note: 2020-01-01 is before 4, where the log begins
$ ustate diff 0..
! error: the log begins after 4; what was asked for came before
[exit 6]
$ ustate watch --after 1 --count 1
! error: the log begins after 4; what was asked for came before
[exit 6]
$ ustate replay 1.. -o json
! {"v":1,"type":"error","code":"compacted","exit":6,"message":"the log begins after 4; what was asked for came before","facts":[]}
[exit 6]
$ ustate replay 5.. --into late.db
! error: a new store needs the log from its first change, not from 5
!   hint: ustate replay ..8 --into late.db
[exit 2]
$ ustate restore /a --to 1
! error: the log begins after 4; what was asked for came before
[exit 6]
$ ustate restore --undo 4
! error: the log begins after 4; what was asked for came before
[exit 6]
$ ustate restore --undo 2
! error: the log begins after 4; what was asked for came before
[exit 6]
$ ustate show hash:00000000000000000000
! error: no change has a hash that begins with 00000000000000000000
!   the log ends at 8
!   hint: ustate log --json
[exit 6]

"#]],
    );
}
