//! The architecture, enforced: floors, rooms, circles, clocks, randomness, and the habits of the sources.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

mod graph;
mod sources;

use graph::{Graph, expanded};
use sources::{Source, code, sources};

/// The floors of `src`, lowest first. A module uses those below its floor and its own.
const FLOORS: [(&str, u8); 12] = [
    ("error", 0),
    ("key", 0),
    ("limits", 0),
    ("pattern", 0),
    ("failpoint", 0),
    ("seq", 0),
    ("sync", 0),
    ("log", 1),
    ("state", 2),
    ("backend", 3),
    ("audit", 3),
    ("store", 4),
];

/// The rooms of `src/store`, from the ground. A room uses those before it, and none behind it; rooms of
/// one line stand beside each other and may use each other, file by file, as long as no circle comes of it.
const ROOMS: [&[&str]; 15] = [
    &["clock", "entropy", "stats", "foreign", "threads", "receipt", "watched_clock"],
    &["feed"],
    &["commit"],
    &["resident"],
    &["read"],
    &["engine"],
    &["session"],
    &["open_store"],
    &["history", "watch"],
    &["consumer"],
    &["retain"],
    &["policy"],
    &["transfer"],
    &["verify"],
    &[
        "state_store",
        "local_store",
        "retention",
        "marks",
        "restoring",
        "store_impl",
        "options",
        "with_meta",
        "memory_store",
        "sqlite_store",
        "openings",
        "delegate",
        "codec",
        "update",
        "archive",
    ],
];

/// Files that use each other in a circle, and why they may.
const CIRCLES: [(&[&str], &str); 2] = [
    (
        &["error", "limits", "seq"],
        "an error names the limit or the position that it is about, and both are parsed with errors",
    ),
    (
        &[
            "store::delegate",
            "store::local_store",
            "store::marks",
            "store::restoring",
            "store::state_store",
            "store::with_meta",
        ],
        "the trait gives out a handle that implements it, and what a local store can do beside it",
    ),
];

/// The most lines of code of a file, and the most of all its lines.
const CODE_LINES: usize = 300;
const LINES: usize = 500;

/// The module of `src` that a file belongs to; none for `lib.rs`.
fn module(path: &Path) -> Option<String> {
    let first = path.components().nth(1)?;
    let name = Path::new(first.as_os_str()).file_stem()?.to_str()?.to_owned();
    (name != "lib").then_some(name)
}

fn floor(module: &str) -> u8 {
    let found = FLOORS.iter().find(|(name, _)| *name == module);
    found.unwrap_or_else(|| panic!("{module} has no floor; give it one here")).1
}

fn room(name: &str) -> usize {
    let found = ROOMS.iter().position(|rooms| rooms.contains(&name));
    found.unwrap_or_else(|| panic!("src/store/{name} has no room; give it one here"))
}

/// The names that directly follow `crate::`, in lists too.
fn imports(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for after in code.split("crate::").skip(1) {
        let list = after.strip_prefix('{').map_or(after, |list| list.split('}').next().unwrap());
        let parts: Vec<&str> = if after.starts_with('{') { list.split(',').collect() } else { vec![list] };
        for part in parts {
            let name: String = part.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            names.extend((!name.is_empty()).then_some(name));
        }
    }
    names
}

#[test]
fn a_floor_uses_only_those_below_it_and_by_their_names() {
    let sources = sources("src");
    assert!(sources.len() > 40, "the sources were found");
    for source in sources {
        let Some(own) = module(&source.path) else { continue };
        for import in imports(&source.code()) {
            let path = source.path.display();
            assert!(
                FLOORS.iter().any(|(name, _)| *name == import),
                "{path} uses crate::{import}; name its floor"
            );
            let (above, below) = (floor(&own), floor(&import));
            assert!(
                below < above || own == import || above == 0 && below == 0,
                "{path}: {own} must not use {import}"
            );
        }
    }
}

#[test]
fn a_room_of_the_store_uses_only_those_below_it() {
    let graph = Graph::of(&sources("src"));
    let mut seen = 0;
    for (from, to) in graph.edges() {
        let ([floor, own, ..], [other_floor, other, ..]) = (&from[..], &to[..]) else { continue };
        if floor != "store" || other_floor != "store" || own == other {
            continue;
        }
        let (above, below) = (room(own), room(other));
        assert!(below <= above, "{}: {own} must not use {other}, which is above it", from.join("::"));
        seen += 1;
    }
    assert!(seen > 100, "the uses were found: {seen}");
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let found = Graph::of(&sources("src")).circles();
    let allowed: Vec<BTreeSet<String>> =
        CIRCLES.iter().map(|(files, _)| files.iter().map(|file| (*file).to_owned()).collect()).collect();
    for circle in &found {
        assert!(allowed.contains(circle), "these files use each other: {circle:?}");
    }
    for ((circle, why), files) in CIRCLES.iter().zip(&allowed) {
        assert!(
            found.contains(files),
            "{circle:?} is no circle any more, though {why}: take it out of the list"
        );
    }
}

