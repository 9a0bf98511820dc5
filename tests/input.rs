//! Bad input: a clear error, and nothing half done.

use univrs_state::limits::{MAX_COMMIT_ID_LENGTH, MAX_CONDITIONS};
use univrs_state::{
    Batch, Cursor, ErrorKind, Limits, Meta, Scan, Seq, StateError, StateStore, TransactionOp, Update,
};

use crate::support::{Store, Subject, on_every_backend, options, seq, value};

on_every_backend!(
    a_bad_key_is_refused_by_every_method,
    a_key_of_1024_bytes_is_taken_and_of_1025_refused,
    reserved_keys_are_not_written,
    a_bad_pattern_is_refused_at_once,
    a_value_at_its_limit_is_taken_and_over_it_refused,
    a_batch_at_its_limits_is_taken_and_over_them_refused,
    metadata_at_its_limit_is_taken_and_over_it_refused,
    commit_ids_and_conditions_have_limits,
    one_bad_write_refuses_the_whole_batch,
    a_cursor_of_another_store_is_refused_at_once,
    a_cursor_that_is_no_position_of_the_log_ends_the_watch,
    what_is_no_cursor_does_not_parse,
);

const BAD_KEYS: [(&str, &str); 13] = [
    ("", "empty"),
    ("a", "start with"),
    ("a/b", "start with"),
    ("/", "end with"),
    ("/a/", "end with"),
    ("//", "empty segment"),
    ("//a", "empty segment at byte 0"),
    ("/a//b", "empty segment at byte 2"),
    ("/a\0b", "U+0000 at byte 2"),
    ("/a\nb", "U+000A"),
    ("/a\u{7f}", "U+007F"),
    ("/a*", "reserved for patterns"),
    ("/a/*/b", "reserved for patterns"),
];

/// Whether it is the error of a bad key, and says why.
fn check(error: &StateError, key: &str, why: &str) {
    assert!(matches!(error, StateError::InvalidKey(_)), "{key:?}: {error}");
    assert!(error.to_string().contains(why), "{key:?}: {error}");
    assert!(!error.is_retryable() && error.kind() == ErrorKind::InvalidInput);
    assert!(!error.to_string().contains(['\0', '\n']), "control characters are escaped: {error:?}");
}

async fn a_bad_key_is_refused_by_every_method<S: Store>(store: S, _: &Subject) {
    for (key, why) in BAD_KEYS {
        let good = || Batch::new().set("/good", "1");
        let errors = [
            store.get(key).await.unwrap_err(),
            store.get_many(&["/good", key]).await.unwrap_err(),
            store.exists(key).await.unwrap_err(),
            store.version(key).await.unwrap_err(),
            store.history(key, None, 1).await.unwrap_err(),
            store.set(key, value(1)).await.unwrap_err(),
            store.delete(key).await.unwrap_err(),
            store.compare_and_set(key, 0, value(1)).await.unwrap_err(),
            store.create_if_not_exists(key, value(1)).await.unwrap_err(),
            store.commit(good().set(key, "1")).await.unwrap_err(),
            store.commit(good().delete(key)).await.unwrap_err(),
            store.commit(good().expect(key, 0)).await.unwrap_err(),
            store.transaction(vec![TransactionOp::check_version(key, 0)]).await.unwrap_err(),
            store.transaction(vec![TransactionOp::delete(key)]).await.unwrap_err(),
            store.get_json::<u64>(key).await.unwrap_err(),
            store.set_json(key, &1).await.unwrap_err(),
            store.update_json(key, |_: Option<u64>| Ok(Update::Keep)).await.unwrap_err(),
        ];
        for error in &errors {
            check(error, key, why);
        }
    }
    assert_eq!(store.head().await.unwrap().seq, Seq::ZERO);
}

