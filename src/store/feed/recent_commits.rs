//! The newest commits, in memory, for the watches that keep up.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::matching::{Before, Matching, Old};
use crate::limits::Limits;
use crate::log::{Change, ChangeKind, Head};
use crate::seq::Seq;
use crate::state::KeyState;

/// The most bytes of commits that are held; the newest one is, however large.
const RECENT_BYTES: usize = 16 << 20;

/// The newest commits in order, without a gap. Whoever is behind the oldest of them reads the log.
pub(super) struct RecentCommits {
    /// Where the first of them follows.
    start: Head,
    commits: VecDeque<Arc<RecentCommit>>,
    bytes: usize,
}

/// A commit that was published.
pub(crate) struct RecentCommit {
    /// Where the log ended before it.
    pub(super) before: Head,
    /// Where it ends.
    pub(crate) head: Head,
    pub(crate) changes: Vec<Matching>,
    bytes: usize,
}

impl RecentCommits {
    pub(super) fn new(start: Head) -> Self {
        Self { start, commits: VecDeque::new(), bytes: 0 }
    }

    /// The commits after a position, as many as make a page, and whether they are all; none if the
    /// position is older than what is held.
    pub(super) fn after(&self, seq: Seq) -> Option<(Vec<Arc<RecentCommit>>, bool)> {
        if seq < self.start.seq {
            return None;
        }
        let first = self.commits.partition_point(|commit| commit.head.seq <= seq);
        let (mut page, mut changes, mut bytes) = (Vec::new(), 0, 0);
        for commit in self.commits.range(first..) {
            if changes >= Limits::PAGE_CHANGES || bytes >= Limits::PAGE_BYTES {
                return Some((page, false));
            }
            changes += commit.changes.len();
            bytes += commit.bytes;
            page.push(commit.clone());
        }
        Some((page, true))
    }

    /// Adds the next commit, and lets go of old ones above the bound.
    pub(super) fn push(&mut self, commit: Arc<RecentCommit>) {
        self.bytes += commit.bytes;
        self.commits.push_back(commit);
        while self.bytes > RECENT_BYTES && self.commits.len() > 1 {
            if let Some(oldest) = self.commits.pop_front() {
                self.bytes -= oldest.bytes;
                self.start = oldest.head;
            }
        }
    }
}

/// The commits that these changes make, each change with what it replaced as far as that is at hand:
/// among the changes, or in the projection before them, of which `last` gives a key's last change.
pub(super) fn commits<'a>(
    before: Head,
    changes: &[Change],
    last: impl Fn(&str) -> Option<&'a KeyState>,
) -> Vec<RecentCommit> {
    let mut newest: HashMap<&str, &Change> = HashMap::new();
    let (mut before, mut commits, mut open) = (before, Vec::new(), Vec::new());
    for change in changes {
        let old = match (newest.insert(&change.key, change), change.kind) {
            (_, ChangeKind::Created) => Old::Read(None),
            (Some(earlier), _) => Old::Read(Some(Before::change(earlier))),
            (None, _) => match last(&change.key) {
                Some(last) => Old::Read(Some(Before::latest(last))),
                None => Old::Due,
            },
        };
        open.push(Matching { change: change.clone(), old });
        if change.closes_commit() {
            let changes: Vec<Matching> = std::mem::take(&mut open);
            let bytes = changes.iter().map(Matching::size).sum();
            let head = change.head();
            commits.push(RecentCommit { before, head, changes, bytes });
            before = head;
        }
    }
    commits
}
