//! The changes of one batch.

use std::sync::Arc;

use super::{Change, Meta, Timestamp};
use crate::seq::Seq;

/// The changes of one batch: recorded together, read together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Commit {
    /// The position of its first change.
    pub first: Seq,
    /// The position of its last change.
    pub last: Seq,
    /// The commit time.
    pub at: Timestamp,
    /// Who wrote it, and why.
    pub meta: Option<Arc<Meta>>,
    /// Its changes, in order; never empty.
    pub changes: Vec<Change>,
}

impl Commit {
    /// Groups changes into commits. Where an export withholds some changes of a commit, the commit has
    /// the other ones.
    pub(crate) fn group(changes: impl IntoIterator<Item = Change>) -> Vec<Self> {
        let mut commits = Vec::new();
        let mut open: Vec<Change> = Vec::new();
        for change in changes {
            if open.last().is_some_and(|last| last.commit_seq != change.commit_seq) {
                commits.extend(Self::from_changes(std::mem::take(&mut open)));
            }
            open.push(change);
        }
        commits.extend(Self::from_changes(open));
        commits
    }

    /// The commit of these changes; `None` if there are no changes.
    pub(crate) fn from_changes(changes: Vec<Change>) -> Option<Self> {
        let (first, last) = (changes.first()?, changes.last()?);
        Some(Self { first: first.seq, last: last.commit_seq, at: last.at, meta: last.meta.clone(), changes })
    }
}
