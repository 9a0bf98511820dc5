//! Checking a whole store.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::log::{Change, ChangeKind, Follow, Head, Meta, StoreId};
use crate::seq::Seq;
use crate::state::{Entry, Slot};

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

/// A verification under way: takes the whole log in order, then the projection, wherever they come from.
pub(crate) struct Verification {
    follow: Follow,
    /// The last change of each key, its value dropped once it was checked.
    fold: BTreeMap<Arc<str>, Change>,
    /// The first and last change of each commit that has an id.
    commit_ids: BTreeMap<String, (Seq, Seq)>,
    /// Where the open commit begins.
    first: Seq,
    flaws: Vec<String>,
    report: VerifyReport,
}

impl Verification {
    pub(crate) fn new(store: StoreId) -> Self {
        let report = VerifyReport {
            head: Head::genesis(store),
            changes: 0,
            keys: 0,
            tombstones: 0,
            findings: Vec::new(),
            contradictions: 0,
        };
        let (follow, first) = (Follow::genesis(store), Seq::ZERO.next());
        Self { follow, fold: BTreeMap::new(), commit_ids: BTreeMap::new(), first, flaws: Vec::new(), report }
    }

    /// Checks the next change against the chain, its neighbours and the key's last change.
    pub(crate) fn change(&mut self, change: Change) {
        self.report.changes += 1;
        if let Err(error) = self.follow.check(&change) {
            self.report.find(Some(error.seq()), Some(&change.key), error.to_string());
            self.follow.skip(&change);
        }
        if let Some(what) = contradicts(&change, self.fold.get(&change.key).map(Slot::of)) {
            self.report.find(Some(change.seq), Some(&change.key), what);
        }
        if change.closes_commit() {
            if let Some(id) = change.meta.as_deref().and_then(Meta::commit_id) {
                self.commit_ids.insert(id.to_owned(), (self.first, change.seq));
            }
            self.first = change.seq.next();
        }
        self.fold.insert(change.key.clone(), Change { value: None, ..change });
    }

    /// The log has ended, or could not be read on.
    pub(crate) fn end_of_log(&mut self, unreadable: Option<String>) {
        self.report.head = self.follow.head();
        if let Some(what) = unreadable {
            self.report.find(Some(self.follow.head().seq.next()), None, what);
        } else if !self.follow.is_whole() {
            self.report.find(Some(self.follow.head().seq), None, "the last commit is cut off");
        }
    }

    /// Compares a remembered commit id with the log.
    pub(crate) fn commit_id(&mut self, id: &str, first: Seq, last: Seq) {
        if self.commit_ids.remove(id) != Some((first, last)) {
            self.report.find(Some(last), None, "commit_ids names a commit that the log does not have so");
        }
    }

    /// The commit ids have ended, or could not be read on.
    pub(crate) fn end_of_commit_ids(&mut self, unreadable: Option<String>) {
        if let Some(what) = unreadable {
            self.report.find(None, None, what);
        } else {
            for (_, last) in self.commit_ids.values() {
                self.report.find(Some(*last), None, "commit_ids lacks the id of the commit");
            }
        }
    }

    /// Compares an entry of the projection with the fold.
    pub(crate) fn entry(&mut self, entry: &Entry) {
        self.report.keys += 1;
        let last = self.fold.remove(entry.key.as_str());
        self.compare(entry.seq, &entry.key, last.is_some_and(|last| is_of(entry, &last)));
    }

    /// Compares a deleted key of the projection with the fold.
    pub(crate) fn tombstone(&mut self, key: &str, version: u64, seq: Seq) {
        self.report.tombstones += 1;
        let deleted =
            |last: Change| last.kind == ChangeKind::Deleted && (last.version, last.seq) == (version, seq);
        let last = self.fold.remove(key);
        self.compare(seq, key, last.is_some_and(deleted));
    }

    /// A row of the projection cannot be what was written.
    pub(crate) fn damaged(&mut self, key: &str, what: &str) {
        self.report.keys += 1;
        let seq = self.fold.remove(key).map(|last| last.seq);
        self.report.find(seq, Some(key), what);
    }

    /// Something is wrong with the file around the rows: an index or a table that no row shows.
    pub(crate) fn flaw(&mut self, what: String) {
        self.flaws.push(what);
    }

    fn compare(&mut self, seq: Seq, key: &str, same: bool) {
        if !same {
            self.report.find(Some(seq), Some(key), "the projection does not equal the fold of the log");
        }
    }

    /// The projection has ended, or could not be read on.
    pub(crate) fn finish(mut self, unreadable: Option<String>) -> VerifyReport {
        if let Some(what) = unreadable {
            self.report.find(None, None, what);
        } else {
            for last in self.fold.values() {
                self.report.find(Some(last.seq), Some(&last.key), "the projection lacks the key");
            }
        }
        for what in self.flaws {
            self.report.find(None, None, what);
        }
        self.report
    }
}

/// How a change contradicts the key's last change before it.
pub(crate) fn contradicts(change: &Change, last: Option<Slot>) -> Option<&'static str> {
    let (seq, version) = last.map_or((Seq::ZERO, 0), |last| (last.seq, last.version));
    let since = last.and_then(|last| last.created_at());
    if change.prev != seq || change.version.checked_sub(1) != Some(version) {
        Some("it does not follow the key's last change")
    } else if (change.kind == ChangeKind::Created) == since.is_some() {
        Some("its kind does not fit whether the key existed")
    } else if since.is_some_and(|since| since != change.created_at) {
        Some("it has another time of creation than the key's last change")
    } else {
        None
    }
}

/// Whether an entry is what a change left; the change has lost its value, but not its hash.
fn is_of(entry: &Entry, last: &Change) -> bool {
    let with_value = Change { value: Some(entry.value.as_slice().into()), ..last.clone() };
    last.kind != ChangeKind::Deleted
        && with_value.has_its_value()
        && Entry::of(&with_value).is_some_and(|expected| expected == *entry)
}
