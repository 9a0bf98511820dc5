//! log, show, history.

use snapbox::str;
use univrs_state::{Batch, Meta, StateStore};

use crate::support::{Place, check};

fn stocked() -> Place {
    let place = Place::new();
    for line in [
        "set /cluster/leader '\"node-1\"' --type json --actor scheduler@node-1",
        "set /nodes/n1/status '{\"ready\":true}' --type json --actor kubelet@n1 --correlation boot-7",
        "set /cluster/leader '\"node-7\"' --type json --actor scheduler@node-7 -m failover",
        "delete /nodes/n1/status --actor gc@n1 -m 'node removed'",
    ] {
        assert_eq!(place.code(line), 0, "{line}");
    }
    place
}

#[test]
fn the_log_is_shown_newest_first_and_can_be_narrowed() {
    let transcript = stocked().transcript(&[
        "log",
        "log --reverse -n 2",
        "log '/nodes/**' /cluster/leader -n 1",
        "log 1..head~1",
        "log ..2 --json",
        "log --actor gc@n1 -o tsv",
        "log --kind updated",
        "log --correlation boot-7",
        "log 2..99 -n 1",
        "log 9..",
        "log 1..2 2..3",
        "log 3..1",
        "log 4",
        "log nonsense",
        "log //",
        "log -o raw",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate log
[TIME]  4 deleted /nodes/n1/status                  by gc@n1  "node removed"
[TIME]  3 updated /cluster/leader   "node-7"        by scheduler@node-7  "failover"
[TIME]  2 created /nodes/n1/status  {"ready":true}  by kubelet@n1
[TIME]  1 created /cluster/leader   "node-1"        by scheduler@node-1
$ ustate log --reverse -n 2
[TIME]  1 created /cluster/leader   "node-1"        by scheduler@node-1
[TIME]  2 created /nodes/n1/status  {"ready":true}  by kubelet@n1
$ ustate log '/nodes/**' /cluster/leader -n 1
[TIME]  4 deleted /nodes/n1/status  by gc@n1  "node removed"
$ ustate log 1..head~1
[TIME]  3 updated /cluster/leader   "node-7"        by scheduler@node-7  "failover"
[TIME]  2 created /nodes/n1/status  {"ready":true}  by kubelet@n1
$ ustate log ..2 --json
{"v":1,"type":"change","seq":2,"commit_seq":2,"at":"[EXACT]","kind":"created","key":"/nodes/n1/status","version":1,"prev":0,"bytes":14,"encoding":"json","value":{"ready":true},"actor":"kubelet@n1","correlation":"boot-7","hash":"[HASH]"}
{"v":1,"type":"change","seq":1,"commit_seq":1,"at":"[EXACT]","kind":"created","key":"/cluster/leader","version":1,"prev":0,"bytes":8,"encoding":"json","value":"node-1","actor":"scheduler@node-1","hash":"[HASH]"}
$ ustate log --actor gc@n1 -o tsv
4	[EXACT]	deleted	/nodes/n1/status			gc@n1	node removed
$ ustate log --kind updated
[TIME]  3 updated /cluster/leader  "node-7"  by scheduler@node-7  "failover"
$ ustate log --correlation boot-7
[TIME]  2 created /nodes/n1/status  {"ready":true}  by kubelet@n1
$ ustate log 2..99 -n 1
[TIME]  4 deleted /nodes/n1/status  by gc@n1  "node removed"
! note: the log ends at 4
$ ustate log 9..
! note: no change matches
$ ustate log 1..2 2..3
! error: more than one range was given
[exit 2]
$ ustate log 3..1
! error: the range begins at 3 and ends before that, at 1
!   exchange the two points
[exit 2]
$ ustate log 4
! error: invalid value for '[PATTERN|A..B]...': this is one place; 'ustate show PLACE' shows it, PLACE.. what follows
!   hint: ustate log --help
[exit 2]
$ ustate log nonsense
! error: invalid value for '[PATTERN|A..B]...': this is neither a pattern, which starts with '/', nor a range like 40..50
!   hint: ustate log --help
[exit 2]
$ ustate log //
! error: invalid key: "//": empty segment at byte 0
!   all keys below it are '/*'
[exit 2]
$ ustate log -o raw
! error: log has no raw output
!   use -o human or -o json
[exit 2]

"#]],
    );
}

#[test]
fn show_tells_everything_about_a_change() {
    let transcript = stocked().transcript(&[
        "show 3",
        "show head~3 head",
        "show 2 --json",
        "show 2 4 -o ndjson",
        "show 2 -o raw",
        "show 4 -o raw",
        "show 4 -o tsv",
        "show 99",
        "show 0",
        "show first",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate show 3
change      3 updated /cluster/leader
version     2
at          [EXACT] ([AGO])
actor       scheduler@node-7
reason      failover
previous    1
hash        [HASH]
size        8 B

"node-7"
$ ustate show head~3 head
change      1 created /cluster/leader
version     1
at          [EXACT] ([AGO])
actor       scheduler@node-1
hash        [HASH]
size        8 B

"node-1"

change      4 deleted /nodes/n1/status
version     2
at          [EXACT] ([AGO])
actor       gc@n1
reason      node removed
previous    2
hash        [HASH]
$ ustate show 2 --json
{"v":1,"type":"change","seq":2,"commit_seq":2,"at":"[EXACT]","kind":"created","key":"/nodes/n1/status","version":1,"prev":0,"bytes":14,"encoding":"json","value":{"ready":true},"actor":"kubelet@n1","correlation":"boot-7","hash":"[HASH]"}
$ ustate show 2 4 -o ndjson
{"v":1,"type":"change","seq":2,"commit_seq":2,"at":"[EXACT]","kind":"created","key":"/nodes/n1/status","version":1,"prev":0,"bytes":14,"encoding":"json","value":{"ready":true},"actor":"kubelet@n1","correlation":"boot-7","hash":"[HASH]"}
{"v":1,"type":"change","seq":4,"commit_seq":4,"at":"[EXACT]","kind":"deleted","key":"/nodes/n1/status","version":2,"prev":2,"actor":"gc@n1","reason":"node removed","hash":"[HASH]"}
$ ustate show 2 -o raw
{"ready":true}$ ustate show 4 -o raw
! error: change 4 deleted /nodes/n1/status and has no value
[exit 1]
$ ustate show 4 -o tsv
4	[EXACT]	deleted	/nodes/n1/status			gc@n1	node removed
$ ustate show 99
! error: there is no change 99
!   the log ends at 4
!   hint: ustate log -n 10
[exit 1]
$ ustate show 0
! error: there is no change 0
!   the log ends at 4
!   hint: ustate log -n 10
[exit 1]
$ ustate show first
! error: invalid value 'first' for '<SEQ>...': this is no point in the history; use a number, head, head~10, a time like [TIME], 2026-09-01 or 2h-ago, mark:NAME, or hash:PREFIX
!   hint: ustate show --help
[exit 2]

"#]],
    );
}

#[test]
fn history_is_that_of_one_key_deletions_included() {
    let transcript = stocked().transcript(&[
        "history /cluster/leader",
        "history /cluster/leader -n 1 --json",
        "history /nodes/n1/status",
        "history /nodes/n1/status -o tsv",
        "history /never",
        "history '/nodes/*'",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate history /cluster/leader
3  [TIME]  scheduler@node-7  "node-7"           failover
1  [TIME]  scheduler@node-1  created "node-1"
$ ustate history /cluster/leader -n 1 --json
{"v":1,"type":"change","seq":3,"commit_seq":3,"at":"[EXACT]","kind":"updated","key":"/cluster/leader","version":2,"prev":1,"bytes":8,"encoding":"json","value":"node-7","actor":"scheduler@node-7","reason":"failover","hash":"[HASH]"}
$ ustate history /nodes/n1/status
4  [TIME]  gc@n1       deleted                  node removed
2  [TIME]  kubelet@n1  created {"ready":true}
$ ustate history /nodes/n1/status -o tsv
4	[EXACT]	deleted	/nodes/n1/status			gc@n1	node removed
2	[EXACT]	created	/nodes/n1/status	json	{"ready":true}	kubelet@n1	
$ ustate history /never
! error: /never does not exist and never did
[exit 1]
$ ustate history '/nodes/*'
! error: invalid key: "/nodes/*": '*' at byte 7 is reserved for patterns
[exit 2]

"#]],
    );
}

#[tokio::test]
async fn a_change_within_a_commit_is_found_and_says_so() {
    let place = Place::new();
    let store = place.open().await;
    let meta = Meta::new().actor("deploy@ci").reason("rollout 88").label("ticket", "1182");
    let batch = Batch::new().set("/a", "1").set("/b", "2").set("/a", "3").meta(meta);
    store.commit(batch).await.unwrap();
    let transcript = place.transcript(&["show 2", "show 3 --json", "log", "log ..3", "log --reverse 0.."]);
    check(
        &transcript,
        str![[r#"
$ ustate show 2
change      2 created /b
version     1
at          [EXACT] ([AGO])
actor       deploy@ci
reason      rollout 88
label       ticket = 1182
commit      1 to 3 (3 changes)
hash        [HASH]
size        1 B

2
$ ustate show 3 --json
{"v":1,"type":"change","seq":3,"commit_seq":3,"at":"[EXACT]","kind":"updated","key":"/a","version":2,"prev":1,"bytes":1,"encoding":"json","value":3,"actor":"deploy@ci","reason":"rollout 88","labels":{"ticket":"1182"},"hash":"[HASH]"}
$ ustate log
[TIME]  3 updated /a  3  by deploy@ci  "rollout 88"
[TIME]  2 created /b  2  by deploy@ci  "rollout 88"
[TIME]  1 created /a  1  by deploy@ci  "rollout 88"
$ ustate log ..3
[TIME]  3 updated /a  3  by deploy@ci  "rollout 88"
[TIME]  2 created /b  2  by deploy@ci  "rollout 88"
[TIME]  1 created /a  1  by deploy@ci  "rollout 88"
$ ustate log --reverse 0..
[TIME]  1 created /a  1  by deploy@ci  "rollout 88"
[TIME]  2 created /b  2  by deploy@ci  "rollout 88"
[TIME]  3 updated /a  3  by deploy@ci  "rollout 88"

"#]],
    );
}

#[tokio::test]
async fn a_log_of_many_pages_is_shown_whole_in_either_direction() {
    let place = Place::new();
    let store = place.open().await;
    for commit in 0..30_u32 {
        let batch =
            (0..=commit).fold(Batch::new(), |batch, n| batch.set(format!("/k/{n}"), commit.to_string()));
        store.commit(batch).await.unwrap();
    }
    let seqs = |line: &str| -> Vec<u64> {
        place.stdout(line).lines().map(|line| line.split('\t').next().unwrap().parse().unwrap()).collect()
    };
    let all: Vec<u64> = (1..=465).collect();
    assert_eq!(seqs("log --reverse -o tsv"), all);
    assert_eq!(seqs("log -o tsv"), all.iter().rev().copied().collect::<Vec<_>>());
    assert_eq!(seqs("log 105..435 -n 329 -o tsv"), (107..=435).rev().collect::<Vec<_>>());
    assert_eq!(seqs("log /k/29 -o tsv"), [465]);
    assert_eq!(seqs("history /k/0 -n 3 -o tsv"), [436, 407, 379]);
}

#[test]
fn the_log_is_searched_by_what_values_contain() {
    let place = stocked();
    for line in [
        "set /limits '{\"max\":0,\"regions\":[\"eu\"]}' --type json",
        "set /limits '{\"max\":10,\"regions\":[\"eu\",\"us\"]}' --type json",
        "set /notes 'max is 10, see node-7'",
    ] {
        assert_eq!(place.code(line), 0, "{line}");
    }
    assert!(place.fed("set /binary -", &[0xff, b'1', b'0', 0]).status.success());
    let transcript = place.transcript(&[
        "log -S node-7 -o tsv",
        "log -S 10 -o tsv",
        "log -S 10 /limits head~4..head -o tsv",
        "log --where /max=10 -o tsv",
        "log --where /regions/0=eu --where /max=0 -o tsv",
        "log --where =node-7 -o tsv",
        "log --where /ready=true --reverse -n 1 -o tsv",
        "log --where /ready=1 --at 3",
        "log --kind deleted -S node",
        "log --where max=10",
        "log --at 2 -o tsv",
        "log 1.. --at 2 --correlation boot-7 -o tsv",
        "log 2.. --at 2",
        "log --at 99",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate log -S node-7 -o tsv
7	[EXACT]	created	/notes	text	max is 10, see node-7	alice@ops	
3	[EXACT]	updated	/cluster/leader	json	"node-7"	scheduler@node-7	failover
$ ustate log -S 10 -o tsv
8	[EXACT]	created	/binary	base64	/zEwAA==	alice@ops	
7	[EXACT]	created	/notes	text	max is 10, see node-7	alice@ops	
6	[EXACT]	updated	/limits	json	{"max":10,"regions":["eu","us"]}	alice@ops	
$ ustate log -S 10 /limits head~4..head -o tsv
6	[EXACT]	updated	/limits	json	{"max":10,"regions":["eu","us"]}	alice@ops	
$ ustate log --where /max=10 -o tsv
6	[EXACT]	updated	/limits	json	{"max":10,"regions":["eu","us"]}	alice@ops	
$ ustate log --where /regions/0=eu --where /max=0 -o tsv
5	[EXACT]	created	/limits	json	{"max":0,"regions":["eu"]}	alice@ops	
$ ustate log --where =node-7 -o tsv
3	[EXACT]	updated	/cluster/leader	json	"node-7"	scheduler@node-7	failover
$ ustate log --where /ready=true --reverse -n 1 -o tsv
2	[EXACT]	created	/nodes/n1/status	json	{"ready":true}	kubelet@n1	
$ ustate log --where /ready=1 --at 3
! note: no change matches
$ ustate log --kind deleted -S node
! note: no change matches
$ ustate log --where max=10
! error: invalid value for '--where <POINTER=VALUE>': a condition looks like /limits/max=0: a JSON pointer, which starts with '/', and a value
!   hint: ustate log --help
[exit 2]
$ ustate log --at 2 -o tsv
2	[EXACT]	created	/nodes/n1/status	json	{"ready":true}	kubelet@n1	
1	[EXACT]	created	/cluster/leader	json	"node-1"	scheduler@node-1	
$ ustate log 1.. --at 2 --correlation boot-7 -o tsv
2	[EXACT]	created	/nodes/n1/status	json	{"ready":true}	kubelet@n1	
$ ustate log 2.. --at 2
! note: no change matches
$ ustate log --at 99
! error: 99 lies beyond the end of the log
!   the log ends at 8
!   hint: ustate log -n 10
[exit 6]

"#]],
    );
}
