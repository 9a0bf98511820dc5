//! stats: what there is, and of what.

use snapbox::str;
use univrs_state::archive::Export;
use univrs_state::log::Timestamp;
use univrs_state::options::Clock;
use univrs_state::{Batch, LocalStore, Meta, Options, StateStore};

use crate::support::{Place, check};

/// A clock that goes on by 40 minutes with each commit, from 2024-03-01T00:00:00Z on.
#[derive(Debug, Default)]
struct Slow(std::sync::atomic::AtomicI64);

impl Clock for Slow {
    fn now(&self) -> Timestamp {
        let step = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Timestamp::from_micros(1_709_251_200_000_000 + step * 2_400_000_000)
    }
}

async fn stocked() -> Place {
    let place = Place::without_store();
    let store = Options::new().clock(Slow::default()).open(place.path("state.db")).await.unwrap();
    let by = |actor: &str| Meta::new().actor(actor);
    store.commit(Batch::new().set("/nodes/n1", "up").set("/nodes/n2", "up").meta(by("boot"))).await.unwrap();
    store.commit(Batch::new().set("/config/a", vec![b'x'; 2048]).meta(by("alice\u{1b}"))).await.unwrap();
    store.commit(Batch::new().set("/nodes/n1", "down").delete("/nodes/n2").meta(by("boot"))).await.unwrap();
    store.set("/nodes", b"folder".to_vec()).await.unwrap();
    store.export_to(Export::new(), place.path("state.log")).await.unwrap();
    let part = Export::new().only("/nodes/*".parse().unwrap()).redact("/nodes/n1".parse().unwrap());
    store.export_to(part, place.path("part.log")).await.unwrap();
    store.close().await.unwrap();
    place
}

#[tokio::test]
async fn the_store_is_counted_as_a_whole_or_by_what_is_asked_for() {
    let place = stocked().await;
    let transcript = place.transcript(&[
        "stats",
        "stats --json",
        "stats -o tsv",
        "stats --by prefix",
        "stats --by actor",
        "stats --by hour",
        "stats --by hour --tz +05:30",
        "stats --by prefix --json",
        "stats --by actor -o tsv",
        "stats --by prefix -o tsv",
        "stats --at 3 -o tsv",
        "stats --by prefix --at 3 -o tsv",
        "stats --at 0 -o tsv",
        "stats -o raw",
        "stats --by colour",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate stats
store       [STORE]
head        6:[HASH]
changes     6 in 4 commits
written     2.0 KiB
keys        3 and 1 deleted
size        2.0 KiB
first       [EXACT] ([AGO])
last        [EXACT] ([AGO])
$ ustate stats --json
{"v":1,"type":"stats","store":"[STORE]","head":"6:[HASH]","changes":6,"commits":4,"bytes_written":2062,"first_at":"[EXACT]","last_at":"[EXACT]","keys":3,"deleted":1,"bytes":2058}
$ ustate stats -o tsv
changes	6
commits	4
bytes_written	2062
keys	3
deleted	1
bytes	2058
$ ustate stats --by prefix
prefix   changes  commits  written  keys     size
/config        1        1  2.0 KiB     1  2.0 KiB
/nodes         5        3     14 B     2     10 B
$ ustate stats --by actor
actor        changes  commits  written
boot               4        2      8 B
(none)             1        1      6 B
alice\u{1b}        1        1  2.0 KiB
$ ustate stats --by hour
hour               changes  commits  written
2024-03-01T00:00Z        3        2  2.0 KiB
2024-03-01T01:00Z        2        1      4 B
2024-03-01T02:00Z        1        1      6 B
$ ustate stats --by hour --tz +05:30
hour                    changes  commits  written
2024-03-01T05:00+05:30        2        1      4 B
2024-03-01T06:00+05:30        3        2  2.0 KiB
2024-03-01T07:00+05:30        1        1      6 B
$ ustate stats --by prefix --json
{"v":1,"type":"stats","prefix":"/config","changes":1,"commits":1,"bytes_written":2048,"first_at":"[EXACT]","last_at":"[EXACT]","keys":1,"bytes":2048}
{"v":1,"type":"stats","prefix":"/nodes","changes":5,"commits":3,"bytes_written":14,"first_at":"[EXACT]","last_at":"[EXACT]","keys":2,"bytes":10}
$ ustate stats --by actor -o tsv
boot	4	2	8	[EXACT]
	1	1	6	[EXACT]
alice\u{1b}	1	1	2048	[EXACT]
$ ustate stats --by prefix -o tsv
/config	1	1	2048	[EXACT]	1	2048
/nodes	5	3	14	[EXACT]	2	10
$ ustate stats --at 3 -o tsv
changes	3
commits	2
bytes_written	2052
keys	3
deleted	0
bytes	2052
$ ustate stats --by prefix --at 3 -o tsv
/config	1	1	2048	[EXACT]	1	2048
/nodes	2	1	4	[EXACT]	2	4
$ ustate stats --at 0 -o tsv
changes	0
commits	0
bytes_written	0
keys	0
deleted	0
bytes	0
$ ustate stats -o raw
! error: stats has no raw output
!   use -o human or -o json
[exit 2]
$ ustate stats --by colour
! error: invalid value 'colour' for '--by <WHAT>' [possible values: prefix, actor, hour]
!   a similar value exists: 'hour'
!   hint: ustate stats --help
[exit 2]

"#]],
    );
}

#[tokio::test]
async fn an_export_is_counted_as_its_store_and_a_part_of_it_says_that_it_is_one() {
    let place = stocked().await;
    for line in ["stats", "stats --json", "stats --by prefix", "stats --by hour --json", "stats --at 3"] {
        assert_eq!(place.stdout(line), place.stdout(&format!("{line} --db state.log")), "{line}");
    }
    let transcript =
        place.transcript(&["stats --db part.log -o tsv", "stats --by prefix --db part.log -o tsv -q"]);
    check(
        &transcript,
        str![[r#"
$ ustate stats --db part.log -o tsv
changes	4
commits	2
bytes_written	2
keys	1
deleted	1
bytes	0
! note: 2 changes of other keys are withheld from this export
$ ustate stats --by prefix --db part.log -o tsv -q
/nodes	4	2	2	[EXACT]	1	0

"#]],
    );
}
