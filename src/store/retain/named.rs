//! Slices of an erasure: the values that it named and that are still there.

use std::ops::ControlFlow;

use super::values::ValueSlice;
use crate::backend::{Snapshot, Valued};
use crate::error::Result;
use crate::key::RESERVED_PREFIX;
use crate::seq::Seq;
use crate::state::{ErasureRecord, SeqRanges};

/// The most values of a slice, and about the most bytes of them. The batches that wait behind a slice wait for its transaction.
/// Measured with `benches/retention.rs`, 16 tasks on a busy machine: the slowest hundredth of commits took 12 ms with 200 and
/// with 500 values a slice, and 75 ms with 2,000.
const VALUES: usize = 500;
const BYTES: u64 = 1 << 20;
/// How many positions are looked at in one state.
const POSITIONS: u64 = 65_536;

/// Makes the slices that erase what was named, in order. It depends on the records and on what is still there alone: whoever
/// goes on after a crash erases the same, and a second time there is nothing.
pub(crate) struct Named {
    ranges: SeqRanges,
    /// The index of the range that is looked at, and the position up to where all was.
    place: usize,
    reached: Seq,
    /// The most values of a slice.
    most: usize,
}

impl Named {
    /// Before the first of these positions.
    pub(crate) fn new(ranges: SeqRanges) -> Self {
        Self { ranges, place: 0, reached: Seq::ZERO, most: VALUES }
    }

    /// The same, with at most so many values in a slice.
    #[cfg(all(test, feature = "sqlite"))]
    pub(crate) fn of(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// The position up to where slices were made.
    pub(super) fn reached(&self) -> Seq {
        self.reached
    }

    /// The next slice, which may be empty; `None` at the end.
    pub(crate) fn next(&mut self, snapshot: &dyn Snapshot) -> Result<Option<ValueSlice>> {
        let (mut slice, mut looked) = (ValueSlice::default(), 0);
        while let Some((first, last)) = self.ranges.as_slice().get(self.place).copied()
            && looked < POSITIONS
            && slice.seqs.len() < self.most
            && slice.bytes < BYTES
        {
            let after = self.reached.max(first.previous());
            let mut to = last.min(Seq::new(after.as_u64() + POSITIONS - looked));
            snapshot.valued(after, to, &mut |valued| {
                check(snapshot, &valued)?;
                slice.seqs.push(valued.seq);
                slice.bytes += valued.bytes;
                let full = slice.seqs.len() == self.most || slice.bytes >= BYTES;
                if full {
                    to = valued.seq;
                }
                Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            looked += to.as_u64() - after.as_u64();
            self.reached = to;
            self.place += usize::from(to == last);
        }
        Ok((looked > 0).then_some(slice))
    }
}

/// Refuses a value that no erasure may name.
///
/// IMPORTANT: it is the state of its key only if the record is wrong. What was superseded when it was recorded stays
/// superseded: a key that is made anew after it was deleted has its new values at later positions.
fn check(snapshot: &dyn Snapshot, Valued { seq, key, .. }: &Valued) -> Result<()> {
    let is_state = snapshot.key_version(key)?.is_some_and(|last| last.seq == *seq);
    if is_state || key.starts_with(RESERVED_PREFIX) {
        return Err(ErasureRecord::names_too_much(*seq));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend, Memory, Transaction};
    use crate::error::StateError;
    use crate::log::StoreId;
    use crate::state::Batch;

    fn ranges(of: &[(u64, u64)]) -> SeqRanges {
        SeqRanges::of(of.iter().map(|(first, last)| (Seq::new(*first), Seq::new(*last))).collect()).unwrap()
    }

    /// A log of values of so many bytes, in commits of a thousand changes, each of which sets the same keys again.
    fn log(commits: usize, bytes: usize) -> Memory {
        let commit = (0..1_000).fold(Batch::new(), |batch, n| batch.set(format!("/{n}"), vec![7; bytes]));
        Memory::of(StoreId::from_bytes([5; 16]), std::iter::repeat_n(commit, commits))
    }

    /// Erases what was named, and returns what each slice erased.
    fn erase(log: &mut Memory, named: SeqRanges) -> Vec<Vec<u64>> {
        let (mut named, mut slices) = (Named::new(named), Vec::new());
        while let Some(slice) = named.next(log).unwrap() {
            let mut transaction = log.begin().unwrap();
            transaction.erase(&slice.seqs).unwrap();
            transaction.commit().unwrap();
            slices.push(slice.seqs.iter().map(|seq| seq.as_u64()).collect());
        }
        slices
    }

    #[test]
    fn all_that_was_named_and_nothing_else_is_erased_in_slices_and_once() {
        let mut whole = log(3, 1);
        let named = ranges(&[(2, 2), (5, 900), (1_000, 1_001), (1_990, 2_000)]);
        let all: Vec<u64> = (1..3_001).filter(|seq| named.has(Seq::new(*seq))).collect();
        let slices = erase(&mut whole, named.clone());
        assert_eq!(slices.concat(), all);
        assert_eq!(slices.iter().map(Vec::len).collect::<Vec<_>>(), [500, 410]);
        assert_eq!(erase(&mut whole, named).concat(), [0; 0], "a second time there is nothing");

        let mut large = log(2, 300 << 10);
        let slices = erase(&mut large, ranges(&[(1, 9)]));
        assert_eq!(slices, [vec![1, 2, 3, 4], vec![5, 6, 7, 8], vec![9]], "a slice has about a MiB");
    }

    #[test]
    fn one_state_is_looked_at_for_so_many_positions_whether_there_are_values_or_not() {
        let mut log = log(67, 0);
        let named = ranges(&[(1, 66_000)]);
        erase(&mut log, named.clone());
        let slices = erase(&mut log, named.clone());
        assert_eq!(slices.concat(), [0; 0]);
        assert_eq!(slices.len(), 2);
        let scattered = SeqRanges::of(named.as_slice().iter().map(|(first, _)| (*first, *first)).collect());
        assert_eq!(erase(&mut log, scattered.unwrap()).len(), 1);
    }

    #[test]
    fn a_record_that_names_a_live_value_or_one_of_the_store_erases_nothing_more() {
        let batches = [
            Batch::new().set("/a", "1").set("/b", "1"),
            Batch::new().set("/a", "2").set("/.univrs/marks/x", "1").set("/.univrs/marks/x", "2"),
        ];
        let log = Memory::of(StoreId::from_bytes([5; 16]), batches);
        for seq in [2, 3, 4, 5] {
            let Err(StateError::Corrupted(what)) = Named::new(ranges(&[(1, 1), (seq, seq)])).next(&log)
            else {
                panic!("change {seq} was taken")
            };
            assert!(what.contains(&format!("change {seq},")), "{what}");
        }
        assert!(Named::new(ranges(&[(1, 1)])).next(&log).is_ok());
    }
}
