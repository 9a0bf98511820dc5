//! One suite for every backend, concrete and behind pointers: what each method of the trait
//! promises, and its documented errors. What it provides over them, conditions, commit ids and scans have files of their own.

use std::sync::Arc;
use std::time::SystemTime;

use univrs_state::log::ChangeKind::{Created, Deleted, Updated};
use univrs_state::{
    Batch, ErrorKind, Limits, MemoryStore, Meta, Seq, StateError, StateStore, TransactionOp, Update,
};

use crate::support::{self, Local, Store, Subject, on_every_backend, seq, value};

on_every_backend!(
    an_empty_store_has_nothing,
    a_set_creates_then_updates,
    a_delete_removes_and_an_absent_key_is_no_error,
    compare_and_set_takes_the_current_version_only,
    create_if_not_exists_creates_once,
    a_transaction_is_all_or_nothing,
    a_receipt_says_where_and_when,
    writes_run_in_order_and_a_key_may_be_written_twice,
    get_many_answers_in_the_order_asked,
    changes_come_as_whole_commits,
    a_position_inside_a_commit_counts_as_the_one_before_it,
    a_page_of_the_log_ends_at_its_bytes,
    history_runs_backwards_through_all_lives_of_a_key,
    stats_count_what_happened,
    all_bytes_are_values_and_unicode_is_a_key,
    a_prefix_of_bytes_is_no_pattern,
);

async fn an_empty_store_has_nothing<S: Store>(store: S, subject: &Subject) {
    assert_eq!(store.get("/a").await.unwrap(), None);
    assert_eq!(store.version("/a").await.unwrap(), 0);
    assert!(!store.exists("/a").await.unwrap());
    assert_eq!(store.list("").await.unwrap(), Vec::<String>::new());
    assert_eq!(store.head().await.unwrap(), univrs_state::Head::genesis(subject.local.store_id()));
    assert_eq!(store.changes(Seq::ZERO, 10).await.unwrap(), []);
    assert_eq!(store.history("/a", None, 10).await.unwrap(), []);
    assert_eq!(store.get_many(&["/a", "/b"]).await.unwrap().entries, []);
    assert_eq!(store.get_many(&[]).await.unwrap().entries, []);
    let receipt = store.commit(Batch::new()).await.unwrap();
    assert!(receipt.is_empty(), "an empty batch is recorded as nothing");
    assert_eq!((receipt.last, receipt.versions.len()), (Seq::ZERO, 0));
}

async fn a_set_creates_then_updates<S: Store>(store: S, _: &Subject) {
    assert_eq!(store.set("/a", value(1)).await.unwrap(), 1);
    let first = store.get("/a").await.unwrap().unwrap();
    assert_eq!(store.set("/a", value(1)).await.unwrap(), 2, "an equal value is a change like any other");
    let second = store.get("/a").await.unwrap().unwrap();
    assert_eq!((second.key.as_str(), second.value.as_slice(), second.version), ("/a", &b"1"[..], 2));
    assert_eq!((first.seq, second.seq), (seq(1), seq(2)));
    assert_eq!((second.created_at, first.updated_at), (first.created_at, first.created_at));
    assert!(second.updated_at > first.updated_at);
    assert!(store.exists("/a").await.unwrap());
    assert_eq!(store.version("/a").await.unwrap(), 2);
}

async fn a_delete_removes_and_an_absent_key_is_no_error<S: Store>(store: S, _: &Subject) {
    store.delete("/a").await.unwrap();
    assert_eq!(store.head().await.unwrap().seq, Seq::ZERO, "an absent key: nothing is recorded");
    store.set("/a", value(1)).await.unwrap();
    store.delete("/a").await.unwrap();
    store.delete("/a").await.unwrap();
    assert_eq!(store.head().await.unwrap().seq, seq(2));
    assert_eq!(store.get("/a").await.unwrap(), None);
    assert_eq!(store.version("/a").await.unwrap(), 0);
    assert!(!store.exists("/a").await.unwrap());
    assert_eq!(store.set("/a", value(2)).await.unwrap(), 3, "versions go on over a deletion");
    let entry = store.get("/a").await.unwrap().unwrap();
    assert_eq!(entry.created_at, entry.updated_at, "a new life");
}

