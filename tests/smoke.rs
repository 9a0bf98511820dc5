//! A store takes writes and streams them, is closed, and goes on where it was.

use univrs_state::{LocalStore, SqliteStore, StateStore};

#[tokio::test]
async fn a_store_takes_writes_streams_them_and_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/folder/state.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let mut watch = store.watch("/a/*").unwrap();
    assert_eq!(store.set("/a/1", b"x".to_vec()).await.unwrap(), 1);
    assert_eq!(watch.try_next().await.unwrap().unwrap().new_value.unwrap(), b"x");
    let cursor = watch.cursor();
    store.delete("/a/1").await.unwrap();
    store.close().await.unwrap();

    let store = SqliteStore::open(&path).await.unwrap();
    let mut watch = store.watch_after("/a/*", cursor).unwrap();
    assert_eq!(watch.try_next().await.unwrap().unwrap().old_value.unwrap(), b"x");
    assert_eq!(store.create_if_not_exists("/a/1", b"z".to_vec()).await.unwrap(), 3);
    assert!(store.verify().await.unwrap().is_intact());
}
