//! show --diff, history --diff: what a change changed.

use snapbox::str;

use crate::diff::stocked;
use crate::support::check;

#[tokio::test]
async fn show_tells_what_a_change_changed() {
    let place = stocked().await;
    let transcript = place.transcript(&[
        "show 8 --diff",
        "show 7 9 10 11 --diff --json",
        "show 9 --diff",
        "show 11 --diff",
        "show 1 --diff",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate show 8 --diff
change      8 updated /config/app
version     2
at          [EXACT] ([AGO])
actor       deploy@ci
reason      rollout 88
commit      7 to 13 (7 changes)
previous    2
hash        [HASH]
size        100 B

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
$ ustate show 7 9 10 11 --diff --json
{"v":1,"type":"change","seq":7,"commit_seq":13,"at":"[EXACT]","kind":"updated","key":"/cluster/leader","version":2,"prev":1,"bytes":8,"encoding":"json","value":"node-7","actor":"deploy@ci","reason":"rollout 88","hash":"[HASH]","before":{"v":1,"type":"change","seq":1,"commit_seq":6,"at":"[EXACT]","kind":"created","key":"/cluster/leader","version":1,"prev":0,"bytes":8,"encoding":"json","value":"node-1","actor":"boot@n1","hash":"[HASH]"}}
{"v":1,"type":"change","seq":9,"commit_seq":13,"at":"[EXACT]","kind":"updated","key":"/config/limits","version":2,"prev":3,"bytes":50,"encoding":"json","value":{"max":100,"regions":["eu"],"burst":{"a/b":1}},"actor":"deploy@ci","reason":"rollout 88","hash":"[HASH]","before":{"v":1,"type":"change","seq":3,"commit_seq":6,"at":"[EXACT]","kind":"created","key":"/config/limits","version":1,"prev":0,"bytes":42,"encoding":"json","value":{"max":0,"regions":["eu","us"],"old":true},"actor":"boot@n1","hash":"[HASH]"}}
{"v":1,"type":"change","seq":10,"commit_seq":13,"at":"[EXACT]","kind":"updated","key":"/config/same","version":2,"prev":4,"bytes":1,"encoding":"text","value":"y","actor":"deploy@ci","reason":"rollout 88","hash":"[HASH]","before":{"v":1,"type":"change","seq":4,"commit_seq":6,"at":"[EXACT]","kind":"created","key":"/config/same","version":1,"prev":0,"bytes":1,"encoding":"text","value":"x","actor":"boot@n1","hash":"[HASH]"}}
{"v":1,"type":"change","seq":11,"commit_seq":13,"at":"[EXACT]","kind":"deleted","key":"/nodes/n1","version":2,"prev":5,"actor":"deploy@ci","reason":"rollout 88","hash":"[HASH]","before":{"v":1,"type":"change","seq":5,"commit_seq":6,"at":"[EXACT]","kind":"created","key":"/nodes/n1","version":1,"prev":0,"bytes":2,"encoding":"text","value":"up","actor":"boot@n1","hash":"[HASH]"}}
$ ustate show 9 --diff
change      9 updated /config/limits
version     2
at          [EXACT] ([AGO])
actor       deploy@ci
reason      rollout 88
commit      7 to 13 (7 changes)
previous    3
hash        [HASH]
size        50 B

/old: removed true
/burst: added {"a/b":1}
/max: 0 → 100
/regions/1: removed "us"
$ ustate show 11 --diff
change      11 deleted /nodes/n1
version     2
at          [EXACT] ([AGO])
actor       deploy@ci
reason      rollout 88
commit      7 to 13 (7 changes)
previous    5
hash        [HASH]

up → (absent)
$ ustate show 1 --diff
change      1 created /cluster/leader
version     1
at          [EXACT] ([AGO])
actor       boot@n1
commit      1 to 6 (6 changes)
hash        [HASH]
size        8 B

(absent) → "node-1"

"#]],
    );
}

#[tokio::test]
async fn history_tells_what_each_change_changed() {
    let place = stocked().await;
    let transcript = place.transcript(&[
        "history /config/limits --diff",
        "history /config/same --diff",
        "history /nodes/n1 --diff",
        "history /config/app --diff -n 1",
        "history /config/same --diff --json -n 1",
        "history /config/limits --diff -v",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate history /config/limits --diff
9  [TIME]  deploy@ci  4 places                                             rollout 88
    /old: removed true
    /burst: added {"a/b":1}
    /max: 0 → 100
    /regions/1: removed "us"
3  [TIME]  boot@n1    created {"max":0,"regions":["eu","us"],"old":true}
$ ustate history /config/same --diff
14  [TIME]             y → x
10  [TIME]  deploy@ci  x → y       rollout 88
 4  [TIME]  boot@n1    created x
$ ustate history /nodes/n1 --diff
11  [TIME]  deploy@ci  deleted up   rollout 88
 5  [TIME]  boot@n1    created up
$ ustate history /config/app --diff -n 1
8  [TIME]  deploy@ci  1 line removed, 2 added   rollout 88
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
$ ustate history /config/same --diff --json -n 1
{"v":1,"type":"change","seq":14,"commit_seq":14,"at":"[EXACT]","kind":"updated","key":"/config/same","version":3,"prev":10,"bytes":1,"encoding":"text","value":"x","hash":"[HASH]","before":{"v":1,"type":"change","seq":10,"commit_seq":13,"at":"[EXACT]","kind":"updated","key":"/config/same","version":2,"prev":4,"bytes":1,"encoding":"text","value":"y","actor":"deploy@ci","reason":"rollout 88","hash":"[HASH]"}}
$ ustate history /config/limits --diff -v
9  [TIME]  deploy@ci  4 places                                             rollout 88
    /old: removed true
    /burst: added {"a/b":1}
    /max: 0 → 100
    /regions/1: removed "us"
3  [TIME]  boot@n1    created {"max":0,"regions":["eu","us"],"old":true}
! note: store [STORE] in state.db

"#]],
    );
}

#[test]
fn the_same_bytes_are_told_from_the_same_json_in_other_bytes() {
    let place = crate::support::Place::new();
    for line in ["set /a '{\"x\": 1}'", "set /a '{\"x\": 1}'", "set /a '{\"x\":1}'", "set /b t", "set /b t"] {
        assert_eq!(place.code(line), 0, "{line}");
    }
    let lines = place.stdout("history /a --diff");
    let ends: Vec<bool> = lines.lines().map(|line| line.contains("(the same value)")).collect();
    assert_eq!(ends, [false, true, false], "{lines}");
    assert!(lines.lines().next().unwrap().contains("(the same JSON, written differently)"), "{lines}");
    assert!(place.stdout("show 2 --diff").contains("(the same value)"));
    assert!(place.stdout("show 3 --diff").contains("(the same JSON, written differently)"));
    assert!(place.stdout("show 5 --diff").contains("(the same value)"));
}
