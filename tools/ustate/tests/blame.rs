//! blame: who last changed each part of a value.

use snapbox::str;
use univrs_state::archive::Export;
use univrs_state::{Batch, LocalStore, Meta, SqliteStore, StateStore};

use crate::support::{Place, check};

/// Sets a key, by somebody.
async fn set(store: &SqliteStore, key: &str, value: impl Into<Vec<u8>>, actor: &str) {
    let meta = Meta::new().actor(actor).reason(format!("as {actor} says"));
    store.commit(Batch::new().set(key, value).meta(meta)).await.unwrap();
}

async fn stocked() -> Place {
    let place = Place::new();
    let store = place.open().await;
    set(&store, "/json", r#"{"gone":1,"max":5}"#, "zoe").await;
    store.delete("/json").await.unwrap();
    set(&store, "/json", r#"{"max":5,"min":1,"regions":["eu"],"name":"a"}"#, "ann").await;
    set(&store, "/json", r#"{"max":7,"min":1,"regions":["eu","us"],"name":"a"}"#, "bob").await;
    set(
        &store,
        "/json",
        r#"{"max":5,"min": 1,"regions":["eu","us"],"name":"\u0061","x/y":{"z":null}}"#,
        "cyd",
    )
    .await;
    set(&store, "/json", r#"{"max":5,"min":1,"regions":["eu","us"],"name":"a","x/y":{"z":null}}"#, "dan")
        .await;
    set(&store, "/text", "one\ntwo\nthree\n", "ann").await;
    set(&store, "/text", "zero\none\ntwo and a half\nthree\n", "bob").await;
    set(&store, "/text", "zero\none\nthree\n12\nfour", "cyd").await;
    set(&store, "/blob", vec![0xff, 0], "ann").await;
    set(&store, "/blob", vec![0xff, 1], "bob").await;
    set(&store, "/blob", vec![0xff, 1], "cyd").await;
    set(&store, "/mixed", "plain", "ann").await;
    set(&store, "/mixed", "[1,[]]", "bob").await;
    set(&store, "/empty", "", "ann").await;
    store.delete("/empty").await.unwrap();
    store.close().await.unwrap();
    place
}

#[tokio::test]
async fn each_leaf_and_each_line_has_the_change_that_made_it_what_it_is() {
    let place = stocked().await;
    let transcript = place.transcript(&[
        "blame /json",
        "blame /json --at 4",
        "blame /json --at 1",
        "blame /text",
        "blame /text --at 8",
        "blame /blob",
        "blame /mixed",
        "blame /mixed --json",
        "blame /text --json",
        "blame /text -o tsv",
        "blame /json -o tsv --at 3",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate blame /json
5  [TIME]  cyd  /max        5     "as cyd says"
3  [TIME]  ann  /min        1     "as ann says"
3  [TIME]  ann  /name       "a"   "as ann says"
3  [TIME]  ann  /regions/0  "eu"  "as ann says"
4  [TIME]  bob  /regions/1  "us"  "as bob says"
5  [TIME]  cyd  /x~1y/z     null  "as cyd says"
$ ustate blame /json --at 4
4  [TIME]  bob  /max        7     "as bob says"
3  [TIME]  ann  /min        1     "as ann says"
3  [TIME]  ann  /name       "a"   "as ann says"
3  [TIME]  ann  /regions/0  "eu"  "as ann says"
4  [TIME]  bob  /regions/1  "us"  "as bob says"
$ ustate blame /json --at 1
1  [TIME]  zoe  /gone  1  "as zoe says"
1  [TIME]  zoe  /max   5  "as zoe says"
$ ustate blame /text
8  [TIME]  bob  1  zero   "as bob says"
7  [TIME]  ann  2  one    "as ann says"
7  [TIME]  ann  3  three  "as ann says"
9  [TIME]  cyd  4  12     "as cyd says"
9  [TIME]  cyd  5  four   "as cyd says"
$ ustate blame /text --at 8
8  [TIME]  bob  1  zero            "as bob says"
7  [TIME]  ann  2  one             "as ann says"
8  [TIME]  bob  3  two and a half  "as bob says"
7  [TIME]  ann  4  three           "as ann says"
$ ustate blame /blob
11  [TIME]  bob  base64:/wE=  "as bob says"
$ ustate blame /mixed
14  [TIME]  bob  /0  1   "as bob says"
14  [TIME]  bob  /1  []  "as bob says"
$ ustate blame /mixed --json
{"v":1,"type":"blame","key":"/mixed","pointer":"/0","bytes":1,"encoding":"json","value":1,"seq":14,"at":"[EXACT]","version":2,"actor":"bob","reason":"as bob says"}
{"v":1,"type":"blame","key":"/mixed","pointer":"/1","bytes":2,"encoding":"json","value":[],"seq":14,"at":"[EXACT]","version":2,"actor":"bob","reason":"as bob says"}
$ ustate blame /text --json
{"v":1,"type":"blame","key":"/text","line":1,"text":"zero\n","seq":8,"at":"[EXACT]","version":2,"actor":"bob","reason":"as bob says"}
{"v":1,"type":"blame","key":"/text","line":2,"text":"one\n","seq":7,"at":"[EXACT]","version":1,"actor":"ann","reason":"as ann says"}
{"v":1,"type":"blame","key":"/text","line":3,"text":"three\n","seq":7,"at":"[EXACT]","version":1,"actor":"ann","reason":"as ann says"}
{"v":1,"type":"blame","key":"/text","line":4,"text":"12\n","seq":9,"at":"[EXACT]","version":3,"actor":"cyd","reason":"as cyd says"}
{"v":1,"type":"blame","key":"/text","line":5,"text":"four","seq":9,"at":"[EXACT]","version":3,"actor":"cyd","reason":"as cyd says"}
$ ustate blame /text -o tsv
1	zero	8	[EXACT]	bob	as bob says
2	one	7	[EXACT]	ann	as ann says
3	three	7	[EXACT]	ann	as ann says
4	12	9	[EXACT]	cyd	as cyd says
5	four	9	[EXACT]	cyd	as cyd says
$ ustate blame /json -o tsv --at 3
/max	5	3	[EXACT]	ann	as ann says
/min	1	3	[EXACT]	ann	as ann says
/name	"a"	3	[EXACT]	ann	as ann says
/regions/0	"eu"	3	[EXACT]	ann	as ann says

"#]],
    );
}

#[tokio::test]
async fn what_there_is_no_value_of_cannot_be_blamed() {
    let place = stocked().await;
    let transcript = place.transcript(&[
        "blame /empty",
        "blame /empty --at 15",
        "blame /never",
        "blame /json --at 2",
        "blame /json --at 99",
        "blame '/json*'",
        "blame /json -o raw",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate blame /empty
! error: /empty does not exist
!   it was deleted at 16 [AGO]
!   hint: ustate history /empty
[exit 1]
$ ustate blame /empty --at 15
15  [TIME]  ann  (empty)  "as ann says"
$ ustate blame /never
! error: /never does not exist
[exit 1]
$ ustate blame /json --at 2
! error: /json did not exist at 2
!   it was deleted at 2 [AGO]
!   hint: ustate history /json
[exit 1]
$ ustate blame /json --at 99
! error: 99 lies beyond the end of the log
!   the log ends at 16
!   hint: ustate log -n 10
[exit 6]
$ ustate blame '/json*'
! error: invalid key: "/json*": '*' at byte 5 is reserved for patterns
[exit 2]
$ ustate blame /json -o raw
! error: blame has no raw output
!   use -o human or -o json
[exit 2]

"#]],
    );
}

#[tokio::test]
async fn where_the_history_ends_too_early_that_is_said() {
    let place = stocked().await;
    let store = place.open().await;
    let late = Export::new().after(univrs_state::Seq::new(4));
    store.export_to(late, place.path("late.log")).await.unwrap();
    let redacted = Export::new().redact("/json".parse().unwrap());
    store.export_to(redacted, place.path("redacted.log")).await.unwrap();
    store.export_to(Export::new(), place.path("whole.log")).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(place.stdout("blame /json"), place.stdout("blame /json --db whole.log"));
    let transcript = place.transcript(&["blame /json --db late.log -o tsv", "blame /json --db redacted.log"]);
    check(
        &transcript,
        str![[r#"
$ ustate blame /json --db late.log -o tsv
/max	5	5	[EXACT]	cyd	as cyd says
/min	1	5	[EXACT]	cyd	as cyd says
/name	"a"	5	[EXACT]	cyd	as cyd says
/regions/0	"eu"	5	[EXACT]	cyd	as cyd says
/regions/1	"us"	5	[EXACT]	cyd	as cyd says
/x~1y/z	null	5	[EXACT]	cyd	as cyd says
! note: this export begins after 4
! note: the history before 5 is gone; what is older counts as of then
$ ustate blame /json --db redacted.log
! error: erased: the value that change 6 gave /json is gone; its hash remains
[exit 6]

"#]],
    );
}

#[tokio::test]
async fn a_long_history_is_followed_to_where_a_leaf_was_made() {
    let place = Place::new();
    let store = place.open().await;
    for n in 0..230 {
        let value = format!("{{\"count\":{n},\"still\":true,\"half\":{}}}", n / 115);
        set(&store, "/counter", value, &format!("a{n}")).await;
    }
    store.close().await.unwrap();
    let seqs: Vec<String> = place
        .stdout("blame /counter -o tsv")
        .lines()
        .map(|line| line.split('\t').nth(2).unwrap().to_owned())
        .collect();
    assert_eq!(seqs, ["230", "116", "1"]);
}
