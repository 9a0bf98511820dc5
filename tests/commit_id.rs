//! Once an fsync failed, or an answer was lost, nobody knows whether a batch was recorded. With a
//! commit id the caller just sends it again.

use univrs_state::{Batch, Meta, StateError, StateStore};

use crate::support::{Store, Subject, on_every_backend, seq, value};

on_every_backend!(
    a_retry_returns_the_first_receipt,
    a_retry_in_the_same_group_returns_the_first_receipt,
    a_retry_after_reopening_returns_the_first_receipt,
    an_id_of_other_writes_is_refused,
    a_batch_that_changes_nothing_is_not_remembered,
    a_refused_batch_is_not_remembered,
    an_id_is_recorded_with_its_changes,
);

fn batch(id: &str) -> Batch {
    Batch::new().set("/a", "1").delete("/absent").set("/a", "2").delete("/b").set("/c", "3").commit_id(id)
}

async fn a_retry_returns_the_first_receipt<S: Store>(store: S, _: &Subject) {
    store.set("/b", value(1)).await.unwrap();
    let first = store.commit(batch("one").expect_absent("/a")).await.unwrap();
    assert_eq!(first.versions, [1, 0, 2, 0, 1]);
    assert_eq!(store.commit(batch("one").expect_absent("/a")).await.unwrap(), first, "conditions held then");
    store.set("/b", value("now it exists")).await.unwrap();
    store.set("/a", value("something else")).await.unwrap();
    assert_eq!(store.commit(batch("one")).await.unwrap(), first);
    assert_eq!(store.head().await.unwrap().seq, seq(7), "nothing was written again");
    let other = store.commit(batch("two")).await.unwrap();
    assert_eq!((other.first, other.last), (seq(8), seq(11)), "another id is another batch");
    assert_eq!(store.commit(batch("one")).await.unwrap(), first, "the first receipt stays the answer");
}

async fn a_retry_in_the_same_group_returns_the_first_receipt<S: Store>(store: S, _: &Subject) {
    let waker = std::task::Waker::noop();
    let mut context = std::task::Context::from_waker(waker);
    // Polled once each, so that all are ordered before any is answered.
    let mut retries: Vec<_> = (0..50).map(|_| Box::pin(store.commit(batch("one")))).collect();
    let polled: Vec<_> = retries.iter_mut().map(|r| r.as_mut().poll(&mut context)).collect();
    let mut receipts = Vec::new();
    for (retry, polled) in retries.into_iter().zip(polled) {
        receipts.push(match polled {
            std::task::Poll::Ready(receipt) => receipt.unwrap(),
            std::task::Poll::Pending => retry.await.unwrap(),
        });
    }
    assert!(receipts.iter().all(|receipt| *receipt == receipts[0]), "{receipts:?}");
    assert_eq!(store.head().await.unwrap(), receipts[0].head);
    assert_eq!(store.head().await.unwrap().seq, seq(3));
}

async fn a_retry_after_reopening_returns_the_first_receipt<S: Store>(store: S, subject: &Subject) {
    let first = store.commit(batch("one")).await.unwrap();
    store.set("/z", value(1)).await.unwrap();
    let again = subject.reopened().await;
    assert_eq!(again.shared().commit(batch("one")).await.unwrap(), first);
    assert_eq!(again.shared().head().await.unwrap().seq, seq(4));
    let error = again.shared().commit(Batch::new().set("/x", "1").commit_id("one")).await.unwrap_err();
    assert_eq!(error, StateError::CommitIdReused("one".into()));
    again.audit().await;
}

async fn an_id_of_other_writes_is_refused<S: Store>(store: S, _: &Subject) {
    store.set("/b", value(1)).await.unwrap();
    store.commit(batch("one")).await.unwrap();
    let others = [
        Batch::new(),
        Batch::new().set("/a", "1"),
        Batch::new().set("/x", "1"),
        Batch::new().set("/a", "1").set("/a", "2").delete("/b").set("/x", "3"),
        Batch::new().set("/a", "1").set("/a", "2").set("/b", "").set("/c", "3"),
        Batch::new().set("/a", "1").delete("/a").delete("/b").set("/c", "3"),
        Batch::new().set("/a", "1").set("/a", "2").set("/c", "3").delete("/b"),
        batch("one").set("/d", "4"),
        Batch::new().delete("/a"),
    ];
    for other in others {
        let error = store.commit(other.clone().commit_id("one")).await.unwrap_err();
        assert_eq!(error, StateError::CommitIdReused("one".into()), "{other:?}");
        assert!(!error.is_retryable());
    }
    assert_eq!(store.head().await.unwrap().seq, seq(5));
}

async fn a_batch_that_changes_nothing_is_not_remembered<S: Store>(store: S, _: &Subject) {
    let delete = || Batch::new().delete("/a").commit_id("one");
    assert!(store.commit(delete()).await.unwrap().is_empty());
    store.set("/a", value(1)).await.unwrap();
    let receipt = store.commit(delete()).await.unwrap();
    assert_eq!((receipt.first, receipt.last), (seq(2), seq(2)), "this time it deletes");
    store.set("/a", value(2)).await.unwrap();
    assert_eq!(store.commit(delete()).await.unwrap(), receipt, "and now it is remembered");
    assert!(store.exists("/a").await.unwrap());
}

async fn a_refused_batch_is_not_remembered<S: Store>(store: S, _: &Subject) {
    let update = || Batch::new().expect("/a", 1).set("/a", "2").commit_id("one");
    store.commit(update()).await.unwrap_err();
    store.set("/a", value(1)).await.unwrap();
    let receipt = store.commit(update()).await.unwrap();
    assert_eq!(receipt.versions, [2]);
    assert_eq!(store.commit(update()).await.unwrap(), receipt);
}

async fn an_id_is_recorded_with_its_changes<S: Store>(store: S, _: &Subject) {
    let longest = "x".repeat(univrs_state::limits::MAX_COMMIT_ID_LENGTH);
    let handle = store.with_meta(Meta::new().actor("base"));
    let receipt =
        handle.commit(Batch::new().set("/a", "1").set("/b", "2").commit_id(&longest)).await.unwrap();
    let commit = store.changes(receipt.first.previous(), 1).await.unwrap().remove(0);
    for change in &commit.changes {
        let meta = change.meta.as_deref().unwrap();
        assert_eq!((meta.commit_id(), meta.actor.as_deref()), (Some(longest.as_str()), Some("base")));
    }
}
