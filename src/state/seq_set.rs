//! A set of positions.

use crate::seq::Seq;

/// A set of positions of a log, with a bit for each position up to the largest one.
#[derive(Debug, Clone, Default)]
pub(crate) struct SeqSet(Vec<u64>);

impl SeqSet {
    /// Adds a position, which must lie in the log: the set takes a bit for each one before it.
    pub(crate) fn add(&mut self, seq: Seq) {
        if let Ok(place) = usize::try_from(seq.as_u64() / 64) {
            if self.0.len() <= place {
                self.0.resize(place + 1, 0);
            }
            if let Some(word) = self.0.get_mut(place) {
                *word |= 1 << (seq.as_u64() % 64);
            }
        }
    }

    pub(crate) fn has(&self, seq: Seq) -> bool {
        let word = usize::try_from(seq.as_u64() / 64).ok().and_then(|place| self.0.get(place));
        word.is_some_and(|word| word >> (seq.as_u64() % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_added_and_nothing_else() {
        let mut set = SeqSet::default();
        let added = [1, 63, 64, 200];
        for seq in added {
            set.add(Seq::new(seq));
        }
        let found: Vec<u64> = (0..1_000).filter(|seq| set.has(Seq::new(*seq))).collect();
        assert_eq!(found, added);
        assert!(!set.has(Seq::MAX));
    }
}