#[test]
fn the_checks_see_what_they_forbid() {
    assert_eq!(imports("use crate::store::{A, B};\ncrate::log::x()"), ["store", "log"]);
    assert_eq!(imports("use crate::{store::A, log};"), ["store", "log"]);
    assert_eq!(imports("use crate::Change;"), ["Change"]);
    assert!(code("a // crate::store\nb").trim_end().ends_with('b') && !code("// crate::x").contains("crate"));

    let named = |name: &str, path: &str| (name.to_owned(), path.to_owned());
    let paths = [named("b", "a::b"), named("c", "a::c"), named("d", "a::c::d"), named("f", "a::c::e")];
    assert_eq!(expanded("a::{b, c::{self, d, e as f}}"), paths);
    let source = |path: &str, text: &str| Source { path: PathBuf::from(path), text: text.to_owned() };
    let graph = Graph::of(&[
        source("src/lib.rs", "mod a;\nmod b;"),
        source("src/a/mod.rs", "mod one;\nmod two;\n#[cfg(test)]\nmod tested;\npub(crate) use one::One;"),
        source("src/a/one.rs", "use super::two::Two;\npub(crate) struct One;"),
        source(
            "src/a/two.rs",
            "fn of(_: &crate::b::Three) {}\n#[cfg(test)]\nmod tests { use crate::a::One; }",
        ),
        source("src/a/tested.rs", "use crate::b::Three;"),
        source("src/b.rs", "use crate::a::One;\npub(crate) struct Three;"),
    ]);
    let circle = ["a::one", "a::two", "b"].map(str::to_owned).into_iter().collect();
    assert_eq!(graph.circles(), [circle]);
    assert!(graph.edges().all(|(from, _)| from.join("::") != "a::tested"));

    // Through a folder that is imported, under another name, or as a child.
    let graph = Graph::of(&[
        source("src/a/mod.rs", "mod one;\npub(crate) mod two;\nfn of() { one::f(); }"),
        source("src/a/one.rs", "use crate::b;\npub(crate) fn f() { b::inner::g(); }"),
        source("src/a/two.rs", "use crate::{b as c, std::fmt};\nfn of() { c::other::g(); fmt::Debug::h(); }"),
        source("src/b/mod.rs", "pub(crate) mod inner;\npub(crate) mod other;"),
        source("src/b/inner.rs", "pub(crate) fn g() {}"),
        source("src/b/other.rs", "pub(crate) fn g() {}"),
    ]);
    let edges: Vec<String> =
        graph.edges().map(|(from, to)| format!("{} {}", from.join("::"), to.join("::"))).collect();
    assert_eq!(edges, ["a a::one", "a::one b", "a::one b::inner", "a::two b", "a::two b::other"]);
}

/// Asserts that only files below `allowed` have one of the words in their code.
fn only_in(allowed: &[&str], words: &[&str]) {
    let mut seen = 0;
    for source in sources("src") {
        for word in words.iter().filter(|word| source.code().contains(**word)) {
            let here = allowed.iter().any(|folder| source.path.starts_with(folder));
            assert!(here, "{} has {word}, which belongs in {allowed:?}", source.path.display());
            seen += 1;
        }
    }
    assert!(seen > 0, "none of {words:?} was found: the check would see nothing");
}

#[test]
fn clocks_and_randomness_are_on_the_floor_of_the_store_alone() {
    only_in(&["src/store"], &["SystemTime::now", "getrandom::"]);
    // A wait for a lock of the operating system is ended by a clock that is never set; no data gets a time from it.
    only_in(&["src/store", "src/backend/sqlite/patience.rs"], &["Instant::now"]);
}

#[test]
fn log_and_state_do_no_io() {
    only_in(&["src/backend/folder.rs", "src/backend/sqlite", "src/store", "src/error"], &["std::fs"]);
    only_in(&["src/backend/sqlite", "src/store", "src/error"], &["std::thread", "std::net"]);
    // An audit reads from and writes to what it is given.
    only_in(
        &["src/backend/folder.rs", "src/backend/sqlite", "src/store", "src/audit", "src/error"],
        &["std::io"],
    );
    only_in(&["src/backend/sqlite"], &["rusqlite::"]);
    // Each thread has a name, and a system without threads to give is one error.
    only_in(
        &["src/store/threads.rs"],
        &["thread::scope", "thread::spawn", "thread::Builder", "Builder::new()"],
    );
    only_in(&["src/store"], &["tokio::", "async fn"]);
}

#[test]
fn the_sources_keep_their_habits() {
    let mut all = sources("src");
    all.extend(sources("tools"));
    for source in all {
        let (path, text) = (source.path.display().to_string(), &source.text);
        let (lines, code_lines) = (text.lines().count(), source.lines_of_code());
        let product = !source.path.iter().any(|folder| folder == "tests");
        assert!(
            !product || code_lines <= CODE_LINES,
            "{path} has {code_lines} lines of code; one concept a file"
        );
        assert!(lines <= LINES, "{path} has {lines} lines; one concept a file");
        assert!(text.starts_with("//!"), "{path} does not say what it is");
        for word in ["manager", "handler", "helper", "util", "common"] {
            assert!(!path.contains(word), "{path} is named by no noun of the store");
        }
        for word in ["todo!", "unimplemented!", "dbg!", "TODO", "FIXME"] {
            assert!(!text.contains(word), "{path} has {word}");
        }
        let may = path == "src/backend/sqlite/ffi.rs";
        for word in ["unsafe ", "unsafe_code"] {
            assert_eq!(source.code().contains(word), may, "{path}: {word} belongs in ffi.rs alone");
        }
    }
}
