//! Checking a whole store.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::backend::{Row, Snapshot};
use crate::error::{Result, StateError};
use crate::key::KeyRange;
use crate::log::{Change, ChangeKind, Follow, Head};
use crate::seq::Seq;
use crate::state::Entry;

/// The most findings that a report lists.
const LISTED: usize = 100;

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The end of the log; to be kept elsewhere, so that a cut or rewritten tail shows later.
    pub head: Head,
    /// Changes whose place, value and hash were checked.
    pub changes: u64,
    /// Keys of the projection that were compared with the fold of the log.
    pub keys: u64,
    /// Deleted keys that were compared with it.
    pub tombstones: u64,
    /// The first contradictions, in the order of the log, then of keys; at most 100.
    pub findings: Vec<Finding>,
    /// How many there are in all.
    pub contradictions: u64,
}

/// One contradiction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The position of the change; none where it is a row of the projection without one.
    pub seq: Option<Seq>,
    /// The key, if it is known.
    pub key: Option<String>,
    /// What contradicts what.
    pub what: String,
}

impl VerifyReport {
    /// Whether nothing contradicts.
    pub fn is_intact(&self) -> bool {
        self.contradictions == 0
    }

    fn find(&mut self, seq: Option<Seq>, key: Option<&str>, what: impl Into<String>) {
        self.contradictions += 1;
        if self.findings.len() < LISTED {
            self.findings.push(Finding { seq, key: key.map(str::to_owned), what: what.into() });
        }
    }
}

/// Checks a store: every change against the chain and its neighbours, the key's count and links,
/// and the projection against the fold.
pub(crate) fn verify(snapshot: &dyn Snapshot) -> Result<VerifyReport> {
    let mut report = VerifyReport {
        head: Head::genesis(snapshot.store_id()),
        changes: 0,
        keys: 0,
        tombstones: 0,
        findings: Vec::new(),
        contradictions: 0,
    };
    let fold = verify_log(snapshot, &mut report)?;
    verify_projection(snapshot, fold, &mut report)?;
    Ok(report)
}

/// The last change of each key, its value dropped once it was checked.
type Fold = BTreeMap<Arc<str>, Change>;

fn verify_log(snapshot: &dyn Snapshot, report: &mut VerifyReport) -> Result<Fold> {
    let mut follow = Follow::genesis(snapshot.store_id());
    let mut fold = Fold::new();
    let read = snapshot.changes(Seq::ZERO, &mut |change| {
        report.changes += 1;
        if let Err(error) = follow.check(&change) {
            report.find(Some(error.seq()), Some(&change.key), error.to_string());
            follow.skip(&change);
        }
        let last = fold.get(&change.key);
        if let Some(what) = contradicts(&change, last) {
            report.find(Some(change.seq), Some(&change.key), what);
        }
        fold.insert(change.key.clone(), Change { value: None, ..change });
        Ok(ControlFlow::Continue(()))
    });
    if let Some(error) = corruption(read)? {
        report.find(Some(follow.head().seq.next()), None, error);
    } else if !follow.is_whole() {
        report.find(Some(follow.head().seq), None, "the last commit is cut off");
    }
    report.head = follow.head();
    Ok(fold)
}

/// How a change contradicts the key's last change before it.
fn contradicts(change: &Change, last: Option<&Change>) -> Option<&'static str> {
    let (seq, version, live) =
        last.map_or((Seq::ZERO, 0, false), |last| (last.seq, last.version, last.kind != ChangeKind::Deleted));
    if change.prev != seq || change.version != version + 1 {
        Some("it does not follow the key's last change")
    } else if (change.kind == ChangeKind::Created) == live {
        Some("its kind does not fit whether the key existed")
    } else if live && last.is_some_and(|last| last.created_at != change.created_at) {
        Some("it has another time of creation than the key's last change")
    } else {
        None
    }
}

fn verify_projection(snapshot: &dyn Snapshot, mut fold: Fold, report: &mut VerifyReport) -> Result<()> {
    let read = snapshot.rows(&KeyRange::prefix(""), None, true, &mut |row| {
        let last = fold.remove(row.key());
        let same = match &row {
            Row::Live(entry) => {
                report.keys += 1;
                last.as_ref().is_some_and(|last| is_of(entry, last))
            }
            Row::Deleted { version, seq, .. } => {
                report.tombstones += 1;
                last.as_ref().is_some_and(|last| {
                    last.kind == ChangeKind::Deleted && (last.version, last.seq) == (*version, *seq)
                })
            }
        };
        if !same {
            report.find(
                Some(row.seq()),
                Some(row.key()),
                "the projection does not equal the fold of the log",
            );
        }
        Ok(ControlFlow::Continue(()))
    });
    if let Some(error) = corruption(read)? {
        report.find(None, None, error);
    } else {
        for last in fold.values() {
            report.find(Some(last.seq), Some(&last.key), "the projection lacks the key");
        }
    }
    Ok(())
}

/// Whether an entry is what a change left; the change has lost its value, but not its hash.
fn is_of(entry: &Entry, last: &Change) -> bool {
    let with_value = Change { value: Some(entry.value.as_slice().into()), ..last.clone() };
    last.kind != ChangeKind::Deleted
        && with_value.has_its_value()
        && Entry::of(&with_value).is_some_and(|expected| expected == *entry)
}

/// The message of a corruption, which is a finding; other errors stay errors.
fn corruption(read: Result<()>) -> Result<Option<String>> {
    match read {
        Ok(()) => Ok(None),
        Err(StateError::Corrupted(what)) => Ok(Some(what)),
        Err(error) => Err(error),
    }
}
