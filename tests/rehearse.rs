//! A rehearsal answers what the commit would, and records nothing.

use univrs_state::history::{Point, Restore};
use univrs_state::{Batch, LocalStore, Meta, Options, StateError, StateStore};

use crate::support::{Local, Subject, options, seq, value};

type Named = (&'static str, fn() -> Batch);

/// The answer to a batch, without what only a recorded one has.
fn answer<T>(answered: Result<T, StateError>) -> Result<T, (&'static str, String)> {
    answered.map_err(|error| (error.code(), error.to_string()))
}

fn many(writes: usize) -> Batch {
    (0..writes).fold(Batch::new(), |batch, n| batch.set(format!("/many/{n}"), "x"))
}

fn local(subject: &Subject) -> &dyn LocalStore {
    match &subject.local {
        Local::Memory(store) => store,
        Local::Sqlite(store) => store,
    }
}

#[tokio::test]
async fn a_rehearsal_answers_what_the_commit_then_answers() {
    let limited = || {
        let mut limits = univrs_state::Limits::default();
        limits.value_bytes = 100;
        limits.page_entries = 4;
        options().limits(limits)
    };
    let own = || Batch::new().set("/id", "1").commit_id("own");
    let batches: Vec<Named> = vec![
        ("a creation", || Batch::new().set("/new", "1")),
        ("an update, a deletion, and one of nothing", || {
            Batch::new().set("/a", "9").delete("/b").delete("/no")
        }),
        ("a key that is written twice", || Batch::new().set("/a", "9").delete("/a").set("/a", "8")),
        ("a deleted key", || Batch::new().set("/gone", "1")),
        ("a condition that holds", || Batch::new().expect("/a", 1).expect_absent("/gone").set("/a", "9")),
        ("conditions that fail", || Batch::new().expect("/a", 7).expect_absent("/b").set("/a", "9")),
        ("a prefix that changed", || Batch::new().expect_unchanged_since("/four/", 1).set("/a", "9")),
        ("a prefix of too many keys", || Batch::new().expect_unchanged_since("/five/", 1).set("/a", "9")),
        ("a prefix that did not", || Batch::new().expect_unchanged_since("/a", 1).set("/a", "9")),
        ("too many writes", || many(10_001)),
        ("too large a value", || Batch::new().set("/a", [0; 101])),
        ("too much metadata", || Batch::new().set("/a", "1").meta(Meta::new().reason("r".repeat(2_000)))),
        ("a reserved key", || Batch::new().set("/.univrs/x", "1")),
        ("a bad key", || Batch::new().set("a", "1")),
        ("an empty batch", Batch::new),
        ("a commit id that was used", || Batch::new().set("/id", "1").commit_id("own")),
        ("a commit id of other writes", || Batch::new().delete("/id").commit_id("own")),
    ];
    for (what, batch) in batches {
        for subject in Subject::each_with(limited).await {
            let store = subject.shared();
            let first = Batch::new().set("/a", value(1)).set("/gone", value(1)).set("/b", value(1));
            let first = (0..4).fold(first, |batch, n| batch.set(format!("/four/{n}"), "1"));
            let first = (0..5).fold(first, |batch, n| batch.set(format!("/five/{n}"), "1"));
            store.commit(first).await.unwrap();
            store.delete("/gone").await.unwrap();
            store.commit(own()).await.unwrap();
            let head = store.head().await.unwrap();
            let rehearsed = answer(local(&subject).rehearse(batch()).await);
            assert_eq!(store.head().await.unwrap(), head, "{what}: nothing was recorded");
            let recorded = answer(store.commit(batch()).await);
            assert_eq!(rehearsed, recorded.map(|receipt| receipt.versions), "{what}");
            subject.audit().await;
        }
    }
}

#[tokio::test]
async fn the_metadata_of_a_handle_count_as_in_its_commits() {
    let subject = Subject::memory_with(options());
    let Local::Memory(store) = &subject.local else { panic!("a store in memory") };
    let talkative = store.clone().with_meta(Meta::new().reason("r".repeat(2_000)));
    let batch = || Batch::new().set("/a", "1");
    let due = answer(talkative.commit(batch()).await.map(|receipt| receipt.versions));
    assert_eq!(due.clone().unwrap_err().0, "limit_exceeded");
    assert_eq!(answer(talkative.rehearse(batch()).await), due);
    assert_eq!(answer(std::sync::Arc::new(talkative).rehearse(batch()).await), due);
    assert_eq!(store.rehearse(batch()).await, Ok(vec![1]));
    subject.audit().await;
}

#[tokio::test]
async fn a_store_that_is_read_only_rehearses_and_records_nothing() {
    let subject = Subject::disk_with(options()).await;
    subject.shared().set("/a", value(1)).await.unwrap();
    let path = subject.path.clone().unwrap();
    let reader = Options::new().read_only(true).open(&path).await.unwrap();
    let batch = || Batch::new().set("/a", "2");
    assert_eq!(reader.commit(batch()).await.unwrap_err(), StateError::ReadOnly);
    assert_eq!(reader.rehearse(batch()).await, Ok(vec![2]));
    assert_eq!(reader.head().await.unwrap().seq, seq(1));
    LocalStore::close(&reader).await.unwrap();
    subject.audit().await;
}

#[tokio::test]
async fn the_batch_of_a_restore_is_what_the_restore_commits() {
    for subject in Subject::each().await {
        let store = subject.shared();
        store.set("/a", value(1)).await.unwrap();
        store.set("/a", value(2)).await.unwrap();
        store.set("/b", value(1)).await.unwrap();
        let restore = || Restore::prefix("/", Point::Seq(seq(1)));
        let batch = local(&subject).batch_of(restore()).await.unwrap();
        assert_eq!(local(&subject).rehearse(batch.clone()).await, Ok(vec![3, 0]));
        let receipt = store.restore(restore()).await.unwrap();
        assert_eq!(receipt.versions, [3, 0]);
        let late = local(&subject).rehearse(batch).await;
        assert!(matches!(late, Err(StateError::Rejected(_))), "{late:?}");
        subject.audit().await;
    }
}