async fn compare_and_set_takes_the_current_version_only<S: Store>(store: S, _: &Subject) {
    assert_eq!(store.compare_and_set("/a", 0, value(1)).await.unwrap(), 1);
    for expected in [0, 2, u64::MAX] {
        let error = store.compare_and_set("/a", expected, value(2)).await.unwrap_err();
        assert_eq!(error, StateError::VersionConflict { expected, found: 1 });
        assert!(error.is_retryable() && error.kind() == ErrorKind::Refused);
    }
    let error = store.compare_and_set("/b", 1, value(2)).await.unwrap_err();
    assert_eq!(error, StateError::VersionConflict { expected: 1, found: 0 });
    assert_eq!(store.compare_and_set("/a", 1, value(2)).await.unwrap(), 2);
    assert_eq!(store.head().await.unwrap().seq, seq(2), "refused writes use no position");
}

async fn create_if_not_exists_creates_once<S: Store>(store: S, _: &Subject) {
    assert_eq!(store.create_if_not_exists("/a", value(1)).await.unwrap(), 1);
    let error = store.create_if_not_exists("/a", value(2)).await.unwrap_err();
    assert_eq!(error, StateError::AlreadyExists("/a".into()));
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, b"1");
    store.delete("/a").await.unwrap();
    assert_eq!(store.create_if_not_exists("/a", value(3)).await.unwrap(), 3);
}

async fn a_transaction_is_all_or_nothing<S: Store>(store: S, _: &Subject) {
    let receipt = store
        .transaction(vec![
            TransactionOp::set("/a", "1"),
            TransactionOp::set_json("/b", &[1, 2]).unwrap(),
            TransactionOp::delete("/absent"),
            TransactionOp::check_version("/a", 0),
        ])
        .await
        .unwrap();
    assert_eq!(receipt.versions, [1, 1, 0]);
    assert_eq!((receipt.first, receipt.last), (seq(1), seq(2)));
    let error = store
        .transaction(vec![
            TransactionOp::set("/c", "1"),
            TransactionOp::delete("/a"),
            TransactionOp::check_version("/b", 7),
            TransactionOp::check_version("/a", 9),
        ])
        .await
        .unwrap_err();
    assert_eq!(error, StateError::VersionConflict { expected: 7, found: 1 });
    assert_eq!(store.list("/").await.unwrap(), ["/a", "/b"]);
    assert_eq!(store.head().await.unwrap().seq, seq(2));
}

async fn a_receipt_says_where_and_when<S: Store>(store: S, _: &Subject) {
    let first = store.commit(Batch::new().set("/a", "1").set("/b", "1")).await.unwrap();
    let second = store.commit(Batch::new().delete("/a").delete("/x").set("/b", "2")).await.unwrap();
    assert_eq!((first.first, first.last, first.head.seq), (seq(1), seq(2), seq(2)));
    assert_eq!((second.first, second.last, second.head.seq), (seq(3), seq(4), seq(4)));
    assert_eq!((first.versions, second.versions), (vec![1, 1], vec![0, 0, 2]));
    assert_eq!(second.head, store.head().await.unwrap());
    assert!(second.at > first.at);
    let nothing = store.commit(Batch::new().delete("/a")).await.unwrap();
    assert!(nothing.is_empty() && nothing.first == seq(5) && nothing.last == seq(4));
    assert_eq!((nothing.head, nothing.versions), (second.head, vec![0]));
}

