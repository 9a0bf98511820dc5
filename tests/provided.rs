//! What the trait provides over its methods: typed values, and handles that say who writes and why.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use univrs_state::{Batch, Meta, Seq, StateError, StateStore, TransactionOp};

use crate::support::{Store, Subject, on_every_backend, seq, value};

on_every_backend!(
    typed_values_survive,
    update_json_applies_every_change_once,
    metadata_stands_on_every_change,
    metadata_copied_from_a_commit_does_not_make_a_retry_of_it,
    a_handle_with_metadata_stamps_every_verb,
);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Node {
    name: String,
    load: BTreeMap<String, f64>,
}

async fn typed_values_survive<S: Store>(store: S, _: &Subject) {
    let node = Node { name: "n1".into(), load: BTreeMap::from([("cpu".into(), 0.5)]) };
    assert_eq!(store.get_json::<Node>("/n").await.unwrap(), None);
    assert_eq!(store.get_json_versioned::<Node>("/n").await.unwrap(), None);
    assert_eq!(store.get_cbor::<Node>("/n").await.unwrap(), None);
    assert_eq!(store.set_json("/n", &node).await.unwrap(), 1);
    assert_eq!(store.get_json("/n").await.unwrap().as_ref(), Some(&node));
    let (read, version) = store.get_json_versioned::<Node>("/n").await.unwrap().unwrap();
    assert_eq!((&read, version), (&node, 1));
    assert_eq!(store.compare_and_set_json("/n", version, &node).await.unwrap(), 2);
    let conflict = store.compare_and_set_json("/n", version, &node).await.unwrap_err();
    assert_eq!(conflict, StateError::VersionConflict { expected: 1, found: 2 });
    assert_eq!(store.get("/n").await.unwrap().unwrap().value_json::<Node>().unwrap(), node);
    assert_eq!(store.set_cbor("/c", &node).await.unwrap(), 1);
    assert_eq!(store.get_cbor("/c").await.unwrap().as_ref(), Some(&node));

    store.set("/secret", b"\"hunter2\"".to_vec()).await.unwrap();
    for error in [
        store.get_json::<u64>("/secret").await.unwrap_err(),
        store.get_json::<u64>("/c").await.unwrap_err(),
        store.get_json_versioned::<Node>("/secret").await.unwrap_err(),
        store.get_cbor::<Node>("/secret").await.unwrap_err(),
        store.get_cbor::<u64>("/n").await.unwrap_err(),
        store.set_json("/n", &BTreeMap::from([((1, 2), "hunter2")])).await.unwrap_err(),
    ] {
        assert!(matches!(error, StateError::SerializationError(_)), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
    assert_eq!(store.version("/n").await.unwrap(), 2, "what cannot be written changes nothing");
}

async fn update_json_applies_every_change_once<S: Store>(store: S, _: &Subject) {
    let adding = (0..4).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                store.update_json("/n", |n: Option<u64>| Some(n.unwrap_or(0) + 1)).await.unwrap();
            }
        })
    });
    for task in adding.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(store.get_json::<u64>("/n").await.unwrap(), Some(40));
    assert_eq!(store.update_json("/n", |_: Option<u64>| None).await.unwrap(), 0, "none deletes");
    assert!(!store.exists("/n").await.unwrap());
    assert_eq!(store.update_json("/n", |_: Option<u64>| None).await.unwrap(), 0, "none stays none");
    assert_eq!(store.update_json("/n", |n: Option<u64>| n.or(Some(5))).await.unwrap(), 42);
    assert_eq!(store.head().await.unwrap().seq, seq(42));
}

