//! Conditions: judged on the state before the batch, all failed ones reported, and a refused
//! batch leaves no trace.

use univrs_state::error::FailedCondition;
use univrs_state::{Batch, ErrorKind, Limits, Seq, StateError, StateStore};

use crate::support::{Store, Subject, on_every_backend, options, seq, value};

on_every_backend!(
    versions_are_judged_on_the_state_before_the_batch,
    every_failed_condition_is_reported_in_order,
    a_prefix_is_unchanged_until_something_under_it_changes,
    a_deletion_under_a_prefix_is_a_change,
    a_position_beyond_the_head_fails_the_condition,
    batches_of_one_group_see_each_other,
    conditions_without_writes_are_a_check,
);

fn failed(error: StateError) -> Vec<FailedCondition> {
    match error {
        StateError::Rejected(rejection) => rejection.failed,
        other => panic!("{other}"),
    }
}

async fn refused(store: &impl StateStore, batch: Batch) -> Vec<FailedCondition> {
    let head = store.head().await.unwrap();
    let failed = failed(store.commit(batch).await.unwrap_err());
    assert_eq!(store.head().await.unwrap(), head, "a refused batch leaves no trace");
    failed
}

async fn versions_are_judged_on_the_state_before_the_batch<S: Store>(store: S, _: &Subject) {
    store.set("/a", value(1)).await.unwrap();
    let batch = Batch::new().set("/a", "2").expect("/a", 1).expect_absent("/b").set("/b", "1").delete("/a");
    let receipt = store.commit(batch).await.unwrap();
    assert_eq!(receipt.versions, [2, 1, 0], "wherever the conditions stand");
    store.commit(Batch::new().expect_absent("/a").expect("/b", 1).expect("/b", 1)).await.unwrap();
    let failed = refused(&store, Batch::new().expect("/a", 3).set("/a", "x")).await;
    let FailedCondition::Version { key, expected: 3, found: 0 } = &failed[0] else { panic!("{failed:?}") };
    assert_eq!(key, "/a", "a deleted key is absent, whatever its last version");
}

async fn every_failed_condition_is_reported_in_order<S: Store>(store: S, _: &Subject) {
    store.commit(Batch::new().set("/a", "1").set("/p/x", "1").set("/p/y", "1")).await.unwrap();
    let batch = Batch::new()
        .expect_unchanged_since("/p/", seq(2))
        .expect("/a", 1)
        .expect("/a", 9)
        .expect_absent("/p/x")
        .expect_unchanged_since("/q/", Seq::ZERO)
        .expect("/absent", 4)
        .expect_unchanged_since("/q/", seq(50))
        .set("/b", "1");
    let failed = refused(&store, batch).await;
    let version = |key: &str, expected, found| FailedCondition::Version { key: key.into(), expected, found };
    assert_eq!(failed.len(), 5, "{failed:?}");
    assert_eq!(failed[1..4], [version("/a", 9, 1), version("/p/x", 0, 1), version("/absent", 4, 0)]);
    let FailedCondition::ChangedSince { prefix, expected, found, key } = &failed[0] else { panic!() };
    assert_eq!((prefix.as_str(), *expected, *found), ("/p/", seq(2), seq(3)));
    assert_eq!(key.as_deref(), Some("/p/y"));
    let FailedCondition::ChangedSince { prefix, expected, found, key } = &failed[4] else { panic!() };
    assert_eq!((prefix.as_str(), *expected, *found, key.as_deref()), ("/q/", seq(50), seq(3), None));
    assert!(!store.exists("/b").await.unwrap());
}

async fn a_prefix_is_unchanged_until_something_under_it_changes<S: Store>(store: S, _: &Subject) {
    store.set("/p/a", value(1)).await.unwrap();
    let unchanged = |n: u64| Batch::new().expect_unchanged_since("/p/", seq(n)).set("/out", "x");
    assert_eq!(refused(&store, unchanged(0)).await.len(), 1);
    store.commit(unchanged(1)).await.unwrap();
    store.set("/p", value("beside the prefix")).await.unwrap();
    store.set("/p0", value("just behind it")).await.unwrap();
    store.commit(unchanged(1)).await.unwrap();
    store.set("/p/b", value(1)).await.unwrap();
    let failed = refused(&store, unchanged(4)).await;
    assert!(failed[0].to_string().contains("/p/b changed at 6"), "{}", failed[0]);
    store.commit(unchanged(6)).await.unwrap();
    let all = Batch::new().expect_unchanged_since("", seq(6)).set("/out", "x");
    assert_eq!(refused(&store, all).await.len(), 1, "the empty prefix is every key");
}

async fn a_deletion_under_a_prefix_is_a_change<S: Store>(store: S, _: &Subject) {
    store.commit(Batch::new().set("/p/a", "1").set("/p/b", "1")).await.unwrap();
    let head = store.head().await.unwrap().seq;
    store.delete("/p/a").await.unwrap();
    let batch = Batch::new().expect_unchanged_since("/p/", head).set("/x", "1");
    let failed = refused(&store, batch.clone()).await;
    let FailedCondition::ChangedSince { found, key, .. } = &failed[0] else { panic!() };
    assert_eq!((*found, key.as_deref()), (seq(3), Some("/p/a")));
    store.commit(Batch::new().expect_unchanged_since("/p/", seq(3)).delete("/p/b")).await.unwrap();
    assert_eq!(refused(&store, batch).await.len(), 1, "also once nothing lives under it");
}

