//! Watches that keep their place, are killed, and go on.

use std::fs;

use snapbox::str;
use univrs_state::{Batch, StateStore};

use crate::support::{Place, check};

fn seq_of(line: &str) -> u64 {
    let object: serde_json::Value = serde_json::from_str(line).unwrap();
    object["seq"].as_u64().unwrap()
}

#[tokio::test]
async fn a_watch_that_is_killed_goes_on_without_loss() {
    let place = Place::new();
    let store = place.open().await;
    let mut seen = Vec::new();
    let start = "watch '/a/*' --cursor-file agent.cursor --after 0 --json -q";
    for round in 0..5_u64 {
        for n in 0..20_u64 {
            let batch =
                Batch::new().set(format!("/a/{n}"), "x").set("/other", "y").set(format!("/a/{n}"), "z");
            store.commit(batch).await.unwrap();
        }
        let mut watch = place.start(start);
        for _ in 0..=(7 * round + 3) {
            seen.push(seq_of(&watch.line()));
        }
        // It may have printed, and kept, more than was read by now.
        seen.extend(watch.kill().iter().map(|line| seq_of(line)));
    }
    let end = store.head().await.unwrap().seq.as_u64();
    let mut watch = place.start(start);
    while seen.last() != Some(&end) {
        seen.push(seq_of(&watch.line()));
    }
    drop(watch.kill());
    seen.sort_unstable();
    seen.dedup();
    let expected: Vec<u64> = (1..=end).filter(|seq| seq % 3 != 2).collect();
    assert_eq!(seen, expected);
}

#[test]
fn the_cursor_file_is_made_at_once_and_advances_past_what_does_not_match() {
    let place = Place::new();
    let mut watch = place.start("watch /a --cursor-file agent.cursor --caught-up");
    assert_eq!(watch.line(), "-- caught up at 0 --");
    let kept = || fs::read_to_string(place.path("agent.cursor")).unwrap();
    check(
        &place.scrubbed(&kept()),
        str![[r#"
[STORE]:0:[HASH]
pattern /a

"#]],
    );
    assert_eq!(place.code("set /b 1"), 0);
    while !place.scrubbed(&kept()).contains(":1:") {
        std::thread::yield_now();
    }
    assert_eq!(place.code("set /a 1"), 0);
    assert!(watch.line().ends_with("by alice@ops"));
    watch.signal("TERM");
    assert_eq!(watch.code(), 143);
    assert!(place.scrubbed(&kept()).contains(":2:"));
    let left: Vec<_> = fs::read_dir(place.path("")).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("ustate-cursor")), "{left:?}");
}

