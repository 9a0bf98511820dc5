//! A store that other programs use meanwhile, and readers that go away.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};

use snapbox::str;
use univrs_state::{Batch, LocalStore, StateStore};

use crate::support::{Place, check};

#[tokio::test]
async fn every_read_works_while_another_program_writes() {
    let place = Place::new();
    let store = place.open().await;
    store.set("/a", b"1".to_vec()).await.unwrap();
    assert_eq!(place.stdout("get /a"), "1\n");
    store.set("/a", b"2".to_vec()).await.unwrap();
    assert_eq!(place.stdout("get /a"), "2\n", "what was just acknowledged is seen");
    for read in [
        "list",
        "tree",
        "log",
        "show 1",
        "show 2 --diff",
        "history /a",
        "history /a --diff",
        "verify",
        "get /a --at 1",
        "diff 1..",
        "log --at 1",
        "stats",
        "stats --by prefix",
        "blame /a",
        "bisect --good 0 --bad head -- grep -vq /a",
    ] {
        assert_eq!(place.code(read), 0, "{read}");
    }
    assert_eq!(place.code("set /a 3 --if-version 2"), 0);
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, b"3", "and the other way round");
}

#[test]
fn reads_are_whole_while_another_program_does_not_stop_writing() {
    let place = Place::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let store = place.open().await;
                let mut n = 0_u64;
                while !done.load(Ordering::Relaxed) {
                    n += 1;
                    let value = n.to_string();
                    store.commit(Batch::new().set("/a", value.clone()).set("/b", value)).await.unwrap();
                }
                store.close().await.unwrap();
            });
        });
        while place.stdout("list").is_empty() {}
        for _ in 0..5 {
            let values = place.stdout("list --values");
            let values: Vec<&str> =
                values.lines().map(|line| line.split_whitespace().last().unwrap()).collect();
            assert_eq!(values[0], values[1], "one state");
            assert_eq!(place.code("verify"), 0);
            assert_eq!(place.stdout("watch /b --after 0 --count 3 -o tsv").lines().count(), 3);
            assert_eq!(place.code("set /c 1"), 0);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(place.code("verify"), 0);
}