async fn writes_run_in_order_and_a_key_may_be_written_twice<S: Store>(store: S, _: &Subject) {
    store.set("/old", value(0)).await.unwrap();
    let batch = Batch::new()
        .set("/new", "1")
        .set("/new", "2")
        .delete("/new")
        .delete("/new")
        .set("/new", "3")
        .delete("/old")
        .set("/old", "4")
        .set("/gone", "5")
        .delete("/gone");
    let receipt = store.commit(batch).await.unwrap();
    assert_eq!(receipt.versions, [1, 2, 0, 0, 4, 0, 3, 1, 0]);
    let commit = store.changes(seq(1), 100).await.unwrap().remove(0);
    let kinds: Vec<_> = commit.changes.iter().map(|c| (&*c.key, c.kind, c.version, c.prev)).collect();
    assert_eq!(
        kinds,
        [
            ("/new", Created, 1, seq(0)),
            ("/new", Updated, 2, seq(2)),
            ("/new", Deleted, 3, seq(3)),
            ("/new", Created, 4, seq(4)),
            ("/old", Deleted, 2, seq(1)),
            ("/old", Created, 3, seq(6)),
            ("/gone", Created, 1, seq(0)),
            ("/gone", Deleted, 2, seq(8)),
        ]
    );
    assert_eq!(store.list("").await.unwrap(), ["/new", "/old"]);
    assert_eq!(store.set("/gone", value(6)).await.unwrap(), 3, "a key that lived inside one commit");
}

async fn get_many_answers_in_the_order_asked<S: Store>(store: S, _: &Subject) {
    store.commit(Batch::new().set("/a", "1").set("/b", "2").set("/c", "3")).await.unwrap();
    let page = store.get_many(&["/c", "/absent", "/a", "/c"]).await.unwrap();
    let keys: Vec<_> = page.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, ["/c", "/a", "/c"]);
    assert_eq!(page.cursor.head(), Some(store.head().await.unwrap()));
    assert!(page.next.is_none());
    assert!(matches!(store.get_many(&["/a", "b"]).await, Err(StateError::InvalidKey(_))));
    let many = vec!["/a"; Limits::default().page_entries];
    assert_eq!(store.get_many(&many).await.unwrap().entries.len(), many.len());
    let more = vec!["/a"; many.len() + 1];
    assert!(matches!(store.get_many(&more).await, Err(StateError::LimitExceeded(_))));
}

async fn changes_come_as_whole_commits<S: Store>(store: S, _: &Subject) {
    for n in 0..4 {
        let batch = (0..3).fold(Batch::new(), |batch, k| batch.set(format!("/{k}"), format!("{n}")));
        store.commit(batch).await.unwrap();
    }
    let ends = |commits: Vec<univrs_state::log::Commit>| -> Vec<u64> {
        commits.iter().map(|commit| commit.last.as_u64()).collect()
    };
    assert_eq!(ends(store.changes(Seq::ZERO, 0).await.unwrap()), Vec::<u64>::new());
    assert_eq!(ends(store.changes(Seq::ZERO, 1).await.unwrap()), [3], "the last commit passes the limit");
    assert_eq!(ends(store.changes(Seq::ZERO, 3).await.unwrap()), [3]);
    assert_eq!(ends(store.changes(Seq::ZERO, 4).await.unwrap()), [3, 6]);
    assert_eq!(ends(store.changes(seq(6), usize::MAX).await.unwrap()), [9, 12]);
    assert_eq!(ends(store.changes(seq(12), 1).await.unwrap()), Vec::<u64>::new());
    for beyond in [13, u64::MAX] {
        let error = store.changes(seq(beyond), 1).await.unwrap_err();
        assert!(matches!(error, StateError::CursorDiverged(_)), "{error}");
        assert!(error.to_string().contains(&beyond.to_string()), "{error}");
        assert_eq!(error.kind(), ErrorKind::HistoryGone);
    }
}

async fn a_position_inside_a_commit_counts_as_the_one_before_it<S: Store>(store: S, _: &Subject) {
    store.set("/a", value(1)).await.unwrap();
    store.commit(Batch::new().set("/a", "2").set("/b", "2").set("/c", "2")).await.unwrap();
    let whole = store.changes(seq(1), 10).await.unwrap();
    assert_eq!((whole[0].first, whole[0].changes.len()), (seq(2), 3));
    assert_eq!(store.changes(seq(2), 10).await.unwrap(), whole);
    assert_eq!(store.changes(seq(3), 10).await.unwrap(), whole);
    assert_eq!(store.changes(seq(4), 10).await.unwrap(), []);
}

