//! What is fuzzed: each target takes any bytes, and panics where a promise does not hold. Used by
//! libFuzzer (`Cargo.toml` beside this file) and by the replay of the corpus in `tests/fuzz.rs`.

#![allow(dead_code, unreachable_pub, missing_docs)]
#![allow(clippy::type_complexity, clippy::verbose_bit_mask, clippy::missing_panics_doc)]

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::path::Path;
use std::str::FromStr;
use std::sync::OnceLock;

use univrs_state::archive::{Archive, Export};
use univrs_state::key::validate_key;
use univrs_state::log::{Follow, Hash, StoreId};
use univrs_state::pattern::Pattern;
use univrs_state::{
    Batch, Cursor, Head, LocalStore, MemoryStore, Meta, Options, Seq, SqliteStore, StateError, StateStore,
};

/// The targets by name.
pub const TARGETS: [(&str, fn(&[u8])); 7] = [
    ("places", places),
    ("patterns", patterns),
    ("metadata", metadata),
    ("database", database),
    ("log", log),
    ("import", import),
    ("operations", operations),
];

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(future)
}

/// What parses prints as something that parses to the same.
fn survives<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(parsed) = text.parse::<T>() {
        let printed = parsed.to_string();
        assert_eq!(printed.parse::<T>().ok(), Some(parsed), "{text:?} printed as {printed:?}");
    }
}

/// Cursors, heads, positions, hashes and store ids.
pub fn places(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    survives::<Cursor>(&text);
    survives::<Head>(&text);
    survives::<Seq>(&text);
    survives::<Hash>(&text);
    survives::<StoreId>(&text);
}

/// A pattern and a key, with a line feed between: matches as a plain definition by recursion does.
pub fn patterns(bytes: &[u8]) {
    fn plain(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern, key) {
            ([], []) => true,
            (["**", rest @ ..], _) => (0..=key.len()).any(|taken| plain(rest, &key[taken..])),
            ([last], [first, ..]) if last.ends_with('*') => first.starts_with(last.trim_end_matches('*')),
            (["*", rest @ ..], [_, key @ ..]) => plain(rest, key),
            ([literal, rest @ ..], [first, key @ ..]) => literal == first && plain(rest, key),
            _ => false,
        }
    }
    let text = String::from_utf8_lossy(bytes);
    let (pattern, key) = text.split_once('\n').unwrap_or((&text, "/a"));
    let valid = validate_key(key).is_ok();
    if let Ok(parsed) = pattern.parse::<Pattern>()
        && valid
        && pattern.matches("**").count() < 4
        && !key.starts_with("/.univrs")
    {
        let parts: Vec<&str> = pattern.split('/').skip(1).collect();
        let segments: Vec<&str> = key.split('/').skip(1).collect();
        let expected = if pattern.contains('*') { plain(&parts, &segments) } else { pattern == key };
        assert_eq!(parsed.matches(key), expected, "{pattern} on {key}");
    }
}

/// The files of a small store with everything in it: database with a log beside it.
fn seed() -> &'static (Vec<u8>, Vec<u8>) {
    static SEED: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    SEED.get_or_init(|| {
        let folder = folder();
        let path = folder.path().join("state.db");
        run(async {
            let store = SqliteStore::open(&path).await.expect("a store");
            store.set("/a", b"1".to_vec()).await.expect("a set");
            store.close().await.expect("closed");
            let store = SqliteStore::open(&path).await.expect("a store");
            let batch = Batch::new()
                .set("/a", "2")
                .set("/b/c", vec![7; 5000])
                .commit_id("x")
                .meta(Meta::new().actor("a"));
            store.commit(batch).await.expect("a commit");
            store.delete("/a").await.expect("a deletion");
            let read =
                |suffix| std::fs::read(folder.path().join(format!("state.db{suffix}"))).expect("a file");
            (read(""), read("-wal"))
        })
    })
}

/// The bytes that the targets `database` and `log` start from.
pub fn seed_files() -> [Vec<u8>; 2] {
    let (database, log) = seed();
    [database.clone(), log.clone()]
}

fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a folder")
}

/// Reads all there is; what is read hangs together, or is an error.
async fn read_all(path: &Path, read_only: bool) {
    let Ok(store) = SqliteStore::options().read_only(read_only).create(false).open(path).await else {
        return;
    };
    let report = store.verify().await;
    for key in store.list("").await.unwrap_or_default() {
        let _ = store.get(&key).await;
        let _ = store.history(&key, None, 100).await;
    }
    let mut follow = Follow::genesis(store.store_id());
    if let Ok(commits) = store.changes(Seq::ZERO, 1000).await {
        for change in commits.iter().flat_map(|commit| &commit.changes) {
            assert_eq!(follow.check(change), Ok(()), "changes that were read hang together");
        }
    }
    if !read_only {
        let before = report.is_ok_and(|report| report.is_intact());
        if store.set("/fuzz", vec![1]).await.is_ok() && before {
            assert!(
                store.verify().await.is_ok_and(|report| report.is_intact()),
                "a write keeps a store intact"
            );
        }
    }
    let _ = store.close().await;
}

fn read_files(database: &[u8], log: Option<&[u8]>) {
    let folder = folder();
    let path = folder.path().join("state.db");
    for read_only in [true, false] {
        std::fs::write(&path, database).expect("a file");
        if let Some(log) = log {
            std::fs::write(folder.path().join("state.db-wal"), log).expect("a file");
        }
        run(read_all(&path, read_only));
    }
}

