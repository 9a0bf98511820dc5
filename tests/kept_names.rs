//! Programs that were written for the simple predecessor of this crate compile and run unchanged,
//! but for the result of `transaction`. This is such a program, with every name that it had.

use std::sync::Arc;
use std::time::SystemTime;

use tokio_stream::StreamExt;
use univrs_state::EventType::{self, Created, Deleted, Updated};
use univrs_state::{
    Entry, LocalStore, MAX_KEY_LENGTH, MemoryStore, Result, SqliteStore, StateError, StateStore,
    TransactionOp, WatchEvent, WatchStream,
};

#[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
struct Node {
    name: String,
}

async fn program(store: Arc<dyn StateStore>) -> Result<()> {
    let mut watch: WatchStream = store.watch("/nodes/*")?;
    assert_eq!(watch.pattern(), "/nodes/*");
    let begun = SystemTime::now();

    let version: u64 = store.set("/nodes/n1", b"up".to_vec()).await?;
    assert_eq!(version, 1);
    assert_eq!(store.compare_and_set("/nodes/n1", 1, b"down".to_vec()).await?, 2);
    match store.compare_and_set("/nodes/n1", 1, b"late".to_vec()).await {
        Err(StateError::VersionConflict { expected, found }) => assert_eq!((expected, found), (1, 2)),
        other => panic!("{other:?}"),
    }
    match store.create_if_not_exists("/nodes/n1", Vec::new()).await {
        Err(StateError::AlreadyExists(key)) => assert_eq!(key, "/nodes/n1"),
        other => panic!("{other:?}"),
    }
    let node = Node { name: "n2".into() };
    store
        .transaction(vec![
            TransactionOp::check_version("/nodes/n1", 2),
            TransactionOp::set_json("/nodes/n2", &node)?,
            TransactionOp::set("/nodes/n3", b"x".to_vec()),
            TransactionOp::Delete { key: "/nodes/n1".into() },
        ])
        .await?;
    let failed = store
        .transaction(vec![
            TransactionOp::Set { key: "/nodes/n4".into(), value: Vec::new() },
            TransactionOp::CheckVersion { key: "/nodes/n3".into(), expected_version: 7 },
        ])
        .await;
    let error = failed.map(|_| ()).unwrap_err();
    assert!(matches!(error, StateError::VersionConflict { expected: 7, found: 1 }), "{error:?}");
    assert!(error.is_retryable());

    assert_eq!(store.list("/nodes/").await?, ["/nodes/n2", "/nodes/n3"]);
    let entry: Entry = store.get("/nodes/n2").await?.unwrap();
    assert_eq!((entry.key.as_str(), entry.version, entry.value_json::<Node>()?), ("/nodes/n2", 1, node));
    // A clock of nanoseconds, a store of microseconds.
    assert!(entry.created_at + std::time::Duration::from_micros(1) > begun);
    assert_eq!(entry.created_at, entry.updated_at);
    assert_eq!(store.get_json::<Node>("/nodes/n2").await?.unwrap().name, "n2");
    assert!(store.exists("/nodes/n3").await? && !store.exists("/nodes/n4").await?);
    assert!(store.get("/nodes/n1").await?.is_none());
    store.delete("/nodes/n3").await?;
    store.delete("/nodes/n3").await?;
    store.set_json("/nodes/n5", &"x").await?;

    let events: Vec<WatchEvent> = StreamExt::take(&mut watch, 7).collect().await;
    let seen: Vec<(&str, EventType)> =
        events.iter().map(|event| (event.key.as_str(), event.event_type)).collect();
    let expected = [
        ("/nodes/n1", Created),
        ("/nodes/n1", Updated),
        ("/nodes/n2", Created),
        ("/nodes/n3", Created),
        ("/nodes/n1", Deleted),
        ("/nodes/n3", Deleted),
        ("/nodes/n5", Created),
    ];
    assert_eq!(seen, expected);
    let WatchEvent { old_value, new_value, new_version, .. } = &events[1];
    assert_eq!(
        (old_value.as_deref(), new_value.as_deref(), *new_version),
        (Some(&b"up"[..]), Some(&b"down"[..]), 2)
    );
    assert_eq!((&events[4].new_value, events[4].new_version), (&None, 0));

    let printed = serde_json::to_string(&(&entry, &events[1]))?;
    let (entry_again, event_again): (Entry, WatchEvent) = serde_json::from_str(&printed)?;
    assert_eq!((entry_again, &event_again), (entry, &events[1]));

    assert_eq!(MAX_KEY_LENGTH, 1024);
    for key in ["", "nodes", "/nodes/", "/nodes//n1", &format!("/{}", "k".repeat(MAX_KEY_LENGTH))] {
        assert!(matches!(store.get(key).await, Err(StateError::InvalidKey(_))), "{key:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_program_of_the_predecessor_runs_on_every_store() {
    let memory = MemoryStore::default();
    assert!(memory.is_empty());
    program(Arc::new(memory.clone())).await.unwrap();
    assert_eq!(memory.len(), 2);
    assert!(memory.verify().await.unwrap().is_intact());

    let folder = tempfile::tempdir().unwrap();
    let stores = [SqliteStore::open(folder.path().join("state.db")).await, SqliteStore::in_memory().await];
    for store in stores {
        let store = store.unwrap();
        program(Arc::new(store.clone())).await.unwrap();
        assert!(store.verify().await.unwrap().is_intact());
    }
}

fn is_a_stream<S: tokio_stream::Stream<Item = WatchEvent> + Unpin + Send + 'static>() {}

#[test]
fn its_errors_have_their_names_and_conversions() {
    let errors = [
        StateError::KeyNotFound(String::new()),
        StateError::StorageFull(String::new()),
        StateError::SerializationError(String::new()),
        StateError::TransactionFailed(String::new()),
        StateError::ConnectionError(String::new()),
        serde_json::from_str::<u8>("x").unwrap_err().into(),
        std::io::Error::other("disk").into(),
    ];
    assert!(errors.iter().all(|error| !error.to_string().is_empty()));
    is_a_stream::<WatchStream>();
}

#[tokio::test]
async fn its_files_are_refused_and_stay_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(
        "CREATE TABLE kv_store (key TEXT PRIMARY KEY, value BLOB, version INTEGER,
             created_at INTEGER, updated_at INTEGER);
         INSERT INTO kv_store VALUES ('/a', x'31', 3, 1700000000, 1700000001);",
    )
    .unwrap();
    old.close().unwrap();
    let before = std::fs::read(&path).unwrap();

    let refused = SqliteStore::open(&path).await.unwrap_err();
    assert!(refused.to_string().contains("is a database of something else"), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was left beside it");
}
