//! Checking a base.

use super::follow::{HasCause, check_shape, check_value};
use super::reserved::accepts_clock;
use super::{BaseDigest, Break, Change, ChangeView, Hash, Head, StoreId, Timestamp, hash};
use crate::seq::Seq;

/// Checks a base, which is what a compaction leaves of the changes at or before its floor, change by change. Each is given
/// with the chain before it, and proves itself: its chain hash follows from that and from its header. So whether all of
/// them are there, and no other ones, is told by nothing but the [digest](Self::digest), which the log names.
#[derive(Debug, Clone)]
pub(crate) struct FollowBase {
    floor: Head,
    floor_at: Option<Timestamp>,
    /// The last change: the earliest position that it can have, and the chain hash there.
    last: Head,
    /// Whether the last change has exactly this position. That of a withheld one is often unknown.
    is_exact: bool,
    /// The end and the time of the commit of the last change that was not withheld.
    commit: (Seq, Timestamp),
    digest: BaseDigest,
}

impl FollowBase {
    /// Starts before the first change of the base of a store with this floor, which is the end of a commit with this time,
    /// if that is known.
    pub(crate) fn new(store: StoreId, floor: Head, floor_at: Option<Timestamp>) -> Self {
        Self {
            floor,
            floor_at,
            last: Head::genesis(store),
            is_exact: true,
            commit: (Seq::ZERO, Timestamp::EPOCH),
            digest: BaseDigest::new(store, floor),
        }
    }

    /// The digest of the changes so far.
    pub(crate) fn digest(&self) -> Hash {
        self.digest.finish()
    }

    /// Checks the next change, and moves on behind it. `before` is the chain before it; `None` if the change before it in
    /// the log is the one before it in the base. `header` is the hash of its header.
    ///
    /// # Errors
    /// The first contradiction. The position then stays before the change.
    pub(crate) fn check_hashed(
        &mut self,
        before: Option<Hash>,
        change: &ChangeView<'_>,
        header: Hash,
    ) -> Result<(), Break> {
        self.check_caused(before, change, header, &|cause| change.has_cause(cause))
    }

    /// Computes the chain hash of the next change from the chain before it and the hash of its header, checks the rest of
    /// the change, and moves on behind it.
    pub(crate) fn chain(&mut self, before: Hash, change: &mut Change, header: Hash) -> Result<(), Break> {
        change.hash = hash::link(before, header);
        self.check_caused(Some(before), &change.view(None), header, &|cause| change.has_cause(cause))
    }

    /// Moves on behind a change that is withheld: only the chain before it and the hash of its header are known.
    ///
    /// # Errors
    /// Its place cannot be in the base.
    pub(crate) fn pass(&mut self, before: Hash, header: Hash) -> Result<(), Break> {
        let is_next = before == self.last.hash;
        let next = self.last.seq.next();
        // Whether it stands directly behind the last one shows in the chain.
        let mut last =
            Head { seq: if is_next { next } else { next.next() }, hash: hash::link(before, header) };
        let mut is_exact = self.is_exact && is_next;
        if last.seq > self.floor.seq {
            return Err(Break::Order(last.seq));
        }
        if last.hash == self.floor.hash && !is_exact {
            (last.seq, is_exact) = (self.floor.seq, true);
        }
        self.check_floor(last)?;
        (self.last, self.is_exact) = (last, is_exact);
        self.digest.push(last.hash);
        Ok(())
    }

    fn check_caused(
        &mut self,
        before: Option<Hash>,
        change: &ChangeView<'_>,
        header: Hash,
        has_cause: HasCause<'_>,
    ) -> Result<(), Break> {
        let before = before.unwrap_or(self.last.hash);
        self.check_place(before, change.seq)?;
        self.check_commit(change, has_cause)?;
        check_shape(change, has_cause)?;
        check_value(change)?;
        if hash::link(before, header) != change.hash {
            return Err(Break::Chain(change.seq));
        }
        self.check_floor(change.head())?;
        (self.last, self.is_exact) = (change.head(), true);
        self.commit = (change.commit_seq, change.at);
        self.digest.push(change.hash);
        Ok(())
    }

