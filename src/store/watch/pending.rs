//! Commits that a watch has read and not yet delivered in full.

use std::collections::VecDeque;
use std::sync::Arc;

use super::event::WatchEvent;
use super::page::WatchPage;
use crate::failpoint::failpoint;
use crate::log::{Change, Head};
use crate::store::feed::{Before, Erased, Matching, Old};

/// The commits of a page that are still to be delivered.
pub(super) struct Deliveries {
    commits: VecDeque<Pending>,
    /// The heads before the page and at its end.
    pub(super) start: Head,
    pub(super) end: Head,
    /// Whether a commit ends with the page.
    pub(super) whole: bool,
    /// About how many bytes they take in memory.
    bytes: usize,
    /// What is not delivered, although it was read.
    erased: Arc<Erased>,
}

/// The changes of a commit that are still to be delivered.
struct Pending {
    changes: VecDeque<Matching>,
    /// The head after the commit; none if its rest is not in the page.
    head: Option<Head>,
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
    /// The head after its last change.
    pub(super) head: Head,
    /// The head after its commit, if that was delivered in full.
    pub(super) commit: Option<Head>,
    /// Whether nothing of the page is left.
    pub(super) last: bool,
}

impl Deliveries {
    pub(super) fn new(page: WatchPage, erased: &Arc<Erased>) -> Self {
        let bytes = page.bytes();
        let pending = |(mut changes, head): (Vec<Matching>, Option<Head>)| {
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
        let WatchPage { commits, start, end, whole } = page;
        let (commits, erased) = (commits.into_iter().map(pending).collect(), erased.clone());
        Self { commits, start, end, whole, bytes, erased }
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
        let commit = if whole { head } else { None };
        let (head, last) = (first.change.head(), self.commits.is_empty());
        Next::Item(Delivery { item: event(self.erased.without(first)), head, commit, last })
    }

    /// The changes of the next commit, with the states that they replaced.
    pub(super) fn next_commit(&mut self) -> Next<Vec<WatchEvent>> {
        let Some(pending) = self.commits.front() else { return Next::Nothing };
        if let Some(first) = pending.changes.iter().position(|matching| matches!(matching.old, Old::Due)) {
            return Next::Due(pending.due(first));
        }
        let Some(Pending { changes, head: commit }) = self.commits.pop_front() else { return Next::Nothing };
        self.bytes -= changes.iter().map(Matching::size).sum::<usize>().min(self.bytes);
        let head = changes.back().map_or(self.end, |matching| matching.change.head());
        let item = changes.into_iter().map(|matching| event(self.erased.without(matching))).collect();
        Next::Item(Delivery { item, head, commit, last: self.commits.is_empty() })
    }

    /// The same, with the head after the commit.
    pub(super) fn next_commit_and_head(&mut self) -> Next<(Vec<WatchEvent>, Head)> {
        match self.next_commit() {
            Next::Item(Delivery { item, head, commit, last }) => {
                let after = commit.unwrap_or(head);
                Next::Item(Delivery { item: (item, after), head, commit, last })
            }
            Next::Due(changes) => Next::Due(changes),
            Next::Nothing => Next::Nothing,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{ChangeKind, Hash};
    use crate::seq::Seq;

    fn head(seq: u64) -> Head {
        Head { seq: Seq::new(seq), hash: Hash::from_bytes([1; 32]) }
    }

    fn change(seq: u64, kind: ChangeKind) -> Matching {
        Matching::alone(Change {
            commit_seq: Seq::new(seq.next_multiple_of(2)),
            kind,
            version: seq,
            value: Some(vec![0; 1_000].into()),
            ..Change::plain(seq)
        })
    }

    /// Three commits of two changes each. What those of the second one replaced is not known.
    fn deliveries() -> Deliveries {
        let commit =
            |first, kind| (vec![change(first, kind), change(first + 1, kind)], Some(head(first + 1)));
        let (known, due) = (ChangeKind::Created, ChangeKind::Updated);
        let page = WatchPage {
            commits: vec![commit(1, known), commit(3, due), commit(5, known)],
            start: head(0),
            end: head(9),
            whole: true,
        };
        Deliveries::new(page, &Arc::default())
    }

    /// How many changes are left. Their bytes are those that are counted.
    fn left(deliveries: &Deliveries) -> usize {
        let all = || deliveries.commits.iter().flat_map(|pending| &pending.changes);
        assert_eq!(deliveries.bytes(), all().map(Matching::size).sum::<usize>());
        assert_eq!(deliveries.is_empty(), all().count() == 0);
        deliveries.changes()
    }

    fn old(bytes: usize) -> Before {
        Before { value: Some(vec![0; bytes].into()), erased: false }
    }

    #[test]
    fn events_come_one_by_one_when_what_they_replaced_is_known() {
        let mut page = deliveries();
        let mut told = Vec::new();
        loop {
            let before = left(&page);
            match page.next_event() {
                Next::Item(Delivery { item, head, commit, last }) => {
                    assert_eq!((item.seq, left(&page)), (head.seq, before - 1));
                    told.push((head.seq.as_u64(), commit.map(|head| head.seq.as_u64()), last));
                }
                Next::Due(changes) => {
                    let due: Vec<u64> = changes.iter().map(|change| change.seq.as_u64()).collect();
                    assert_eq!((due, before), ((told.len() as u64 + 1..=4).collect(), 6 - told.len()));
                    page.fill(vec![Some(old(70))]); // As a page that is full: one after the other.
                    assert_eq!(left(&page), before);
                }
                Next::Nothing => break,
            }
        }
        let all = [(1, None), (2, Some(2)), (3, None), (4, Some(4)), (5, None), (6, Some(6))];
        assert_eq!(told, all.map(|(seq, commit)| (seq, commit, seq == 6)));
    }

    #[test]
    fn commits_come_whole_when_all_that_they_replaced_is_known() {
        let mut page = deliveries();
        let mut commit = |due: usize| match page.next_commit() {
            Next::Item(delivery) => {
                let (seq, head) = (delivery.head.seq, delivery.commit.unwrap());
                assert_eq!((delivery.item.len(), head.seq, due), (2, seq, 0));
                assert_eq!(left(&page), 6 - usize::try_from(seq.as_u64()).unwrap());
                (seq.as_u64(), delivery.last)
            }
            Next::Due(changes) => {
                assert_eq!(changes.len(), due);
                page.fill(vec![Some(old(70))]);
                (0, false)
            }
            Next::Nothing => (0, true),
        };
        assert_eq!(
            [0, 2, 1, 0, 0].map(&mut commit),
            [(2, false), (0, false), (0, false), (4, false), (6, true)]
        );
        assert_eq!(commit(0), (0, true));
    }

    #[test]
    fn one_event_is_a_single_change_of_which_all_is_known() {
        let is_one = |commits: Vec<Vec<Matching>>| {
            let commits = commits.into_iter().map(|changes| (changes, Some(head(2)))).collect();
            Deliveries::new(WatchPage { commits, start: head(0), end: head(9), whole: true }, &Arc::default())
                .is_one_event()
        };
        let (known, due) = (|n| change(n, ChangeKind::Created), change(1, ChangeKind::Updated));
        assert!(is_one(vec![vec![known(1)]]));
        assert!(!is_one(vec![]) && !is_one(vec![vec![due]]));
        assert!(!is_one(vec![vec![known(1), known(2)]]) && !is_one(vec![vec![known(1)], vec![known(2)]]));
    }
}
