//! What becomes of a group when its storage fails: a backend that fails on demand.

use std::sync::Arc;

use super::group::{Outcome, Rules, commit_group};
use super::{OsEntropy, SystemClock};
use crate::backend::{Backend, CommitError, Memory, Snapshot, Transaction};
use crate::error::{Result, StateError};
use crate::limits::Limits;
use crate::log::{Change, StoreId, Tip};
use crate::seq::Seq;
use crate::state::{Batch, Slot};

/// What fails, and how.
#[derive(Clone)]
enum Fault {
    None,
    Begin,
    /// Changes of this key cannot be appended.
    Append(&'static str, StateError),
    Commit,
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
}

impl Backend for Faulty {
    type Transaction<'a> = FaultyTransaction<<Memory as Backend>::Transaction<'a>>;

    fn begin(&mut self) -> Result<Self::Transaction<'_>> {
        match self.fault {
            Fault::Begin => Err(StateError::Busy("planted".into())),
            _ => Ok(FaultyTransaction { inner: self.memory.begin()?, fault: self.fault.clone() }),
        }
    }
}

impl<T: Transaction> Transaction for FaultyTransaction<T> {
    fn tip(&self) -> Tip {
        self.inner.tip()
    }
    fn slot(&self, key: &str) -> Result<Option<Slot>> {
        self.inner.slot(key)
    }
    fn newest(&self, prefix: &str, limit: usize) -> Result<Option<(String, Seq)>> {
        self.inner.newest(prefix, limit)
    }
    fn remembered(&self, commit_id: &str) -> Result<Option<(Seq, Seq)>> {
        self.inner.remembered(commit_id)
    }
    fn recorded(&self, first: Seq, last: Seq) -> Result<Vec<Change>> {
        self.inner.recorded(first, last)
    }
    fn append(&mut self, changes: &[Change]) -> Result<()> {
        match &self.fault {
            Fault::Append(key, error) if changes.iter().any(|change| change.key.as_ref() == *key) => {
                Err(error.clone())
            }
            _ => self.inner.append(changes),
        }
    }
    fn project(&mut self, change: &Change, before: Option<Slot>) -> Result<()> {
        self.inner.project(change, before)
    }
    fn commit(self) -> Result<(), CommitError> {
        match self.fault {
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
    let rules = Rules {
        limits: Limits::default(),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(OsEntropy::default()),
    };
    commit_group(backend, &rules, batches)
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
