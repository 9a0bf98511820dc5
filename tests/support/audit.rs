//! The audit: what must be true of every store, whatever was done to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use univrs_state::key::RESERVED_PREFIX;
use univrs_state::log::{Change, ChangeKind, Follow, Timestamp};
use univrs_state::{Entry, Meta, Scan, Seq, StateStore};

use super::Local;

/// Checks that verification finds nothing, that the chain followed from genesis ends in the head,
/// and that all reads equal the fold of the log, made here with a plain map. Returns the log.
pub(crate) async fn audit(local: &Local) -> Vec<Change> {
    let store = local.shared();
    let report = local.verify().await.unwrap();
    assert!(report.is_intact(), "{:?}", report.findings);
    let head = store.head().await.unwrap();
    assert_eq!(report.head, head);

    let log = log_of(&store).await;
    let mut follow = Follow::genesis(local.store_id());
    for change in &log {
        follow.check(change).unwrap_or_else(|error| panic!("{error}: {change:?}"));
    }
    assert!(follow.is_whole(), "the last commit is cut off");
    assert_eq!(follow.head(), head, "the log does not end in the head");
    assert_eq!(report.changes, log.len() as u64);

    let expected: Vec<Entry> = fold(&log).into_values().collect();
    // Keys of the store itself are shown only to whoever names them.
    let (own, expected): (Vec<Entry>, Vec<Entry>) =
        expected.into_iter().partition(|entry| entry.key.starts_with(RESERVED_PREFIX));
    for (prefix, expected) in [("", &expected), (RESERVED_PREFIX, &own)] {
        assert_eq!(&entries(&store, prefix).await, expected, "the projection is not the fold of the log");
        let keys: Vec<&str> = expected.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(store.list(prefix).await.unwrap(), keys);
    }
    let keys = own.len() + expected.len();
    if let Local::Memory(store) = local {
        assert_eq!((store.len(), store.is_empty()), (keys, keys == 0));
    }
    log
}

/// The whole log, a page at a time; also checks that pages are of whole, unbroken commits.
pub(crate) async fn log_of(store: &impl StateStore) -> Vec<Change> {
    let mut log: Vec<Change> = Vec::new();
    loop {
        let after = log.last().map_or(Seq::ZERO, |change| change.seq);
        let commits = store.changes(after, 700).await.unwrap();
        if commits.is_empty() {
            return log;
        }
        for commit in commits {
            assert_eq!(commit.first, log.last().map_or(Seq::ZERO, |change| change.seq).next());
            assert_eq!(commit.last, commit.changes.last().unwrap().seq);
            for change in &commit.changes {
                assert_eq!((change.commit_seq, change.at), (commit.last, commit.at));
                assert_eq!(change.meta, commit.meta);
            }
            log.extend(commit.changes);
        }
    }
}

/// The fold of a log, which also checks what each change says about its key.
pub(crate) fn fold(log: &[Change]) -> BTreeMap<Arc<str>, Entry> {
    let mut last: BTreeMap<&str, &Change> = BTreeMap::new();
    let mut entries = BTreeMap::new();
    let mut at = Timestamp::EPOCH;
    for (change, seq) in log.iter().zip(1..) {
        assert_eq!(change.seq, Seq::new(seq), "a gap");
        let opens = seq == 1 || log[usize::try_from(seq).unwrap() - 2].closes_commit();
        let accepts = change.meta.as_deref().and_then(Meta::cause) == Some("clock_accepted");
        let fits = if opens { change.at > at || accepts } else { change.at == at };
        assert!(fits, "times do not increase at {seq}");
        assert!(
            !accepts || opens && change.closes_commit() && &*change.key == "/.univrs/clock",
            "{change:?}"
        );
        at = change.at;
        let before = last.insert(&change.key, change);
        assert_eq!(change.version, before.map_or(0, |before| before.version) + 1, "{change:?}");
        assert_eq!(change.prev, before.map_or(Seq::ZERO, |before| before.seq), "{change:?}");
        let lived = before.is_some_and(|before| before.kind != ChangeKind::Deleted);
        assert_eq!(change.kind == ChangeKind::Created, !lived, "{change:?}");
        match &change.value {
            None => entries.remove(&change.key),
            Some(value) => entries.insert(
                change.key.clone(),
                Entry {
                    key: change.key.to_string(),
                    value: value.to_vec(),
                    version: change.version,
                    created_at: change.created_at.into(),
                    updated_at: change.at.into(),
                    seq: change.seq,
                    until: None,
                },
            ),
        };
    }
    entries
}

/// All entries under a prefix, by pages.
pub(crate) async fn entries(store: &impl StateStore, prefix: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut next = Some(Scan::prefix(prefix));
    while let Some(scan) = next {
        let page = store.scan(scan).await.unwrap();
        entries.extend(page.entries);
        next = page.next;
    }
    entries
}