#[tokio::test]
async fn a_count_never_parts_a_commit_from_its_cursor() {
    let place = Place::new();
    let store = place.open().await;
    store.commit(Batch::new().set("/a", "1").set("/b", "2").set("/c", "3")).await.unwrap();
    store.set("/a", b"4".to_vec()).await.unwrap();
    check(
        &place.transcript(&[
            "watch --after 0 --count 1 --cursor-file agent.cursor -o tsv",
            "watch --after 0 --count 1 --cursor-file agent.cursor -o tsv",
            "watch --after 2 --count 1 -o tsv",
        ]),
        str![[r#"
$ ustate watch --after 0 --count 1 --cursor-file agent.cursor -o tsv
1	[EXACT]	created	/a	json	1		
2	[EXACT]	created	/b	json	2		
3	[EXACT]	created	/c	json	3		
$ ustate watch --after 0 --count 1 --cursor-file agent.cursor -o tsv
4	[EXACT]	updated	/a	json	4		
! note: resuming after 3 from agent.cursor; --after counts only without it
$ ustate watch --after 2 --count 1 -o tsv
1	[EXACT]	created	/a	json	1		
! note: 2 is inside the commit 1 to 3, which is shown whole

"#]],
    );
}

#[test]
fn a_cursor_of_another_log_is_an_error_and_never_a_gap() {
    let place = Place::new();
    assert_eq!(place.code("set /a 1"), 0);
    assert_eq!(place.code("watch --after 0 --count 1 --cursor-file agent.cursor"), 0);
    fs::copy(place.path("state.db"), place.path("older.db")).unwrap();
    assert_eq!(place.code("set /a 2"), 0);
    assert_eq!(place.code("watch --count 1 --cursor-file agent.cursor"), 0);
    fs::write(place.path("broken.cursor"), "4711:9f2c").unwrap();
    fs::write(place.path("empty.cursor"), "").unwrap();
    fs::write(place.path("binary.cursor"), [0xff, 0xfe]).unwrap();
    assert_eq!(place.code("init other.db"), 0);
    let before = fs::read(place.path("agent.cursor")).unwrap();
    let rolled_back = "watch --db older.db --cursor-file agent.cursor";
    let mut transcript = place.transcript(&["watch --db other.db --cursor-file agent.cursor", rolled_back]);
    assert_eq!(place.code("set /a other --db older.db"), 0);
    transcript += &place.transcript(&[
        rolled_back,
        "watch --db older.db --cursor-file agent.cursor --json",
        "watch --cursor-file broken.cursor",
        "watch --cursor-file empty.cursor",
        "watch --cursor-file binary.cursor",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate watch --db other.db --cursor-file agent.cursor
! error: cursor diverged: the cursor is of store [STORE], but this is store [STORE]
!   the place was read from agent.cursor, which was left as it is
!   move it away to start anew from now on; what happened in between is not shown then
!   hint: mv agent.cursor agent.lost
[exit 6]
$ ustate watch --db older.db --cursor-file agent.cursor
! error: cursor diverged: position 2 lies beyond the end of the log at 1; an older copy of the store may have been restored
!   the place was read from agent.cursor, which was left as it is
!   move it away to start anew from now on; what happened in between is not shown then
!   hint: mv agent.cursor agent.lost
[exit 6]
$ ustate watch --db older.db --cursor-file agent.cursor
! error: cursor diverged: the log has another hash at position 2; the store went on from an older copy
!   the place was read from agent.cursor, which was left as it is
!   move it away to start anew from now on; what happened in between is not shown then
!   hint: mv agent.cursor agent.lost
[exit 6]
$ ustate watch --db older.db --cursor-file agent.cursor --json
! {"v":1,"type":"error","code":"cursor_diverged","exit":6,"message":"cursor diverged: the log has another hash at position 2; the store went on from an older copy","facts":["the place was read from agent.cursor, which was left as it is","move it away to start anew from now on; what happened in between is not shown then"],"hint":"mv agent.cursor agent.lost"}
[exit 6]
$ ustate watch --cursor-file broken.cursor
! error: broken.cursor does not hold a cursor
!   it was left as it is; remove it to start anew
[exit 2]
$ ustate watch --cursor-file empty.cursor
! error: empty.cursor does not hold a cursor
!   it was left as it is; remove it to start anew
[exit 2]
$ ustate watch --cursor-file binary.cursor
! error: binary.cursor does not hold a cursor
!   it was left as it is; remove it to start anew
[exit 2]

"#]],
    );
    assert_eq!(fs::read(place.path("agent.cursor")).unwrap(), before);
}

#[test]
fn a_command_gets_each_change_on_standard_input_and_in_the_environment() {
    let place = Place::new();
    assert_eq!(place.code("set /a '{\"b\":1}' --type json -m why --correlation c7"), 0);
    assert_eq!(place.code("delete /a"), 0);
    let script = "cat; echo $USTATE_SEQ $USTATE_COMMIT_SEQ $USTATE_KIND $USTATE_KEY v$USTATE_VERSION $USTATE_AT by $USTATE_BY: $USTATE_REASON [$USTATE_CORRELATION] $USTATE_DB as $USTATE_ACTOR";
    let line = format!("watch --after 0 --count 2 --cursor-file agent.cursor -- sh -c '{script}'");
    check(
        &place.transcript(&[&line]),
        str![[r#"
$ ustate watch --after 0 --count 2 --cursor-file agent.cursor -- sh -c 'cat; echo $USTATE_SEQ $USTATE_COMMIT_SEQ $USTATE_KIND $USTATE_KEY v$USTATE_VERSION $USTATE_AT by $USTATE_BY: $USTATE_REASON [$USTATE_CORRELATION] $USTATE_DB as $USTATE_ACTOR'
{"v":1,"type":"event","seq":1,"commit_seq":1,"at":"[EXACT]","kind":"created","key":"/a","version":1,"bytes":7,"encoding":"json","value":{"b":1},"actor":"alice@ops","reason":"why","correlation":"c7","cursor":"[STORE]:1:[HASH]"}
1 1 created /a v1 [EXACT] by alice@ops: why [c7] [FOLDER]/state.db as alice@ops
{"v":1,"type":"event","seq":2,"commit_seq":2,"at":"[EXACT]","kind":"deleted","key":"/a","version":2,"old":{"bytes":7,"encoding":"json","value":{"b":1}},"actor":"alice@ops","cursor":"[STORE]:2:[HASH]"}
2 2 deleted /a v2 [EXACT] by alice@ops: [] [FOLDER]/state.db as alice@ops

"#]],
    );
    assert!(fs::read_to_string(place.path("agent.cursor")).unwrap().contains(":2:"));
}

#[tokio::test]
async fn a_command_that_fails_stops_the_watch_and_gets_the_commit_again() {
    let place = Place::new();
    let store = place.open().await;
    store.set("/a", b"1".to_vec()).await.unwrap();
    store.commit(Batch::new().set("/b", "2").set("/c", "3")).await.unwrap();
    let run = |script: &str| {
        let line = format!("watch --after 0 --count 3 --cursor-file agent.cursor -- sh -c '{script}'");
        let output = place.output(&line);
        format!(
            "$ {script}\n{}{}",
            place.shown(&output),
            place.scrubbed(&fs::read_to_string(place.path("agent.cursor")).unwrap())
        )
    };
    let mut transcript = run("echo $USTATE_KEY; test $USTATE_KEY != /c");
    transcript += &run("echo $USTATE_KEY; exit 3");
    transcript += &place.transcript(&[
        "watch --after 1 -- missing-command",
        "watch --cursor-file agent.cursor --json -- sh -c 'exit 9'",
        "watch --cursor-file agent.cursor --count 2 -- sh -c 'echo $USTATE_KEY'",
    ]);
    check(
        &transcript,
        str![[r#"
$ echo $USTATE_KEY; test $USTATE_KEY != /c
/a
/b
/c
! error: sh failed (exit status: 1) at 3 created /c
!   agent.cursor stands before that commit: a restart begins with it again
[exit 1]
[STORE]:1:[HASH]
pattern /*
$ echo $USTATE_KEY; exit 3
/b
! note: resuming after 1 from agent.cursor; --after counts only without it
! error: sh failed (exit status: 3) at 2 created /b
!   agent.cursor stands before that commit: a restart begins with it again
[exit 1]
[STORE]:1:[HASH]
pattern /*
$ ustate watch --after 1 -- missing-command
! error: cannot run missing-command: No such file or directory (os error 2)
!   no place was kept; --after 1 begins with it again
[exit 7]
$ ustate watch --cursor-file agent.cursor --json -- sh -c 'exit 9'
! {"v":1,"type":"error","code":"command_failed","exit":1,"message":"sh failed (exit status: 9) at 2 created /b","facts":["agent.cursor stands before that commit: a restart begins with it again"]}
[exit 1]
$ ustate watch --cursor-file agent.cursor --count 2 -- sh -c 'echo $USTATE_KEY'
/b
/c

"#]],
    );
}

#[test]
fn a_signal_lets_the_command_end_and_keeps_what_it_did() {
    for (signal, code, end, kept) in [("TERM", 143, "0", ":1:"), ("INT", 130, "1", ":0:")] {
        let place = Place::new();
        assert_eq!(place.code("set /a 1"), 0);
        let fifo = place.path("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let script = format!("trap \"\" {signal}; echo started; cat fifo; echo ended; exit {end}");
        let line = format!("watch --after 0 --cursor-file agent.cursor -- sh -c '{script}'");
        let mut watch = place.start(&line);
        assert_eq!(watch.line(), "started");
        watch.signal(signal);
        fs::write(&fifo, "").unwrap();
        assert_eq!(watch.line(), "ended");
        assert_eq!(watch.code(), code);
        assert!(fs::read_to_string(place.path("agent.cursor")).unwrap().contains(kept));
    }
}

#[test]
fn a_command_need_not_read_what_it_is_given() {
    let place = Place::new();
    assert!(place.fed("set /big -", &vec![b'x'; 1 << 20]).status.success());
    assert_eq!(place.code("watch --after 0 --count 1 -- true"), 0);
    assert_eq!(place.output("watch --after 0 --count 1 -- wc -l").stdout.trim_ascii(), b"1");
}
