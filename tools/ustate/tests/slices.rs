//! Many keys: what is too much for one commit goes in slices, and what others change meanwhile stays.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use univrs_state::{Batch, LocalStore, SqliteStore, StateStore};

use crate::support::Place;

/// A store with this many keys below `/many/`, one beside them, and each value set twice.
async fn stocked(keys: usize) -> Place {
    let place = Place::new();
    let store = SqliteStore::open(place.path("state.db")).await.unwrap();
    for value in ["first", "second"] {
        for slice in (0..keys).collect::<Vec<_>>().chunks(10_000) {
            let batch = Batch::new().set("/one", value);
            let batch = slice.iter().take(9_999).fold(batch, |b, n| b.set(format!("/many/{n:05}"), value));
            store.commit(batch).await.unwrap();
        }
        if keys > 9_999 {
            let rest = (0..keys).filter(|n| n % 10_000 == 9_999);
            let batch = rest.fold(Batch::new(), |batch, n| batch.set(format!("/many/{n:05}"), value));
            store.commit(batch).await.unwrap();
        }
    }
    LocalStore::close(&store).await.unwrap();
    place
}

async fn left(place: &Place) -> Vec<String> {
    let store = SqliteStore::open(place.path("state.db")).await.unwrap();
    let keys = store.list("/").await.unwrap();
    assert!(LocalStore::verify(&store).await.unwrap().is_intact());
    LocalStore::close(&store).await.unwrap();
    keys
}

/// What was said, with numbers as machines write them.
fn plain(text: &str) -> String {
    text.replace(" 00", "00")
}

fn lines(text: &[u8]) -> usize {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count()
}

