//! Which changes were superseded at a position.

use std::collections::HashMap;

use super::seq_set::SeqSet;
use crate::seq::Seq;

/// Which of the changes at or below a position another one there replaced, but for the newest versions of each key. The
/// rest is the state there: whatever drops only these leaves it, and every later state, as it is.
#[derive(Debug, Clone)]
pub(crate) struct Superseded {
    /// How many versions of each key are spared, counted from the newest one at the position.
    keep: u64,
    replaced: SeqSet,
    spared: SeqSet,
    /// How many newer versions a spared change has, until it is told itself.
    newer: HashMap<Seq, u64>,
}

impl Superseded {
    /// Nothing yet: [`take`](Self::take) tells it the changes at or below the position.
    pub(crate) fn but_for(keep: u64) -> Self {
        Self { keep, replaced: SeqSet::default(), spared: SeqSet::default(), newer: HashMap::new() }
    }

    /// Takes a change at a position, which replaced another one. They are told from the last one to the first.
    pub(crate) fn take(&mut self, seq: Seq, before: Seq) {
        let newer = if self.replaced.has(seq) { self.newer.remove(&seq) } else { Some(0) };
        if before == Seq::ZERO || before >= seq {
            return;
        }
        self.replaced.add(before);
        if let Some(newer) = newer.map(|newer| newer + 1).filter(|newer| *newer < self.keep) {
            self.spared.add(before);
            self.newer.insert(before, newer);
        }
    }

    /// Whether a change was superseded, and is not spared.
    pub(crate) fn has(&self, seq: Seq) -> bool {
        self.replaced.has(seq) && !self.spared.has(seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_replaced_is_superseded_but_for_the_newest_versions_of_each_key() {
        // The changes 1, 3, 4 and 6 are of one key, 2 and 5 of another; 7 is of a third.
        let log = [(7, 0), (6, 4), (5, 2), (4, 3), (3, 1), (2, 0), (1, 0)];
        let expected: [&[u64]; 5] = [&[1, 2, 3, 4], &[1, 2, 3, 4], &[1, 3], &[1], &[]];
        for (keep, expected) in (0..).zip(expected) {
            let mut superseded = Superseded::but_for(keep);
            for (seq, before) in log {
                superseded.take(Seq::new(seq), Seq::new(before));
            }
            let found: Vec<u64> = (0..9).filter(|seq| superseded.has(Seq::new(*seq))).collect();
            assert_eq!(found, expected, "but for {keep}");
        }
    }
}