/// The bytes of a database file.
pub fn database(bytes: &[u8]) {
    read_files(bytes, None);
}

/// The bytes of a write-ahead log beside an intact database.
pub fn log(bytes: &[u8]) {
    read_files(&seed().0, Some(bytes));
}

/// Exports of a small log: whole, of some keys, without some values, and after a position; and two with a base.
pub fn exports() -> Vec<Vec<u8>> {
    let store = MemoryStore::new();
    run(async {
        let meta = Meta::new().actor("a").label("l", "v");
        let batch = Batch::new().set("/a", "1").set("/b/c", "2").delete("/a").commit_id("x").meta(meta);
        store.commit(batch).await.expect("a commit");
        store.set("/a", vec![7; 300]).await.expect("a set");
        let only = Export::new().only("/a".parse().expect("a pattern"));
        let redacted = Export::new().redact("/**".parse().expect("a pattern"));
        let mut exports = vec![
            include_bytes!("../fixtures/base.log").to_vec(),
            include_bytes!("../fixtures/base-part.log").to_vec(),
        ];
        for export in [Export::new(), only, redacted, Export::new().after(Seq::new(3))] {
            exports.push(exported(&store, export).await);
        }
        exports
    })
}

/// The bytes of an export.
async fn exported(store: &impl LocalStore, export: Export) -> Vec<u8> {
    let folder = folder();
    let path = folder.path().join("log");
    store.export_to(export, &path).await.expect("an export");
    std::fs::read(path).expect("a file")
}

/// An export: what is taken is exactly what would be written, and hangs together; and only all of a
/// log becomes a store.
pub fn import(bytes: &[u8]) {
    run(async {
        let store = MemoryStore::import(bytes);
        let Ok(archive) = Archive::read(bytes) else {
            assert!(store.is_err(), "a store was made of what is no export");
            return;
        };
        assert!(archive.verify().await.expect("a report").is_intact());
        let again = exported(&archive, Export::new()).await;
        let (floor, withheld) = (archive.floor().seq, archive.withheld());
        if again != bytes {
            // A base is written whole or not at all.
            assert!(floor > Seq::ZERO && withheld > 0 && again.len() < bytes.len());
            let (head, rest) =
                (archive.head().await.expect("a head"), Archive::read(again.as_slice()).expect("an export"));
            assert_eq!(rest.head().await.expect("a head"), head);
        }
        match store {
            Ok(store) => {
                assert_eq!(withheld, 0);
                assert_eq!(exported(&store, Export::new()).await, bytes);
            }
            Err(_) => assert!(floor > Seq::ZERO || withheld > 0),
        }
    });
}

/// The metadata of a recorded change: other bytes than the recorded ones are never read.
pub fn metadata(bytes: &[u8]) {
    let folder = folder();
    let path = folder.path().join("state.db");
    std::fs::write(&path, &seed().0).expect("a file");
    let raw = rusqlite::Connection::open(&path).expect("a database");
    raw.execute("UPDATE changes SET meta = ?1 WHERE seq = 1", [bytes]).expect("an update");
    drop(raw);
    run(async {
        let read = match SqliteStore::options().read_only(true).open(&path).await {
            Ok(store) => store.changes(Seq::ZERO, 10).await.map(|_| ()),
            Err(error) => Err(error),
        };
        let refused = matches!(read, Err(StateError::Corrupted(_) | StateError::UpgradeNeeded(_)));
        assert!(refused, "{read:?}");
    });
}

/// Bytes taken as batches on two backends and a plain map.
pub fn operations(bytes: &[u8]) {
    const KEYS: [&str; 4] = ["/a", "/a/b", "/ab", "/c"];
    run(async {
        let memory = MemoryStore::new();
        let sqlite = Options::new().in_memory().await.expect("a store");
        let mut plain: BTreeMap<&str, (Vec<u8>, u64)> = BTreeMap::new();
        let mut counts = [0_u64; KEYS.len()];
        for step in bytes.chunks(3).take(200) {
            let (place, value) = (usize::from(step[0] >> 2) % KEYS.len(), step.get(1..).unwrap_or_default());
            let key = KEYS[place];
            let current = plain.get(key).map_or(0, |(_, version)| *version);
            let batch = match step[0] & 3 {
                0 => Batch::new().delete(key),
                1 => Batch::new().expect(key, u64::from(value.first().copied().unwrap_or(0))).set(key, value),
                _ => Batch::new().expect(key, current).set(key, value),
            };
            let refused = step[0] & 3 == 1 && u64::from(value.first().copied().unwrap_or(0)) != current;
            let results = [memory.commit(batch.clone()).await, sqlite.commit(batch).await];
            for result in results {
                assert_eq!(result.is_err(), refused, "{result:?}");
            }
            if refused {
                continue;
            }
            if step[0] & 3 == 0 {
                counts[place] += u64::from(plain.remove(key).is_some());
            } else {
                counts[place] += 1;
                plain.insert(key, (value.to_vec(), counts[place]));
            }
        }
        let expected: Vec<String> = plain.keys().map(|key| (*key).to_owned()).collect();
        for (key, (value, version)) in plain {
            for entry in [memory.get(key).await, sqlite.get(key).await] {
                let entry = entry.expect("a read").expect("an entry");
                assert_eq!((entry.value, entry.version), (value.clone(), version));
            }
        }
        for (keys, report) in
            [(memory.list("").await, memory.verify().await), (sqlite.list("").await, sqlite.verify().await)]
        {
            assert_eq!(keys.expect("a list"), expected);
            assert!(report.expect("a report").is_intact());
        }
    });
}
