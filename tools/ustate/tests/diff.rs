//! diff: what is different between two states, by leaf and by line.

use std::process::Output;

use snapbox::str;
use univrs_state::archive::Export;
use univrs_state::{Batch, LocalStore, Meta, StateStore};

use crate::support::{Place, check};

pub(crate) async fn stocked() -> Place {
    let place = Place::new();
    let store = place.open().await;
    let lines = (1..=12).map(|n| format!("line {n}\n")).collect::<Vec<_>>().concat();
    let first = Batch::new()
        .set("/cluster/leader", "\"node-1\"")
        .set("/config/app", lines.clone())
        .set("/config/limits", r#"{"max":0,"regions":["eu","us"],"old":true}"#)
        .set("/config/same", "x")
        .set("/nodes/n1", "up")
        .set("/blob", vec![0xff, 0]);
    store.commit(first.meta(Meta::new().actor("boot@n1"))).await.unwrap();
    let second = Batch::new()
        .set("/cluster/leader", "\"node-7\"")
        .set("/config/app", lines.replace("line 6\n", "line six\nand a half\n"))
        .set("/config/limits", r#"{ "max":100, "regions":["eu"], "burst":{"a/b":1} }"#)
        .set("/config/same", "y")
        .delete("/nodes/n1")
        .set("/nodes/n2", "up")
        .set("/blob", vec![0xff, 1]);
    store.commit(second.meta(Meta::new().actor("deploy@ci").reason("rollout 88"))).await.unwrap();
    store.set("/config/same", b"x".to_vec()).await.unwrap();
    store.close().await.unwrap();
    place
}

#[tokio::test]
async fn a_diff_shows_each_key_whose_value_is_another() {
    let place = stocked().await;
    let transcript = place.transcript(&[
        "diff 6..head",
        "diff head..6 /nodes/*",
        "diff 6.. '/config/**' --stat",
        "diff 6.. --name-only",
        "diff 6.. /cluster/leader /nodes/* --json",
        "diff 6.. /cluster/leader /blob /nodes/* -o tsv",
        "diff 6.. /nodes/* /blob --stat --json",
        "diff 6.. /nodes/* /blob --stat -o tsv",
        "diff 6.. '/config/l*' --json-patch",
        "diff ..6 /nodes/* --json-patch",
        "diff head..head",
        "diff head..head --json-patch",
        "diff 6..head /config/same",
        "diff 6..13 /config/same",
        "diff 2h-ago.. /nodes/*",
        "diff head~99..6 /nodes/*",
        "diff ..2h-ago",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate diff 6..head
updated /blob            base64:/wA= → base64:/wE=  by deploy@ci  "rollout 88"
updated /cluster/leader  "node-1" → "node-7"  by deploy@ci  "rollout 88"
updated /config/app      1 line removed, 2 added  by deploy@ci  "rollout 88"
    @@ -3,7 +3,8 @@
     line 3
     line 4
     line 5
    -line 6
    +line six
    +and a half
     line 7
     line 8
     line 9
updated /config/limits   4 places  by deploy@ci  "rollout 88"
    /old: removed true
    /burst: added {"a/b":1}
    /max: 0 → 100
    /regions/1: removed "us"
deleted /nodes/n1        up  by deploy@ci  "rollout 88"
created /nodes/n2        up  by deploy@ci  "rollout 88"
$ ustate diff head..6 /nodes/*
created /nodes/n1  up  by boot@n1
deleted /nodes/n2  up
$ ustate diff 6.. '/config/**' --stat
updated /config/app     87 B → 100 B
updated /config/limits  42 B → 50 B
2 keys: 2 updated
$ ustate diff 6.. --name-only
/blob
/cluster/leader
/config/app
/config/limits
/nodes/n1
/nodes/n2
$ ustate diff 6.. /cluster/leader /nodes/* --json
{"v":1,"type":"difference","key":"/cluster/leader","kind":"updated","before":{"seq":1,"at":"[EXACT]","version":1,"bytes":8,"encoding":"json","value":"node-1","actor":"boot@n1"},"after":{"seq":7,"at":"[EXACT]","version":2,"bytes":8,"encoding":"json","value":"node-7","actor":"deploy@ci","reason":"rollout 88"}}
{"v":1,"type":"difference","key":"/nodes/n1","kind":"deleted","before":{"seq":5,"at":"[EXACT]","version":1,"bytes":2,"encoding":"text","value":"up","actor":"boot@n1"},"after":{"seq":11,"at":"[EXACT]","version":2,"deleted":true,"actor":"deploy@ci","reason":"rollout 88"}}
{"v":1,"type":"difference","key":"/nodes/n2","kind":"created","after":{"seq":12,"at":"[EXACT]","version":1,"bytes":2,"encoding":"text","value":"up","actor":"deploy@ci","reason":"rollout 88"}}
$ ustate diff 6.. /cluster/leader /blob /nodes/* -o tsv
updated	/blob	base64	/wA=	base64	/wE=
updated	/cluster/leader	json	"node-1"	json	"node-7"
deleted	/nodes/n1	text	up		
created	/nodes/n2			text	up
$ ustate diff 6.. /nodes/* /blob --stat --json
{"v":1,"type":"difference","key":"/blob","kind":"updated","before":{"seq":6,"at":"[EXACT]","version":1,"bytes":2,"actor":"boot@n1"},"after":{"seq":13,"at":"[EXACT]","version":2,"bytes":2,"actor":"deploy@ci","reason":"rollout 88"}}
{"v":1,"type":"difference","key":"/nodes/n1","kind":"deleted","before":{"seq":5,"at":"[EXACT]","version":1,"bytes":2,"actor":"boot@n1"},"after":{"seq":11,"at":"[EXACT]","version":2,"deleted":true,"actor":"deploy@ci","reason":"rollout 88"}}
{"v":1,"type":"difference","key":"/nodes/n2","kind":"created","after":{"seq":12,"at":"[EXACT]","version":1,"bytes":2,"actor":"deploy@ci","reason":"rollout 88"}}
{"v":1,"type":"total","keys":3,"created":1,"updated":1,"deleted":1}
$ ustate diff 6.. /nodes/* /blob --stat -o tsv
updated	/blob	2	2
deleted	/nodes/n1	2	
created	/nodes/n2		2
$ ustate diff 6.. '/config/l*' --json-patch
[
{"op":"remove","path":"/~1config~1limits/old"},
{"op":"add","path":"/~1config~1limits/burst","value":{"a/b":1}},
{"op":"replace","path":"/~1config~1limits/max","value":100},
{"op":"remove","path":"/~1config~1limits/regions/1"}
]
$ ustate diff ..6 /nodes/* --json-patch
[
{"op":"add","path":"/~1nodes~1n1","value":"up"}
]
$ ustate diff head..head
! note: nothing is different
$ ustate diff head..head --json-patch
[
]
! note: nothing is different
$ ustate diff 6..head /config/same
! note: nothing is different
$ ustate diff 6..13 /config/same
updated /config/same  x → y  by deploy@ci  "rollout 88"
$ ustate diff 2h-ago.. /nodes/*
created /nodes/n2  up  by deploy@ci  "rollout 88"
! note: 2h-ago is before the first change
$ ustate diff head~99..6 /nodes/*
created /nodes/n1  up  by boot@n1
! note: head~99 is before the first change
$ ustate diff ..2h-ago
! error: 2h-ago is before the first change
!   the point 0 stands for the empty store before it
!   hint: ustate log --reverse -n 1
[exit 6]

"#]],
    );
}

#[tokio::test]
async fn the_exit_code_says_whether_there_is_a_difference_if_it_is_asked_to() {
    let place = stocked().await;
    for (line, code) in [
        ("diff 6.. --exit-code -q", 1),
        ("diff 6..", 0),
        ("diff head.. --exit-code", 0),
        ("diff 6.. /config/same --exit-code", 0),
        ("diff 6.. --exit-code --name-only --json", 1),
        ("diff 99.. --exit-code", 6),
    ] {
        assert_eq!(place.code(line), code, "{line}");
    }
}

#[tokio::test]
async fn what_cannot_be_compared_is_said() {
    let place = stocked().await;
    let transcript = place.transcript(&[
        "diff",
        "diff /config/*",
        "diff 6",
        "diff 7..",
        "diff 1..99",
        "diff 1..6 6..",
        "diff 6.. -o raw",
        "diff 6.. --stat --name-only",
        "diff 6.. --with missing.db",
        "show 7 --diff -o raw",
        "history /blob --diff -o tsv",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate diff
! error: two points are needed, A..B, or another store
!   2h-ago.. is what has changed since
!   hint: ustate diff head~10..
[exit 2]
$ ustate diff /config/*
! error: two points are needed, A..B, or another store
!   2h-ago.. is what has changed since
!   hint: ustate diff head~10..
[exit 2]
$ ustate diff 6
! error: invalid value '6' for '[A..B|PATTERN]...': this is one place; 'ustate show PLACE' shows it, PLACE.. what follows
!   hint: ustate diff --help
[exit 2]
$ ustate diff 7..
! error: 7 is inside a commit, where no state was
!   the commit goes from 7 to 13; before it is the state at 6, after it the one at 13
!   hint: ustate show 7
[exit 2]
$ ustate diff 1..99
! error: 1 is inside a commit, where no state was
!   the commit goes from 1 to 6; before it is the state at 0, after it the one at 6
!   hint: ustate show 1
[exit 2]
$ ustate diff 1..6 6..
! error: more than one range was given
[exit 2]
$ ustate diff 6.. -o raw
! error: diff has no raw output
!   use -o human or -o json
[exit 2]
$ ustate diff 6.. --stat --name-only
! error: the argument '--stat' cannot be used with '--name-only'
!   hint: ustate diff --help
[exit 2]
$ ustate diff 6.. --with missing.db
! error: cannot open [FOLDER]/missing.db: it does not exist
!   hint: ustate init missing.db
[exit 3]
$ ustate show 7 --diff -o raw
! error: show --diff has no raw output
!   use -o human or -o json
[exit 2]
$ ustate history /blob --diff -o tsv
! error: history --diff has no tsv output
!   use -o human or -o json
[exit 2]

"#]],
    );
}

#[tokio::test]
async fn a_patch_of_json_makes_one_state_of_the_other() {
    let place = stocked().await;
    let states = ["0", "6", "13", "head"];
    for from in states {
        for to in states {
            let patch = place.stdout(&format!("diff {from}..{to} --json-patch"));
            let mut state = state(&place, from);
            apply(&mut state, &serde_json::from_str(&patch).unwrap());
            assert_eq!(state, self::state(&place, to), "{from}..{to}: {patch}");
        }
    }
}

/// The state as one object, whose names are the keys.
fn state(place: &Place, at: &str) -> serde_json::Value {
    let lines = place.stdout(&format!("list --values --json --at {at} -q"));
    let entry = |line: &str| {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        let value = match entry["encoding"].as_str() {
            Some("base64") => serde_json::json!({"base64": entry["value"]}),
            _ => entry["value"].clone(),
        };
        (entry["key"].as_str().unwrap().to_owned(), value)
    };
    serde_json::Value::Object(lines.lines().map(entry).collect())
}

/// RFC 6902, as far as it is used.
fn apply(document: &mut serde_json::Value, patch: &serde_json::Value) {
    for operation in patch.as_array().unwrap() {
        let (folder, name) = operation["path"].as_str().unwrap().rsplit_once('/').unwrap();
        let name = name.replace("~1", "/").replace("~0", "~");
        let value = operation.get("value").cloned();
        let parent = document.pointer_mut(folder).unwrap();
        match (operation["op"].as_str().unwrap(), parent) {
            ("add", serde_json::Value::Array(list)) => list.insert(name.parse().unwrap(), value.unwrap()),
            ("remove", serde_json::Value::Array(list)) => drop(list.remove(name.parse().unwrap())),
            ("replace", serde_json::Value::Array(list)) => {
                list[name.parse::<usize>().unwrap()] = value.unwrap();
            }
            ("add", serde_json::Value::Object(object)) => {
                assert!(object.insert(name, value.unwrap()).is_none());
            }
            ("remove", serde_json::Value::Object(object)) => assert!(object.remove(&name).is_some()),
            ("replace", serde_json::Value::Object(object)) => {
                assert!(object.insert(name, value.unwrap()).is_some());
            }
            (operation, _) => panic!("{operation}"),
        }
    }
}

#[tokio::test]
async fn two_stores_are_compared_by_their_values() {
    let place = stocked().await;
    let store = place.open().await;
    store.export_to(Export::new(), place.path("state.log")).await.unwrap();
    store.export_to(Export::new().only("/config/*".parse().unwrap()), place.path("part.log")).await.unwrap();
    store.commit(Batch::new().set("/later", "1").delete("/blob")).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(place.code("init other.db"), 0);
    assert_eq!(place.code("set /cluster/leader '\"node-7\"' --db other.db"), 0);
    assert_eq!(place.code("set /config/same z --db other.db --actor bob@ops"), 0);
    let transcript = place.transcript(&[
        "diff --with state.log",
        "diff --db state.log --with state.db",
        "diff --db state.log --with state.db --exit-code --name-only",
        "diff ..14 --with state.log",
        "diff 6..6 --with state.log --exit-code",
        "diff --with other.db /cluster/* /config/s*",
        "diff --with other.db --stat",
        "diff --db part.log --with state.log '/config/*' -q",
        "diff --db state.log --with part.log -q",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate diff --with state.log
created /blob   base64:/wE=  by deploy@ci  "rollout 88"
deleted /later  1
$ ustate diff --db state.log --with state.db
deleted /blob   base64:/wE=
created /later  1
$ ustate diff --db state.log --with state.db --exit-code --name-only
/blob
/later
[exit 1]
$ ustate diff ..14 --with state.log
created /blob   base64:/wE=  by deploy@ci  "rollout 88"
deleted /later  1
$ ustate diff 6..6 --with state.log --exit-code
! note: nothing is different
$ ustate diff --with other.db /cluster/* /config/s*
updated /config/same  x → z  by bob@ops
$ ustate diff --with other.db --stat
deleted /config/app     100 B
deleted /config/limits  50 B
updated /config/same    1 B → 1 B
deleted /later          1 B
deleted /nodes/n2       2 B
5 keys: 1 updated, 4 deleted
$ ustate diff --db part.log --with state.log '/config/*' -q
$ ustate diff --db state.log --with part.log -q
! error: erased: 7 changes are withheld, and /blob may be among them
[exit 6]

"#]],
    );
}

#[tokio::test]
async fn a_diff_goes_through_many_pages() {
    let place = Place::new();
    let store = place.open().await;
    let keys = 2_500;
    let batch = (0..keys).fold(Batch::new(), |batch, n| batch.set(format!("/k/{n:05}"), "1"));
    store.commit(batch).await.unwrap();
    store.export_to(Export::new(), place.path("before.log")).await.unwrap();
    let batch = (0..keys).step_by(2).fold(Batch::new(), |batch, n| batch.set(format!("/k/{n:05}"), "2"));
    store.commit(batch).await.unwrap();
    let names = |output: Output| String::from_utf8(output.stdout).unwrap();
    let expected = (0..keys).step_by(2).map(|n| format!("/k/{n:05}\n")).collect::<Vec<_>>().concat();
    assert_eq!(names(place.output("diff 2500.. --name-only")), expected);
    assert_eq!(names(place.output("diff --db before.log --with state.db --name-only")), expected);
}
