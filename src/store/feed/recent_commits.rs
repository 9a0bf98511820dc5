//! The newest commits, in memory, for watches that keep up.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::matching::{Before, Matching, Old};
use crate::limits::Limits;
use crate::log::{Change, ChangeKind, Head};
use crate::seq::Seq;
use crate::state::KeyState;

/// The most bytes of commits that are held, 16 MiB: as much as one batch may have by default. The newest
/// commit is held even if it is larger. A watch that is further behind reads the log.
const RECENT_BYTES: usize = 16 << 20;

/// The newest commits, in order and without a gap. A watch that is behind the oldest of them reads the log.
pub(super) struct RecentCommits {
    /// The head before the first of them.
    start: Head,
    commits: VecDeque<Arc<RecentCommit>>,
    bytes: usize,
}

/// A commit that was published.
pub(crate) struct RecentCommit {
    /// The head before the commit.
    pub(super) before: Head,
    /// The head after the commit.
    pub(crate) head: Head,
    pub(crate) changes: Vec<Matching>,
    bytes: usize,
}

#[cfg(test)]
impl RecentCommit {
    /// A commit of these changes that ends at a head.
    pub(crate) fn of(changes: Vec<Matching>, head: Head) -> Self {
        Self { before: head, head, changes, bytes: 0 }
    }
}

impl RecentCommits {
    pub(super) fn new(start: Head) -> Self {
        Self { start, commits: VecDeque::new(), bytes: 0 }
    }

    /// A page of about `most` bytes of the commits after a position, and whether it has all of them; `None` if the
    /// position is before the oldest commit that is held.
    pub(super) fn after(&self, seq: Seq, most: usize) -> Option<(Vec<Arc<RecentCommit>>, bool)> {
        if seq < self.start.seq {
            return None;
        }
        let first = self.commits.partition_point(|commit| commit.head.seq <= seq);
        let (mut page, mut changes, mut bytes) = (Vec::new(), 0, 0);
        for commit in self.commits.range(first..) {
            if changes >= Limits::PAGE_CHANGES || bytes >= most {
                return Some((page, false));
            }
            changes += commit.changes.len();
            bytes += commit.bytes;
            page.push(commit.clone());
        }
        Some((page, true))
    }

    /// Adds the next commit, and drops old ones while there are more than [`RECENT_BYTES`].
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

/// The commits of these changes. Each change has the state that it replaced, if that is in memory: among the
/// changes, or in the projection before them, where `last` finds a key's last change.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::StoreId;

    fn commit(seq: u64, bytes: usize) -> Arc<RecentCommit> {
        let at = |seq| Head { seq: Seq::new(seq), ..Head::genesis(StoreId::from_bytes([1; 16])) };
        Arc::new(RecentCommit { before: at(seq - 1), head: at(seq), changes: Vec::new(), bytes })
    }

    #[test]
    fn old_commits_are_dropped_above_the_bound_and_the_newest_is_held_whatever_it_takes() {
        let mut recent = RecentCommits::new(Head::genesis(StoreId::from_bytes([1; 16])));
        let held = |recent: &RecentCommits, after: u64| {
            recent.after(Seq::new(after), usize::MAX).map(|(page, all)| (page.len(), all))
        };
        for seq in 1..=4 {
            recent.push(commit(seq, RECENT_BYTES / 4));
        }
        assert_eq!(held(&recent, 0), Some((4, true)), "exactly what may be held");
        recent.push(commit(5, 1));
        assert_eq!((held(&recent, 0), held(&recent, 1)), (None, Some((4, true))));
        recent.push(commit(6, 2 * RECENT_BYTES));
        assert_eq!((held(&recent, 4), held(&recent, 5)), (None, Some((1, true))));
        recent.push(commit(7, 1));
        assert_eq!((held(&recent, 5), held(&recent, 6)), (None, Some((1, true))));
        assert_eq!(recent.bytes, 1);
    }

    #[test]
    fn a_page_of_recent_commits_ends_when_it_has_so_many_changes_or_bytes() {
        let change = Matching::alone(Change { value: None, ..Change::plain(1) });
        let of = |changes: usize, bytes| {
            let mut recent = RecentCommits::new(Head::genesis(StoreId::from_bytes([1; 16])));
            for seq in 1..=4 {
                let RecentCommit { before, head, .. } = *commit(seq, 0);
                let changes = vec![change.clone(); changes];
                recent.push(Arc::new(RecentCommit { before, head, changes, bytes }));
            }
            recent
        };
        let page = |recent: &RecentCommits, after: u64, most| {
            recent.after(Seq::new(after), most).map(|(page, all)| (page.len(), all))
        };
        let by_bytes = of(1, 50);
        assert_eq!(page(&by_bytes, 0, 100), Some((2, false)));
        assert_eq!(page(&by_bytes, 0, 101), Some((3, false)));
        assert_eq!(page(&by_bytes, 0, 200), Some((4, true)));
        assert_eq!(page(&by_bytes, 4, 100), Some((0, true)));
        let by_changes = of(Limits::PAGE_CHANGES / 2, 0);
        assert_eq!(page(&by_changes, 0, 100), Some((2, false)));
        let by_changes = of(Limits::PAGE_CHANGES / 2 - 1, 0);
        assert_eq!(page(&by_changes, 0, 100), Some((3, false)));
        assert_eq!(page(&by_changes, 1, 100), Some((3, true)));
    }
}
