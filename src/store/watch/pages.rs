//! How a watch reads: pages of the newest commits and of the log, and the states that changes replaced.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;

use super::held::{Claim, Held};
use super::page::{self, After, Wanted, WatchPage};
use super::pending::{Deliveries, size_of};
use crate::error::{Result, StateError};
use crate::limits::Limits;
use crate::log::{Change, Cursor, Head};
use crate::pattern::Pattern;
use crate::seq::Seq;
use crate::store::feed::{Budget, Matching, RecentCommit, Watcher};
use crate::store::open_store::OpenStore;
use crate::store::session::Session;

/// If fewer than one change in this many matches, the storage looks for the matching ones. [`page::watch_few`] says
/// what that gains, and what is not checked then.
const FEW: u64 = 8;
/// The fewest changes of a page from which this is judged.
const FEW_OF: u64 = 500;

/// Reads pages for a watch, within the budget of all watches.
pub(super) struct Pages {
    core: Weak<OpenStore>,
    pub(super) shared: Arc<Session>,
    pub(super) watcher: Arc<Watcher>,
    pub(super) claim: Claim,
    /// Whether few changes of the last page matched.
    few: bool,
    /// Whether pages have whole commits only.
    pub(super) whole: bool,
}

/// A page of the log that is being read. If the log was known to be longer than where the page starts, the
/// page must not be empty.
pub(super) struct Reading {
    pub(super) read: oneshot::Receiver<Result<()>>,
    pub(super) page: Arc<Held<Deliveries>>,
    pub(super) after: Seq,
    pub(super) known: Seq,
}

impl Pages {
    pub(super) fn new(core: Weak<OpenStore>, shared: Arc<Session>, watcher: Arc<Watcher>) -> Self {
        Self { core, shared, watcher, claim: Claim::default(), few: false, whole: false }
    }

    /// Where a page starts that follows one that ends here.
    pub(super) fn behind(&self, end: Head) -> After {
        After::Page(Cursor::new(self.shared.store, end))
    }

    fn budget(&self) -> &Arc<Budget> {
        self.shared.registry().budget()
    }

    /// Takes a page of the newest commits after `read`, when there is room for it. `None` if they are no longer in
    /// memory.
    pub(super) fn recent(
        &mut self,
        read: Head,
        context: &Context<'_>,
    ) -> Poll<Option<Arc<Held<Deliveries>>>> {
        let most = Claim::page(self.budget()).min(Limits::PAGE_BYTES);
        let Some((commits, end)) = self.shared.registry().recent(&self.watcher, read, most) else {
            return Poll::Ready(None);
        };
        let commits = matching(&commits, read, self.watcher.pattern(), self.whole, most);
        let page = match commits {
            Matched::All(commits) => WatchPage { commits, start: read, end, whole: true },
            Matched::Upto(commits, end) => WatchPage { commits, start: read, end, whole: false },
        };
        let page = Deliveries::new(page, self.shared.registry().erased());
        if page.end != end {
            self.watcher.falls_back(page.end);
        }
        if page.is_empty() || page.is_one_event() {
            return Poll::Ready(Some(Held::at_once(page)));
        }
        match Held::ask(self.budget(), page.bytes(), self.claim, context.waker()) {
            Ok(held) => {
                // It fits: there is room for it already.
                let _ = held.fill(self.claim.need, Ok(page), Deliveries::bytes);
                Poll::Ready(Some(held))
            }
            Err(denied) => {
                self.watcher.falls_back(read);
                ready!(self.claim.wait(denied, context));
                Poll::Pending
            }
        }
    }

    /// Starts to read a page of the log, when there is room for it.
    pub(super) fn log(&mut self, after: After, context: &Context<'_>) -> Poll<Result<Reading>> {
        let bytes = Claim::page(self.budget());
        match Held::ask(self.budget(), bytes, self.claim, context.waker()) {
            Ok(page) => Poll::Ready(self.start(page, after, bytes).ok_or(StateError::Closed)),
            Err(denied) => {
                ready!(self.claim.wait(denied, context));
                Poll::Pending
            }
        }
    }

    /// Starts to read the page behind the one that is delivered now, if nobody else needs the room.
    pub(super) fn ahead(&self, after: After) -> Option<Reading> {
        let bytes = Claim::page(self.budget());
        let page = Held::ask_for_free(self.budget(), bytes)?;
        self.start(page, after, bytes)
    }

    fn start(&self, page: Arc<Held<Deliveries>>, after: After, bytes: usize) -> Option<Reading> {
        let (watcher, known) = (self.watcher.clone(), self.shared.head().seq);
        let core = self.core.upgrade()?;
        let read = if self.few { page::watch_few } else { page::watch };
        let (held, need, erased) = (page.clone(), self.claim.need, self.shared.registry().erased().clone());
        let wanted = Wanted { after, bytes, whole: self.whole };
        let read = core.start(move |snapshot| {
            let page = read(snapshot, watcher.pattern(), wanted);
            held.fill(need, page.map(|page| Deliveries::new(page, &erased)), Deliveries::bytes)
        });
        Some(Reading { read, page, after: after.seq(), known })
    }

