//! What a consumer refuses: a clear error, and the store as it was.

use std::time::Duration;

use univrs_state::history::Point;
use univrs_state::log::Hash;
use univrs_state::retain::Compact;
use univrs_state::{Batch, Cursor, ErrorKind, Head, LocalStore, MemoryStore, Seq, StateError, StateStore};

use crate::consumer::{KEY, next, noting, open};
use crate::support::{Store, Subject, on_every_backend, seq, value};

on_every_backend!(
    a_name_that_breaks_a_rule_is_refused_by_that_rule,
    a_request_that_breaks_a_rule_is_refused_by_that_rule,
    a_start_that_the_log_does_not_have_is_refused,
    what_was_not_delivered_or_goes_back_is_not_acknowledged,
    what_lies_below_the_floor_is_compacted_and_both_positions_are_named,
);

async fn a_name_that_breaks_a_rule_is_refused_by_that_rule<S: Store>(store: S, subject: &Subject) {
    let local = subject.local.opened();
    store.set("/a", value(1)).await.unwrap();
    let head = store.head().await.unwrap();
    for (name, rule) in [
        ("", "it is empty"),
        (&*"x".repeat(129), "it has 129 bytes, at most 128 are allowed"),
        (&*"x".repeat(200), "it has 200 bytes, at most 128 are allowed"),
        ("a/b", "'/' at byte 1"),
        ("a\nb", "'\\n' at byte 1"),
        ("a\0", "'\\0' at byte 1"),
        ("a*", "'*' at byte 1"),
        ("é", "'é' at byte 0"),
        (".a", "must start with a letter or a digit"),
    ] {
        for refused in [
            local.consumer(name).pattern("/a").open().await.map(drop),
            local.reset_consumer(name, Point::Head).await.map(drop),
            local.remove_consumer(name).await.map(drop),
        ] {
            let error = refused.unwrap_err();
            assert!(matches!(&error, StateError::InvalidArgument(_)), "{name:?}: {error}");
            assert!(
                error.to_string().contains(rule) && error.to_string().contains("of a consumer"),
                "{error}"
            );
            assert!(!error.to_string().contains(['\n', '\0']), "{error:?}");
        }
    }
    assert_eq!(store.head().await.unwrap(), head);
    let longest = "x".repeat(128);
    let consumer = local.consumer(&longest).pattern("/a").open().await.unwrap();
    assert_eq!((consumer.name(), local.consumers().await.unwrap().len()), (longest.as_str(), 1));
}