#[tokio::test]
async fn a_watch_sees_what_other_processes_write() {
    let place = Place::new();
    let store = place.open().await;
    store.set("/before", b"0".to_vec()).await.unwrap();
    let mut watch = place.start("watch '/nodes/**' --caught-up");
    assert_eq!(watch.line(), "-- caught up at 1 --");
    store.set("/nodes/n7/status", b"{\"ready\":true}".to_vec()).await.unwrap();
    let first = watch.line();
    store.set("/elsewhere", b"0".to_vec()).await.unwrap();
    assert_eq!(place.code("set /nodes/n7/status '{\"ready\":false}' --actor kubelet@n7"), 0);
    let second = watch.line();
    assert_eq!(place.code("delete /nodes/n7/status --actor gc@n1 -m 'node removed'"), 0);
    let third = watch.line();
    watch.signal("INT");
    assert_eq!(watch.code(), 130);
    check(
        &place.scrubbed(&[first, second, third, String::new()].join("\n")),
        str![[r#"
[CLOCK]  2 created /nodes/n7/status  {"ready":true}
[CLOCK]  4 updated /nodes/n7/status  {"ready":false}  by kubelet@n7
[CLOCK]  5 deleted /nodes/n7/status                   by gc@n1  "node removed"

"#]],
    );
}

#[test]
fn a_watch_of_several_patterns_is_in_order_and_complete() {
    let place = Place::new();
    for line in ["set /a/1 x", "set /c/1 x", "set /b/1 x", "set /a/2 x", "delete /b/1", "set /b x"] {
        assert_eq!(place.code(line), 0);
    }
    let transcript = place.transcript(&[
        "watch '/a/*' '/b/**' --after 0 --caught-up --count 5",
        "watch '/a/*' '/b/**' --after head~2 --count 1 --json",
        "watch '/b/**' --after 3 --count 1 -o tsv",
        "watch '/a/*' '/.univrs/*'",
        "watch --after 99",
        "watch a",
        "watch -o raw",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate watch '/a/*' '/b/**' --after 0 --caught-up --count 5
[CLOCK]  1 created /a/1  x  by alice@ops
[CLOCK]  3 created /b/1  x  by alice@ops
[CLOCK]  4 created /a/2  x  by alice@ops
[CLOCK]  5 deleted /b/1     by alice@ops
[CLOCK]  6 created /b    x  by alice@ops
-- caught up at 6 --
$ ustate watch '/a/*' '/b/**' --after head~2 --count 1 --json
{"v":1,"type":"event","seq":5,"commit_seq":5,"at":"[EXACT]","kind":"deleted","key":"/b/1","version":2,"old":{"bytes":1,"encoding":"text","value":"x"},"actor":"alice@ops","cursor":"[STORE]:5:[HASH]"}
$ ustate watch '/b/**' --after 3 --count 1 -o tsv
5	[EXACT]	deleted	/b/1			alice@ops	
$ ustate watch '/a/*' '/.univrs/*'
! error: patterns below /.univrs/ cannot stand beside others
!   watch them with a command of their own
[exit 2]
$ ustate watch --after 99
! error: 99 lies beyond the end of the log
!   the log ends at 6
!   hint: ustate log -n 10
[exit 6]
$ ustate watch a
! error: invalid key: "a": it must start with '/'
[exit 2]
$ ustate watch -o raw
! error: watch has no raw output
!   use -o human or -o json
[exit 2]

"#]],
    );
}

#[test]
fn json_says_when_the_watch_has_caught_up() {
    let place = Place::new();
    assert_eq!(place.code("set /a 1"), 0);
    let mut watch = place.start("watch --after 0 --caught-up --json");
    let lines = [watch.line(), watch.line(), String::new()].join("\n");
    watch.signal("TERM");
    assert_eq!(watch.code(), 143);
    check(
        &place.scrubbed(&lines),
        str![[r#"
{"v":1,"type":"event","seq":1,"commit_seq":1,"at":"[EXACT]","kind":"created","key":"/a","version":1,"bytes":1,"encoding":"json","value":1,"actor":"alice@ops","cursor":"[STORE]:1:[HASH]"}
{"v":1,"type":"caught_up","seq":1,"cursor":"[STORE]:1:[HASH]"}

"#]],
    );
}

#[test]
#[cfg(target_os = "linux")]
fn output_that_cannot_be_written_is_exit_7() {
    let place = Place::new();
    assert_eq!(place.code("set /a 1"), 0);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = place.command(&["log"]).stdout(full).output().unwrap();
    check(
        &place.shown(&output),
        str![[r#"
! error: cannot write to standard output: No space left on device (os error 28)
[exit 7]

"#]],
    );
}

#[tokio::test]
async fn a_closed_pipe_ends_quietly() {
    let place = Place::new();
    let store = place.open().await;
    let value = vec![b'x'; 500];
    let batch = (0..5_000).fold(Batch::new(), |batch, n| batch.set(format!("/k/{n:04}"), value.clone()));
    store.commit(batch).await.unwrap();
    for line in [
        "log -v",
        "log --json",
        "list --values -v",
        "watch --after 0 -v",
        "history /k/0001 -v",
        "diff 0.. --json",
        "diff 0.. --json-patch",
        "completions zsh",
    ] {
        let mut running = place.start(line);
        assert!(!running.line().is_empty());
        let output = running.hang_up();
        let mut stderr = String::new();
        output.stderr.as_slice().read_to_string(&mut stderr).unwrap();
        let notes_only = stderr.lines().all(|line| line.starts_with("note: store "));
        assert!(output.status.success() && notes_only, "{line}: {:?} {stderr}", output.status);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_store_that_is_compared_with_itself_keeps_its_locks() {
    let place = Place::new();
    std::fs::write(place.path("value"), vec![b'x'; 1 << 20]).unwrap();
    assert_eq!(place.code("set /a --file value"), 0);
    assert_eq!(place.code("set /b --file value"), 0);
    // It waits for somebody who reads on, with the store open.
    let mut diff = place.start("diff 0.. --with state.db --json");
    assert!(!diff.line().is_empty());
    // 3: POSIX  ADVISORY  READ 4711 fd:01:263425 1073741826 1073742335
    let inode = std::os::unix::fs::MetadataExt::ino(&place.path("state.db").metadata().unwrap());
    let (process, file) = (format!(" {} ", diff.id()), format!(":{inode} "));
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let held = locks.lines().any(|lock| lock.contains(&process) && lock.contains(&file));
    assert!(held, "it reads the store without a lock: {locks}");
    assert!(diff.hang_up().status.success());
}