async fn a_key_of_1024_bytes_is_taken_and_of_1025_refused<S: Store>(store: S, _: &Subject) {
    let longest = format!("/{}", "ä".repeat(511)) + "k";
    assert_eq!(longest.len(), 1024);
    store.set(&longest, value(1)).await.unwrap();
    assert_eq!(store.list("/").await.unwrap(), [longest.as_str()]);
    assert_eq!(store.history(&longest, None, 9).await.unwrap().len(), 1);
    let mut watch = store.watch_after(&longest, Seq::ZERO.into()).unwrap();
    assert_eq!(watch.try_next().await.unwrap().unwrap().key, longest);
    let error = store.set(&format!("{longest}k"), value(1)).await.unwrap_err();
    check(&error, "of 1025 bytes", "1025 bytes, at most 1024");
    assert!(error.to_string().len() < 300, "a long key is shortened: {error}");
}

async fn reserved_keys_are_not_written<S: Store>(store: S, _: &Subject) {
    for key in ["/.univrs/x", "/.univrs/consumers/a"] {
        for error in [
            store.set(key, value(1)).await.unwrap_err(),
            store.delete(key).await.unwrap_err(),
            store.create_if_not_exists(key, value(1)).await.unwrap_err(),
            store.commit(Batch::new().set("/a", "1").set(key, "1")).await.unwrap_err(),
        ] {
            check(&error, key, "belong to the store");
        }
        assert_eq!(store.get(key).await.unwrap(), None, "reading them is allowed");
        store.commit(Batch::new().expect_absent(key)).await.unwrap();
    }
    store.set("/.univrsal", value(1)).await.unwrap();
    assert_eq!(store.list("/").await.unwrap(), ["/.univrsal"]);
}

async fn a_bad_pattern_is_refused_at_once<S: Store>(store: S, subject: &Subject) {
    for pattern in ["", "*", "a*", "/", "/a/", "//*", "/a**b", "/a*b/c", "/a/***", "/*/", "/a\n*", "/a**"] {
        let error = store.watch(pattern).unwrap_err();
        assert!(matches!(error, StateError::InvalidKey(_)), "{pattern:?}: {error}");
        assert_eq!(store.watch_after(pattern, Seq::ZERO.into()).unwrap_err(), error);
    }
    let long = format!("/{}*", "k".repeat(1024));
    assert!(matches!(store.watch(&long), Err(StateError::InvalidKey(_))));
    assert!(subject.local.stats().await.unwrap().watchers.is_empty());
}

fn exceeded(error: StateError) -> (usize, usize, &'static str) {
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(!error.is_retryable(), "the same never fits");
    match error {
        StateError::LimitExceeded(exceeded) => (exceeded.actual, exceeded.limit, exceeded.unit),
        other => panic!("{other}"),
    }
}

const MIB: usize = 1 << 20;

async fn a_value_at_its_limit_is_taken_and_over_it_refused<S: Store>(store: S, _: &Subject) {
    store.set("/a", vec![1; MIB]).await.unwrap();
    let error = store.set("/a", vec![2; MIB + 1]).await.unwrap_err();
    assert!(error.to_string().contains("/a"), "{error}");
    assert_eq!(exceeded(error), (MIB + 1, MIB, "bytes"));
    let error = store.compare_and_set("/a", 9, vec![2; MIB + 1]).await.unwrap_err();
    assert_eq!(exceeded(error).2, "bytes");
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, vec![1; MIB]);
}

async fn a_batch_at_its_limits_is_taken_and_over_them_refused<S: Store>(store: S, _: &Subject) {
    let writes = |n: usize| (0..n).fold(Batch::new(), |batch, k| batch.delete(format!("/{k}")));
    store.commit(writes(10_000)).await.unwrap();
    let error = store.commit(writes(10_001).set("/x", "1")).await.unwrap_err();
    assert_eq!(exceeded(error), (10_002, 10_000, "writes"));
    let full = (0..16).fold(Batch::new(), |batch, n| batch.set(format!("/{n:03}"), vec![0; MIB - 4]));
    let error = store.commit(full.clone().delete("/x")).await.unwrap_err();
    assert_eq!(exceeded(error), (16 * MIB + 2, 16 * MIB, "bytes"));
    let error = store.commit(full.clone().meta(Meta::new().actor("a"))).await.unwrap_err();
    assert_eq!(exceeded(error).1, 16 * MIB, "metadata counts for each write");
    assert_eq!(store.head().await.unwrap().seq, Seq::ZERO);
    assert_eq!(store.commit(full).await.unwrap().last, seq(16));
}