async fn a_page_of_the_log_ends_at_its_bytes<S: Store>(store: S, _: &Subject) {
    for n in 0..6 {
        store.set(&format!("/{n}"), vec![7; 1 << 20]).await.unwrap();
    }
    let page = store.changes(Seq::ZERO, usize::MAX).await.unwrap();
    assert_eq!(page.len(), 4, "a page takes 4 MiB");
    assert_eq!(store.changes(seq(4), usize::MAX).await.unwrap().len(), 2);
}

async fn history_runs_backwards_through_all_lives_of_a_key<S: Store>(store: S, _: &Subject) {
    store.set("/a", value(1)).await.unwrap();
    store.set("/a/b", value("another key")).await.unwrap();
    store.set("/a", value(2)).await.unwrap();
    store.delete("/a").await.unwrap();
    let positions = async |before: Option<u64>, limit| -> Vec<u64> {
        let history = store.history("/a", before.map(Seq::new), limit).await.unwrap();
        assert!(history.iter().all(|change| &*change.key == "/a"));
        history.iter().map(|change| change.seq.as_u64()).collect()
    };
    assert_eq!(positions(None, 10).await, [4, 3, 1], "a deleted key keeps its history");
    store.commit(Batch::new().set("/a", "3").set("/a", "4")).await.unwrap();
    assert_eq!(positions(None, usize::MAX).await, [6, 5, 4, 3, 1]);
    assert_eq!(positions(None, 2).await, [6, 5]);
    assert_eq!(positions(None, 0).await, Vec::<u64>::new());
    assert_eq!(positions(Some(6), 2).await, [5, 4]);
    assert_eq!(positions(Some(2), 10).await, [1], "a position that is another key's");
    assert_eq!(positions(Some(1), 10).await, Vec::<u64>::new());
    assert_eq!(positions(Some(0), 10).await, Vec::<u64>::new());
    assert_eq!(positions(Some(u64::MAX), 1).await, [6]);
    let history = store.history("/a", None, 10).await.unwrap();
    assert_eq!(history[4].value.as_deref(), Some(&b"1"[..]), "old values stay");
    assert_eq!(history[2].kind, Deleted);
}

async fn stats_count_what_happened<S: Store>(store: S, subject: &Subject) {
    for n in 0..5 {
        store.set("/a", value(n)).await.unwrap();
    }
    store.compare_and_set("/a", 1, value(0)).await.unwrap_err();
    let watch = store.watch("/a").unwrap();
    store.set("/a", value(5)).await.unwrap();
    let stats = subject.local.stats().await.unwrap();
    assert_eq!(stats.head, store.head().await.unwrap());
    assert_eq!(stats.batches, 7);
    assert!(stats.groups >= 1 && stats.groups <= 7 && stats.largest_group >= 1);
    assert_eq!(stats.watchers.len(), 1);
    let watcher = &stats.watchers[0];
    assert_eq!((watcher.pattern.as_str(), watcher.position, watcher.lag), ("/a", seq(5), 1));
    assert_eq!(stats.wal_bytes > 0, subject.path.is_some());
    drop(watch);
    assert!(subject.local.stats().await.unwrap().watchers.is_empty());
    let report = subject.local.verify().await.unwrap();
    assert_eq!((report.changes, report.keys, report.tombstones), (6, 1, 0));
}

async fn all_bytes_are_values_and_unicode_is_a_key<S: Store>(store: S, _: &Subject) {
    let all: Vec<u8> = (0..=255).collect();
    for (key, value) in [
        ("/empty", vec![]),
        ("/all", all),
        ("/ä/ø \u{1F980}/\u{10FFFF}", vec![0xff; 3]),
        ("/%41?x#y", vec![0]),
    ] {
        store.set(key, value.clone()).await.unwrap();
        assert_eq!(store.get(key).await.unwrap().unwrap().value, value, "{key}");
        assert_eq!(store.list(key).await.unwrap(), [key]);
    }
    let decomposed = "/a\u{308}";
    store.set(decomposed, value(1)).await.unwrap();
    assert!(!store.exists("/ä").await.unwrap(), "keys are bytes: nothing is normalised");
}

