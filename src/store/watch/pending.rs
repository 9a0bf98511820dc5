//! A commit that a watch has read and not yet delivered in full.

use std::collections::VecDeque;

use super::event::WatchEvent;
use crate::log::{Change, Head};
use crate::store::feed::{Before, Matching, Old};

/// The changes of a commit that are still to be delivered.
pub(super) struct Pending {
    pub(super) changes: VecDeque<Matching>,
    pub(super) head: Head,
}

impl Pending {
    /// The first changes whose replaced states must still be read, before the commit (`all`) or its first change
    /// can be delivered.
    pub(super) fn due(&self, all: bool) -> Option<Vec<Change>> {
        let is_due = |matching: &&Matching| matches!(matching.old, Old::Due);
        let first =
            self.changes.iter().position(|matching| is_due(&matching)).filter(|first| all || *first == 0)?;
        Some(self.changes.iter().skip(first).take_while(is_due).map(|m| m.change.clone()).collect())
    }

    /// Fills in the replaced states that were read for the changes that were due.
    pub(super) fn fill(&mut self, old: Vec<Option<Before>>) {
        let due = self.changes.iter_mut().filter(|matching| matches!(matching.old, Old::Due));
        due.zip(old).for_each(|(matching, old)| matching.old = Old::Read(old));
    }
}

pub(super) fn event(Matching { change, old }: Matching) -> WatchEvent {
    match old {
        Old::Read(old) => WatchEvent::from_change(&change, old.as_ref()),
        Old::Due => WatchEvent::from_change(&change, None),
    }
}
