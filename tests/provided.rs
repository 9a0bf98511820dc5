//! What the trait provides over its methods: typed values, and handles that say who writes and why.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use univrs_state::Update::{self, Delete, Keep, Set};
use univrs_state::{Batch, Meta, Result, Seq, StateError, StateStore, TransactionOp};

use crate::support::{Store, Subject, on_every_backend, seq, value};

on_every_backend!(
    typed_values_survive,
    update_json_applies_every_change_once,
    an_update_sets_deletes_or_keeps_and_an_error_writes_nothing,
    an_update_gives_back_what_its_last_call_returned,
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
                store.update_json("/n", |n: Option<u64>| Ok(Set(n.unwrap_or(0) + 1))).await.unwrap();
            }
        })
    });
    for task in adding.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(store.get_json::<u64>("/n").await.unwrap(), Some(40));
    assert_eq!(store.head().await.unwrap().seq, seq(40));
}

// Once, a closure that meant "no" by returning `None` deleted the key.
async fn an_update_sets_deletes_or_keeps_and_an_error_writes_nothing<S: Store>(store: S, _: &Subject) {
    let no = || Err(StateError::KeyNotFound("no".into()));
    assert_eq!(store.update_json("/n", |_: Option<u64>| Ok(Keep)).await, Ok(0), "absent, and stays so");
    assert_eq!(store.update_json("/n", |_: Option<u64>| Ok(Delete)).await, Ok(0));
    assert_eq!(
        store.update_json("/n", |_: Option<u64>| no()).await,
        Err(StateError::KeyNotFound("no".into()))
    );
    assert_eq!(store.head().await.unwrap().seq, Seq::ZERO, "none of them wrote anything");

    assert_eq!(store.update_json("/n", |n: Option<u64>| Ok(Set(n.unwrap_or(5)))).await, Ok(1));
    assert_eq!(store.update_json("/n", |_: Option<u64>| Ok(Keep)).await, Ok(1));
    assert!(store.update_json("/n", |_: Option<u64>| no()).await.is_err());
    assert_eq!((store.get_json("/n").await.unwrap(), store.head().await.unwrap().seq), (Some(5), seq(1)));

    assert_eq!(store.update_json("/n", |n: Option<u64>| Ok(Set(n.unwrap()))).await, Ok(2), "the same value");
    assert_eq!(store.update_json("/n", |_: Option<u64>| Ok(Delete)).await, Ok(0));
    assert!(!store.exists("/n").await.unwrap());
    assert_eq!(store.update_json("/n", |n: Option<u64>| Ok(Set(n.unwrap_or(7)))).await, Ok(4));
    assert_eq!(store.head().await.unwrap().seq, seq(4));

    store.set("/text", value("hunter2")).await.unwrap();
    let unreadable =
        store.update_json("/text", |_: Option<u64>| -> Result<Update<u64>> { panic!("no value") });
    assert!(matches!(unreadable.await, Err(StateError::SerializationError(_))));
}

#[derive(Debug, PartialEq)]
enum Refusal {
    SoldOut,
    Store(StateError),
}

impl From<StateError> for Refusal {
    fn from(error: StateError) -> Self {
        Self::Store(error)
    }
}

async fn an_update_gives_back_what_its_last_call_returned<S: Store>(store: S, _: &Subject) {
    let sell = async |store: S| {
        let sell = |left: Option<u64>| match left {
            None | Some(0) => Err(Refusal::SoldOut),
            Some(1) => Ok((Delete, 1)),
            Some(left) => Ok((Set(left - 1), left)),
        };
        store.try_update_json("/tickets", sell).await
    };
    assert_eq!(sell(store.clone()).await, Err(Refusal::SoldOut));
    store.set_json("/tickets", &40).await.unwrap();
    let buyers = (0..4).map(|_| {
        let (store, mut bought) = (store.clone(), Vec::new());
        tokio::spawn(async move {
            for _ in 0..10 {
                bought.push(sell(store.clone()).await.unwrap());
            }
            bought
        })
    });
    let mut sold = Vec::new();
    for buyer in buyers.collect::<Vec<_>>() {
        sold.extend(buyer.await.unwrap());
    }
    sold.sort_unstable();
    let due = (1..=40).map(|ticket| (ticket, if ticket == 1 { 0 } else { 42 - ticket }));
    assert!(sold.iter().copied().eq(due), "each ticket once, with the version that it left: {sold:?}");
    assert_eq!(sell(store.clone()).await, Err(Refusal::SoldOut));
    let look = |left: Option<u64>| Ok::<_, Refusal>((Keep, left));
    assert_eq!(store.try_update_json("/tickets", look).await, Ok((None, 0)));
    store.set("/tickets", value("hunter2")).await.unwrap();
    let error = store.try_update_json("/tickets", look).await.unwrap_err();
    assert!(matches!(error, Refusal::Store(StateError::SerializationError(_))), "{error:?}");
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
    handle.update_json("/d", |n: Option<u64>| Ok(n.map_or(Keep, |n| Set(n + 1)))).await.unwrap();
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