    /// Starts to read, into a page, the states that some of its changes replaced.
    pub(super) fn old(
        &self,
        page: Arc<Held<Deliveries>>,
        due: Vec<Change>,
    ) -> Result<oneshot::Receiver<Result<()>>> {
        let bytes = Claim::page(self.budget());
        let core = self.core.upgrade().ok_or(StateError::Closed)?;
        Ok(core.start(move |snapshot| {
            let old = page::old_changes(snapshot, &due, bytes)?;
            // If the page is lost meanwhile, the watch sees that.
            let _ = page.add(size_of(&old), Deliveries::bytes, |deliveries| deliveries.fill(old));
            Ok(())
        }))
    }

    /// Notes how many of the changes that a page passed over match, for the way in which the next one is read.
    pub(super) fn judge(&mut self, passed: u64, matching: usize) {
        self.few = are_few(passed, matching as u64);
    }
}

/// The matching changes of commits, as a page has them.
enum Matched {
    All(Vec<(Vec<Matching>, Option<Head>)>),
    /// A large commit is cut at this head.
    Upto(Vec<(Vec<Matching>, Option<Head>)>, Head),
}

/// About `most` bytes of the matching changes of these commits after `start`; commits are not cut if they are to be
/// `whole`.
fn matching(of: &[Arc<RecentCommit>], start: Head, pattern: &Pattern, whole: bool, most: usize) -> Matched {
    let (mut commits, mut bytes) = (Vec::new(), 0);
    for commit in of {
        let first = commit.changes.partition_point(|matching| matching.change.seq <= start.seq);
        let rest = commit.changes.iter().skip(first);
        let mut due = rest.filter(|matching| pattern.matches(&matching.change.key)).peekable();
        let mut changes: Vec<Matching> = Vec::new();
        while let Some(matching) = due.next() {
            let size = matching.size();
            bytes += size;
            changes.push(matching.clone());
            if bytes + size > most && !whole && due.peek().is_some() {
                commits.push((changes, None));
                return Matched::Upto(commits, matching.change.head());
            }
        }
        if !changes.is_empty() {
            commits.push((changes, Some(commit.head)));
        }
    }
    Matched::All(commits)
}

/// Whether few of the changes match that a page passed over.
fn are_few(passed: u64, matching: u64) -> bool {
    passed >= FEW_OF && matching < passed / FEW
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::StoreId;

    /// A commit of changes of these keys from a position on. Keys are as long as each other, so that all take the same
    /// room.
    fn commit(first: u64, keys: &[&str]) -> Arc<RecentCommit> {
        let change =
            |(seq, key): (u64, &&str)| Matching::alone(Change { key: (*key).into(), ..Change::plain(seq) });
        let changes: Vec<Matching> = (first..).zip(keys).map(change).collect();
        let head = changes.last().unwrap().change.head();
        Arc::new(RecentCommit::of(changes, head))
    }

    /// The positions of the matching changes, commit by commit, and where the last one is cut.
    fn matched(
        of: &[Arc<RecentCommit>],
        after: u64,
        whole: bool,
        sizes: usize,
    ) -> (Vec<Vec<u64>>, Option<u64>) {
        let start = Head { seq: Seq::new(after), ..Head::genesis(StoreId::from_bytes([1; 16])) };
        let pattern: Pattern = "/a/*".parse().unwrap();
        let size = of[0].changes[0].size();
        let (commits, cut) = match matching(of, start, &pattern, whole, sizes * size) {
            Matched::All(commits) => (commits, None),
            Matched::Upto(commits, end) => (commits, Some(end.seq.as_u64())),
        };
        let heads: Vec<_> = commits.iter().map(|(_, head)| head.is_some()).collect();
        assert!(heads.iter().rev().skip(usize::from(cut.is_some())).all(|whole| *whole), "{heads:?}");
        assert_eq!(heads.last() == Some(&false), cut.is_some());
        let seqs = |changes: &Vec<Matching>| changes.iter().map(|m| m.change.seq.as_u64()).collect();
        (commits.iter().map(|(changes, _)| seqs(changes)).collect(), cut)
    }

    #[test]
    fn a_page_of_recent_commits_cuts_a_large_one_unless_pages_are_whole() {
        let commits = [
            commit(1, &["/a/1", "/b/1", "/a/2"]),
            commit(4, &["/b/1"]),
            commit(5, &["/a/1", "/a/2", "/a/3", "/a/4"]),
        ];
        let all = vec![vec![1, 3], vec![5, 6, 7, 8]];
        assert_eq!(matched(&commits, 0, false, 6), (all.clone(), None), "all fit");
        assert_eq!(matched(&commits, 0, false, 5), (vec![vec![1, 3], vec![5, 6, 7]], Some(7)));
        assert_eq!(matched(&commits, 0, false, 4), (vec![vec![1, 3], vec![5, 6]], Some(6)));
        assert_eq!(matched(&commits, 0, true, 4), (all, None));
        assert_eq!(matched(&commits, 0, false, 1), (vec![vec![1]], Some(1)));
        assert_eq!(matched(&commits, 1, false, 6), (vec![vec![3], vec![5, 6, 7, 8]], None));
        assert_eq!(matched(&commits, 6, false, 6), (vec![vec![7, 8]], None));
        assert_eq!(matched(&commits, 7, false, 1), (vec![vec![8]], None), "nothing is left behind the cut");
        assert_eq!(matched(&commits, 8, false, 0), (Vec::new(), None));
    }

    #[test]
    fn few_are_less_than_an_eighth_of_five_hundred_changes_or_more() {
        assert!(!are_few(499, 0) && are_few(500, 0));
        assert!(are_few(800, 99) && !are_few(800, 100) && !are_few(800, 101));
        assert!(!are_few(0, 0) && !are_few(10, 10));
    }
}