async fn metadata_at_its_limit_is_taken_and_over_it_refused<S: Store>(store: S, _: &Subject) {
    // A map of one text of 3 + n bytes under a name of 7: 1 + 7 + 3 + n.
    let reason = |n: usize| Batch::new().set("/a", "1").meta(Meta::new().reason("x".repeat(n - 11)));
    store.commit(reason(1024)).await.unwrap();
    assert_eq!(exceeded(store.commit(reason(1025)).await.unwrap_err()), (1025, 1024, "bytes"));
    let handle = store.with_meta(Meta::new().label("l", "x".repeat(1024)));
    assert_eq!(exceeded(handle.delete("/a").await.unwrap_err()).1, 1024);
    assert_eq!(store.version("/a").await.unwrap(), 1);
}

async fn commit_ids_and_conditions_have_limits<S: Store>(store: S, _: &Subject) {
    let id = |n: usize| Batch::new().set("/a", "1").commit_id("x".repeat(n));
    store.commit(id(MAX_COMMIT_ID_LENGTH)).await.unwrap();
    let error = store.commit(id(MAX_COMMIT_ID_LENGTH + 1)).await.unwrap_err();
    assert_eq!(exceeded(error), (MAX_COMMIT_ID_LENGTH + 1, MAX_COMMIT_ID_LENGTH, "bytes"));
    assert!(matches!(store.commit(id(0)).await, Err(StateError::InvalidArgument(_))));
    let conditions = |n: usize| (0..n).fold(Batch::new(), |batch, k| batch.expect_absent(format!("/c/{k}")));
    store.commit(conditions(MAX_CONDITIONS)).await.unwrap();
    let error = store.commit(conditions(MAX_CONDITIONS + 1)).await.unwrap_err();
    assert_eq!(exceeded(error), (MAX_CONDITIONS + 1, MAX_CONDITIONS, "conditions"));
    assert_eq!(store.head().await.unwrap().seq, seq(1));
}

async fn one_bad_write_refuses_the_whole_batch<S: Store>(store: S, _: &Subject) {
    for bad in [
        Batch::new().set("/a", "1").set("bad", "1"),
        Batch::new().set("/a", "1").set("/b", vec![0; MIB + 1]),
        Batch::new().set("/a", "1").set("/.univrs/b", "1"),
        Batch::new().set("/a", "1").expect("/b", 7),
    ] {
        store.commit(bad).await.unwrap_err();
    }
    assert_eq!(store.list("").await.unwrap(), Vec::<String>::new());
    assert_eq!(store.head().await.unwrap().seq, Seq::ZERO);
}

async fn a_cursor_of_another_store_is_refused_at_once<S: Store>(store: S, _: &Subject) {
    let other = Subject::memory_with(univrs_state::Options::new());
    other.shared().set("/a", value(1)).await.unwrap();
    let cursor = other.shared().scan(Scan::prefix("/")).await.unwrap().cursor;
    store.set("/a", value(1)).await.unwrap();
    let error = store.watch_after("/*", cursor).unwrap_err();
    assert!(matches!(error, StateError::CursorDiverged(_)), "{error}");
    assert!(error.to_string().contains(&other.local.store_id().to_string()), "{error}");
    other.audit().await;
}

