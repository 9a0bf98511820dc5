//! A set of positions, as ranges.

use crate::seq::Seq;

/// A set of positions of a log, as the first and the last position of each run without a gap, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SeqRanges(Vec<(Seq, Seq)>);

impl SeqRanges {
    /// The set of these ranges; `None` if one of them ends before it begins, or begins before the one before it has ended.
    pub(crate) fn of(ranges: Vec<(Seq, Seq)>) -> Option<Self> {
        let ends = std::iter::once(Seq::ZERO).chain(ranges.iter().map(|(_, last)| *last));
        let in_order = ends.zip(&ranges).all(|(end, (first, last))| end < *first && first <= last);
        in_order.then_some(Self(ranges))
    }

    /// Adds a position behind all that are there.
    pub(crate) fn push(&mut self, seq: Seq) {
        match self.0.last_mut() {
            Some((_, last)) if last.next() == seq => *last = seq,
            _ => self.0.push((seq, seq)),
        }
    }

    /// Adds those of another set.
    pub(crate) fn add_all(&mut self, other: &Self) {
        let mut all = std::mem::take(&mut self.0);
        all.extend(&other.0);
        all.sort(); // It takes one pass, because these are two runs that are in order.
        for (first, last) in all {
            match self.0.last_mut() {
                Some((_, end)) if first <= end.next() => *end = last.max(*end),
                _ => self.0.push((first, last)),
            }
        }
    }

    pub(crate) fn has(&self, seq: Seq) -> bool {
        let behind = self.0.partition_point(|(first, _)| *first <= seq);
        behind.checked_sub(1).and_then(|place| self.0.get(place)).is_some_and(|(_, last)| seq <= *last)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges, in order.
    pub(crate) fn as_slice(&self) -> &[(Seq, Seq)] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(seqs: &[u64]) -> SeqRanges {
        let mut set = SeqRanges::default();
        for seq in seqs {
            set.push(Seq::new(*seq));
        }
        set
    }

    fn pairs(set: &SeqRanges) -> Vec<(u64, u64)> {
        set.as_slice().iter().map(|(first, last)| (first.as_u64(), last.as_u64())).collect()
    }

    #[test]
    fn a_set_has_what_was_added_and_nothing_else() {
        let added = [1, 2, 3, 7, 9, 10];
        let set = set(&added);
        assert_eq!(pairs(&set), [(1, 3), (7, 7), (9, 10)]);
        let found: Vec<u64> = (0..99).filter(|seq| set.has(Seq::new(*seq))).collect();
        assert_eq!(found, added);
        assert!(SeqRanges::default().is_empty() && !set.is_empty() && !set.has(Seq::MAX));
    }

    #[test]
    fn two_sets_are_one_whichever_comes_first() {
        for (one, other) in [(&[1, 2, 9][..], &[3, 5][..]), (&[2, 3, 4], &[3]), (&[], &[7]), (&[8], &[6, 7])]
        {
            let (mut both, mut swapped) = (set(one), set(other));
            both.add_all(&set(other));
            swapped.add_all(&set(one));
            assert_eq!(both, swapped);
            let mut all = [one, other].concat();
            all.sort_unstable();
            all.dedup();
            assert_eq!(both, set(&all));
        }
    }

    #[test]
    fn ranges_that_are_not_in_order_are_no_set() {
        let of = |ranges: &[(u64, u64)]| {
            SeqRanges::of(ranges.iter().map(|(first, last)| (Seq::new(*first), Seq::new(*last))).collect())
        };
        assert_eq!(of(&[(1, 2), (4, 4)]), Some(set(&[1, 2, 4])));
        for wrong in [&[(0, 1)][..], &[(2, 1)], &[(1, 2), (2, 3)], &[(5, 5), (1, 1)]] {
            assert_eq!(of(wrong), None, "{wrong:?}");
        }
    }
}
