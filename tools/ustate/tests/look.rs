//! get, list, tree.

use snapbox::str;

use crate::support::{Place, check};

fn stocked() -> Place {
    let place = Place::new();
    for line in [
        "set /cluster/leader '\"node-1\"' --type json",
        "set /nodes/n1/status '{\"ready\": true}' --type json --actor kubelet@n1 -m 'first boot' --correlation boot-7",
        "set /nodes/n1 'a plain text'",
        "set /nodesextra 1",
        "delete /cluster/leader -m 'handed over' --actor scheduler@node-1",
        "set /empty ''",
    ] {
        assert_eq!(place.code(line), 0, "{line}");
    }
    assert!(place.fed("set /binary -", &[0, 1, 0xff]).status.success());
    place
}

#[test]
fn get_prints_the_value_and_says_what_became_of_an_absent_key() {
    let transcript = stocked().transcript(&[
        "get /nodes/n1/status",
        "get /nodes/n1/status --meta",
        "get /nodes/n1/status --json",
        "get /nodes/n1/status --meta -o ndjson",
        "get /nodes/n1 --json",
        "get /nodes/n1 -o tsv",
        "get /binary",
        "get /binary --json",
        "get /empty --json",
        "get /never",
        "get /cluster/leader",
        "get /cluster/leader --json",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate get /nodes/n1/status
{"ready": true}
$ ustate get /nodes/n1/status --meta
key         /nodes/n1/status
version     1
seq         2
created     [EXACT] ([AGO])
updated     [EXACT] ([AGO])
size        15 B
actor       kubelet@n1
reason      first boot
correlation boot-7

{"ready": true}
$ ustate get /nodes/n1/status --json
{"v":1,"type":"entry","key":"/nodes/n1/status","version":1,"seq":2,"created_at":"[EXACT]","updated_at":"[EXACT]","bytes":15,"encoding":"json","value":{"ready":true}}
$ ustate get /nodes/n1/status --meta -o ndjson
{"v":1,"type":"entry","key":"/nodes/n1/status","version":1,"seq":2,"created_at":"[EXACT]","updated_at":"[EXACT]","bytes":15,"encoding":"json","value":{"ready":true},"actor":"kubelet@n1","reason":"first boot","correlation":"boot-7"}
$ ustate get /nodes/n1 --json
{"v":1,"type":"entry","key":"/nodes/n1","version":1,"seq":3,"created_at":"[EXACT]","updated_at":"[EXACT]","bytes":12,"encoding":"text","value":"a plain text"}
$ ustate get /nodes/n1 -o tsv
/nodes/n1	1	3	[EXACT]	text	a plain text
$ ustate get /binary
base64:AAH/
! note: the value is no text, shown as base64; -o raw writes the exact bytes
$ ustate get /binary --json
{"v":1,"type":"entry","key":"/binary","version":1,"seq":7,"created_at":"[EXACT]","updated_at":"[EXACT]","bytes":3,"encoding":"base64","value":"AAH/"}
$ ustate get /empty --json
{"v":1,"type":"entry","key":"/empty","version":1,"seq":6,"created_at":"[EXACT]","updated_at":"[EXACT]","bytes":0,"encoding":"text","value":""}
$ ustate get /never
! error: /never does not exist
[exit 1]
$ ustate get /cluster/leader
! error: /cluster/leader does not exist
!   it was deleted at 5, by scheduler@node-1 [AGO]
!   hint: ustate history /cluster/leader
[exit 1]
$ ustate get /cluster/leader --json
! {"v":1,"type":"error","code":"key_not_found","exit":1,"message":"/cluster/leader does not exist","facts":["it was deleted at 5, by scheduler@node-1 [AGO]"],"hint":"ustate history /cluster/leader"}
[exit 1]

"#]],
    );
}

#[test]
fn list_shows_keys_that_match() {
    let transcript = stocked().transcript(&[
        "list",
        "list --values",
        "list '/nodes/*'",
        "list '/nodes/**'",
        "list '/*/n1/status' --json",
        "list /nodes/n1 --values --json",
        "list '/n*' --values -o tsv",
        "list '/n*' -o raw",
        "list '/nothing/*'",
        "list /nodes",
        "list '/nothing/*' --json -q",
        "list --values -o raw",
        "list nodes",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate list
/binary
/empty
/nodes/n1
/nodes/n1/status
/nodesextra
$ ustate list --values
/binary           base64:AAH/
/empty            (empty)
/nodes/n1         a plain text
/nodes/n1/status  {"ready":true}
/nodesextra       1
$ ustate list '/nodes/*'
/nodes/n1
/nodes/n1/status
$ ustate list '/nodes/**'
/nodes/n1
/nodes/n1/status
$ ustate list '/*/n1/status' --json
{"v":1,"type":"key","key":"/nodes/n1/status"}
$ ustate list /nodes/n1 --values --json
{"v":1,"type":"entry","key":"/nodes/n1","version":1,"seq":3,"created_at":"[EXACT]","updated_at":"[EXACT]","bytes":12,"encoding":"text","value":"a plain text"}
$ ustate list '/n*' --values -o tsv
/nodes/n1	1	3	[EXACT]	text	a plain text
/nodes/n1/status	1	2	[EXACT]	json	{"ready":true}
/nodesextra	1	4	[EXACT]	json	1
$ ustate list '/n*' -o raw
/nodes/n1
/nodes/n1/status
/nodesextra
$ ustate list '/nothing/*'
! note: no key matches /nothing/*
$ ustate list /nodes
! note: no key matches /nodes
! note: 2 keys are below it; '/nodes/*' matches them
$ ustate list '/nothing/*' --json -q
$ ustate list --values -o raw
! error: list --values has no raw output
!   use -o tsv, or get KEY -o raw
[exit 2]
$ ustate list nodes
! error: invalid key: "nodes": it must start with '/'
[exit 2]

"#]],
    );
}

#[test]
fn tree_draws_the_hierarchy() {
    let transcript = stocked().transcript(&[
        "tree",
        "tree /nodes --sizes",
        "tree --depth 1 --sizes",
        "tree /nodes/ --json",
        "tree --sizes --depth 1 --json",
        "tree --sizes --depth 1 -o tsv",
        "tree /nothing",
        "tree -o raw",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate tree
/
├── binary
├── empty
├── nodes/
│   └── n1
│       └── status
└── nodesextra
! note: 5 keys
$ ustate tree /nodes --sizes
/nodes  27 B
└── n1  27 B
    └── status  15 B
! note: 2 keys, 27 B
$ ustate tree --depth 1 --sizes
/  31 B
├── binary  3 B
├── empty  0 B
├── nodes/  2 keys below  27 B
└── nodesextra  1 B
! note: 5 keys, 31 B
$ ustate tree /nodes/ --json
{"v":1,"type":"tree","prefix":"/nodes","is_key":false,"keys":2,"below":[{"name":"n1","is_key":true,"keys":2,"below":[{"name":"status","is_key":true,"keys":1,"below":[]}]}]}
$ ustate tree --sizes --depth 1 --json
{"v":1,"type":"tree","prefix":"/","is_key":false,"keys":5,"bytes":31,"below":[{"name":"binary","is_key":true,"keys":1,"bytes":3},{"name":"empty","is_key":true,"keys":1,"bytes":0},{"name":"nodes","is_key":false,"keys":2,"bytes":27},{"name":"nodesextra","is_key":true,"keys":1,"bytes":1}]}
$ ustate tree --sizes --depth 1 -o tsv
/	5	31
/binary	1	3
/empty	1	0
/nodes	2	27
/nodesextra	1	1
$ ustate tree /nothing
/nothing
! note: 0 keys
$ ustate tree -o raw
! error: tree has no raw output
!   use -o human or -o json
[exit 2]

"#]],
    );
}
