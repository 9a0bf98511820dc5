//! Options that would have no effect are refused, and say which it was.

use std::time::Duration;

use univrs_state::archive::Export;
use univrs_state::log::StoreId;
use univrs_state::options::Durability;
use univrs_state::{Limits, LocalStore, MemoryStore, Meta, Options, SqliteStore, StateError, StateStore};

use crate::support::{STORE, Subject, folder, options, value};

/// The name of the option that an error blames.
fn blamed(error: &StateError) -> &str {
    let StateError::InvalidArgument(why) = error else { panic!("{error}") };
    why.strip_prefix("option ").unwrap().split(' ').next().unwrap()
}

#[tokio::test]
async fn what_only_a_file_has_is_refused_of_every_store_in_memory() {
    let (export, _) = export().await;
    for (name, asked) in [
        ("read_only", options().read_only(true)),
        ("create", options().create(false)),
        ("durability", options().durability(Durability::Synced)),
        ("resident_bytes", options().resident_bytes(64 << 20)),
        ("accept_loss", options().accept_loss(true)),
        ("loss_meta", options().loss_meta(Meta::new().actor("a"))),
        ("wal_cap", options().wal_cap(256 << 20)),
    ] {
        for error in [
            asked.clone().memory().unwrap_err(),
            asked.clone().replay(None).unwrap_err(),
            asked.clone().import_memory(&export[..]).unwrap_err(),
            asked.clone().in_memory().await.unwrap_err(),
        ] {
            assert_eq!(blamed(&error), name);
        }
    }
    // What asks for nothing else than there is anyway is no contradiction.
    let idle = || options().read_only(false).create(true).accept_loss(false);
    for subject in Subject::each_with(|| idle().busy_timeout(Duration::from_secs(60))).await {
        subject.shared().set("/a", value(1)).await.unwrap();
        subject.audit().await;
    }
}

async fn export() -> (Vec<u8>, StoreId) {
    let subject = Subject::memory();
    subject.shared().set("/a", value(1)).await.unwrap();
    subject.audit().await;
    (subject.local.export(Export::new()).await.unwrap(), subject.local.store_id())
}

#[tokio::test]
async fn options_that_contradict_each_other_are_refused() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let error = Options::new().read_only(true).accept_loss(true).open(&path).await.unwrap_err();
    assert_eq!(blamed(&error), "accept_loss");
    let error = Options::new().wal_cap((1 << 20) - 1).open(&path).await.unwrap_err();
    assert_eq!(blamed(&error), "wal_cap");
    let (export, store) = export().await;
    let import = async |options: Options| options.import(std::io::Cursor::new(export.clone()), &path).await;
    assert_eq!(blamed(&import(Options::new().create(false)).await.unwrap_err()), "create");
    let lossy = Options::new().read_only(true).accept_loss(true);
    assert_eq!(blamed(&import(lossy).await.unwrap_err()), "accept_loss");
    let mut limits = Limits::default();
    limits.value_bytes = 0;
    let error = import(Options::new().limits(limits)).await.unwrap_err().to_string();
    assert!(error.contains("value_bytes"), "{error}");
    let other = Options::new().store_id(StoreId::from_bytes([9; 16]));
    for error in
        [import(other.clone()).await.unwrap_err(), other.clone().import_memory(&export[..]).unwrap_err()]
    {
        let says = error.to_string();
        assert!(matches!(error, StateError::InvalidArgument(_)) && says.contains("store_id"), "{says}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
    assert_eq!(store, STORE);
    let imported: SqliteStore = import(Options::new().store_id(STORE).read_only(true)).await.unwrap();
    assert_eq!(imported.set("/b", value(1)).await, Err(StateError::ReadOnly), "it was asked for");
    let again: MemoryStore = options().import_memory(&export[..]).unwrap();
    assert_eq!(again.head().await.unwrap(), imported.head().await.unwrap());
}

#[tokio::test]
async fn a_loss_is_not_accepted_for_another_store_than_was_asked_for() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let subject = Subject::open(options(), &path).await;
    subject.shared().set("/a", value(1)).await.unwrap();
    subject.audit().await;
    subject.local.close().await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let other = Options::new().store_id(StoreId::from_bytes([9; 16])).accept_loss(true);
    let error = other.open(&path).await.unwrap_err();
    assert!(matches!(error, StateError::CannotOpen { .. }), "{error}");
    assert!(!path.exists(), "nothing was created");
    let store = options().accept_loss(true).open(&path).await.unwrap();
    assert!(store.verify().await.unwrap().is_intact());
    assert_eq!(store.store_id(), STORE);
}

#[tokio::test]
async fn watches_without_memory_are_refused() {
    let folder = folder();
    let none = || options().watch_bytes(0);
    let (export, _) = export().await;
    for error in [
        none().memory().unwrap_err(),
        none().import_memory(&export[..]).unwrap_err(),
        none().in_memory().await.unwrap_err(),
        none().open(folder.path().join("state.db")).await.unwrap_err(),
        none()
            .import(std::io::Cursor::new(export.clone()), folder.path().join("state.db"))
            .await
            .unwrap_err(),
    ] {
        assert_eq!(blamed(&error), "watch_bytes");
    }
    for subject in Subject::each_with(|| options().watch_bytes(1)).await {
        let mut watch = subject.shared().watch("/a").unwrap();
        subject.shared().set("/a", value(1)).await.unwrap();
        assert_eq!(watch.try_next().await.unwrap().unwrap().key, "/a");
        subject.audit().await;
    }
}
