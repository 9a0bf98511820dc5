//! The file that keeps a watch's place: whose it is, what it holds, and what becomes of it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::process::Command;

use snapbox::str;
use univrs_state::{Batch, StateStore};

use crate::support::{Place, check};

/// With a change of one key.
fn stocked() -> Place {
    let place = Place::new();
    assert_eq!(place.code("set /a 1"), 0);
    place
}

/// What is in the folder besides the store.
fn beside(place: &Place) -> Vec<String> {
    let names = fs::read_dir(place.path("")).unwrap().map(|file| file.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| !name.starts_with("state.db"));
    names.sort();
    names
}

fn kept(place: &Place) -> String {
    place.scrubbed(&fs::read_to_string(place.path("agent.cursor")).unwrap())
}

const WATCH: &str = "watch --after 0 --cursor-file agent.cursor";

#[test]
fn one_watch_at_a_time_uses_it_and_the_next_one_is_told_which() {
    let place = stocked();
    let mut first = place.start(&format!("{WATCH} --caught-up -q"));
    assert!(first.line().contains("created /a"));
    assert_eq!(first.line(), "-- caught up at 1 --");
    let process = first.id().to_string();
    let refused = place.transcript(&[WATCH, &format!("{WATCH} --json")]).replace(&process, "[PROCESS]");
    check(
        &refused,
        str![[r#"
$ ustate watch --after 0 --cursor-file agent.cursor
! error: agent.cursor is in use by another watch, process [PROCESS]
!   two watches with one file would lose changes to each other; give each its own
[exit 4]
$ ustate watch --after 0 --cursor-file agent.cursor --json
! {"v":1,"type":"error","code":"busy","exit":4,"message":"agent.cursor is in use by another watch, process [PROCESS]","facts":["two watches with one file would lose changes to each other; give each its own"]}
[exit 4]

"#]],
    );
    // It stays held while it is replaced.
    for n in 0..5 {
        assert_eq!(place.code(&format!("set /a {n}")), 0);
        assert!(first.line().contains("updated /a"));
        assert_eq!(place.code(WATCH), 4);
    }
    assert!(first.kill().is_empty());
    assert!(
        kept(&place).contains(":6:") || place.stdout(&format!("{WATCH} --count 1 -q")).contains("updated /a")
    );
    assert_eq!(beside(&place), ["agent.cursor"]);
}

#[test]
fn of_many_watches_that_start_at_once_one_gets_a_new_file() {
    let place = stocked();
    for _ in 0..5 {
        let watches: Vec<_> = (0..4).map(|_| place.start(&format!("{WATCH} -- sleep 0.2"))).collect();
        // Those that are refused end by themselves, the one that has the file when it is told to.
        let (mut refused, mut ended) = (0, 0);
        while refused < 3 {
            refused = watches.iter().filter(|watch| !is_running(watch.id())).count();
            std::thread::yield_now();
        }
        for watch in watches {
            if is_running(watch.id()) {
                watch.signal("TERM");
                assert_eq!(watch.code(), 143);
                ended += 1;
            } else {
                assert_eq!(watch.code(), 4);
            }
        }
        assert_eq!(ended, 1);
        assert_eq!(beside(&place), ["agent.cursor"]);
        fs::remove_file(place.path("agent.cursor")).unwrap();
    }
}

/// Whether a child has not ended yet.
fn is_running(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    !stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z')
}

#[test]
fn it_names_the_patterns_and_serves_no_others() {
    let place = stocked();
    let mut transcript = place.transcript(&[
        "watch '/a/*' /a --after 0 --count 1 -o tsv --cursor-file agent.cursor",
        "watch --count 1 --cursor-file agent.cursor",
        "watch '/b/*' --cursor-file agent.cursor --json",
    ]);
    assert_eq!(place.code("set /a 2"), 0);
    transcript += &place.transcript(&["watch /a '/a/*' --count 1 -o tsv --cursor-file agent.cursor"]);
    transcript += &kept(&place);
    check(
        &transcript,
        str![[r#"
$ ustate watch '/a/*' /a --after 0 --count 1 -o tsv --cursor-file agent.cursor
1	[EXACT]	created	/a	json	1	alice@ops	
$ ustate watch --count 1 --cursor-file agent.cursor
! error: agent.cursor keeps the place of a watch of /a /a/*
!   with /* it would pass over what was not watched until then
!   take another file; --after says where that begins
!   hint: ustate watch '/*' --cursor-file agent-2.cursor --after [STORE]:1:[HASH]
[exit 2]
$ ustate watch '/b/*' --cursor-file agent.cursor --json
! {"v":1,"type":"error","code":"other_pattern","exit":2,"message":"agent.cursor keeps the place of a watch of /a /a/*","facts":["with /b/* it would pass over what was not watched until then","take another file; --after says where that begins"],"hint":"ustate watch '/b/*' --cursor-file agent-2.cursor --after [STORE]:1:[HASH]"}
[exit 2]
$ ustate watch /a '/a/*' --count 1 -o tsv --cursor-file agent.cursor
2	[EXACT]	updated	/a	json	2	alice@ops	
[STORE]:2:[HASH]
pattern /a
pattern /a/*

"#]],
    );
}

#[test]
fn one_of_an_earlier_release_is_read_and_then_names_the_patterns() {
    let place = stocked();
    assert_eq!(place.code(&format!("{WATCH} --count 1")), 0);
    let cursor = kept_cursor(&place);
    for old in [format!("{cursor}\n"), cursor.clone()] {
        fs::write(place.path("agent.cursor"), old).unwrap();
        assert_eq!(place.code("set /a 2"), 0);
        let seen = place.stdout("watch /a --count 1 --cursor-file agent.cursor");
        assert!(seen.contains("2 updated /a"), "{seen}");
        assert!(kept(&place).contains("\npattern /a\n"));
    }
}

fn kept_cursor(place: &Place) -> String {
    fs::read_to_string(place.path("agent.cursor")).unwrap().lines().next().unwrap().to_owned()
}

#[test]
fn what_holds_no_cursor_is_left_as_it_is_however_large() {
    let place = stocked();
    let large = fs::File::create(place.path("large")).unwrap();
    large.set_len(1 << 40).unwrap();
    assert_eq!(place.code(&format!("{WATCH} --count 1")), 0);
    let cursor = kept_cursor(&place);
    fs::write(place.path("more"), format!("{cursor}\n{cursor}\n")).unwrap();
    fs::write(place.path("other"), format!("{cursor}\ncolour blue\n")).unwrap();
    assert!(Command::new("mkfifo").arg(place.path("pipe")).status().unwrap().success());
    symlink("circle", place.path("circle")).unwrap();
    check(
        &place.transcript(&[
            "watch --cursor-file large",
            "watch --cursor-file /dev/zero",
            "watch --cursor-file pipe",
            "watch --cursor-file more",
            "watch --cursor-file other",
            "watch --cursor-file circle",
            "watch --cursor-file .",
        ]),
        str![[r#"
$ ustate watch --cursor-file large
! error: large does not hold a cursor
!   it was left as it is; remove it to start anew
[exit 2]
$ ustate watch --cursor-file /dev/zero
! error: /dev/zero is not a regular file
[exit 2]
$ ustate watch --cursor-file pipe
! error: pipe is not a regular file
[exit 2]
$ ustate watch --cursor-file more
! error: more does not hold a cursor
!   it was left as it is; remove it to start anew
[exit 2]
$ ustate watch --cursor-file other
! error: other does not hold a cursor
!   it was left as it is; remove it to start anew
[exit 2]
$ ustate watch --cursor-file circle
! error: cannot read circle: too many symbolic links
[exit 7]
$ ustate watch --cursor-file .
! error: cannot read .: Is a directory (os error 21)
[exit 7]

"#]],
    );
    assert_eq!(large.metadata().unwrap().len(), 1 << 40);
    assert_eq!(beside(&place), ["agent.cursor", "circle", "large", "more", "other", "pipe"]);
}

#[test]
fn a_link_stays_and_what_it_leads_to_is_replaced() {
    let place = stocked();
    fs::create_dir(place.path("kept")).unwrap();
    for (link, to) in [("agent.cursor", "second"), ("second", "kept/place")] {
        symlink(to, place.path(link)).unwrap();
    }
    // At first it leads nowhere.
    for _ in 0..2 {
        assert_eq!(place.code(&format!("{WATCH} --count 1")), 0);
        assert!(place.path("agent.cursor").is_symlink() && place.path("second").is_symlink());
        assert!(place.path("kept/place").symlink_metadata().unwrap().is_file());
        assert_eq!(fs::read_dir(place.path("kept")).unwrap().count(), 1);
        assert_eq!(place.code("set /a 2"), 0);
    }
    assert!(kept(&place).contains(":2:"));
    assert_eq!(beside(&place), ["agent.cursor", "kept", "second"]);
}

#[test]
fn mode_and_owner_stay_and_a_new_one_is_its_owners_alone() {
    let place = stocked();
    let found = || place.path("agent.cursor").metadata().unwrap();
    assert_eq!(place.code(&format!("{WATCH} --count 1")), 0);
    assert_eq!(found().mode() & 0o7777, 0o600);
    fs::set_permissions(place.path("agent.cursor"), fs::Permissions::from_mode(0o664)).unwrap();
    let is_root = found().uid() == 0;
    if is_root {
        chown(place.path("agent.cursor"), Some(1234), Some(4321)).unwrap();
    }
    let before = found();
    assert_eq!(place.code("set /a 2"), 0);
    assert_eq!(place.code(&format!("{WATCH} --count 1 -q")), 0);
    assert!(kept(&place).contains(":2:"));
    assert_eq!(found().mode() & 0o7777, 0o664);
    assert_eq!((found().uid(), found().gid()), (before.uid(), before.gid()));
}

#[test]
fn what_a_killed_watch_left_is_used_again_and_a_stranger_there_is_not_followed() {
    let place = stocked();
    let new = place.path(".agent.cursor.ustate-new");
    let leave: [&dyn Fn(); 3] = [
        &|| fs::write(&new, "x".repeat(1000)).unwrap(),
        &|| symlink(place.path("precious"), &new).unwrap(),
        &|| assert!(Command::new("mkfifo").arg(&new).status().unwrap().success()),
    ];
    fs::write(place.path("precious"), "gold").unwrap();
    for leave in leave {
        // Where there is no file yet, and where there is one.
        for _ in 0..2 {
            leave();
            assert_eq!(place.code("set /a 2"), 0);
            assert_eq!(place.code(&format!("{WATCH} --count 1 -q")), 0);
            assert_eq!(beside(&place), ["agent.cursor", "precious"]);
            assert_eq!(kept(&place).lines().count(), 2, "{}", kept(&place));
        }
        fs::remove_file(place.path("agent.cursor")).unwrap();
    }
    assert_eq!(fs::read_to_string(place.path("precious")).unwrap(), "gold");
    assert_eq!(place.code("watch --after 99 --cursor-file agent.cursor"), 6);
    assert_eq!(beside(&place), ["precious"], "nothing is left of a watch that never had a place");
}

#[tokio::test]
async fn a_file_that_is_taken_away_meanwhile_ends_the_watch_and_is_not_written_over() {
    let place = Place::new();
    let store = place.open().await;
    store.set("/a", b"1".to_vec()).await.unwrap();
    let mut watch = place.start(WATCH);
    assert!(watch.line().contains("created /a"));
    fs::remove_file(place.path("agent.cursor")).unwrap();
    fs::write(place.path("agent.cursor"), "mine").unwrap();
    // It notices as soon as it has a place to save.
    store.commit(Batch::new().set("/a", "2")).await.unwrap();
    assert_eq!(watch.code(), 7);
    assert_eq!(kept(&place), "mine");
}
