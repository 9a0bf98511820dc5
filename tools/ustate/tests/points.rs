//! Points in the history: every way to write one, and what is wrong with one.

use snapbox::str;
use univrs_state::log::Timestamp;
use univrs_state::options::Clock;
use univrs_state::{Batch, Options, Seq, SqliteStore, StateStore};

use crate::support::{Place, check};

/// A clock that goes on by an hour with each commit, from 2024-03-01T00:00:00Z on.
#[derive(Debug, Default)]
struct Hourly(std::sync::atomic::AtomicI64);

impl Clock for Hourly {
    fn now(&self) -> Timestamp {
        let hour = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Timestamp::from_micros(1_709_251_200_000_000 + hour * 3_600_000_000)
    }
}

/// A store whose changes are 1 to 3, then 4, then 5 and 6: three commits, an hour apart.
async fn stocked() -> (Place, SqliteStore) {
    let place = Place::without_store();
    let store = Options::new().clock(Hourly::default()).open(place.path("state.db")).await.unwrap();
    store.commit(Batch::new().set("/a", "1").set("/b", "1").set("/c/d", "1")).await.unwrap();
    store.set("/a", b"2".to_vec()).await.unwrap();
    store.commit(Batch::new().delete("/b").set("/a", "3")).await.unwrap();
    (place, store)
}

