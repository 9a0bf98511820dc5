//! The audit: what must be true of every store, whatever was done to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use univrs_state::key::RESERVED_PREFIX;
use univrs_state::log::{Change, ChangeKind, Follow, Timestamp};
use univrs_state::{Entry, Meta, Scan, Seq, StateStore};

use super::Local;

/// Checks that verification finds nothing, that the chain followed from genesis or from the floor ends in the head,
/// and that all reads equal the fold of the log, made here with a plain map. Returns the log after the floor.
pub(crate) async fn audit(local: &Local) -> Vec<Change> {
    let store = local.shared();
    let report = local.verify().await.unwrap();
    assert!(report.is_intact(), "{:?}", report.findings);
    let head = store.head().await.unwrap();
    assert_eq!(report.head, head);

    let floor = local.floor().await.unwrap();
    let log = log_after(&store, floor.seq).await;
    let base = base_of(&store, floor.seq).await;
    let is_whole = floor.seq == Seq::ZERO;
    let mut follow = if is_whole { Follow::genesis(local.store_id()) } else { Follow::after(floor) };
    for change in &log {
        follow.check(change).unwrap_or_else(|error| panic!("{error}: {change:?}"));
    }
    assert!(follow.is_whole(), "the last commit is cut off");
    assert_eq!(follow.head(), head, "the log does not end in the head");
    assert!(!is_whole || report.changes == log.len() as u64);

    let expected: Vec<Entry> = fold_onto(&base, floor.seq, &log).into_values().collect();
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

/// The last change of each key at a floor.
async fn base_of(store: &impl StateStore, floor: Seq) -> Vec<Change> {
    let past = store.at(floor.into()).await.unwrap();
    let mut base = Vec::new();
    for prefix in ["", RESERVED_PREFIX] {
        let mut keys = past.list(prefix).await.unwrap();
        keys.extend(past.list_deleted(prefix).await.unwrap().into_iter().map(|deleted| deleted.key));
        for key in keys {
            let last = store.history(&key, Some(floor.next()), 1).await.unwrap();
            base.extend(last);
        }
    }
    base
}

/// The whole log, a page at a time; also checks that pages are of whole, unbroken commits.
pub(crate) async fn log_of(store: &impl StateStore) -> Vec<Change> {
    log_after(store, Seq::ZERO).await
}

/// The log after a floor, as [`log_of`].
pub(crate) async fn log_after(store: &impl StateStore, floor: Seq) -> Vec<Change> {
    let mut log: Vec<Change> = Vec::new();
    loop {
        let after = log.last().map_or(floor, |change| change.seq);
        let commits = store.changes(after, 700).await.unwrap();
        if commits.is_empty() {
            return log;
        }
        for commit in commits {
            assert_eq!(commit.first, after.max(log.last().map_or(floor, |change| change.seq)).next());
            assert_eq!(commit.last, commit.changes.last().unwrap().seq);
            for change in &commit.changes {
                assert_eq!((change.commit_seq, change.at), (commit.last, commit.at));
                assert_eq!(change.meta, commit.meta);
            }
            log.extend(commit.changes);
        }
    }
}

/// The fold of a whole log, which also checks what each change says about its key.
pub(crate) fn fold(log: &[Change]) -> BTreeMap<Arc<str>, Entry> {
    fold_onto(&[], Seq::ZERO, log)
}

/// The entry that a change left, if its key exists after it.
fn entry(change: &Change) -> Option<Entry> {
    Some(Entry {
        key: change.key.to_string(),
        value: change.value.as_ref()?.to_vec(),
        version: change.version,
        created_at: change.created_at.into(),
        updated_at: change.at.into(),
        seq: change.seq,
        until: None,
    })
}

/// The fold of the log after a floor onto the last change of each key there.
fn fold_onto(base: &[Change], floor: Seq, log: &[Change]) -> BTreeMap<Arc<str>, Entry> {
    let mut last: BTreeMap<&str, &Change> = base.iter().map(|change| (&*change.key, change)).collect();
    let mut entries: BTreeMap<Arc<str>, Entry> =
        base.iter().filter_map(|change| Some((change.key.clone(), entry(change)?))).collect();
    let mut at = Timestamp::from_micros(if floor == Seq::ZERO { 0 } else { i64::MIN });
    for (place, change) in log.iter().enumerate() {
        assert_eq!(change.seq.as_u64(), floor.as_u64() + 1 + place as u64, "a gap");
        let seq = change.seq;
        let opens = place == 0 || log[place - 1].closes_commit();
        let accepts = change.meta.as_deref().and_then(Meta::cause) == Some("clock_accepted");
        let fits = if opens { change.at > at || accepts } else { change.at == at };
        assert!(fits, "times do not increase at {seq}");
        assert!(
            !accepts || opens && change.closes_commit() && &*change.key == "/.univrs/clock",
            "{change:?}"
        );
        at = change.at;
        let before = last.insert(&change.key, change);
        // A key that was forgotten begins anew, at a later version.
        let forgets = floor > Seq::ZERO && change.prev == Seq::ZERO;
        let before = before.filter(|before| !forgets || before.kind != ChangeKind::Deleted);
        let next = before.map_or(0, |before| before.version) + 1;
        assert!(change.version == next || forgets && change.version > next, "{change:?}");
        assert_eq!(change.prev, before.map_or(Seq::ZERO, |before| before.seq), "{change:?}");
        let lived = before.is_some_and(|before| before.kind != ChangeKind::Deleted);
        assert_eq!(change.kind == ChangeKind::Created, !lived, "{change:?}");
        match entry(change) {
            None => entries.remove(&change.key),
            Some(entry) => entries.insert(change.key.clone(), entry),
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