#[tokio::test]
async fn a_prefix_of_more_keys_than_a_commit_may_have_is_deleted_in_slices() {
    let place = stocked(10_001).await;
    for line in ["delete --prefix /many/ --dry-run", "delete --prefix /many/ --yes"] {
        let shown = plain(&place.shown(&place.output(line)));
        for part in [
            "10001",
            "10000",
            "nothing was deleted",
            "hint: ustate delete --prefix /many/ --in-slices",
            "[exit 2]",
        ] {
            assert!(shown.contains(part), "{line}: {part}: {shown}");
        }
    }
    let rehearsed = place.output("delete --prefix /many/ --in-slices --dry-run -o tsv");
    let said = plain(&place.shown(&rehearsed));
    assert!(rehearsed.status.success() && lines(&rehearsed.stdout) == 10_001, "{said}");
    assert!(said.contains("10001 keys in 6 commits, each for itself"), "{said}");
    let done = place.output("delete --prefix /many/ --in-slices --yes -o tsv");
    let said = plain(std::str::from_utf8(&done.stderr).unwrap());
    assert!(done.status.success(), "{said}");
    assert_eq!(lines(&done.stdout), 10_001);
    for part in [
        "after an interruption, this goes on: ustate delete --prefix /many/ --in-slices --until 20006",
        "10001 keys were deleted in 6 commits, from 20007 to 30007",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(left(&place).await, ["/one"]);
    let again = place.output("delete --prefix /many/ --in-slices --until 20006 --yes");
    assert_eq!(again.status.code(), Some(1), "nothing is left to do");
}

#[tokio::test]
async fn what_was_written_after_the_position_that_was_named_is_kept() {
    let place = stocked(5).await;
    assert_eq!(place.code("set /many/00002 third"), 0);
    assert_eq!(place.code("set /many/later 1"), 0);
    let shown = place.shown(&place.output("delete --prefix /many/ --in-slices --until 12 --yes"));
    assert!(shown.contains("4 keys were deleted in 1 commit, from 15 to 18"), "{shown}");
    assert_eq!(left(&place).await, ["/many/00002", "/many/later", "/one"]);
    let shown = place.shown(&place.output("restore --prefix /many/ --to 6 --in-slices --until 18 --yes"));
    assert!(shown.contains("6 keys were restored in 1 commit") || shown.contains("restored"), "{shown}");
    assert_eq!(left(&place).await.len(), 6, "{shown}");
}

#[tokio::test]
async fn a_state_of_more_keys_than_a_commit_may_have_is_restored_in_slices() {
    let place = stocked(10_001).await;
    for line in ["restore --all --to 10003 --dry-run", "restore --all --to 10003 --yes"] {
        let shown = plain(&place.shown(&place.output(line)));
        for part in ["nothing was recorded", "hint: ustate restore --all --to 10003 --in-slices", "[exit 2]"]
        {
            assert!(shown.contains(part), "{line}: {part}: {shown}");
        }
    }
    let rehearsed = place.output("restore --all --to 10003 --in-slices --dry-run -o tsv");
    let said = plain(&place.shown(&rehearsed));
    assert!(rehearsed.status.success() && lines(&rehearsed.stdout) == 10_002, "{said}");
    let done = place.output("restore --all --to 10003 --in-slices --yes -o tsv");
    let said = plain(std::str::from_utf8(&done.stderr).unwrap());
    assert!(done.status.success() && lines(&done.stdout) == 10_002, "{said}");
    for part in [
        "10002 keys in 6 commits, each for itself",
        "this goes on: ustate restore --all --to 10003 --in-slices --until 20006",
        "10002 keys were restored in 6 commits, from 20007 to 30008",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(place.stdout("get /many/10000 -o raw"), "first");
    let again = place.shown(&place.output("restore --all --to 10003 --in-slices --until 20006 --yes"));
    assert!(again.contains("nothing differs from what was at 10003"), "{again}");
    assert_eq!(left(&place).await.len(), 10_002);
}

/// A command on a terminal, which has asked and waits for the answer.
fn asked(place: &Place, line: &str) -> Child {
    let ustate = format!("{} {line}", env!("CARGO_BIN_EXE_ustate"));
    let mut command = place.as_environment_of("script");
    command.args(["-qec", &ustate, "/dev/null"]);
    let mut child = spawn(&mut command);
    let (mut shown, mut byte) = (String::new(), [0]);
    while !shown.ends_with("[y/N] ") {
        assert_eq!(child.stdout.as_mut().unwrap().read(&mut byte).unwrap(), 1, "it ended: {shown}");
        shown.push(char::from(byte[0]));
    }
    child
}

fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn answered(mut child: Child) -> (String, Option<i32>) {
    child.stdin.take().unwrap().write_all(b"y\n").unwrap();
    let output = child.wait_with_output().unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
}

#[tokio::test]
async fn a_key_that_is_written_while_a_command_asks_is_kept_and_named() {
    let place = stocked(3).await;
    for slices in ["", " --in-slices"] {
        let child = asked(&place, &format!("delete --prefix /many/{slices}"));
        assert_eq!(place.code("set /many/00001 'written while it asks'"), 0);
        let (shown, code) = answered(child);
        assert!(shown.contains("/many/00001 was changed meanwhile, and is kept"), "{shown}");
        assert_eq!(code, Some(1), "{shown}");
        assert_eq!(left(&place).await, ["/many/00001", "/one"]);
        assert_eq!(place.stdout("get /many/00001 -o raw"), "written while it asks");
        assert_eq!(place.code("restore --prefix /many/ --to 8 --yes"), 0);
    }
    let child = asked(&place, "restore --prefix /many/ --to 4");
    assert_eq!(place.code("set /many/00001 'while it asks'"), 0);
    let (shown, code) = answered(child);
    assert!(
        shown.contains("/many/00001 has changed since") && shown.contains("nothing was recorded"),
        "{shown}"
    );
    assert_eq!(code, Some(1), "{shown}");
    let child = asked(&place, "restore --prefix /many/ --to 4 --in-slices");
    assert_eq!(place.code("set /many/00001 'again'"), 0);
    let (shown, code) = answered(child);
    assert!(shown.contains("/many/00001 was changed meanwhile, and is kept"), "{shown}");
    assert_eq!(code, Some(1), "{shown}");
    assert_eq!(place.stdout("get /many/00001 -o raw"), "again");
    assert_eq!(place.stdout("get /many/00002 -o raw"), "first");
    std::fs::create_dir(place.path("conf")).unwrap();
    std::fs::write(place.path("conf/00000"), "of the folder").unwrap();
    let child = asked(&place, "load conf --prefix /many --delete");
    assert_eq!(place.code("set /many/00001 'once more'"), 0);
    let (shown, code) = answered(child);
    assert!(shown.contains("/many/00001 was changed meanwhile; nothing was written"), "{shown}");
    assert_eq!(code, Some(1), "{shown}");
    assert_eq!(left(&place).await, ["/many/00000", "/many/00001", "/many/00002", "/one"]);
}

#[tokio::test]
async fn every_key_but_reserved_ones_can_be_deleted() {
    let place = stocked(2).await;
    assert_eq!(place.code("mark add here"), 0);
    assert_eq!(place.code("delete --prefix / --yes"), 0);
    assert_eq!(left(&place).await, Vec::<String>::new());
    assert!(place.stdout("mark list").contains("here"));
    assert_eq!(place.code("restore --all --to mark:here --in-slices --yes"), 0);
    assert_eq!(left(&place).await, ["/many/00000", "/many/00001", "/one"]);
}
