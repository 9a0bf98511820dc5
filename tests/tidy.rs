//! The architecture, enforced: floors, clocks, randomness, and the habits of the sources.

use std::fs;
use std::path::{Path, PathBuf};

/// The floors of `src`, lowest first. A module uses those below its floor and its own.
const FLOORS: [(&str, u8); 12] = [
    ("error", 0),
    ("key", 0),
    ("limits", 0),
    ("pattern", 0),
    ("planted", 0),
    ("seq", 0),
    ("sync", 0),
    ("log", 1),
    ("state", 2),
    ("backend", 3),
    ("audit", 3),
    ("store", 4),
];

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    walk(&root.join(folder), &mut paths);
    paths.sort();
    let read =
        |path: PathBuf| (path.strip_prefix(root).unwrap().to_owned(), fs::read_to_string(&path).unwrap());
    paths.into_iter().map(read).collect()
}

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

/// The code without comments and without its tests.
fn code(text: &str) -> String {
    let product = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    product.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
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
    for (path, text) in sources {
        let Some(own) = module(&path) else { continue };
        for import in imports(&code(&text)) {
            let path = path.display();
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
fn the_check_of_floors_sees_what_it_forbids() {
    assert_eq!(imports("use crate::store::{A, B};\ncrate::log::x()"), ["store", "log"]);
    assert_eq!(imports("use crate::{store::A, log};"), ["store", "log"]);
    assert_eq!(imports("use crate::Change;"), ["Change"]);
    assert!(code("a // crate::store\nb").trim_end().ends_with('b') && !code("// crate::x").contains("crate"));
}

/// Asserts that only files below `allowed` have one of the words in their code.
fn only_in(allowed: &[&str], words: &[&str]) {
    let mut seen = 0;
    for (path, text) in sources("src") {
        for word in words.iter().filter(|word| code(&text).contains(**word)) {
            let here = allowed.iter().any(|folder| path.starts_with(folder));
            assert!(here, "{} has {word}, which belongs in {allowed:?}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 0, "none of {words:?} was found: the check would see nothing");
}

#[test]
fn clocks_and_randomness_are_on_the_floor_of_the_store_alone() {
    only_in(&["src/store"], &["SystemTime::now", "Instant::now", "getrandom::"]);
}

#[test]
fn log_and_state_do_no_io() {
    only_in(&["src/backend/sqlite", "src/store", "src/error.rs"], &["std::fs", "std::thread", "std::net"]);
    // An audit reads from and writes to what it is given.
    only_in(&["src/backend/sqlite", "src/store", "src/audit", "src/error.rs"], &["std::io"]);
    only_in(&["src/backend/sqlite"], &["rusqlite::"]);
    only_in(&["src/store"], &["tokio::", "async fn"]);
}

#[test]
fn the_sources_keep_their_habits() {
    let mut all = sources("src");
    all.extend(sources("tools"));
    for (path, text) in all {
        let (path, lines) = (path.display().to_string(), text.lines().count());
        assert!(lines <= 400, "{path} has {lines} lines; one concept a file");
        assert!(text.starts_with("//!"), "{path} does not say what it is");
        for word in ["manager", "handler", "helper", "util", "common"] {
            assert!(!path.contains(word), "{path} is named by no noun of the store");
        }
        for word in ["todo!", "unimplemented!", "dbg!", "TODO", "FIXME"] {
            assert!(!text.contains(word), "{path} has {word}");
        }
        let may = path == "src/backend/sqlite/ffi.rs";
        for word in ["unsafe ", "unsafe_code"] {
            assert_eq!(code(&text).contains(word), may, "{path}: {word} belongs in ffi.rs alone");
        }
    }
}