async fn a_cursor_that_is_no_position_of_the_log_ends_the_watch<S: Store>(store: S, subject: &Subject) {
    store.set("/a", value(1)).await.unwrap();
    // The same store id, the same number of changes, another content: a fork.
    let fork = Subject::memory_with(options().store_id(subject.local.store_id()));
    fork.shared().commit(Batch::new().set("/a", "other").set("/b", "other")).await.unwrap();
    let beyond = fork.shared().watch("/*").unwrap().cursor();
    fork.audit().await;
    let one = beyond.to_string().replace(":2:", ":1:").parse::<Cursor>().unwrap();
    for (cursor, why) in [
        (beyond, "beyond the end"),
        (one, "another hash at position 1"),
        (seq(2).into(), "beyond the end"),
        (seq(u64::MAX).into(), "beyond the end"),
    ] {
        let mut watch = store.watch_after("/*", cursor).unwrap();
        let error = watch.try_next().await.unwrap_err();
        assert!(matches!(error, StateError::CursorDiverged(_)), "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(error.kind(), ErrorKind::HistoryGone);
        assert_eq!(watch.error(), Some(&error));
        assert_eq!(watch.try_next().await, Ok(None), "the cause is told once");
        assert_eq!(watch.cursor(), cursor, "where it stopped stays known");
    }
    let mut watch = store.watch_after("/*", seq(1).into()).unwrap();
    store.set("/a", value(2)).await.unwrap();
    assert_eq!(watch.next().await.unwrap().seq, seq(2), "the others are not disturbed");
}

async fn what_is_no_cursor_does_not_parse<S: Store>(store: S, _: &Subject) {
    store.set("/a", value(1)).await.unwrap();
    let good = store.watch("/*").unwrap().cursor();
    assert_eq!(good.to_string().parse::<Cursor>().unwrap(), good);
    for bad in ["", "x", "-1", "1.5", "a:1:b", &good.to_string()[1..], &format!("{good} ")] {
        let error = bad.parse::<Cursor>().unwrap_err();
        assert!(matches!(error, StateError::InvalidArgument(_)), "{bad:?}: {error}");
    }
}

#[tokio::test]
async fn limits_by_option_are_those_that_count() {
    let mut limits = Limits::default();
    (limits.value_bytes, limits.batch_writes, limits.batch_bytes, limits.meta_bytes) = (10, 2, 20, 30);
    for subject in Subject::each_with(|| options().limits(limits.clone())).await {
        let store = subject.shared();
        store.commit(Batch::new().set("/a", vec![0; 8]).set("/b", vec![0; 8])).await.unwrap();
        let batch = |n| Batch::new().set("/a", vec![0; n]);
        assert_eq!(exceeded(store.commit(batch(11)).await.unwrap_err()), (11, 10, "bytes"));
        let error = store.commit(batch(1).delete("/x").delete("/y")).await.unwrap_err();
        assert_eq!(exceeded(error), (3, 2, "writes"));
        let error = store.commit(batch(10).set("/b", vec![0; 7])).await.unwrap_err();
        assert_eq!(exceeded(error), (21, 20, "bytes"));
        let error = store.commit(batch(1).meta(Meta::new().actor("x".repeat(30)))).await.unwrap_err();
        assert_eq!(exceeded(error).1, 30);
        subject.audit().await;
    }
}

#[tokio::test]
async fn a_store_without_random_bytes_records_nothing() {
    struct Dry;
    impl univrs_state::options::Entropy for Dry {
        fn fill(&self, _: &mut [u8]) -> bool {
            false
        }
    }
    for subject in Subject::each_with(|| options().entropy(Dry)).await {
        let store = subject.shared();
        let error = store.commit(Batch::new().set("/a", "1").commit_id("id")).await.unwrap_err();
        assert!(
            matches!(error, StateError::Unavailable(_)) && error.to_string().contains("random"),
            "{error}"
        );
        assert_eq!(store.head().await.unwrap().seq, Seq::ZERO);
        assert_eq!(store.version("/a").await.unwrap(), 0);
        subject.audit().await;
    }
    let error = univrs_state::Options::new().entropy(Dry).memory().unwrap_err();
    assert!(matches!(error, StateError::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn a_limit_that_cannot_be_is_refused_by_name() {
    let mut limits = Limits::default();
    limits.page_entries = 0;
    let folder = crate::support::folder();
    let path = folder.path().join("state.db");
    let options = options().limits(limits);
    for error in [
        options.clone().memory().unwrap_err(),
        options.clone().in_memory().await.unwrap_err(),
        options.open(&path).await.unwrap_err(),
    ] {
        assert!(
            matches!(&error, StateError::InvalidArgument(why) if why.contains("page_entries")),
            "{error}"
        );
    }
    assert!(!path.exists(), "nothing is created");
}