async fn metadata_stands_on_every_change<S: Store>(store: S, _: &Subject) {
    let meta = Meta::new().actor("kubelet").reason("drain").correlation("r-7").label("ticket", "1182");
    store.commit(Batch::new().set("/a", "1").set("/b", "1").meta(meta.clone())).await.unwrap();
    store.set("/a", value(2)).await.unwrap();
    let commits = store.changes(Seq::ZERO, 10).await.unwrap();
    assert_eq!(commits[0].meta.as_deref(), Some(&meta));
    assert!(commits[0].changes.iter().all(|change| change.meta.as_deref() == Some(&meta)));
    assert_eq!(commits[1].meta, None);
    assert_eq!(meta.cause(), None);
}

// The copy brought the commit id along: the write was taken for a retry, answered with the old
// receipt, and lost.
async fn metadata_copied_from_a_commit_does_not_make_a_retry_of_it<S: Store>(store: S, _: &Subject) {
    let meta = Meta::new().actor("me");
    store.commit(Batch::new().set("/a", "1").meta(meta.clone()).commit_id("one")).await.unwrap();
    let copied = store.changes(Seq::ZERO, 1).await.unwrap()[0].meta.as_deref().unwrap().clone();
    assert_eq!(copied.commit_id(), Some("one"));
    store.commit(Batch::new().set("/a", "2").meta(copied.clone())).await.unwrap();
    store.with_meta(copied.clone()).set("/a", value(3)).await.unwrap();
    store.commit(Batch::new().commit_id("two").meta(copied).set("/a", "4")).await.unwrap();
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, b"4");
    let commits = store.changes(seq(1), 10).await.unwrap();
    assert_eq!(commits[0].meta.as_deref(), Some(&meta));
    assert_eq!(commits[2].meta.as_deref().unwrap().commit_id(), Some("two"));
    // Only the store itself gives a cause.
    let forged: Meta = serde_json::from_str(r#"{"cause":"migrated"}"#).unwrap();
    store.commit(Batch::new().set("/b", "1").meta(forged)).await.unwrap();
    assert_eq!(store.history("/b", None, 1).await.unwrap()[0].meta, None);
}

async fn a_handle_with_metadata_stamps_every_verb<S: Store>(store: S, _: &Subject) {
    let base = Meta::new().actor("base").reason("base").label("a", "base").label("b", "base");
    let handle = store.with_meta(base.clone());
    handle.set("/a", value(1)).await.unwrap();
    handle.compare_and_set("/a", 1, value(2)).await.unwrap();
    handle.create_if_not_exists("/b", value(1)).await.unwrap();
    handle.transaction(vec![TransactionOp::set("/c", "1")]).await.unwrap();
    handle.set_json("/d", &1).await.unwrap();
    handle.compare_and_set_json("/d", 1, &2).await.unwrap();
    handle.update_json("/d", |n: Option<u64>| n.map(|n| n + 1)).await.unwrap();
    handle.set_cbor("/e", &1).await.unwrap();
    handle.delete("/a").await.unwrap();
    Arc::new(handle.clone()).set("/f", value(1)).await.unwrap();
    let commits = store.changes(Seq::ZERO, 100).await.unwrap();
    assert_eq!(commits.len(), 10);
    assert!(commits.iter().all(|commit| commit.meta.as_deref() == Some(&base)), "{commits:?}");

    let own = Meta::new().actor("own").label("a", "own");
    let receipt = handle.commit(Batch::new().set("/a", "1").meta(own)).await.unwrap();
    let stamped = handle.with_meta(Meta::new().correlation("outer").actor("outer"));
    stamped.set("/a", value(1)).await.unwrap();
    let commits = handle.changes(receipt.first.previous(), 10).await.unwrap();
    let expected = Meta::new().actor("own").reason("base").label("a", "own").label("b", "base");
    assert_eq!(commits[0].meta.as_deref(), Some(&expected), "what the batch says itself goes first");
    let expected = base.clone().actor("outer").correlation("outer");
    assert_eq!(commits[1].meta.as_deref(), Some(&expected), "the outer handle goes first");
    assert_eq!(handle.get("/b").await.unwrap(), store.get("/b").await.unwrap());
    assert_eq!(handle.head().await.unwrap(), store.head().await.unwrap());
}
