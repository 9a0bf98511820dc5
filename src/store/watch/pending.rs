//! Commits that a watch has read and not yet delivered in full.

use std::collections::VecDeque;

use super::event::WatchEvent;
use super::page::WatchPage;
use crate::failpoint::failpoint;
use crate::log::{Change, Head};
use crate::seq::Seq;
use crate::store::feed::{Before, Matching, Old};

/// The commits of a page that are still to be delivered.
pub(super) struct Deliveries {
    commits: VecDeque<Pending>,
    /// The head at the end of the page.
    pub(super) end: Head,
    /// About how many bytes they take in memory.
    bytes: usize,
}

/// The changes of a commit that are still to be delivered.
struct Pending {
    changes: VecDeque<Matching>,
    head: Head,
}

/// What comes next.
pub(super) enum Next<T> {
    /// This can be delivered.
    Item(Delivery<T>),
    /// The states that these changes replaced must be read before.
    Due(Vec<Change>),
    /// Everything was delivered.
    Nothing,
}

/// What is delivered, and where that leads.
pub(super) struct Delivery<T> {
    pub(super) item: T,
    /// The position of its last change.
    pub(super) seq: Seq,
    /// The head after its commit, if that was delivered in full.
    pub(super) commit: Option<Head>,
    /// Whether nothing of the page is left.
    pub(super) last: bool,
}

impl Deliveries {
    pub(super) fn new(page: WatchPage) -> Self {
        let bytes = page.bytes();
        let pending = |(mut changes, head): (Vec<Matching>, Head)| {
            if failpoint("dropped_event") {
                changes.pop();
            } else if failpoint("reordered_events") {
                changes.reverse();
            } else if failpoint("doubled_events") {
                changes.extend(changes.clone());
            } else if failpoint("half_commit") {
                changes.truncate(changes.len().div_ceil(2));
            }
            Pending { changes: changes.into(), head }
        };
        Self { commits: page.commits.into_iter().map(pending).collect(), end: page.end, bytes }
    }

    /// About how many bytes they take in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many changes there are.
    pub(super) fn changes(&self) -> usize {
        self.commits.iter().map(|pending| pending.changes.len()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commits.is_empty()
    }

    /// Whether it is one change, which needs nothing else.
    pub(super) fn is_one_event(&self) -> bool {
        self.changes() == 1
            && self.commits.iter().flat_map(|p| &p.changes).all(|m| matches!(m.old, Old::Read(_)))
    }

    /// Passes over the changes up to a position, which were delivered before their page was lost.
    pub(super) fn pass(&mut self, delivered: Seq) {
        while let Some(pending) = self.commits.front_mut()
            && pending.changes.front().is_some_and(|matching| matching.change.seq <= delivered)
        {
            let bytes = pending.changes.pop_front().map_or(0, |matching| matching.size());
            self.bytes -= bytes.min(self.bytes);
            if pending.changes.is_empty() {
                self.commits.pop_front();
            }
        }
    }

    /// The next change, with the state that it replaced.
    pub(super) fn next_event(&mut self) -> Next<WatchEvent> {
        let Some(pending) = self.commits.front_mut() else { return Next::Nothing };
        let due = pending.changes.front().is_some_and(|matching| matches!(matching.old, Old::Due));
        if due {
            return Next::Due(pending.due(0));
        }
        let (first, head) = (pending.changes.pop_front(), pending.head);
        let whole = pending.changes.is_empty();
        if whole {
            self.commits.pop_front();
        }
        let Some(first) = first else { return Next::Nothing }; // A pending commit has at least one change.
        self.bytes -= first.size().min(self.bytes);
        let (seq, commit, last) = (first.change.seq, whole.then_some(head), self.commits.is_empty());
        Next::Item(Delivery { item: event(first), seq, commit, last })
    }

    /// The changes of the next commit, with the states that they replaced.
    pub(super) fn next_commit(&mut self) -> Next<Vec<WatchEvent>> {
        let Some(pending) = self.commits.front() else { return Next::Nothing };
        if let Some(first) = pending.changes.iter().position(|matching| matches!(matching.old, Old::Due)) {
            return Next::Due(pending.due(first));
        }
        let Some(Pending { changes, head }) = self.commits.pop_front() else { return Next::Nothing };
        self.bytes -= changes.iter().map(Matching::size).sum::<usize>().min(self.bytes);
        let seq = changes.back().map_or(head.seq, |matching| matching.change.seq);
        let item = changes.into_iter().map(event).collect();
        Next::Item(Delivery { item, seq, commit: Some(head), last: self.commits.is_empty() })
    }

    /// Fills in the replaced states that were read for the changes that were due.
    pub(super) fn fill(&mut self, old: Vec<Option<Before>>) {
        self.bytes += size_of(&old);
        let due = self.commits.front_mut().into_iter().flat_map(|pending| &mut pending.changes);
        let due = due.filter(|matching| matches!(matching.old, Old::Due));
        due.zip(old).for_each(|(matching, old)| matching.old = Old::Read(old));
    }
}

/// About how many bytes these states take in memory.
pub(super) fn size_of(old: &[Option<Before>]) -> usize {
    old.iter().flatten().map(Before::size).sum()
}

impl Pending {
    /// The changes from an index on whose replaced states must be read.
    fn due(&self, first: usize) -> Vec<Change> {
        let is_due = |matching: &&Matching| matches!(matching.old, Old::Due);
        self.changes.iter().skip(first).take_while(is_due).map(|m| m.change.clone()).collect()
    }
}

fn event(Matching { change, old }: Matching) -> WatchEvent {
    match old {
        Old::Read(old) => WatchEvent::from_change(&change, old.as_ref()),
        Old::Due => WatchEvent::from_change(&change, None),
    }
}
