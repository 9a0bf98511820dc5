//! bisect: the commit that broke something.

use snapbox::str;
use univrs_state::archive::Export;
use univrs_state::{Batch, LocalStore, Meta, Scan, Seq, SqliteStore, StateStore};

use crate::support::{Place, check};

/// Commits of one to three changes; `/n` counts them from 1 on.
async fn stocked(commits: u32) -> Place {
    let place = Place::new();
    let store = place.open().await;
    for n in 1..=commits {
        let meta = Meta::new().actor(format!("a{n}@ci")).reason(format!("rollout {n}"));
        let batch = Batch::new().set("/n", n.to_string()).meta(meta);
        let more = (0..n % 3).fold(batch, |batch, i| batch.set(format!("/more/{i}"), "x"));
        store.commit(more).await.unwrap();
    }
    store.export_to(Export::new(), place.path("state.log")).await.unwrap();
    store.close().await.unwrap();
    // Exits with 1 from the commit $1 on, and with 125 at those that are named after it.
    let script = "#!/bin/sh\nn=$(sed 's/.*\"\\/n\":\\([0-9]*\\).*/\\1/')\nbad=$1\nshift\n\
                  for skip; do [ \"$n\" = \"$skip\" ] && exit 125; done\n\
                  echo \"looked at $n\"\n[ \"$n\" -lt \"$bad\" ]\n";
    std::fs::write(place.path("judge"), script).unwrap();
    std::fs::set_permissions(place.path("judge"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    place
}

/// The last change of each commit.
fn ends(commits: u64) -> Vec<u64> {
    let mut end = 0;
    (1..=commits)
        .map(|n| {
            end += 1 + n % 3;
            end
        })
        .collect()
}

#[tokio::test]
async fn the_first_bad_commit_is_found_in_about_as_many_steps_as_it_has_digits() {
    let commits = 60;
    let place = stocked(60).await;
    let ends = ends(commits);
    for bad in [2, 3, 4, 17, 29, 30, 31, 59, 60] {
        let found = place.stdout(&format!("bisect --good {} --bad head -q -o tsv -- ./judge {bad}", ends[0]));
        let fields: Vec<&str> = found.trim().split('\t').collect();
        let end = ends[bad - 1];
        assert_eq!(fields[1], end.to_string(), "{bad}: {found}");
        assert_eq!(fields[0], (ends[bad - 2] + 1).to_string(), "{bad}: {found}");
        assert_eq!(fields[3], format!("a{bad}@ci"));
        assert!(fields[5].parse::<u32>().unwrap() <= 8, "{found}");
    }
}

#[tokio::test]
async fn it_says_what_was_tried_and_what_was_found() {
    let place = stocked(12).await;
    let transcript = place.transcript(&[
        "bisect --good 2 --bad head -- ./judge 7",
        "bisect --good 2 --bad head -q -- ./judge 9",
        "bisect --good 0 --bad 2 -q -- grep -vq /n",
        "bisect --good 2 --bad head -q --json -- ./judge 8",
        "bisect --good 2h-ago --bad head -q --db state.log -- sh -c '! grep -q x'",
        "bisect --good 2 --bad head -v --db state.log -o tsv -- ./judge 11",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate bisect --good 2 --bad head -- ./judge 7
13 to 14 is the first bad commit: /more/0, /n by a7@ci "rollout 7"   (3 steps)
! note: 2 is good
! note: 24 is bad
! note: 12 is good
! note: 18 is bad
! note: 14 is bad
! note: what it changed: ustate diff 12..14
$ ustate bisect --good 2 --bad head -q -- ./judge 9
18 is the first bad commit: /n by a9@ci "rollout 9"   (4 steps)
$ ustate bisect --good 0 --bad 2 -q -- grep -vq /n
1 to 2 is the first bad commit: /more/0, /n by a1@ci "rollout 1"   (0 steps)
$ ustate bisect --good 2 --bad head -q --json -- ./judge 8
{"v":1,"type":"first_bad_commit","first":15,"last":17,"at":"[EXACT]","keys":["/more/0","/more/1","/n"],"steps":4,"actor":"a8@ci","reason":"rollout 8"}
$ ustate bisect --good 2h-ago --bad head -q --db state.log -- sh -c '! grep -q x'
1 to 2 is the first bad commit: /more/0, /n by a1@ci "rollout 1"   (3 steps)
$ ustate bisect --good 2 --bad head -v --db state.log -o tsv -- ./judge 11
21	23	[EXACT]	a11@ci	rollout 11	4
! note: export of store [STORE] in state.log
! looked at 1
! note: 2 is good
! looked at 12
! note: 24 is bad
! looked at 6
! note: 12 is good
! looked at 9
! note: 18 is good
! looked at 10
! note: 20 is good
! looked at 11
! note: 23 is bad

"#]],
    );
}

#[tokio::test]
async fn states_that_cannot_be_judged_are_skipped() {
    let place = stocked(12).await;
    let transcript = place.transcript(&[
        "bisect --good 2 --bad head -- ./judge 7 6 2",
        "bisect --good 2 --bad head -- ./judge 7 2 3 4 8 9 10 11",
        "bisect --good 2 --bad head -- ./judge 7 6 5",
        "bisect --good 2 --bad head -q --json -- ./judge 7 2 3 4 5 6 7 8 9 10 11",
        "bisect --good 2 --bad head -q -- ./judge 7 1",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate bisect --good 2 --bad head -- ./judge 7 6 2
! note: 2 is good
! note: 24 is bad
! note: 12 is skipped
! note: 8 is good
! note: 18 is bad
! note: 14 is bad
! note: 11 is good
! error: the first bad commit is one of 2, as states between them were skipped
!   they end at 12 and 14; 11 is good   (5 steps)
!   hint: ustate log 11..14
[exit 1]
$ ustate bisect --good 2 --bad head -- ./judge 7 2 3 4 8 9 10 11
13 to 14 is the first bad commit: /more/0, /n by a7@ci "rollout 7"   (5 steps)
! note: 2 is good
! note: 24 is bad
! note: 12 is good
! note: 18 is skipped
! note: 17 is skipped
! note: 23 is skipped
! note: 14 is bad
! note: what it changed: ustate diff 12..14
$ ustate bisect --good 2 --bad head -- ./judge 7 6 5
! note: 2 is good
! note: 24 is bad
! note: 12 is skipped
! note: 8 is good
! note: 18 is bad
! note: 14 is bad
! note: 11 is skipped
! error: the first bad commit is one of 3, as states between them were skipped
!   they end at 11, 12 and 14; 8 is good   (5 steps)
!   hint: ustate log 8..14
[exit 1]
$ ustate bisect --good 2 --bad head -q --json -- ./judge 7 2 3 4 5 6 7 8 9 10 11
! {"v":1,"type":"error","code":"skipped","exit":1,"message":"the first bad commit is one of 11, as states between them were skipped","facts":["they end at 5, 6, 8, … and 24; 2 is good   (10 steps)"],"hint":"ustate log 2..24"}
[exit 1]
$ ustate bisect --good 2 --bad head -q -- ./judge 7 1
! error: the command cannot tell whether the state at 2 is good
!   nothing was searched
[exit 1]

"#]],
    );
}

#[tokio::test]
async fn whatever_is_skipped_the_answer_is_right_or_says_what_is_open() {
    let place = stocked(16).await;
    let ends = ends(16);
    for bad in [2_u64, 5, 9, 16] {
        for pattern in [0b0100_1101_0010_1100_u32, 0b1110_0111_1010_0110, 0b0010_0000_0001_0010] {
            // Neither of the ends is skipped.
            let skipped: Vec<u64> = (2..16).filter(|n| pattern >> n & 1 == 1).collect();
            let words: Vec<String> = skipped.iter().map(u64::to_string).collect();
            let line = format!("bisect --good 2 --bad head -q --json -- ./judge {bad} {}", words.join(" "));
            let output = place.output(&line);
            // Bad, and the commits before it of whose states nothing is known.
            let open = skipped.contains(&bad) || skipped.contains(&(bad - 1));
            assert_eq!(output.status.code(), Some(i32::from(open)), "{line}: {output:?}");
            if !open {
                let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
                assert_eq!(found["last"], ends[usize::try_from(bad).unwrap() - 1], "{line}");
            }
        }
    }
}

#[tokio::test]
async fn ends_that_are_not_what_they_are_called_are_refused() {
    let place = stocked(6).await;
    let transcript = place.transcript(&[
        "bisect --good head --bad 2 -- true",
        "bisect --good head --bad head -- true",
        "bisect --good 2 --bad head -- true",
        "bisect --good 2 --bad head -- false",
        "bisect --good 2 --bad head -- sh -c 'exit 125'",
        "bisect --good 1 --bad head -- true",
        "bisect --good 2 --bad 99 -- true",
        "bisect --good 2 --bad mark:broken -- true",
        "bisect --good 2 --bad head",
        "bisect --good 2 -- true",
        "bisect --good 2 --bad head -- ./missing",
        "bisect --good 2 --bad head -- sh -c 'kill -9 $$'",
        "bisect --good 2 --bad head --json -- sh -c 'exit 200'",
        "bisect --good 2 --bad head -o raw -- true",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate bisect --good head --bad 2 -- true
! error: the good point 12 is not before the bad one 2
!   what was broken first and works now can be found by exchanging the command's answers
[exit 2]
$ ustate bisect --good head --bad head -- true
! error: the good point 12 is not before the bad one 12
!   what was broken first and works now can be found by exchanging the command's answers
[exit 2]
$ ustate bisect --good 2 --bad head -- true
! note: 2 is good
! note: 12 is good
! error: the state at 12 is not bad, as the command says
!   nothing was searched
[exit 1]
$ ustate bisect --good 2 --bad head -- false
! note: 2 is bad
! error: the state at 2 is not good, as the command says
!   nothing was searched
[exit 1]
$ ustate bisect --good 2 --bad head -- sh -c 'exit 125'
! note: 2 is skipped
! error: the command cannot tell whether the state at 2 is good
!   nothing was searched
[exit 1]
$ ustate bisect --good 1 --bad head -- true
! error: 1 is inside a commit, where no state was
!   the commit goes from 1 to 2; before it is the state at 0, after it the one at 2
!   hint: ustate show 1
[exit 2]
$ ustate bisect --good 2 --bad 99 -- true
! error: 99 lies beyond the end of the log
!   the log ends at 12
!   hint: ustate log -n 10
[exit 6]
$ ustate bisect --good 2 --bad mark:broken -- true
! error: there is no mark broken
!   hint: ustate mark list
[exit 6]
$ ustate bisect --good 2 --bad head
! error: the following required arguments were not provided: <COMMAND>...
!   hint: ustate bisect --help
[exit 2]
$ ustate bisect --good 2 -- true
! error: the following required arguments were not provided: --bad <POINT>
!   hint: ustate bisect --help
[exit 2]
$ ustate bisect --good 2 --bad head -- ./missing
! error: cannot run ./missing: No such file or directory (os error 2)
[exit 7]
$ ustate bisect --good 2 --bad head -- sh -c 'kill -9 $$'
! error: the command neither says good nor bad of 2: signal: 9 (SIGKILL)
!   the search has ended
[exit 1]
$ ustate bisect --good 2 --bad head --json -- sh -c 'exit 200'
! {"v":1,"type":"error","code":"command_failed","exit":1,"message":"the command neither says good nor bad of 2: exit status: 200","facts":["the search has ended"]}
[exit 1]
$ ustate bisect --good 2 --bad head -o raw -- true
! error: bisect has no raw output
!   use -o human or -o json
[exit 2]

"#]],
    );
}

#[tokio::test]
async fn the_command_gets_the_whole_state_as_one_object() {
    let place = Place::new();
    let store = place.open().await;
    let batch = Batch::new()
        .set("/json", r#"{ "b":1.10, "a":[] }"#)
        .set("/text", "line\n\u{1b}")
        .set("/bytes", vec![0xff, 0])
        .set("/gone", "x");
    store.commit(batch).await.unwrap();
    store.commit(Batch::new().delete("/gone").set("/later", "1")).await.unwrap();
    store.close().await.unwrap();
    let keep = "cat > \"state-$USTATE_SEQ.json\"; ! grep -q later \"state-$USTATE_SEQ.json\"";
    let arguments = ["bisect", "--good", "0", "--bad", "head", "-q", "--", "sh", "-c", keep];
    let output = place.command(&arguments).output().unwrap();
    check(
        &place.shown(&output),
        str![[r#"
5 to 6 is the first bad commit: /gone, /later   (1 step)

"#]],
    );
    let states =
        [0, 4, 6].map(|seq| std::fs::read_to_string(place.path(&format!("state-{seq}.json"))).unwrap());
    check(
        &states.concat(),
        str![[r#"
{}
{"/bytes":{"base64":"/wA="},"/gone":"x","/json":{"b":1.10,"a":[]},"/text":"line\n\u001b"}
{"/bytes":{"base64":"/wA="},"/json":{"b":1.10,"a":[]},"/later":1,"/text":"line\n\u001b"}

"#]],
    );
}

#[test]
fn a_signal_ends_the_search() {
    let place = Place::new();
    assert_eq!(place.code("set /a 1"), 0);
    let mut running =
        place.start("bisect --good 0 --bad head -v -- sh -c 'echo ready > started; exec sleep 600'");
    while !place.path("started").exists() {
        std::thread::yield_now();
    }
    running.insist("INT");
    assert_eq!(running.line(), "");
    assert_eq!(running.code(), 130);
}

/// Keys come, change, go and come back; each value is a number that is used once.
async fn restless(place: &Place) -> SqliteStore {
    let store = place.open().await;
    let mut dice = 7_u64;
    for n in 0..60_u64 {
        let mut batch = Batch::new();
        for place in 0..3 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = format!("/{}/{place}", ["a", "b", "c"][(dice >> 40) as usize % 3]);
            let absent = store.version(&key).await.unwrap() == 0 || store.get(&key).await.unwrap().is_none();
            batch = if !(dice >> 50).is_multiple_of(3) || absent {
                batch.set(key, (n * 3 + place).to_string())
            } else {
                batch.delete(key)
            };
        }
        store.commit(batch).await.unwrap();
    }
    store
}

// From the second state on it reads only what differs.
#[tokio::test]
async fn every_state_that_the_command_reads_is_the_state_at_its_point() {
    let place = Place::new();
    let store = restless(&place).await;
    let head = store.head().await.unwrap().seq.as_u64();
    let judge = "#!/bin/sh\ncat > \"seen/$USTATE_SEQ\"\n[ \"$USTATE_SEQ\" -lt \"$1\" ]\n";
    std::fs::write(place.path("judge"), judge).unwrap();
    std::fs::set_permissions(place.path("judge"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    for (patterns, matches) in [
        ("", (|_: &str| true) as fn(&str) -> bool),
        ("/a/* ", |key: &str| key.starts_with("/a/")),
        ("/a/* /c/1 ", |key: &str| key.starts_with("/a/") || key == "/c/1"),
    ] {
        for bad in [5, 61, 100, head] {
            std::fs::create_dir(place.path("seen")).unwrap();
            place.stdout(&format!("bisect {patterns}--good 0 --bad head -q -- ./judge {bad}"));
            let mut states = 0;
            for seen in std::fs::read_dir(place.path("seen")).unwrap() {
                let seen = seen.unwrap().path();
                let seq: u64 = seen.file_name().unwrap().to_str().unwrap().parse().unwrap();
                let state = store
                    .at(Seq::new(seq).into())
                    .await
                    .unwrap()
                    .scan(Scan::prefix("/"))
                    .await
                    .unwrap()
                    .entries;
                let entries: Vec<String> = state
                    .iter()
                    .filter(|entry| matches(&entry.key))
                    .map(|entry| format!("\"{}\":{}", entry.key, String::from_utf8_lossy(&entry.value)))
                    .collect();
                let read = std::fs::read_to_string(&seen).unwrap();
                assert_eq!(read.trim_end(), format!("{{{}}}", entries.join(",")), "at {seq}, {patterns:?}");
                states += 1;
            }
            assert!(states > 5, "{states} states were read");
            std::fs::remove_dir_all(place.path("seen")).unwrap();
        }
    }
    store.close().await.unwrap();
}