    /// A change has the chain of the last one before it if it stands directly behind that one, and only then.
    fn check_place(&self, before: Hash, seq: Seq) -> Result<(), Break> {
        let next = self.last.seq.next();
        if seq < next || seq > self.floor.seq {
            return Err(Break::Order(seq));
        }
        let fits = if before == self.last.hash { seq == next || !self.is_exact } else { seq > next };
        if fits { Ok(()) } else { Err(Break::Chain(seq)) }
    }

    /// The chain hash at the floor is that of the change there, and of no other one.
    fn check_floor(&self, change: Head) -> Result<(), Break> {
        let fits = (change.seq == self.floor.seq) == (change.hash == self.floor.hash);
        if fits { Ok(()) } else { Err(Break::Chain(change.seq)) }
    }

    /// Of two commits that do not follow each other directly, the later one may have the earlier time: the change that
    /// accepted the clock in between may be gone.
    fn check_commit(&self, change: &ChangeView<'_>, has_cause: HasCause<'_>) -> Result<(), Break> {
        let (end, at) = self.commit;
        let accepts_clock = || accepts_clock(change.key, change.closes_commit(), change.kind, has_cause);
        let follows = if change.seq <= end {
            (change.commit_seq, change.at) == (end, at)
        } else {
            change.seq > end.next() || change.at > at || accepts_clock()
        };
        let within = (change.seq..=self.floor.seq).contains(&change.commit_seq);
        let ends_then = change.commit_seq != self.floor.seq || self.floor_at.is_none_or(|at| at == change.at);
        if follows && within && ends_then { Ok(()) } else { Err(Break::Commit(change.seq)) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::log::{ChangeKind, Meta, cause};

    const STORE: StoreId = StoreId::from_bytes([1; 16]);

    /// A log of ten changes, each of a key of its own and alone in its commit, but for 4 and 5, which are one commit.
    fn log() -> Vec<Change> {
        let change = |last: &mut Head, seq| {
            let commit = if seq == 4 { 5 } else { seq };
            let at = Timestamp::from_micros(i64::try_from(commit).unwrap());
            let change = Change {
                commit_seq: Seq::new(commit),
                at,
                created_at: at,
                key: format!("/{seq}").into(),
                salt: Some([7; 16]),
                value_hash: Some(hash::value(&[7; 16], b"")),
                ..Change::plain(seq)
            };
            let change = chained(*last, change);
            *last = change.head();
            Some(change)
        };
        (1..=10).scan(Head::genesis(STORE), change).collect()
    }

    fn chained(onto: Head, change: Change) -> Change {
        let hash = change.chained_onto(onto.hash);
        Change { hash, ..change }
    }

    /// The chain before a position.
    fn before(log: &[Change], seq: usize) -> Hash {
        seq.checked_sub(2).map_or(Head::genesis(STORE).hash, |at| log[at].hash)
    }

    /// The base at 8, behind its changes at these positions; those below zero are withheld.
    fn behind(log: &[Change], seqs: &[i64]) -> Result<FollowBase, Break> {
        let floor = &log[7];
        let mut follow = FollowBase::new(STORE, floor.head(), Some(floor.at));
        for seq in seqs {
            let at = usize::try_from(seq.abs()).unwrap();
            let (before, change) = (before(log, at), &log[at - 1]);
            let header = change.header_hash();
            match seq {
                ..0 => follow.pass(before, header)?,
                _ => follow.check_hashed(Some(before), &change.view(None), header)?,
            }
        }
        Ok(follow)
    }

    #[test]
    fn any_changes_up_to_the_floor_are_a_base_in_their_order_withheld_or_not() {
        let log = log();
        for sound in [
            &[][..],
            &[1, 2, 3, 4, 5, 6, 7, 8],
            &[8],
            &[2],
            &[4, 8],
            &[5, 6],
            &[-1, -2, -3, -4, -5, -6, -7, -8],
            &[-8],
            &[-2, 3, -5, 7],
            &[-2, -4, 5, 8],
            &[-2, -4, -6, 8],
        ] {
            let digest = behind(&log, sound).unwrap_or_else(|broken| panic!("{sound:?}: {broken}")).digest();
            let mut expected = BaseDigest::new(STORE, log[7].head());
            for seq in sound {
                let at = usize::try_from(seq.abs()).unwrap();
                expected.push(log[at - 1].hash);
            }
            assert_eq!(digest, expected.finish());
        }
        let order = |seq| Some(Break::Order(Seq::new(seq)));
        for (broken, error) in [
            (&[3, 2][..], order(2)),
            (&[3, 3], order(3)),
            (&[9], order(9)),
            (&[-2, -5, 3], order(3)),
            (&[8, -3], order(10)),
            (&[-8, -3], order(10)),
            (&[-8, 3], order(3)),
            (&[-1, -3, -5, -7, -9], order(9)),
        ] {
            assert_eq!(behind(&log, broken).err(), error, "{broken:?}");
        }
    }

    #[test]
    fn the_chain_before_a_change_tells_whether_the_one_before_it_is_there() {
        let log = log();
        let said = |follow: &FollowBase, before: Hash, seq: usize| {
            let change = chained(Head { seq: Seq::ZERO, hash: before }, log[seq - 1].clone());
            follow.clone().check_hashed(Some(before), &change.view(None), change.header_hash())
        };
        let other = Hash::from_bytes([9; 32]);
        let (none, third) = (behind(&log, &[]).unwrap(), behind(&log, &[3]).unwrap());
        assert_eq!(said(&none, other, 1), Err(Break::Chain(Seq::new(1))), "not the hash of the store");
        assert_eq!(said(&none, before(&log, 1), 2), Err(Break::Chain(Seq::new(2))), "there is no change 1");
        assert_eq!(said(&third, other, 4), Err(Break::Chain(Seq::new(4))));
        assert_eq!(said(&third, log[2].hash, 5), Err(Break::Chain(Seq::new(5))));
        assert_eq!(said(&third, other, 5), Ok(()), "whatever was before it");
        let unknown = behind(&log, &[-2]).unwrap();
        assert_eq!(said(&unknown, log[1].hash, 3), Ok(()));
        assert_eq!(said(&unknown, log[1].hash, 5), Ok(()), "the withheld one may be 4");
        assert_eq!(said(&unknown, other, 3), Err(Break::Chain(Seq::new(3))));
        let mut follow = third.clone();
        let next = &log[3];
        assert_eq!(follow.check_hashed(None, &next.view(None), next.header_hash()), Ok(()));
        assert_eq!(
            follow.check_hashed(None, &log[5].view(None), log[5].header_hash()),
            Err(Break::Chain(Seq::new(6)))
        );
    }

    // Nothing else tells: what the chain before it was made of is gone.
    #[test]
    fn another_chain_before_a_change_shows_in_the_digest() {
        let log = log();
        let change = &log[4];
        let digest = |before| {
            let mut follow = behind(&log, &[2]).unwrap();
            follow.chain(before, &mut change.clone(), change.header_hash()).unwrap();
            follow.digest()
        };
        assert_eq!(digest(before(&log, 5)), behind(&log, &[2, 5]).unwrap().digest());
        assert_ne!(digest(before(&log, 5)), digest(Hash::from_bytes([9; 32])));
    }

    #[test]
    fn the_hash_at_the_floor_is_that_of_the_change_there() {
        let log = log();
        let floor = &log[7];
        let other = Hash::from_bytes([9; 32]);
        let none = behind(&log, &[]).unwrap();
        let mut change = floor.clone();
        let header = change.header_hash();
        assert_eq!(none.clone().chain(other, &mut change, header), Err(Break::Chain(Seq::new(8))));
        let seventh = behind(&log, &[7]).unwrap();
        assert_eq!(seventh.clone().pass(log[6].hash, other), Err(Break::Chain(Seq::new(8))), "withheld");
        assert_eq!(behind(&log, &[6]).unwrap().pass(other, other), Err(Break::Chain(Seq::new(8))));
        let wrong = FollowBase::new(STORE, Head { seq: Seq::new(5), hash: floor.hash }, None);
        assert_eq!(wrong.clone().pass(log[6].hash, header), Ok(()), "it may be at 5");
        let mut wrong = FollowBase::new(STORE, Head { seq: Seq::new(3), hash: log[0].hash }, None);
        let first = log[0].header_hash();
        assert_eq!(wrong.pass(before(&log, 1), first), Err(Break::Chain(Seq::new(1))), "it is at 1");
    }

    type Spoil = fn(&mut Change);

    /// What the base at 8 says of a change of the log that is altered, behind others.
    fn said(behind_these: &[i64], seq: usize, spoil: Spoil) -> Result<(), Break> {
        let log = log();
        let mut follow = behind(&log, behind_these).unwrap();
        let mut change = log[seq - 1].clone();
        spoil(&mut change);
        let header = change.header_hash();
        follow.chain(before(&log, seq), &mut change, header)
    }

    fn created(change: &mut Change, at: i64) {
        (change.at, change.created_at) = [Timestamp::from_micros(at); 2].into();
    }

    #[test]
    fn commits_before_the_floor_end_there_at_the_latest_and_follow_each_other() {
        let broken: [(&[i64], usize, Spoil); 8] = [
            (&[4], 5, |c| c.commit_seq = Seq::new(6)),
            (&[4], 5, |c| created(c, 6)),
            (&[3], 4, |c| created(c, 3)),
            (&[], 3, |c| c.commit_seq = Seq::new(2)),
            (&[], 3, |c| c.commit_seq = Seq::new(9)),
            (&[], 7, |c| c.commit_seq = Seq::new(8)),
            (&[], 1, |c| created(c, 0)),
            (&[4], 6, |c| created(c, 5)),
        ];
        for (behind, seq, spoil) in broken {
            let error = Err(Break::Commit(Seq::new(seq as u64)));
            assert_eq!(said(behind, seq, spoil), error, "{seq} behind {behind:?}");
        }
        let accepts: Spoil = |c| {
            created(c, -5);
            c.key = "/.univrs/clock".into();
            c.meta = Some(Arc::new(Meta { cause: Some(cause::CLOCK_ACCEPTED.into()), ..Meta::new() }));
        };
        let sound: [(&[i64], usize, Spoil); 4] = [
            (&[3], 7, |c| created(c, -5)),
            (&[-2], 7, |c| c.commit_seq = Seq::new(7)),
            (&[4, 5], 6, accepts),
            (&[], 7, |c| {
                (c.commit_seq, c.at, c.created_at) =
                    (Seq::new(8), Timestamp::from_micros(8), Timestamp::from_micros(8));
            }),
        ];
        for (behind, seq, spoil) in sound {
            assert_eq!(said(behind, seq, spoil), Ok(()), "{seq} behind {behind:?}");
        }
    }

    #[test]
    fn a_change_before_the_floor_has_a_shape_and_its_value_as_any_other() {
        let at_five = |spoil| said(&[2], 5, spoil);
        assert_eq!(at_five(|c| c.kind = ChangeKind::Updated), Err(Break::Shape(Seq::new(5))));
        assert_eq!(at_five(|c| c.value = Some(Arc::from(&b"x"[..]))), Err(Break::Value(Seq::new(5))));
        assert_eq!(at_five(|c| c.version = 7), Ok(()), "it was forgotten and made anew");
        let log = log();
        let follow = || behind(&log, &[2]).unwrap();
        let altered = Change { version: 7, ..log[4].clone() };
        let header = altered.header_hash();
        let said = follow().check_hashed(Some(log[3].hash), &altered.view(None), header);
        assert_eq!(said, Err(Break::Chain(Seq::new(5))), "its chain hash is that of another change");
    }
}
