//! Whether the projection is the fold of the log, without a table of all keys.
//!
//! Each change leaves its key in a new state, and replaces the state before it. A keyed hash maps each state
//! to a number. The number of each new state is added, that of each replaced state is subtracted. What
//! remains is the sum of the last states, and must equal the sum of the rows of the projection. So a
//! verification needs no table of keys, and log and projection can be summed on two threads.
//!
//! This is the additive multiset hash MSet-Add-Hash of Clarke, Devadas, van Dijk, Gassend and Suh
//! ("Incremental Multiset Hash Functions and Their Application to Memory Integrity Checking", ASIACRYPT
//! 2003), with sums of 64 bits: with a secret key, two multisets that differ have equal sums with a
//! probability of 2^-64. A sum cannot say which key contradicts. If the sums differ,
//! [`Verification`](super::Verification) looks again.

use std::hash::BuildHasher;

use crate::log::{ChangeKind, ChangeView, Meta, Timestamp, Until, cause};
use crate::seq::Seq;
use crate::state::{Forgetting, RowView, SeqSet};

/// The sum of a log or of a projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sums {
    states: u64,
    entries: u64,
    commit_ids: u64,
}

/// The sums of both sides of the comparison.
///
/// IMPORTANT: `hash` must have a random, secret key. With a known key, damage could be made that keeps the
/// sums.
pub(crate) struct MultisetHash<H> {
    hash: H,
    sums: Sums,
    /// The first position of the current commit.
    first: Seq,
    /// The positions of the base.
    base: SeqSet,
    forgetting: Forgetting,
}

impl<H: BuildHasher> MultisetHash<H> {
    pub(crate) fn new(hash: H) -> Self {
        let (first, base, forgetting) = (Seq::ZERO.next(), SeqSet::default(), Forgetting::default());
        Self { hash, sums: Sums::default(), first, base, forgetting }
    }

    pub(crate) fn sums(&self) -> Sums {
        self.sums
    }

    /// The number of a state of a key: its version and position, and when it was created if it exists.
    fn state(&self, key: &str, version: u64, seq: Seq, since: Option<Timestamp>) -> u64 {
        self.hash.hash_one((1_u8, key, version, seq, since))
    }

    fn entry_token(&self, seq: Seq, at: Timestamp, until: Option<Until>, value: Option<&[u8]>) -> u64 {
        self.hash.hash_one((2_u8, seq, at, until, value))
    }

    fn add_commit_id(&mut self, id: &str, first: Seq, last: Seq) {
        let token = self.hash.hash_one((3_u8, id, first, last));
        self.sums.commit_ids = self.sums.commit_ids.wrapping_add(token);
    }

    /// Adds the next change of the base, which comes before the changes above the floor. What it replaced is subtracted
    /// only if it is there, too.
    pub(crate) fn base(&mut self, change: &ChangeView<'_>, lasts: &SeqSet) {
        self.base.add(change.seq);
        let goes_on = change.prev > Seq::ZERO && self.base.has(change.prev);
        self.add(change, goes_on, lasts);
    }

    /// Ends the base: the changes above the floor follow.
    pub(crate) fn end_of_base(&mut self, floor: Seq) {
        self.first = floor.next();
    }

    /// Adds the next change of the log. The log must have been checked up to it.
    pub(crate) fn change(&mut self, change: &ChangeView<'_>, lasts: &SeqSet) {
        // A first change of another version is subtracted a state that nothing added, so that the sums differ.
        let begins = change.version == self.forgetting.version() + 1 || change.has_cause(cause::MIGRATED);
        self.add(change, change.prev > Seq::ZERO || !begins, lasts);
        if change.closes_commit() {
            let meta = change.meta.and_then(Meta::decode);
            if let Some(id) = meta.as_ref().and_then(Meta::commit_id) {
                self.add_commit_id(id, self.first, change.seq);
            }
            self.first = change.seq.next();
        }
    }

    fn add(&mut self, change: &ChangeView<'_>, goes_on: bool, lasts: &SeqSet) {
        let lives = change.kind != ChangeKind::Deleted;
        let left = self.state(change.key, change.version, change.seq, lives.then_some(change.created_at));
        self.sums.states = self.sums.states.wrapping_add(left);
        if goes_on {
            let since = (change.kind != ChangeKind::Created).then_some(change.created_at);
            let taken = self.state(change.key, change.version.wrapping_sub(1), change.prev, since);
            self.sums.states = self.sums.states.wrapping_sub(taken);
        }
        if lives && lasts.has(change.seq) {
            let token = self.entry_token(change.seq, change.at, change.until, change.value);
            self.sums.entries = self.sums.entries.wrapping_add(token);
        }
        self.forgetting.take(change.key, change.value);
    }

    /// Adds a row of the projection.
    pub(crate) fn row(&mut self, row: &RowView<'_>, lasts: &mut SeqSet, head: Seq) {
        let state = self.state(row.key, row.version, row.seq, row.times.map(|(created_at, _)| created_at));
        self.sums.states = self.sums.states.wrapping_add(state);
        if let Some((_, updated_at)) = row.times {
            if row.seq <= head {
                lasts.add(row.seq); // A row with a position beyond the head is found by its sum.
            }
            let token = self.entry_token(row.seq, updated_at, row.until, row.value);
            self.sums.entries = self.sums.entries.wrapping_add(token);
        }
    }

    /// Adds a remembered commit id.
    pub(crate) fn commit_id(&mut self, id: &str, first: Seq, last: Seq) {
        self.add_commit_id(id, first, last);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasherDefault, DefaultHasher};

    use super::*;

    fn sums(version: u64, seq: u64, times: Option<(i64, i64)>, value: Option<&[u8]>) -> Sums {
        let mut hash = MultisetHash::new(BuildHasherDefault::<DefaultHasher>::default());
        let at = |(created, updated)| (Timestamp::from_micros(created), Timestamp::from_micros(updated));
        let (seq, times) = (Seq::new(seq), times.map(at));
        let row = RowView { key: "/a", version, seq, times, until: None, value };
        hash.row(&row, &mut SeqSet::default(), Seq::new(9));
        hash.sums()
    }

    #[test]
    fn rows_that_differ_in_one_field_have_other_sums() {
        let one = sums(2, 3, Some((4, 5)), Some(b"1"));
        assert_eq!(one, sums(2, 3, Some((4, 5)), Some(b"1")));
        for other in [
            sums(3, 3, Some((4, 5)), Some(b"1")),
            sums(2, 4, Some((4, 5)), Some(b"1")),
            sums(2, 3, Some((5, 5)), Some(b"1")),
            sums(2, 3, Some((4, 6)), Some(b"1")),
            sums(2, 3, Some((4, 5)), Some(b"2")),
            sums(2, 3, Some((4, 5)), None),
            sums(2, 3, None, None),
        ] {
            assert_ne!(one, other);
        }
        assert_ne!(sums(2, 3, None, None), sums(3, 3, None, None), "deleted keys, too");
        assert_ne!(sums(2, 3, None, None), sums(2, 4, None, None));
    }
}
