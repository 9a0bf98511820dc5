//! Which changes a compaction drops.

use std::sync::Arc;

use super::compaction::{Forgotten, matches};
use super::floor::Floor;
use super::seq_set::SeqSet;
use crate::failpoint::failpoint;
use crate::log::{Change, ChangeKind};
use crate::pattern::Pattern;
use crate::seq::Seq;

/// Which of the changes at or below a floor go: those that another change at or below it replaced, but for keys whose
/// history is kept; and deletions that are forgotten, unless a change above the floor goes on from them. The rest is the
/// base: the state at the floor, and the change that each later one goes on from.
#[derive(Debug, Clone)]
pub(crate) struct Leaving {
    floor: Seq,
    keep: Vec<Pattern>,
    forgotten: Option<Arc<Forgotten>>,
    /// What a change at or below the floor replaced.
    replaced: SeqSet,
    /// What a change above the floor replaced.
    continued: SeqSet,
}

impl Leaving {
    /// Nothing yet: [`replaces`](Self::replaces) tells it the changes of the log.
    pub(crate) fn below(floor: &Floor) -> Self {
        let keep = floor.unfinished.as_ref().map(|going| going.keep.clone()).unwrap_or_default();
        let forgotten = floor.forgotten.clone();
        Self {
            floor: if failpoint("floor_off_by_one") { floor.seq().next() } else { floor.seq() },
            keep,
            forgotten,
            replaced: SeqSet::default(),
            continued: SeqSet::default(),
        }
    }

    /// Takes a change at a position, which replaced another one.
    pub(crate) fn replaces(&mut self, seq: Seq, before: Seq) {
        if seq <= self.floor {
            self.replaced.add(before);
        } else if before <= self.floor {
            self.continued.add(before);
        }
    }

    /// Whether changes above the floor must be told, too.
    pub(crate) fn forgets(&self) -> bool {
        self.forgotten.is_some()
    }

    /// What becomes of a change at or below the floor.
    pub(crate) fn fate(&self, change: &Change) -> Fate {
        if self.replaced.has(change.seq) {
            return if matches(&self.keep, &change.key) { Fate::Stays } else { Fate::Replaced };
        }
        let forgotten = self.forgotten.as_ref().filter(|_| change.kind == ChangeKind::Deleted);
        match forgotten {
            Some(forgotten)
                if forgotten.covers(&change.key, change.seq)
                    && (!self.continued.has(change.seq) || failpoint("predecessor_dropped")) =>
            {
                Fate::Forgotten
            }
            _ => Fate::Stays,
        }
    }
}

/// What becomes of a change at or below the floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Stays,
    /// It goes, because another change replaced it.
    Replaced,
    /// It goes, because it deleted a key that is forgotten.
    Forgotten,
}
