//! What a user sees who may read a store, but not write its folder.

use std::process::Output;
use univrs_state::LocalStore;

use snapbox::str;

use crate::support::{Place, check};

/// What lines print that this user runs.
fn transcript(place: &Place, lines: &[&str]) -> String {
    let mut transcript = String::new();
    for line in lines {
        transcript.extend(["$ ustate ", line, "\n", &place.shown(&place.as_nobody(line))]);
    }
    transcript
}

#[tokio::test]
async fn a_store_is_carried_away_but_not_next_to_it() {
    let place = Place::new();
    assert_eq!(place.code("set /a 1"), 0);
    assert_eq!(place.code("export -O state.log"), 0);
    for lives in [false, true] {
        let store = if lives { Some(place.open().await) } else { None };
        let lines =
            ["verify --level chain", "anchor", "export -O mine.log", "import state.log --into mine.db"];
        check(
            &transcript(&place, &lines),
            str![[r#"
$ ustate verify --level chain
  proved        every change's bytes match its hash     1 change
  proved        every link follows the one before it    1 link
  not provable  1 change that no anchor covers could have been cut off or rewritten
  head          1:[HASH]
! note: an anchor that is kept elsewhere proves more: ustate anchor >> anchors.ndjson
$ ustate anchor
{"v":1,"type":"anchor","store":"[STORE]","seq":1,"hash":"[HASH]"}
$ ustate export -O mine.log
! error: cannot open mine.log: it cannot be written: Permission denied (os error 13)
[exit 7]
$ ustate import state.log --into mine.db
! error: cannot open [FOLDER]/mine.db: it cannot be written: Permission denied (os error 13)
[exit 7]

"#]],
        );
        let export = place.as_nobody("export -q").stdout;
        assert!(!export.is_empty() && export == place.output("export -q").stdout);
        if let Some(store) = store {
            store.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_writes_says_that_it_may_not() {
    let place = Place::new();
    assert_eq!(place.code("set /a 1"), 0);
    assert_eq!(place.code("set /a 2"), 0);
    std::fs::create_dir(place.path("conf")).unwrap();
    std::fs::write(place.path("conf/b"), "x").unwrap();
    let lines = [
        "restore /a --to 1 --dry-run",
        "restore /a --to 1",
        "restore --undo 2",
        "load conf --prefix /conf",
        "replay --into new.db --check",
        "replay -- true",
    ];
    check(
        &transcript(&place, &lines),
        str![[r#"
$ ustate restore /a --to 1 --dry-run
! error: cannot open [FOLDER]/state.db: it cannot be written; check its permissions, or open it read-only
[exit 3]
$ ustate restore /a --to 1
! error: cannot open [FOLDER]/state.db: it cannot be written; check its permissions, or open it read-only
[exit 3]
$ ustate restore --undo 2
! error: cannot open [FOLDER]/state.db: it cannot be written; check its permissions, or open it read-only
[exit 3]
$ ustate load conf --prefix /conf
! error: cannot open [FOLDER]/state.db: it cannot be written; check its permissions, or open it read-only
[exit 3]
$ ustate replay --into new.db --check
! note: read as a file that nobody changes, as it has no write-ahead log, and none is made for a reader
! error: cannot open [FOLDER]/new.db: it cannot be written: Permission denied (os error 13)
[exit 7]
$ ustate replay -- true
! note: read as a file that nobody changes, as it has no write-ahead log, and none is made for a reader

"#]],
    );
    let doctor = transcript(&place, &["doctor -o tsv"]);
    let told: Vec<&str> = doctor.lines().filter(|line| line.starts_with("warning")).collect();
    check(
        &told.join("\n"),
        str![[r#"
warning	permissions	mode 755
warning	reads	as a file that nobody changes
warning	writes	cannot open [FOLDER]/state.db: it cannot be written; check its permissions, or open it read-only
"#]],
    );
    assert!(place.stdout("anchor").contains("\"seq\":2,"), "nothing was written");
}

#[tokio::test]
async fn a_user_who_may_only_read_asks_what_the_owner_asks() {
    let place = Place::new();
    for line in ["set /a '{\"max\":1}'", "set /a '{\"max\":2}' -m more", "export -O state.log"] {
        assert_eq!(place.code(line), 0, "{line}");
    }
    for lives in [false, true] {
        let store = if lives { Some(place.open().await) } else { None };
        for line in [
            "get /a --at 1",
            "diff 1.. --json",
            "diff --with state.log --db state.db",
            "show 2 --diff",
            "history /a --diff",
            "log --where /max=2",
            "blame /a",
            "bisect --good 1 --bad head -o tsv -- grep -q 1",
            "stats --by actor",
            "blame /a --db state.log",
        ] {
            let (own, other) = (place.output(line), place.as_nobody(line));
            assert!(own.status.success(), "{line}");
            // A store that nobody has open is read as one that nobody changes, which a note says.
            let text = |output: &Output| place.scrubbed(&String::from_utf8_lossy(&output.stdout));
            assert_eq!(text(&own), text(&other), "{line}: {}", place.shown(&other));
        }
        if let Some(store) = store {
            store.close().await.unwrap();
        }
    }
}
