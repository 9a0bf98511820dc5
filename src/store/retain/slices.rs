//! The slices of a compaction: which changes each drops.

use std::ops::ControlFlow;

use crate::backend::{Linked, Slice, Snapshot};
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::log::{Change, FollowBase, Hash, LastMeta, Meta, StoreId, header_hash};
use crate::seq::Seq;
use crate::state::{BaseSeal, Fate, Floor, Leaving};

/// The most changes of a slice, with the rows of forgotten keys and of commit ids, and about the most bytes of the changes.
/// The batches that wait behind a slice wait for its transaction. Measured with `benches/compaction.rs`, 16 tasks: the slowest
/// hundredth of commits took 15 ms with 500 changes a slice, and 80 ms with 2,000.
const CHANGES: u64 = 500;
const BYTES: usize = 1 << 20;

/// What comes next of a compaction.
pub(crate) enum Made {
    Slice(Slice),
    /// All slices were made.
    All,
    /// This compaction has ended, and another one begun, which may drop what this one left.
    Outdated,
}

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
    /// The most rows of a slice.
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

    /// The next slice.
    pub(crate) fn next(&mut self, snapshot: &dyn Snapshot) -> Result<Made> {
        let floor = self.floor.seq();
        if snapshot.floor()?.head != self.floor.head {
            return Ok(Made::Outdated);
        }
        if self.reached == floor {
            return Ok(Made::All);
        }
        let mut slice = Slice { floor, from: self.reached, to: floor, ..Slice::default() };
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
            let seq = change.seq;
            self.take(change, before, behind, &mut slice)?;
            let beside = slice.forgotten.len() + slice.commit_ids.len();
            full = taken + beside as u64 >= self.most || bytes >= BYTES;
            if full {
                slice.to = seq;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        self.reached = slice.to;
        Ok(Made::Slice(slice))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::{LogView, Memory};
    use crate::state::{Batch, Forgotten, Unfinished};
    use crate::store::engine::{Done, Work};
    use crate::store::read::base;

    const STORE: StoreId = StoreId::from_bytes([4; 16]);

    /// Begins a compaction to a floor.
    fn begin(log: &mut Memory, to: u64) -> Slices {
        let head = log.commit_end(Seq::new(to)).unwrap();
        let at = log.change(head.seq).unwrap().map(|change| change.at);
        let unfinished = Some(Arc::new(Unfinished { reached: Seq::ZERO, keep: Vec::new() }));
        log.set_floor(Floor { unfinished, ..Floor::at(head, at) });
        go_on(log)
    }

    /// The slices of the compaction that goes on, of two changes each.
    fn go_on(log: &Memory) -> Slices {
        let floor = log.floor().unwrap();
        let leaving = base::leaving(log, &floor).unwrap();
        Slices::new(STORE, floor, leaving).of(2)
    }

    // Whoever alters a file while it is compacted is noticed by nothing else: the changes around it are gone.
    #[test]
    fn a_change_that_was_forged_after_the_check_stops_its_slice() {
        let whole = Memory::of(STORE, (0..9).map(|n| Batch::new().set("/a", n.to_string())));
        let mut log = Memory::new(STORE);
        for seq in 1..=9 {
            let mut change = whole.change(Seq::new(seq)).unwrap().unwrap();
            if seq == 3 {
                change.key = "/forged".into();
                change.hash = change.chained_onto(whole.hash_at(Seq::new(2)).unwrap().unwrap());
            }
            log.push(change);
        }
        let mut slices = begin(&mut log, 6);
        assert!(matches!(slices.next(&log).unwrap(), Made::Slice(slice) if slice.to == Seq::new(2)));
        let Err(StateError::Corrupted(what)) = slices.next(&log) else { panic!("it was sealed in") };
        assert!(what.ends_with("nothing after 2 was dropped"), "{what}");
    }

    #[test]
    fn rows_of_forgotten_keys_count_as_the_changes_of_a_slice_do() {
        let commit = |n: u64| {
            let key = format!("/{}", n / 2);
            if n.is_multiple_of(2) { Batch::new().set(key, "") } else { Batch::new().delete(key) }
        };
        let mut log = Memory::of(STORE, (0..20).map(commit).chain([Batch::new().set("/a", "")]));
        drop(begin(&mut log, 21));
        let forgotten = Arc::new(Forgotten { floor: Seq::new(21), version: 21, keep: Vec::new() });
        log.set_floor(Floor { forgotten: Some(forgotten), ..log.floor().unwrap() });
        let Made::Slice(slice) = go_on(&log).of(6).next(&log).unwrap() else { panic!("it has slices") };
        assert_eq!((slice.to, slice.forgotten.len()), (Seq::new(4), 2));
    }

    fn reached(log: &Memory) -> Option<u64> {
        log.floor().unwrap().unfinished.map(|going| going.reached.as_u64())
    }

    fn end(log: &mut Memory, mut slices: Slices) {
        while let Made::Slice(slice) = slices.next(log).unwrap() {
            assert_eq!(Work::Drop(slice).run(log).unwrap(), Done::Whole);
        }
    }

    // Whoever was slow would else leave what a later compaction drops, or end it before the log names its digest.
    #[test]
    fn what_was_made_for_a_compaction_that_has_ended_does_nothing_to_the_next_one() {
        let mut log = Memory::of(STORE, (0..9).map(|n| Batch::new().set("/a", n.to_string())));
        let mut slow = begin(&mut log, 3);
        let Made::Slice(late) = slow.next(&log).unwrap() else { panic!("it has slices") };
        let faster = go_on(&log);
        end(&mut log, faster);
        assert_eq!(Work::Finish(Seq::new(3)).run(&mut log).unwrap(), Done::Whole);

        let next = begin(&mut log, 6);
        assert_eq!(Work::Drop(late).run(&mut log).unwrap(), Done::Overtaken);
        assert_eq!(reached(&log), Some(0));
        assert!(matches!(slow.next(&log).unwrap(), Made::Outdated), "its digest would be another one");
        end(&mut log, next);
        assert_eq!(Work::Finish(Seq::new(3)).run(&mut log).unwrap(), Done::Overtaken);
        assert_eq!(reached(&log), Some(6));
        assert_eq!(Work::Finish(Seq::new(6)).run(&mut log).unwrap(), Done::Whole);
        assert_eq!(reached(&log), None);
    }
}
