//! The slices of a compaction: which changes each drops.

use std::ops::ControlFlow;

use crate::backend::{Linked, Slice, Snapshot};
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::log::{Change, FollowBase, Hash, LastMeta, Meta, StoreId, header_hash};
use crate::seq::Seq;
use crate::state::{BaseSeal, Fate, Floor, Leaving};

/// The most changes of a slice, and about the most bytes of them. A transaction that drops so much takes some milliseconds,
/// and the batches that wait behind it wait no longer.
const CHANGES: u64 = 2_000;
const BYTES: usize = 1 << 20;

/// Makes the slices of a compaction, in order. It follows the chain over every change that it drops or leaves.
///
/// IMPORTANT: what contradicts ends the compaction before its slice drops anything. A change that was forged would else be
/// sealed into the base: there its own hash proves nothing, because the change before it is gone.
pub(crate) struct Slices {
    floor: Floor,
    leaving: Leaving,
    /// Checks all changes.
    all: FollowBase,
    /// Checks those that are left, for their digest.
    left: FollowBase,
    count: u64,
    reached: Seq,
    /// The most changes of a slice.
    most: u64,
    meta: LastMeta,
}

impl Slices {
    /// Before the first change of a log with this floor.
    pub(crate) fn new(store: StoreId, floor: Floor, leaving: Leaving) -> Self {
        let follow = FollowBase::new(store, floor.head, floor.at);
        let (all, left, meta) = (follow.clone(), follow, LastMeta::default());
        Self { floor, leaving, all, left, count: 0, reached: Seq::ZERO, most: CHANGES, meta }
    }

    /// The same, with at most so many changes in a slice.
    #[cfg(test)]
    pub(crate) fn of(self, most: u64) -> Self {
        Self { most, ..self }
    }

    /// The position up to where slices were made.
    pub(crate) fn reached(&self) -> Seq {
        self.reached
    }

    /// How many changes are left up to there, and their digest.
    pub(crate) fn seal(&self) -> BaseSeal {
        BaseSeal { count: self.count, digest: self.left.digest() }
    }

    /// The next slice; `None` at the floor.
    pub(crate) fn next(&mut self, snapshot: &dyn Snapshot) -> Result<Option<Slice>> {
        let floor = self.floor.seq();
        if self.reached == floor {
            return Ok(None);
        }
        let mut slice = Slice { from: self.reached, to: floor, ..Slice::default() };
        let (mut taken, mut bytes, mut full) = (0, 0, false);
        snapshot.linked(self.reached, floor, &mut |Linked { change, before }| {
            let behind = slice.runs.last().is_some_and(|(_, last)| last.next() == change.seq);
            if full {
                // The first change of the next slice: the one before it may be gone by then.
                slice.behind.extend(behind.then_some((change.seq, before)));
                return Ok(ControlFlow::Break(()));
            }
            taken += 1;
            bytes += change.size();
            full = taken == self.most || bytes >= BYTES;
            if full {
                slice.to = change.seq;
            }
            self.take(change, before, behind, &mut slice)?;
            Ok(ControlFlow::Continue(()))
        })?;
        self.reached = slice.to;
        Ok(Some(slice))
    }

    /// Takes the next change. `behind` says whether the change right before it goes.
    fn take(&mut self, change: Change, before: Hash, behind: bool, slice: &mut Slice) -> Result<()> {
        let view = change.view(change.meta.as_ref().map(|meta| self.meta.encode(meta)));
        let header = header_hash(&view.header());
        let contradicts = |error: crate::log::Break| {
            StateError::Corrupted(format!("{error}; nothing after {} was dropped", slice.from))
        };
        if !failpoint("slice_unchecked") {
            self.all.check_hashed(Some(before), &view, header).map_err(contradicts)?;
        }
        if let Some(id) = change.meta.as_deref().and_then(Meta::commit_id)
            && change.closes_commit()
        {
            slice.commit_ids.push((id.to_owned(), change.seq));
        }
        let fate = self.leaving.fate(&change);
        if fate == Fate::Stays {
            self.left.check_hashed(Some(before), &view, header).map_err(contradicts)?;
            self.count += 1;
            if behind && !failpoint("before_left_out") {
                slice.behind.push((change.seq, before));
            }
            return Ok(());
        }
        match slice.runs.last_mut() {
            Some((_, last)) if last.next() == change.seq => *last = change.seq,
            _ => slice.runs.push((change.seq, change.seq)),
        }
        if fate == Fate::Forgotten {
            slice.forgotten.push((change.key, change.seq));
        }
        Ok(())
    }
}
