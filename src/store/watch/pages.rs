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
        let page = Deliveries::new(self.matching(&commits, read, end, most));
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

    /// A page of about `most` bytes of the matching changes of these commits after `start`; `end` is that of the
    /// commits.
    fn matching(&self, of: &[Arc<RecentCommit>], start: Head, end: Head, most: usize) -> WatchPage {
        let pattern = self.watcher.pattern();
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
                if bytes + size > most && !self.whole && due.peek().is_some() {
                    let end = matching.change.head();
                    commits.push((changes, None));
                    return WatchPage { commits, start, end, whole: false };
                }
            }
            if !changes.is_empty() {
                commits.push((changes, Some(commit.head)));
            }
        }
        WatchPage { commits, start, end, whole: true }
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
        let (held, need) = (page.clone(), self.claim.need);
        let wanted = Wanted { after, bytes, whole: self.whole };
        let read = core.start(move |snapshot| {
            let page = read(snapshot, watcher.pattern(), wanted);
            held.fill(need, page.map(Deliveries::new), Deliveries::bytes)
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

/// Whether few of the changes match that a page passed over.
fn are_few(passed: u64, matching: u64) -> bool {
    passed >= FEW_OF && matching < passed / FEW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_less_than_an_eighth_of_five_hundred_changes_or_more() {
        assert!(!are_few(499, 0) && are_few(500, 0));
        assert!(are_few(800, 99) && !are_few(800, 100) && !are_few(800, 101));
        assert!(!are_few(0, 0) && !are_few(10, 10));
    }
}