async fn a_prefix_of_bytes_is_no_pattern<S: Store>(store: S, _: &Subject) {
    for key in ["/a", "/a/b", "/a/c", "/ab", "/A", "/b%", "/b_"] {
        store.set(key, value(key)).await.unwrap();
    }
    let list = async |prefix: &str| store.list(prefix).await.unwrap();
    assert_eq!(list("").await, ["/A", "/a", "/a/b", "/a/c", "/ab", "/b%", "/b_"], "in the order of bytes");
    assert_eq!(list("/a").await, ["/a", "/a/b", "/a/c", "/ab"]);
    assert_eq!(list("/a/").await, ["/a/b", "/a/c"]);
    assert_eq!(list("/b_").await, ["/b_"]);
    assert_eq!(list("/b%").await, ["/b%"]);
    for nothing in ["/*", "/a/*", "a", "/a//", "/\0", "x\u{10FFFF}", "\u{10FFFF}"] {
        assert_eq!(list(nothing).await, Vec::<String>::new(), "{nothing:?}");
    }
}

#[tokio::test]
async fn a_store_behind_any_pointer_has_all_methods() {
    async fn takes_any<S: StateStore>(store: S) -> Option<u64> {
        store.get_json("/n").await.unwrap()
    }
    let store = MemoryStore::default();
    let shared: Arc<dyn StateStore> = Arc::new(store.clone());
    let boxed: Box<dyn StateStore> = Box::new(store.clone());
    let borrowed: &dyn StateStore = &store;
    shared.set_json("/n", &1).await.unwrap();
    assert_eq!(boxed.get_json("/n").await.unwrap(), Some(1));
    assert_eq!(
        boxed
            .update_json("/n", |n: Option<u64>| Ok(n.map_or(Update::Delete, |n| Update::Set(n + 1))))
            .await
            .unwrap(),
        2
    );
    assert_eq!((&borrowed).get_json::<u64>("/n").await.unwrap(), Some(2));
    (&borrowed).set_cbor("/c", &3).await.unwrap();
    assert_eq!(borrowed.version("/c").await.unwrap(), 1);
    assert_eq!(takes_any(borrowed).await, Some(2));
    assert_eq!(takes_any(&boxed).await, Some(2));
    assert_eq!(takes_any(Arc::new(boxed)).await, Some(2));
    assert_eq!(takes_any(shared.with_meta(Meta::new().actor("a"))).await, Some(2));
    support::audit(&Local::Memory(store)).await;
}

#[tokio::test]
async fn futures_and_streams_can_be_sent() {
    fn sendable<T: Send>(thing: T) -> T {
        thing
    }
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
    sendable(store.get("/a")).await.unwrap();
    sendable(store.set_json("/a", &1)).await.unwrap();
    sendable(store.update_json("/a", |_: Option<u64>| Ok(Update::Keep))).await.unwrap();
    let own = |n: Option<u64>| Ok::<_, Box<dyn std::error::Error>>((Update::Set(0), n));
    assert_eq!(sendable(store.try_update_json("/a", own)).await.unwrap(), (Some(1), 2));
    let mut watch = sendable(store.watch_after("/*", Seq::ZERO.into()).unwrap());
    assert!(sendable(watch.try_next()).await.unwrap().is_some());
}

#[tokio::test]
async fn times_are_those_of_the_write() {
    for subject in Subject::each_with(univrs_state::Options::new).await {
        let store = subject.shared();
        let before = SystemTime::now() - std::time::Duration::from_micros(1);
        store.set("/a", value(1)).await.unwrap();
        let entry = store.get("/a").await.unwrap().unwrap();
        assert!(entry.created_at >= before && entry.updated_at <= SystemTime::now(), "{entry:?}");
        subject.audit().await;
    }
}

#[test]
fn kinds_of_changes_are_written_as_words() {
    assert_eq!([Created, Updated, Deleted].map(|kind| kind.to_string()), ["created", "updated", "deleted"]);
}
