//! Files of earlier states of the format: exports from before changes could end, and a database file of that time.

use std::path::{Path, PathBuf};

use univrs_state::archive::{Archive, Export};
use univrs_state::history::Point;
use univrs_state::{LocalStore, MemoryStore, Options, Seq, SqliteStore, StateError, StateStore};

use crate::support::{Written, folder};

const HEAD: &str = "15:986d8c41939810dbc086901e06db967803b493081740e50e958181d6c68c4c5c";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

/// The items of an export behind the first one, which ends with the hash at the floor, or two elements behind it.
fn behind_start(export: &[u8], hash: &[u8]) -> Vec<u8> {
    let at = export.windows(hash.len()).position(|bytes| bytes == hash).unwrap() + hash.len();
    export[at..].to_vec()
}

#[tokio::test]
async fn exports_from_before_changes_could_end_are_read_with_their_hashes_unchanged() {
    for (name, head, floor, withheld) in
        [("whole", HEAD, 0, 0), ("redacted", HEAD, 0, 0), ("part", HEAD, 0, 9), ("range", "13:8a34", 6, 0)]
    {
        let archive = Archive::open(fixture(&format!("{name}.log"))).await.unwrap();
        assert!(archive.head().await.unwrap().to_string().starts_with(head), "{name}");
        assert_eq!((archive.floor().seq, archive.withheld()), (Seq::new(floor), withheld), "{name}");
        assert!(archive.verify().await.unwrap().is_intact(), "{name}");
        let old = bytes(&format!("{name}.log"));
        assert_eq!(old[0], 0x85, "five elements");
        let written = Written::default();
        archive.export(Export::new(), written.clone()).await.unwrap();
        let new = written.bytes();
        assert_eq!(new[0], 0x87, "seven elements");
        let hash = archive.floor().hash;
        let (old, new) = (behind_start(&old, hash.as_bytes()), behind_start(&new, hash.as_bytes()));
        let more: &[u8] = if floor == 0 { &[0xf6, 0x00] } else { &[0xf6, 0xf6] };
        assert_eq!(new, [more, &old].concat(), "{name}: all but the start is the same");
    }
}

#[tokio::test]
async fn whole_exports_from_before_changes_could_end_become_stores() {
    for name in ["whole", "redacted"] {
        let folder = folder();
        let path = folder.path().join("state.db");
        let export = bytes(&format!("{name}.log"));
        let disk = SqliteStore::import(std::io::Cursor::new(export.clone()), &path).await.unwrap();
        let memory = MemoryStore::import(export.as_slice()).unwrap();
        for store in [&disk as &dyn LocalStore, &memory] {
            assert_eq!(store.head().await.unwrap().to_string(), HEAD, "{name}");
            assert!(store.verify().await.unwrap().is_intact(), "{name}");
            assert_eq!(store.get("/counter").await.unwrap().unwrap().value, b"3");
            assert_eq!(store.get("/counter").await.unwrap().unwrap().until, None);
            let past = store.at(Point::from(Seq::new(3))).await.unwrap();
            assert_eq!(past.get("/config/api").await.unwrap().unwrap().value, br#"{"replicas":2}"#);
            let secret = store.get("/secret").await;
            if name == "redacted" {
                assert!(matches!(secret, Err(StateError::Erased(_))), "{secret:?}");
            } else {
                assert_eq!(secret.unwrap().unwrap().value, b"hunter2");
            }
            store.set("/counter", b"4".to_vec()).await.unwrap();
            assert!(store.verify().await.unwrap().is_intact(), "{name}");
        }
    }
}

#[tokio::test]
async fn a_database_file_from_before_the_first_release_is_refused_by_name_and_left_as_it_is() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let old = bytes("pre-release.db");
    std::fs::write(&path, &old).unwrap();
    for read_only in [false, true] {
        let refused = Options::new().read_only(read_only).open(&path).await;
        let Err(StateError::CannotOpen { why, .. }) = refused else { panic!("{refused:?}") };
        let due = "is of a version before the first release: export it with the program that made it, then import that";
        assert_eq!(why.to_string(), due);
        assert!(std::fs::read(&path).unwrap() == old, "it is as it was");
    }
}
