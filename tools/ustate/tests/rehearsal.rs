//! A dry run judges all that the run judges: it refuses with the same words and the same exit code.

use univrs_state::{Batch, LocalStore, SqliteStore, StateStore};

use crate::support::Place;

/// A store with more keys than a commit may write, below `/many/`.
async fn stocked() -> Place {
    let place = Place::new();
    let store = SqliteStore::open(place.path("state.db")).await.unwrap();
    for half in [0, 1] {
        let keys = (half * 6_000)..(half + 1) * 6_000;
        let batch = keys.fold(Batch::new(), |batch, n| batch.set(format!("/many/{n}"), "x"));
        store.commit(batch).await.unwrap();
    }
    store.set("/a", b"1".to_vec()).await.unwrap();
    store.set("/a", b"2".to_vec()).await.unwrap();
    LocalStore::close(&store).await.unwrap();
    std::fs::write(place.path("large"), vec![b'x'; (1 << 20) + 1]).unwrap();
    std::fs::create_dir(place.path("conf")).unwrap();
    std::fs::write(place.path("conf/a"), "1").unwrap();
    std::fs::create_dir(place.path("huge")).unwrap();
    std::fs::write(place.path("huge/a"), vec![b'x'; (1 << 20) + 1]).unwrap();
    place
}

#[tokio::test]
async fn a_dry_run_refuses_what_the_run_refuses_in_the_same_words() {
    let place = stocked().await;
    let reason = "r".repeat(1_100);
    let too_long = format!("-m {reason}");
    for line in [
        "set /a --file large".to_owned(),
        "set /.univrs/x 1".to_owned(),
        "set /a 3 --if-version 1".to_owned(),
        "set /a 3 --if-absent".to_owned(),
        format!("set /a 3 {too_long}"),
        "delete /none".to_owned(),
        "delete /.univrs/none".to_owned(),
        "delete --prefix /many/ --yes".to_owned(),
        format!("delete /a {too_long}"),
        format!("delete --prefix /many/ --in-slices --yes {too_long}"),
        "restore --prefix /many/ --to 0 --yes".to_owned(),
        "restore --all --to 0 --yes".to_owned(),
        format!("restore /a --to 12001 {too_long}"),
        format!("restore --all --to 0 --in-slices --yes {too_long}"),
        "restore --undo 12001".to_owned(),
        "load huge --prefix /c".to_owned(),
        "load conf --prefix /.univrs".to_owned(),
        format!("load conf --prefix /c {too_long}"),
        "load conf --prefix /many --delete --yes".to_owned(),
        format!("mark add here {too_long}"),
        "mark add -- -here".to_owned(),
        "mark remove none".to_owned(),
    ] {
        let rehearsed = place.output(&dry(&line));
        let head = place.stdout("log --reverse -n 1 -o tsv");
        let done = place.output(&line);
        assert_ne!(done.status.code(), Some(0), "the premise: {line}: {}", place.shown(&done));
        assert_eq!(place.stdout("log --reverse -n 1 -o tsv"), head, "{line}");
        assert_eq!(place.shown(&rehearsed), place.shown(&done), "{line}");
    }
}

/// The line as a dry run.
fn dry(line: &str) -> String {
    match line.split_once(" -- ") {
        Some((options, rest)) => format!("{options} --dry-run -- {rest}"),
        None => format!("{line} --dry-run"),
    }
}

#[tokio::test]
async fn a_dry_run_refuses_a_file_that_the_run_could_not_write() {
    let place = stocked().await;
    for line in ["set /a 3", "delete /a", "restore /a --to 12001", "load conf --prefix /c", "mark add here"] {
        let (rehearsed, done) = (place.as_nobody(&dry(line)), place.as_nobody(line));
        assert_ne!(done.status.code(), Some(0), "the premise: {line}: {}", place.shown(&done));
        assert_eq!(place.shown(&rehearsed), place.shown(&done), "{line}");
    }
}

#[tokio::test]
async fn a_dry_run_that_says_yes_is_followed_by_a_run_that_does_it() {
    let place = stocked().await;
    for line in [
        "set /a 3 --if-version 2",
        "delete /a",
        "restore /a --to 12002",
        "load conf --prefix /c",
        "load conf --prefix /c --delete --yes",
        "delete --prefix /many/ --in-slices --yes",
        "restore --all --to 12001 --in-slices --yes",
        "mark add here",
        "mark remove here",
    ] {
        let head = place.stdout("log --reverse -n 1 -o tsv");
        assert_eq!(place.code(&dry(line)), 0, "{line}: {}", place.shown(&place.output(&dry(line))));
        assert_eq!(place.stdout("log --reverse -n 1 -o tsv"), head, "{line}");
        assert_eq!(place.code(line), 0, "{line}");
    }
}
