//! What becomes of a group when its storage fails: a backend that fails on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::Sources;
use super::group::{Outcome, commit_group};
use crate::backend::{
    Backend, CommitError, DecisionView, Linked, LogView, Memory, Slice, Transaction, Visit,
};
use crate::error::{Result, StateError};
use crate::log::{Change, ChangeKind, Draft, Prev, StoreId, Timestamp, Tip, seal};
use crate::seq::Seq;
use crate::state::{Batch, Entry, Floor, KeyVersion, KeysBelow, Thinning};
use crate::store::clock::{Clock, SystemClock};
use crate::store::entropy::OsEntropy;

/// What fails, and how.
#[derive(Clone)]
enum Fault {
    None,
    Begin,
    /// The version of this key cannot be read.
    Load(&'static str, StateError),
    /// Changes of this key cannot be appended.
    Append(&'static str, StateError),
    Commit,
    /// There is no room for the group, and the first commit alone ends nobody knows how.
    FullThenUnknown,
    /// The commit fails, but everything was recorded.
    UnknownButRecorded,
}

struct Faulty {
    memory: Memory,
    fault: Fault,
}

struct FaultyTransaction<T> {
    inner: T,
    fault: Fault,
    appended: bool,
}

impl Backend for Faulty {
    type Transaction<'a> = FaultyTransaction<<Memory as Backend>::Transaction<'a>>;

    fn begin(&mut self) -> Result<Self::Transaction<'_>> {
        match self.fault {
            Fault::Begin => Err(StateError::Busy("planted".into())),
            _ => Ok(FaultyTransaction {
                inner: self.memory.begin()?,
                fault: self.fault.clone(),
                appended: false,
            }),
        }
    }
}

impl<T: Transaction> DecisionView for FaultyTransaction<T> {
    fn tip(&self) -> Tip {
        self.inner.tip()
    }
    fn floor(&self) -> Result<Floor> {
        self.inner.floor()
    }
    fn key_version(&self, key: &str) -> Result<Option<KeyVersion>> {
        match &self.fault {
            Fault::Load(bad, error) if key == *bad => Err(error.clone()),
            _ => self.inner.key_version(key),
        }
    }
    fn below(&self, prefix: &str, limit: usize) -> Result<KeysBelow> {
        self.inner.below(prefix, limit)
    }
    fn entries(&self, prefix: &str, visit: &mut Visit<'_, Entry>) -> Result<()> {
        self.inner.entries(prefix, visit)
    }
    fn remembered(&self, commit_id: &str) -> Result<Option<(Seq, Seq)>> {
        self.inner.remembered(commit_id)
    }
    fn recorded(&self, first: Seq, last: Seq) -> Result<Vec<Change>> {
        self.inner.recorded(first, last)
    }
}

impl<T: Transaction> Transaction for FaultyTransaction<T> {
    fn append(&mut self, changes: &[Change]) -> Result<()> {
        match &self.fault {
            Fault::FullThenUnknown if std::mem::replace(&mut self.appended, true) => {
                Err(StateError::StorageFull("planted".into()))
            }
            Fault::Append(key, error) if changes.iter().any(|change| change.key.as_ref() == *key) => {
                Err(error.clone())
            }
            _ => self.inner.append(changes),
        }
    }
    fn append_base(&mut self, base: &[Linked]) -> Result<()> {
        self.inner.append_base(base)
    }
    fn project(&mut self, change: &Change, before: Option<KeyVersion>) -> Result<()> {
        self.inner.project(change, before)
    }
    fn set_floor(&mut self, floor: &Floor) -> Result<()> {
        self.inner.set_floor(floor)
    }
    fn drop_slice(&mut self, slice: &Slice) -> Result<bool> {
        self.inner.drop_slice(slice)
    }
    fn thinning(&self) -> Result<Option<Thinning>> {
        self.inner.thinning()
    }
    fn set_thinning(&mut self, thinning: Option<&Thinning>) -> Result<()> {
        self.inner.set_thinning(thinning)
    }
    fn thin(&mut self, thinning: &Thinning, seqs: &[Seq]) -> Result<bool> {
        self.inner.thin(thinning, seqs)
    }
    fn erase(&mut self, seqs: &[Seq]) -> Result<()> {
        self.inner.erase(seqs)
    }
    fn commit(self) -> Result<(), CommitError> {
        match self.fault {
            Fault::FullThenUnknown => Err(CommitError::Unknown(StateError::Storage("planted".into()))),
            Fault::Commit => Err(CommitError::NotRecorded(StateError::Storage("planted".into()))),
            Fault::UnknownButRecorded => {
                self.inner.commit()?;
                Err(CommitError::Unknown(StateError::Storage("planted".into())))
            }
            _ => self.inner.commit(),
        }
    }
}

fn faulty(fault: Fault) -> Faulty {
    Faulty { memory: Memory::new(StoreId::from_bytes([3; 16])), fault }
}

fn commit(backend: &mut Faulty, batches: &[Batch]) -> Outcome {
    let sources = Sources::new(Arc::new(SystemClock), Arc::new(OsEntropy));
    commit_group(backend, &sources, batches, None)
}

/// A batch that is taken, one that is refused because of it, and one that stands alone.
fn batches() -> [Batch; 3] {
    [
        Batch::new().set("/a", "1"),
        Batch::new().expect_absent("/a").set("/b", "1"),
        Batch::new().set("/c", "1"),
    ]
}

fn end(backend: &Faulty) -> u64 {
    backend.memory.tip().unwrap().head.seq.as_u64()
}

#[test]
fn a_storage_error_fails_the_whole_group_and_leaves_no_trace() {
    let storage = StateError::Storage("planted".into());
    let cases = [
        (Fault::Begin, StateError::Busy("planted".into())),
        (Fault::Load("/c", storage.clone()), storage.clone()),
        (Fault::Append("/c", storage.clone()), storage.clone()),
        (Fault::Commit, storage.clone()),
    ];
    for (fault, error) in cases {
        let mut backend = faulty(fault);
        let outcome = commit(&mut backend, &batches());
        // The refusal rests on a batch that failed, so it does not stand either.
        assert_eq!(outcome.results, vec![Err(error); 3]);
        assert!(!outcome.unknown && outcome.tip.is_none());
        assert_eq!(end(&backend), 0);

        backend.fault = Fault::None;
        let again = commit(&mut backend, &batches());
        assert!(again.results[0].is_ok() && again.results[1].is_err() && again.results[2].is_ok());
        assert_eq!(end(&backend), 2, "the positions of the failed group are not lost");
    }
}

#[test]
fn an_unknown_outcome_is_called_unknown_and_a_retry_with_the_same_commit_id_is_safe() {
    let batch = [Batch::new().set("/a", "1").commit_id("once")];
    let mut backend = faulty(Fault::UnknownButRecorded);
    let outcome = commit(&mut backend, &batch);
    assert!(matches!(outcome.results[..], [Err(StateError::OutcomeUnknown(_))]) && outcome.unknown);

    backend.fault = Fault::None;
    let retried = commit(&mut backend, &batch);
    assert_eq!(retried.results[0].as_ref().unwrap().versions, [1]);
    assert_eq!(end(&backend), 1, "it was recorded once");
}

#[test]
fn a_damaged_row_fails_only_the_batch_that_meets_it() {
    let damaged = StateError::Corrupted("planted".into());
    for fault in [Fault::Load("/c", damaged.clone()), Fault::Append("/c", damaged.clone())] {
        let mut backend = faulty(fault);
        let outcome = commit(&mut backend, &batches());
        let [Ok(_), Err(StateError::Rejected(_)), Err(error)] = &outcome.results[..] else {
            panic!("{:?}", outcome.results);
        };
        assert_eq!((error, end(&backend)), (&damaged, 1));
    }
}

// A read that fails makes SQLite roll the whole transaction back; what was written after it once
// stood alone, half a commit at a time.
#[cfg(feature = "sqlite")]
#[test]
fn a_read_that_fails_tears_no_group() {
    use crate::backend::sqlite::{Location, Opening, WAL_CAP};
    let folder = tempfile::tempdir().unwrap();
    let opening = Opening {
        location: Location::File(folder.path().join("state.db")),
        create: true,
        read_only: false,
        durability: None,
        busy_timeout: std::time::Duration::ZERO,
        accept_loss: false,
        loss_meta: crate::log::Meta::new(),
        expected: None,
        new_store: StoreId::from_bytes([3; 16]),
        immutable: false,
        wal_cap: WAL_CAP,
        beside: Vec::new(),
        judge: crate::backend::sqlite::Judge::new(|_| Ok(None)),
        vfs: None,
    };
    let mut sqlite = opening.first().unwrap();
    let sources = Sources::new(Arc::new(SystemClock), Arc::new(OsEntropy));
    for n in 0..300 {
        let batch = Batch::new().set(format!("/{n:03}"), vec![7; 200_000]);
        assert!(commit_group(&mut sqlite, &sources, &[batch], None).results[0].is_ok());
    }
    // The pages of some keys are gone from the write-ahead log, so that reading them fails.
    let wal = std::fs::OpenOptions::new().write(true).open(folder.path().join("state.db-wal")).unwrap();
    wal.set_len(wal.metadata().unwrap().len() / 2).unwrap();
    let mut failed = 0;
    for n in 0..300 {
        let group = [
            Batch::new().set(format!("/new{n}"), "1").set(format!("/new{n}b"), "1"),
            Batch::new().set(format!("/{n:03}"), "x"),
        ];
        let outcome = commit_group(&mut sqlite, &sources, &group, None);
        failed += usize::from(outcome.results[1].is_err());
        assert!(!outcome.unknown, "{:?}", outcome.results);
        if let (Ok(head), Ok(Some(last))) =
            (sqlite.read_head(), sqlite.read_head().and_then(|head| sqlite.change(head.seq)))
        {
            assert!(last.closes_commit(), "half a commit at {}", head.seq);
        }
    }
    assert!(failed > 0, "the premise: some reads fail");
}

#[test]
fn after_an_unknown_outcome_nothing_more_is_tried_on_the_connection() {
    let mut backend = faulty(Fault::FullThenUnknown);
    let batches = [Batch::new().set("/a", "1"), Batch::new().set("/b", "1"), Batch::new().set("/c", "1")];
    let outcome = commit(&mut backend, &batches);
    let [Err(StateError::OutcomeUnknown(_)), Err(StateError::Storage(b)), Err(StateError::Storage(c))] =
        &outcome.results[..]
    else {
        panic!("{:?}", outcome.results);
    };
    assert!(outcome.unknown && b.what().contains("not tried") && b == c);
    assert_eq!(end(&backend), 0);
}

#[test]
fn a_log_whose_keys_contradict_themselves_is_not_replayed() {
    let (store, at) = (StoreId::from_bytes([3; 16]), Timestamp::from_micros(5));
    let draft = |key: &str, kind, version, prev| Draft {
        kind,
        key: key.into(),
        version,
        created_at: if kind == ChangeKind::Created { None } else { Some(at) },
        prev: Prev::Recorded(Seq::new(prev)),
        until: None,
        value: Some(Arc::from(&b"1"[..])),
    };
    let (first, tip) =
        seal(vec![draft("/a", ChangeKind::Created, 1, 0)], None, Tip::genesis(store), at, || [1; 16]);
    for (key, version) in [("/b", 2), ("/a", 3), ("/a", u64::MAX)] {
        let (second, _) = seal(vec![draft(key, ChangeKind::Updated, version, 1)], None, tip, at, || [1; 16]);
        let log = [first.clone(), second].concat();
        let replayed = crate::store::MemoryStore::replay(store, log);
        assert!(matches!(replayed, Err(StateError::Corrupted(_))), "{key} {version}");
    }
}

/// A clock that is a second later at each look.
#[derive(Default)]
struct Seconds(AtomicI64);

impl Clock for Seconds {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.fetch_add(1_000_000, Ordering::SeqCst))
    }
}

