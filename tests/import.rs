//! What is imported is whole and as it was, or refused.

use univrs_state::archive::{Archive, Export};
use univrs_state::log::{Change, ChangeKind, Follow, StoreId, Timestamp};
use univrs_state::{
    Batch, Head, Limits, LocalStore, MemoryStore, Meta, Options, Seq, SqliteStore, StateError, StateStore,
};

use crate::support::forged::chain;
use crate::support::{Local, audit, folder, log_of, options, seq, value};

fn memory_of(bytes: &[u8]) -> MemoryStore {
    MemoryStore::import(bytes).unwrap()
}

/// A small log with all kinds of items.
async fn sample() -> (Vec<u8>, Head) {
    let store = options().memory().unwrap();
    store.set("/a", value(1)).await.unwrap();
    let batch = Batch::new().set("/b", "x").delete("/a").commit_id("id");
    store.commit(batch.meta(Meta::new().actor("a").label("l", "v"))).await.unwrap();
    store.set("/c/1", vec![7; 300]).await.unwrap();
    (Local::Memory(store.clone()).export(Export::new()).await.unwrap(), store.head().await.unwrap())
}

fn refused(bytes: &[u8]) -> StateError {
    match MemoryStore::import(bytes) {
        Ok(_) => panic!("it was taken: {bytes:02x?}"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn every_flipped_bit_and_every_cut_of_an_export_is_found() {
    let (bytes, head) = sample().await;
    assert_eq!(memory_of(&bytes).head().await.unwrap(), head);
    for cut in 0..bytes.len() {
        let error = refused(&bytes[..cut]);
        assert!(matches!(&error, StateError::Corrupted(why) if why.contains("cut off")), "{cut}: {error}");
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let error = refused(&flipped);
            assert!(
                matches!(
                    error,
                    StateError::Corrupted(_)
                        | StateError::InvalidArgument(_)
                        | StateError::Erased(_)
                        | StateError::UpgradeNeeded(_)
                ),
                "{at}: {error}"
            );
        }
    }
    for behind in [&[0][..], &[0xf6], &bytes] {
        let error = refused(&[&bytes, behind].concat());
        assert!(error.to_string().contains("more bytes after its end"), "{error}");
    }
}

#[tokio::test]
async fn hostile_files_are_refused_without_memory_for_what_they_claim() {
    let (bytes, _) = sample().await;
    let start = bytes.len() - bytes.iter().rev().take_while(|_| false).count();
    assert_eq!(start, bytes.len());
    // Behind the start, which has 1 + 17 + 1 + 17 + 1 + 34 + 2 bytes.
    let start = &bytes[..73];
    let after_start = |item: &[u8]| refused(&[start, item].concat()).to_string();
    let huge = [0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    for (item, why) in [
        ([&[0x5b][..], &huge].concat(), "over its limit"),
        ([&[0x9b][..], &huge].concat(), "no known kind"),
        ([&[0x81, 0x8b, 1, 1, 1, 1, 1, 0x7b][..], &huge].concat(), "over its limit"),
        (vec![0x81; 1_000_000], "not of format version 1"),
        (vec![0x9f; 1_000_000], "no definite length"),
        (vec![0xa1; 1_000_000], "unexpected CBOR type"),
        (vec![0xd9; 1_000_000], "unexpected CBOR type"),
        (vec![0x41, 0], "too short"),
        (vec![0x58, 3, 0, 0, 0], "shortest form"),
        (vec![0x81, 0x98, 0x0b], "shortest form"),
        (vec![0x84, 0x63, b'E', b'n', b'd'], "no known kind"),
        (vec![0x81, 0x8b, 2], "not of format version 1"),
    ] {
        let error = after_start(&item);
        assert!(error.contains(why), "{:02x?}: {error}", &item[..item.len().min(12)]);
    }
    let claims = [&[0x83][..], &bytes[74..74 + 60]].concat();
    let error = refused(&[start, &claims].concat()).to_string();
    assert!(error.contains("cut off") || error.contains("malformed"), "{error}");

    for (bad, why) in [
        (&b""[..], "cut off"),
        (b"SQLite format 3\0", "not an exported log"),
        (b"{\"v\":1}", "not an exported log"),
        (&[0x85, 0x70], "cut off"),
        (&[0x87, 0x70], "cut off"),
        (&[0x86, 0x70], "not an exported log"),
    ] {
        let error = refused(bad).to_string();
        assert!(error.contains(why), "{bad:02x?}: {error}");
    }
    let mut newer = bytes.clone();
    newer[18] = 2;
    let error = refused(&newer);
    assert!(matches!(&error, StateError::InvalidArgument(why) if why.contains("has format 2")), "{error}");
}

#[tokio::test]
async fn a_start_says_what_the_file_begins_with_and_only_what_can_be() {
    let store = options().memory().unwrap();
    for n in 0..4 {
        store.set("/a", value(n)).await.unwrap();
    }
    let log = log_of(&store).await;
    let local = Local::Memory(store);
    let whole = local.export(Export::new()).await.unwrap();
    let later = local.export(Export::new().after(seq(2))).await.unwrap();
    // 1 + 17 + 1 + 17 bytes, the floor in 1, and the hash in 34.
    assert_eq!(whole[71..73], [0xf6, 0], "no time at 0, and a base of nothing");
    let at = &later[71..80];
    assert_eq!(at, [&[0x1b][..], &log[1].at.as_micros().to_be_bytes()].concat(), "the time of the floor");
    assert_eq!(later[80], 0xf6, "no base");
    let archive = Archive::read(later.as_slice()).unwrap();
    assert_eq!(archive.at(seq(2).into()).await.unwrap().at(), Some(log[1].at));
    assert!(archive.verify().await.unwrap().is_intact());

    // An export of nothing: all that is known is its floor.
    let none = local.export(Export::new().after(seq(4))).await.unwrap();
    let none = Archive::read(none.as_slice()).unwrap();
    let end = log[3].at.as_micros();
    for time in [end, end + 1] {
        let past = none.at(Timestamp::from_micros(time).into()).await.unwrap();
        assert_eq!((past.head().seq, past.at()), (seq(4), Some(log[3].at)));
    }
    let before = none.at(Timestamp::from_micros(end - 1).into()).await;
    assert!(matches!(before, Err(StateError::InvalidArgument(_))), "{before:?}");

    let with = |export: &[u8], cut: std::ops::Range<usize>, more: &[u8]| {
        let spoiled = [&export[..cut.start], more, &export[cut.end..]].concat();
        Archive::read(spoiled.as_slice()).map(|_| ())
    };
    assert_eq!(with(&later, 71..80, &[0xf6]), Ok(()), "the time is not known");
    let corrupted = |result| matches!(result, Err(StateError::Corrupted(_)));
    for count in 0..=3 {
        assert!(corrupted(with(&later, 80..81, &[count])), "a base that is not there, of {count} changes");
    }
    assert!(corrupted(with(&later, 71..80, &[&[0x1b][..], &log[2].at.as_micros().to_be_bytes()].concat())));
    for more in [[0, 0], [0xf6, 1], [0xf6, 0xf6]] {
        assert!(corrupted(with(&whole, 71..73, &more)), "{more:?}");
    }
}

#[tokio::test]
async fn an_import_goes_nowhere_but_to_a_free_place_and_leaves_nothing_where_it_fails() {
    let (bytes, head) = sample().await;
    let folder = folder();
    let import = async |bytes: &[u8], name: &str| {
        SqliteStore::import(std::io::Cursor::new(bytes.to_vec()), folder.path().join(name)).await
    };
    let names = || {
        let mut names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
        names.sort();
        names
    };
    for cut in (0..bytes.len()).step_by(11) {
        for name in ["cut.db", "new/folder/cut.db"] {
            let error = import(&bytes[..cut], name).await.unwrap_err();
            assert!(matches!(error, StateError::Corrupted(_)), "{error}");
        }
    }
    let mut last = bytes.clone();
    *last.last_mut().unwrap() ^= 1;
    assert!(import(&last, "cut.db").await.is_err());
    assert!(names().is_empty(), "{:?}", names());

    import(&bytes, "new/folder/state.db").await.unwrap().close().await.unwrap();
    std::fs::remove_dir_all(folder.path().join("new")).unwrap();
    let store = import(&bytes, "state.db").await.unwrap();
    assert_eq!(store.head().await.unwrap(), head);
    store.close().await.unwrap();
    for name in ["state.db", "folder"] {
        std::fs::create_dir_all(folder.path().join("folder")).unwrap();
        let error = import(&bytes, name).await.unwrap_err();
        assert!(
            matches!(&error, StateError::CannotOpen { why, .. } if why.what().contains("exists")),
            "{error}"
        );
    }
    std::fs::write(folder.path().join("new.db-wal"), "of another file").unwrap();
    let before = names();
    let error = import(&bytes, "new.db").await.unwrap_err();
    assert!(error.to_string().contains("new.db-wal"), "{error}");
    assert_eq!(names(), before);
    let again = SqliteStore::options().create(false).open(folder.path().join("state.db")).await.unwrap();
    audit(&Local::Sqlite(again)).await;
}

#[tokio::test]
async fn one_commit_of_many_batches_is_imported_whole() {
    let limits = {
        let mut limits = Limits::default();
        limits.batch_writes = 50_000;
        limits
    };
    let store = Options::new().limits(limits).memory().unwrap();
    let batch = (0..20_000)
        .fold(Batch::new().commit_id("large"), |batch, n| batch.set(format!("/k/{}", n % 700), value(n)));
    let receipt = store.commit(batch.clone()).await.unwrap();
    store.set("/k/1", value("later")).await.unwrap();
    let bytes = Local::Memory(store.clone()).export(Export::new()).await.unwrap();
    let folder = folder();
    let copy = SqliteStore::import(std::io::Cursor::new(bytes.clone()), folder.path().join("state.db"))
        .await
        .unwrap();
    let copy = Local::Sqlite(copy);
    assert_eq!(copy.export(Export::new()).await.unwrap(), bytes);
    audit(&copy).await;
    copy.close().await.unwrap();
    let limits = {
        let mut limits = Limits::default();
        limits.batch_writes = 50_000;
        limits
    };
    let reopened = SqliteStore::options().limits(limits).open(folder.path().join("state.db")).await.unwrap();
    assert_eq!(
        reopened.commit(batch).await.unwrap(),
        receipt,
        "the commit id is remembered with all of its commit"
    );
}

#[tokio::test]
async fn an_export_is_told_from_other_files_by_its_beginning() {
    let (bytes, _) = sample().await;
    let folder = folder();
    let path = folder.path().join("file");
    let is_one = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Archive::is_one(&path).unwrap()
    };
    assert!(is_one(&bytes));
    assert!(is_one(&bytes[..40]), "one that is cut off is still one, which opening it says");
    let format = 1 + 1 + b"univrs-state log".len();
    let mut newer = bytes.clone();
    assert_eq!(newer[format], 1);
    newer[format] = 2;
    assert!(is_one(&newer), "of another format");
    for other in [&b""[..], &bytes[..10], &bytes[1..], b"SQLite format 3\0", b"{\"format\":1}\n"] {
        assert!(!is_one(other), "{other:02x?}");
    }
    assert!(Archive::is_one(folder.path().join("none")).is_err());
}

#[tokio::test]
async fn an_import_onto_an_open_store_blames_the_store_and_not_the_files_beside_it() {
    let (bytes, _) = sample().await;
    let folder = folder();
    let path = folder.path().join("state.db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.set("/a", value(1)).await.unwrap();
    let error = SqliteStore::import(std::io::Cursor::new(bytes), &path).await.unwrap_err();
    let StateError::CannotOpen { path: blamed, why } = &error else { panic!("{error}") };
    assert!(blamed == &path && why.to_string().contains("not written over"), "{error}");
    store.close().await.unwrap();
    assert_eq!(audit(&Local::Sqlite(SqliteStore::open(&path).await.unwrap())).await.len(), 1);
}

/// An export of these changes, whose hashes follow whatever else they say.
pub(crate) fn written(store: StoreId, changes: &mut [Change]) -> Vec<u8> {
    fn bytes(out: &mut Vec<u8>, major: u8, length: usize) {
        match u16::try_from(length).unwrap() {
            short @ 0..24 => out.push(major | u8::try_from(short).unwrap()),
            short @ 24..256 => out.extend([major + 24, u8::try_from(short).unwrap()]),
            long => out.extend([&[major + 25], &long.to_be_bytes()[..]].concat()),
        }
    }
    chain(store, changes);
    let mut file = b"\x87\x70univrs-state log\x01\x50".to_vec();
    file.extend(store.as_bytes());
    file.extend([0, 0x58, 32]);
    file.extend(Follow::genesis(store).head().hash.as_bytes());
    file.extend([0xf6, 0]);
    for change in &*changes {
        file.push(if change.value.is_some() { 0x83 } else { 0x81 });
        file.extend(change.header());
        for part in
            [change.salt.as_ref().map(<[u8; 16]>::as_slice), change.value.as_deref()].into_iter().flatten()
        {
            bytes(&mut file, 0x40, part.len());
            file.extend(part);
        }
    }
    file.extend(b"\x84\x63end");
    bytes(&mut file, 0, changes.len());
    bytes(&mut file, 0, changes.len());
    file.extend([0x58, 32]);
    file.extend(changes.last().unwrap().hash.as_bytes());
    file
}

// Every hash of such a log is right: only the state shows that its changes cannot follow each other.
#[tokio::test]
async fn a_log_whose_changes_of_a_key_do_not_follow_each_other_is_refused() {
    fn created(change: &Change) -> Change {
        Change { kind: ChangeKind::Created, created_at: change.at, ..change.clone() }
    }
    type Plant = (&'static str, fn(&mut [Change]), u64);
    let plants: &[Plant] = &[
        ("a version is left out", |log| log[2].version = 3, 3),
        ("a version comes again", |log| log[4].version = 2, 5),
        ("the predecessor is of another key", |log| log[2].prev = seq(2), 3),
        ("the predecessor is not the last one", |log| log[4].prev = seq(1), 5),
        ("a predecessor of a key that is new", |log| (log[1].version, log[1].prev) = (2, seq(1)), 2),
        ("a new key begins at a later version", |log| log[1].version = 2, 2),
        ("a key is new twice", |log| log[2] = Change { version: 1, prev: Seq::ZERO, ..created(&log[2]) }, 3),
        ("a key that exists is created", |log| log[2] = created(&log[2]), 3),
        (
            "a deleted key is updated",
            |log| (log[5].kind, log[5].created_at) = (ChangeKind::Updated, log[0].at),
            6,
        ),
        ("an update has another birth", |log| log[2].created_at = Timestamp::EPOCH, 3),
        ("a deletion has another birth", |log| log[4].created_at = Timestamp::EPOCH, 5),
        ("the last change of a long log", |log| log.last_mut().unwrap().version = 3, 5_007),
    ];
    let store = options().memory().unwrap();
    for (key, n) in [("/a", 1), ("/b", 1), ("/a", 2), ("/c", 1)] {
        store.set(key, value(n)).await.unwrap();
    }
    store.delete("/a").await.unwrap();
    store.set("/a", value(3)).await.unwrap();
    let many = (0..5_000).fold(Batch::new(), |batch, n| batch.set(format!("/many/{n}"), "x"));
    store.commit(many).await.unwrap();
    store.set("/b", value(2)).await.unwrap();
    let sound = log_of(&store).await;
    let id = store.store_id();
    let written_again = written(id, &mut sound.clone());
    assert_eq!(written_again, Local::Memory(store).export(Export::new()).await.unwrap(), "the premise");

    let folder = folder();
    for (what, plant, at) in plants {
        let mut log = sound.clone();
        plant(&mut log);
        let export = written(id, &mut log);
        let on_disk =
            SqliteStore::import(std::io::Cursor::new(export.clone()), folder.path().join("new.db")).await;
        let refusals = [
            ("into memory", MemoryStore::import(&*export).map(drop)),
            ("into a file", on_disk.map(drop)),
            ("as an archive", Archive::read(&*export).map(drop)),
            ("by a replay", MemoryStore::replay(id, log).map(drop)),
        ];
        for (way, refusal) in refusals {
            let error = refusal.err().unwrap_or_else(|| panic!("{what}: taken {way}"));
            assert!(matches!(error, StateError::Corrupted(_)), "{what} {way}: {error}");
            assert!(error.to_string().contains(&format!("change {at}")), "{what} {way}: {error}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{what}: something is left behind");
    }
}