async fn a_request_that_breaks_a_rule_is_refused_by_that_rule<S: Store>(store: S, subject: &Subject) {
    let local = subject.local.opened();
    store.set("/a", value(1)).await.unwrap();
    let (second, year) = (Duration::from_secs(1), Duration::from_secs(366 * 86_400));
    let head = store.head().await.unwrap();
    let new = || local.consumer("c").pattern("/a");
    for (request, says) in [
        (local.consumer("c"), "a new one needs a pattern"),
        (local.consumer("c").pattern("a"), "must start with '/'"),
        (local.consumer("c").pattern("/a//*"), "empty segment"),
        (local.consumer("c").pattern("/.univrs/consumers/*"), "positions of consumers"),
        (local.consumer("c").pattern(KEY), "positions of consumers"),
        (new().hold(Duration::ZERO), "a hold of 0ns is out of range; it is from 60s"),
        (new().hold(59 * second), "out of range"),
        (new().hold(100 * year + second), "out of range"),
    ] {
        let shown = format!("{request:?}");
        let error = request.open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{shown}: {error}");
        assert!(error.to_string().contains(says), "{shown}: {error}");
    }
    assert_eq!(store.head().await.unwrap(), head);
    new().hold(60 * second).open().await.unwrap();
    new().hold(100 * year).open().await.unwrap();
    let head = store.head().await.unwrap();
    let other = local.consumer("c").pattern("/b").open().await.unwrap_err().to_string();
    assert!(other.contains(r#"it reads "/a", and not "/b""#), "{other}");
    let none = local.reset_consumer("none", Point::Head).await.unwrap_err().to_string();
    assert!(none.contains(r#"no consumer "none""#), "{none}");
    assert_eq!(store.head().await.unwrap(), head);
    assert_eq!(local.consumers().await.unwrap()[0].hold, 100 * year);
}

/// Positions that a log does not have: of another store, with another hash, above the head, inside a commit.
async fn wrong(store: &impl StateStore, subject: &Subject) -> Vec<(Cursor, &'static str)> {
    let head = store.head().await.unwrap();
    let other = MemoryStore::new();
    for n in 0..head.seq.as_u64() {
        other.set("/a", value(n)).await.unwrap();
    }
    let forged = Head { seq: head.seq, hash: Hash::from_bytes([7; 32]) };
    vec![
        (Cursor::new(other.store_id(), other.head().await.unwrap()), "of store"),
        (Cursor::new(subject.local.store_id(), forged), "another hash at position"),
        (head.seq.next().into(), "beyond the end of the log"),
        (Seq::MAX.into(), "beyond the end of the log"),
    ]
}

async fn a_start_that_the_log_does_not_have_is_refused<S: Store>(store: S, subject: &Subject) {
    let local = subject.local.opened();
    store.set("/a", value(1)).await.unwrap();
    store.commit(Batch::new().set("/a", "2").set("/a", "3")).await.unwrap();
    for (cursor, says) in wrong(&store, subject).await {
        let error = local.consumer("c").pattern("/a").start(cursor).open().await.unwrap_err();
        assert!(matches!(&error, StateError::CursorDiverged(why) if why.contains(says)), "{error}");
    }
    let inside = local.consumer("c").pattern("/a").start(seq(2)).open().await.unwrap_err();
    assert!(matches!(inside, StateError::InsideCommit { .. }), "{inside}");
    assert_eq!((store.head().await.unwrap().seq, local.consumers().await.unwrap().len()), (seq(3), 0));
    open(&local, "/a").await;
    for (cursor, says) in wrong(&store, subject).await {
        let error = local.reset_consumer("c", cursor.into()).await.unwrap_err();
        assert!(matches!(&error, StateError::CursorDiverged(why) if why.contains(says)), "{error}");
    }
    assert_eq!(store.head().await.unwrap().seq, seq(4));
}

async fn what_was_not_delivered_or_goes_back_is_not_acknowledged<S: Store>(store: S, subject: &Subject) {
    let local = subject.local.opened();
    let mut heads = vec![store.head().await.unwrap()];
    for n in 1..=6 {
        store.set("/a", value(n)).await.unwrap();
        heads.push(store.head().await.unwrap());
    }
    let cursor = |n: usize| Cursor::new(subject.local.store_id(), heads[n]);
    let mut consumer = open(&local, "/a").await;
    let head = store.head().await.unwrap();
    for _ in 0..4 {
        next(&mut consumer).await;
    }
    consumer.ack(cursor(2)).await.unwrap();
    for (to, says) in [
        (cursor(1), "everything up to 2 is, and that is not taken back"),
        (seq(1).into(), "everything up to 2 is"),
        (cursor(0), "everything up to 2 is"),
        (cursor(5), "only commits up to 4 were delivered"),
        (seq(6).into(), "only commits up to 4 were delivered"),
        (Seq::MAX.into(), "only commits up to 4 were delivered"),
    ] {
        let error = consumer.ack(to).await.unwrap_err();
        assert!(matches!(&error, StateError::InvalidArgument(why) if why.contains(says)), "{to}: {error}");
    }
    let forged = Cursor::new(subject.local.store_id(), Head { hash: heads[2].hash, ..heads[3] });
    for to in [forged, Cursor::new(MemoryStore::new().store_id(), heads[3])] {
        let error = consumer.ack(to).await.unwrap_err();
        assert!(matches!(error, StateError::CursorDiverged(_)), "{to}: {error}");
    }
    assert_eq!((consumer.cursor(), store.head().await.unwrap()), (cursor(2), head));
    consumer.ack(cursor(3)).await.unwrap();
    assert_eq!(consumer.cursor(), cursor(3));
    consumer.ack(seq(4)).await.unwrap();
    consumer.close().await.unwrap();
    let mut consumer = open(&local, "/a").await;
    assert_eq!(next(&mut consumer).await.cursor, cursor(5));
    // What was read and only processed in vain was not delivered either.
    consumer.ack(cursor(5)).await.unwrap();
    consumer.process(|_| Batch::new().set(KEY, "")).await.unwrap_err();
    assert!(consumer.ack(cursor(6)).await.is_err());
    consumer.process(noting).await.unwrap();
    consumer.ack(cursor(6)).await.unwrap();
}

async fn what_lies_below_the_floor_is_compacted_and_both_positions_are_named<S: Store>(
    store: S,
    subject: &Subject,
) {
    let local = subject.local.opened();
    for n in 1..=4 {
        store.set("/a", value(n)).await.unwrap();
    }
    let mut late = local.consumer("late").pattern("/a").open().await.unwrap();
    let mut lags = open(&local, "/a").await;
    let commit = next(&mut lags).await;
    lags.ack(&commit).await.unwrap();
    lags.close().await.unwrap();
    store.set("/a", value(5)).await.unwrap();
    subject.local.compact(Compact::before(seq(4)).force()).await.unwrap();
    let head = store.head().await.unwrap();
    let gone = |requested: u64| StateError::Compacted { requested: seq(requested), oldest: seq(4) };
    assert_eq!(local.consumer("c").open().await.unwrap_err(), gone(1));
    assert_eq!(local.consumer("new").pattern("/a").open().await.unwrap_err(), gone(0));
    assert_eq!(local.reset_consumer("c", seq(3).into()).await.unwrap_err(), gone(3));
    assert_eq!(late.next().await, Err(gone(0)));
    assert_eq!((late.next().await, late.process(noting).await), (Ok(None), Ok(None)));
    assert_eq!(store.head().await.unwrap(), head);

    local.reset_consumer("c", seq(4).into()).await.unwrap();
    let mut consumer = open(&local, "/a").await;
    assert_eq!(next(&mut consumer).await.events[0].new_value, Some(value(5)));
}