#[tokio::test]
async fn get_list_tree_and_history_answer_as_of_then() {
    let (place, _store) = stocked().await;
    let transcript = place.transcript(&[
        "get /a --at 3",
        "get /a --at head~2 --meta",
        "get /b --at 4 --json",
        "get /b --at head",
        "get /a --at 0",
        "list --at 3",
        "list '/b*' --at 6",
        "list --values --at 4",
        "tree --at 0",
        "tree --at 4 --sizes",
        "history /a --at 4 -o tsv",
        "history /a --at 0",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate get /a --at 3
1
$ ustate get /a --at head~2 --meta
key         /a
version     1
seq         1
created     [EXACT] ([AGO])
updated     [EXACT] ([AGO])
size        1 B

1
$ ustate get /b --at 4 --json
{"v":1,"type":"entry","key":"/b","version":1,"seq":2,"created_at":"[EXACT]","updated_at":"[EXACT]","bytes":1,"encoding":"json","value":1}
$ ustate get /b --at head
! error: /b did not exist at 6
!   it was deleted at 5 [AGO]
!   hint: ustate history /b
[exit 1]
$ ustate get /a --at 0
! error: /a did not exist at 0
[exit 1]
$ ustate list --at 3
/a
/b
/c/d
$ ustate list '/b*' --at 6
! note: no key matches /b* at 6
$ ustate list --values --at 4
/a    2
/b    1
/c/d  1
$ ustate tree --at 0
/
! note: 0 keys
$ ustate tree --at 4 --sizes
/  3 B
├── a  1 B
├── b  1 B
└── c/  1 B
    └── d  1 B
! note: 3 keys, 3 B
$ ustate history /a --at 4 -o tsv
4	[EXACT]	updated	/a	json	2		
1	[EXACT]	created	/a	json	1		
$ ustate history /a --at 0
! error: /a had no history at 0
[exit 1]

"#]],
    );
}

#[tokio::test]
async fn a_time_is_the_last_commit_at_or_before_it() {
    let (place, _store) = stocked().await;
    let transcript = place.transcript(&[
        "get /a --at 2024-03-01T00:00:00Z",
        "get /a --at 2024-03-01T01:59:59.999999Z",
        "get /a --at 2024-03-01T03:30:00+02:00",
        "get /a --at 2024-03-01T03:30 --tz +02:00",
        "get /a --at 2024-03-02 -q",
        "get /a --at 2024-02-29T23:59:59Z",
        "log 2024-03-01T00:30:00Z..2024-03-01T01:00:00Z -o tsv",
        "log ..2024-02-29",
        "show 2024-03-01 -o raw",
        "watch --after 2024-03-01T01:00:00Z --count 2 -o tsv",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate get /a --at 2024-03-01T00:00:00Z
1
! note: [TIME] is 3, recorded at [EXACT]
$ ustate get /a --at 2024-03-01T01:59:59.999999Z
2
! note: [EXACT] is 4, recorded at [EXACT]
$ ustate get /a --at 2024-03-01T03:30:00+02:00
2
! note: 2024-03-01T03:30:00+02:00 is 4, recorded at [EXACT]
$ ustate get /a --at 2024-03-01T03:30 --tz +02:00
2
! note: 2024-03-01T03:30 is 4, recorded at [EXACT]
$ ustate get /a --at 2024-03-02 -q
3
$ ustate get /a --at 2024-02-29T23:59:59Z
! error: [TIME] is before the first change
!   the point 0 stands for the empty store before it
!   hint: ustate log --reverse -n 1
[exit 6]
$ ustate log 2024-03-01T00:30:00Z..2024-03-01T01:00:00Z -o tsv
4	[EXACT]	updated	/a	json	2		
! note: [TIME] is 3, recorded at [EXACT]
! note: [TIME] is 4, recorded at [EXACT]
$ ustate log ..2024-02-29
! note: 2024-02-29 is before the first change
! note: no change matches
$ ustate show 2024-03-01 -o raw
1! note: 2024-03-01 is 3, recorded at [EXACT]
$ ustate watch --after 2024-03-01T01:00:00Z --count 2 -o tsv
5	[EXACT]	deleted	/b				
6	[EXACT]	updated	/a	json	3		
! note: [TIME] is 4, recorded at [EXACT]

"#]],
    );
}

#[test]
fn some_time_ago_is_measured_from_now() {
    let place = Place::new();
    assert_eq!(place.code("set /a 1"), 0);
    let transcript =
        place.transcript(&["get /a --at 0s-ago -q", "get /a --at 2h-ago", "log 2h-ago.. -q -n 1"]);
    check(
        &transcript,
        str![[r#"
$ ustate get /a --at 0s-ago -q
1
$ ustate get /a --at 2h-ago
! error: 2h-ago is before the first change
!   the point 0 stands for the empty store before it
!   hint: ustate log --reverse -n 1
[exit 6]
$ ustate log 2h-ago.. -q -n 1
[TIME]  1 created /a  1  by alice@ops

"#]],
    );
}

#[tokio::test]
async fn a_hash_names_one_change_by_as_many_digits_as_it_takes() {
    let (place, store) = stocked().await;
    // Among 20 hashes two begin with the same digit.
    for n in 0..14 {
        store.set("/n", n.to_string().into()).await.unwrap();
    }
    let commits = store.changes(Seq::ZERO, 100).await.unwrap();
    let hashes: Vec<String> =
        commits.iter().flat_map(|commit| &commit.changes).map(|change| change.hash.to_string()).collect();
    assert_eq!(hashes.len(), 20);
    assert_eq!(place.stdout(&format!("get /a --at hash:{}", hashes[3])), "2\n");
    assert_eq!(place.stdout(&format!("get /a --at hash:{}", hashes[3][..16].to_uppercase())), "2\n");
    assert_eq!(place.stdout(&format!("show hash:{} -o raw", &hashes[1][..16])), "1");
    let shared = |digit: char| hashes.iter().filter(|hash| hash.starts_with(digit)).count();
    let digit = "0123456789abcdef".chars().find(|digit| shared(*digit) > 1).unwrap();
    let output = place.output(&format!("get /a --at hash:{digit} --json"));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("\"code\":\"ambiguous_hash\""), "{said}");
    for (i, hash) in hashes.iter().enumerate().filter(|(_, hash)| hash.starts_with(digit)).take(5) {
        assert!(said.contains(&format!("{}", i + 1)), "{hash}: {said}");
    }
    let unused = hashes[0][..31].to_owned() + if hashes[0].as_bytes()[31] == b'0' { "1" } else { "0" };
    let output = place.output(&format!("get /a --at hash:{unused}"));
    check(
        &place.shown(&output),
        str![[r#"
! error: no change has a hash that begins with [STORE]
!   the log ends at 20
!   hint: ustate log --json
[exit 6]

"#]],
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_point_is_said() {
    let (place, store) = stocked().await;
    let inside = store.changes(Seq::ZERO, 100).await.unwrap()[0].changes[0].hash;
    let output = place.output(&format!("get /a --at hash:{inside} --json"));
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("\"code\":\"inside_commit\""));
    let transcript = place.transcript(&[
        "get /a --at 99",
        "get /a --at 99 --json",
        "get /a --at head~3",
        "get /a --at head~4",
        "get /a --at head~1",
        "get /a --at 2",
        "get /a --at 5 --json",
        "get /a --at mark:before",
        "log mark:before.. --json",
        "get /a --at hash:xyz",
        "get /a --at yesterday",
        "log head~99..3 -o tsv",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate get /a --at 99
! error: 99 lies beyond the end of the log
!   the log ends at 6
!   hint: ustate log -n 10
[exit 6]
$ ustate get /a --at 99 --json
! {"v":1,"type":"error","code":"beyond_head","exit":6,"message":"99 lies beyond the end of the log","facts":["the log ends at 6"],"hint":"ustate log -n 10"}
[exit 6]
$ ustate get /a --at head~3
! error: /a did not exist at 0
[exit 1]
$ ustate get /a --at head~4
! error: head~4 is before the first change
!   the point 0 stands for the empty store before it
!   hint: ustate log --reverse -n 1
[exit 6]
$ ustate get /a --at head~1
2
$ ustate get /a --at 2
! error: 2 is inside a commit, where no state was
!   the commit goes from 1 to 3; before it is the state at 0, after it the one at 3
!   hint: ustate show 2
[exit 2]
$ ustate get /a --at 5 --json
! {"v":1,"type":"error","code":"inside_commit","exit":2,"message":"5 is inside a commit, where no state was","facts":["the commit goes from 5 to 6; before it is the state at 4, after it the one at 6"],"hint":"ustate show 5"}
[exit 2]
$ ustate get /a --at mark:before
! error: there is no mark before
!   hint: ustate mark list
[exit 6]
$ ustate log mark:before.. --json
! {"v":1,"type":"error","code":"unknown_mark","exit":6,"message":"there is no mark before","facts":[],"hint":"ustate mark list"}
[exit 6]
$ ustate get /a --at hash:xyz
! error: invalid value 'hash:xyz' for '--at <POINT>': this is no point in the history; use a number, head, head~10, a time like [TIME], 2026-09-01 or 2h-ago, mark:NAME, or hash:PREFIX
!   hint: ustate get --help
[exit 2]
$ ustate get /a --at yesterday
! error: invalid value 'yesterday' for '--at <POINT>': this is no point in the history; use a number, head, head~10, a time like [TIME], 2026-09-01 or 2h-ago, mark:NAME, or hash:PREFIX
!   hint: ustate get --help
[exit 2]
$ ustate log head~99..3 -o tsv
3	[EXACT]	created	/c/d	json	1		
2	[EXACT]	created	/b	json	1		
1	[EXACT]	created	/a	json	1		

"#]],
    );
}
