//! Watches at the end of the log: one that begins there waits, and one that finds less than was recorded says so.

use std::time::Duration;

use univrs_state::{SqliteStore, StateError, StateStore, WatchStream};

use crate::support::{PATIENCE, Store, Subject, folder, on_every_backend, options, seq, value};

on_every_backend!(a_watch_after_the_newest_change_waits_for_the_next_one);

async fn told(watch: &mut WatchStream) -> StateError {
    tokio::time::timeout(PATIENCE, watch.try_next()).await.expect("it says so").unwrap_err()
}

async fn a_watch_after_the_newest_change_waits_for_the_next_one<S: Store>(store: S, _: &Subject) {
    for n in 1..=3 {
        store.set("/a", value(n)).await.unwrap();
    }
    let head = store.head().await.unwrap();
    let mut by_number = store.watch_after("/*", head.seq.into()).unwrap();
    let mut by_cursor = store.watch_after("/*", store.watch("/*").unwrap().cursor()).unwrap();
    for watch in [&mut by_number, &mut by_cursor] {
        // Long enough for a read of the log, and harmless where it is not.
        let early = tokio::time::timeout(Duration::from_millis(20), watch.try_next()).await;
        assert!(early.is_err(), "{early:?}");
    }
    store.set("/a", value(4)).await.unwrap();
    for mut watch in [by_number, by_cursor] {
        let event = tokio::time::timeout(PATIENCE, watch.try_next()).await.expect("it comes");
        assert_eq!(event.unwrap().unwrap().seq, seq(4));
    }
}

#[tokio::test]
async fn a_watch_that_finds_less_than_was_recorded_says_so() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let store: SqliteStore = options().open(&path).await.unwrap();
    for n in 1..=5 {
        store.set("/a", value(n)).await.unwrap();
    }
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute("DELETE FROM changes WHERE seq > 3", []).unwrap();
    let mut watch = store.watch_after("/*", seq(3).into()).unwrap();
    let cause = told(&mut watch).await;
    assert!(matches!(cause, StateError::Corrupted(_)), "{cause}");
    assert_eq!(watch.try_next().await.unwrap(), None);
}