// Beginning again may take as long as another process writes: the time from before that wait would date a commit
// before a state that others have read without it.
#[test]
fn a_batch_that_is_tried_alone_has_the_time_of_its_own_transaction() {
    let mut backend = faulty(Fault::Append("/b", StateError::StorageFull("planted".into())));
    let sources = Sources::new(Arc::new(Seconds::default()), Arc::new(OsEntropy));
    let batches = ["/a", "/b", "/c"].map(|key| Batch::new().set(key, "1"));
    let outcome = commit_group(&mut backend, &sources, &batches, None);
    let recorded = outcome.recorded.iter().flat_map(|recorded| &recorded.changes);
    let seconds: Vec<i64> = recorded.map(|change| change.at.as_micros() / 1_000_000).collect();
    assert_eq!(seconds, [3, 5], "the group of three looked at the seconds 0 to 2");
}

#[test]
fn a_full_disk_fails_only_what_does_not_fit() {
    let full = StateError::StorageFull("planted".into());
    let mut backend = faulty(Fault::Append("/c", full.clone()));
    let outcome = commit(&mut backend, &batches());
    let [Ok(_), Err(StateError::Rejected(_)), Err(error)] = &outcome.results[..] else {
        panic!("{:?}", outcome.results);
    };
    assert_eq!(*error, full);
    assert_eq!(outcome.tip.unwrap().head.seq.as_u64(), end(&backend));
    assert_eq!(end(&backend), 1);
}