async fn a_position_beyond_the_head_fails_the_condition<S: Store>(store: S, _: &Subject) {
    store.set("/a", value(1)).await.unwrap();
    for beyond in [2, u64::MAX] {
        let failed =
            refused(&store, Batch::new().expect_unchanged_since("/p/", seq(beyond)).set("/b", "")).await;
        let FailedCondition::ChangedSince { expected, found, key: None, .. } = &failed[0] else { panic!() };
        assert_eq!((*expected, *found), (seq(beyond), seq(1)));
    }
    store.commit(Batch::new().expect_unchanged_since("/p/", seq(1)).set("/b", "")).await.unwrap();
}

async fn batches_of_one_group_see_each_other<S: Store>(store: S, _: &Subject) {
    // All are ordered before anything is awaited, so the writer is free to group them.
    let orders = (0..64_u64).map(|n| {
        let store = store.clone();
        async move {
            let batch = Batch::new()
                .expect("/n", n)
                .expect_unchanged_since("/p/", seq(2 * n))
                .set("/n", n.to_string())
                .set(format!("/p/{n}"), "x");
            (store.commit(batch).await, store.commit(Batch::new().expect("/n", n).set("/n", "y")).await)
        }
    });
    let mut orders: Vec<_> = orders.map(Box::pin).collect();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut ready = Vec::new();
    for order in &mut orders {
        ready.push(std::future::Future::poll(order.as_mut(), &mut context));
    }
    for (order, ready) in orders.into_iter().zip(ready) {
        let (written, stale) = match ready {
            std::task::Poll::Ready(both) => both,
            std::task::Poll::Pending => order.await,
        };
        written.unwrap();
        stale.unwrap_err();
    }
    assert_eq!(store.version("/n").await.unwrap(), 64);
}

async fn conditions_without_writes_are_a_check<S: Store>(store: S, _: &Subject) {
    store.set("/a", value(1)).await.unwrap();
    assert!(store.commit(Batch::new().expect("/a", 1)).await.unwrap().is_empty());
    assert_eq!(refused(&store, Batch::new().expect("/a", 2)).await.len(), 1);
    let invalid = store.commit(Batch::new().expect("a", 1)).await.unwrap_err();
    assert!(matches!(invalid, StateError::InvalidKey(_)));
}

#[tokio::test]
async fn a_prefix_condition_reads_one_page_of_keys_and_no_more() {
    let mut limits = Limits::default();
    limits.page_entries = 10;
    for subject in Subject::each_with(|| options().limits(limits.clone())).await {
        let store = subject.shared();
        let full = (0..10).fold(Batch::new(), |batch, n| batch.set(format!("/p/{n}"), "x"));
        store.commit(full).await.unwrap();
        let head = store.head().await.unwrap().seq;
        store.commit(Batch::new().expect_unchanged_since("/p/", head).set("/x", "1")).await.unwrap();
        store.delete("/p/3").await.unwrap();
        store.set("/p/10", value(1)).await.unwrap();
        let head = store.head().await.unwrap();
        let batch = Batch::new().expect_unchanged_since("/p/", head.seq).set("/x", "2");
        let error = store.commit(batch).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "another state may allow it");
        let StateError::LimitExceeded(exceeded) = &error else { panic!("{error}") };
        assert_eq!((exceeded.limit, exceeded.actual, exceeded.unit), (10, 11, "keys"), "deleted ones count");
        assert!(exceeded.what.contains("/p/"), "{error}");
        let says = error.to_string();
        assert!(says.contains("at least 11 keys") && says.contains("page_entries"), "{says}");
        assert_eq!(store.head().await.unwrap(), head);
        subject.audit().await;
    }
}

/// Orders the batches one after the other before any of them is awaited, so that the writer is free to
/// record them together.
async fn queued<S: StateStore>(store: &S, batches: Vec<Batch>) -> Vec<univrs_state::Result<Seq>> {
    let mut orders: Vec<_> = batches.into_iter().map(|batch| store.commit(batch)).collect();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let polled: Vec<_> = orders.iter_mut().map(|order| order.as_mut().poll(&mut context)).collect();
    let mut results = Vec::new();
    for (order, polled) in orders.into_iter().zip(polled) {
        let result = match polled {
            std::task::Poll::Ready(result) => result,
            std::task::Poll::Pending => order.await,
        };
        results.push(result.map(|receipt| receipt.last));
    }
    results
}

#[tokio::test]
async fn a_prefix_condition_counts_the_keys_of_batches_that_were_queued_with_it() {
    let mut limits = Limits::default();
    limits.page_entries = 2;
    for subject in Subject::each_with(|| options().limits(limits.clone())).await {
        let store = subject.shared();
        for round in 0..50 {
            let prefix = format!("/{round}/");
            let key = |n: u8| Batch::new().set(format!("{prefix}{n}"), "x");
            let checked = Batch::new().expect_unchanged_since(&prefix, u64::MAX).set("/out", "x");
            let results = queued(&store, vec![key(1), key(2), key(3), checked]).await;
            let [Ok(_), Ok(_), Ok(_), Err(StateError::LimitExceeded(exceeded))] = &results[..] else {
                panic!("{results:?}");
            };
            assert_eq!((exceeded.limit, exceeded.actual), (2, 3));
        }
        assert!(!store.exists("/out").await.unwrap());
        subject.audit().await;
    }
}
