//! Checking a chain.

use super::reserved::accepts_clock;
use super::{Change, ChangeKind, ChangeView, Hash, Head, LastMeta, StoreId, Timestamp, cause, hash};
use crate::seq::Seq;

/// Checks a log change by change: each must have the next position, fit its commit, have a later time
/// than the commit before, and match its value hash and the hash chain. A log that passes is exactly the
/// log that leads to [`head`](Self::head).
///
/// Only a commit that accepts the clock, one change of the key `/.univrs/clock` for the cause `clock_accepted`, may
/// have an earlier time than the commit before, or the same one.
///
/// ```
/// use univrs_state::log::Follow;
/// use univrs_state::{MemoryStore, Seq, LocalStore, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// store.set("/a", b"1".to_vec()).await?;
/// let mut follow = Follow::genesis(store.store_id());
/// for change in store.changes(Seq::ZERO, 100).await?.iter().flat_map(|commit| &commit.changes) {
///     follow.check(change).expect("an intact log");
/// }
/// assert_eq!(follow.head(), store.head().await?);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Follow {
    head: Head,
    /// The end and the time of the commit of the last change; none where they are unknown.
    commit: Option<(Seq, Timestamp)>,
    meta: LastMeta,
}

/// Whether the store itself wrote a change for a cause. It is asked of few changes, so metadata is decoded for them alone.
pub(super) type HasCause<'a> = &'a dyn Fn(&str) -> bool;

/// Where and how a change contradicts the log before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Break {
    /// The change does not have the next position.
    #[error("change {expected} is missing: the next one is change {found}")]
    Position {
        /// The next position.
        expected: Seq,
        /// The position of the change.
        found: Seq,
    },
    /// The change is before the floor, and not in its place there.
    #[error(
        "change {0} is not in its place: the changes at or before the floor stand in the order of their positions"
    )]
    Order(Seq),
    /// The end or the time of the commit contradicts the change before.
    #[error("the commit of change {0} contradicts the change before: its end or its time is wrong")]
    Commit(Seq),
    /// The kind, version, times, value and salt contradict each other.
    #[error("the fields of change {0} contradict each other")]
    Shape(Seq),
    /// The value does not match its hash in the header.
    #[error("the value of change {0} does not match its hash")]
    Value(Seq),
    /// The header does not match the chain.
    #[error("change {0} does not match the hash chain")]
    Chain(Seq),
}

impl Break {
    /// The position of the change, or of the missing one.
    pub fn seq(&self) -> Seq {
        match self {
            Self::Position { expected: seq, .. }
            | Self::Order(seq)
            | Self::Commit(seq)
            | Self::Shape(seq)
            | Self::Value(seq)
            | Self::Chain(seq) => *seq,
        }
    }
}

impl Follow {
    /// Starts before the first change of a store.
    pub fn genesis(store: StoreId) -> Self {
        Self {
            head: Head::genesis(store),
            commit: Some((Seq::ZERO, Timestamp::EPOCH)),
            meta: LastMeta::default(),
        }
    }

    /// Starts after a head, which must be the end of a commit.
    pub fn after(head: Head) -> Self {
        Self { head, commit: None, meta: LastMeta::default() }
    }

    /// Starts after the floor of a store's log: the position that the log begins after, and the time of the commit that
    /// ends there, if it is known.
    pub(crate) fn from_floor(store: StoreId, floor: Head, at: Option<Timestamp>) -> Self {
        if floor.seq == Seq::ZERO {
            return Self::genesis(store);
        }
        Self { commit: at.map(|at| (floor.seq, at)), ..Self::after(floor) }
    }

    /// The end and the time of the commit of the last change; none where they are unknown.
    pub(crate) fn commit(&self) -> Option<(Seq, Timestamp)> {
        self.commit
    }

    /// The head after the last change that was checked.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Whether the last change was the last one of its commit.
    pub fn is_whole(&self) -> bool {
        self.commit.is_none_or(|(end, _)| end == self.head.seq)
    }

    /// Checks the next change, and moves on behind it.
    ///
    /// # Errors
    /// The first contradiction. The position then stays before the change.
    pub fn check(&mut self, change: &Change) -> Result<(), Break> {
        let meta = change.meta.as_ref().map(|meta| self.meta.encode(meta));
        let header = hash::header(&change.view(meta).header());
        self.check_caused(&change.view(None), header, &|cause| change.has_cause(cause))
    }

    /// Checks the next change, of which the hash of the header is given, and moves on behind it.
    pub(crate) fn check_hashed(&mut self, change: &ChangeView<'_>, header: Hash) -> Result<(), Break> {
        self.check_caused(change, header, &|cause| change.has_cause(cause))
    }

    fn check_caused(
        &mut self,
        change: &ChangeView<'_>,
        header: Hash,
        has_cause: HasCause<'_>,
    ) -> Result<(), Break> {
        self.check_structure(change, has_cause)?;
        check_value(change)?;
        if hash::link(self.head.hash, header) != change.hash {
            return Err(Break::Chain(change.seq));
        }
        self.go_on(change);
        Ok(())
    }

    /// Computes the chain hash of the next change from the hash of its header, checks the rest of the
    /// change, and moves on behind it.
    pub(crate) fn chain(&mut self, change: &mut Change, header: Hash) -> Result<(), Break> {
        change.hash = hash::link(self.head.hash, header);
        let view = change.view(None);
        self.check_structure(&view, &|cause| change.has_cause(cause))?;
        check_value(&view)?;
        self.go_on(&view);
        Ok(())
    }

    /// Moves on behind a change that is withheld: only the hash of its header is known. Whether it ends a
    /// commit is unknown, unless an earlier change of the same commit says so.
    pub(crate) fn pass(&mut self, header: Hash) {
        let seq = self.head.seq.next();
        self.head = Head { seq, hash: hash::link(self.head.hash, header) };
        self.commit = self.commit.filter(|(end, _)| *end >= seq);
    }

    /// Moves on behind a change without checking it, to check the changes behind a contradiction.
    pub fn skip(&mut self, change: &Change) {
        self.go_on(&change.view(None));
    }

    fn go_on(&mut self, change: &ChangeView<'_>) {
        self.head = change.head();
        self.commit = Some((change.commit_seq, change.at));
    }

    fn check_structure(&self, change: &ChangeView<'_>, has_cause: HasCause<'_>) -> Result<(), Break> {
        let expected = self.head.seq.next();
        if change.seq != expected {
            return Err(Break::Position { expected, found: change.seq });
        }
        let accepts_clock = || accepts_clock(change.key, change.closes_commit(), change.kind, has_cause);
        let fits = match self.commit {
            _ if change.commit_seq < change.seq => false,
            None => true,
            Some((end, at)) if end == self.head.seq => change.at > at || accepts_clock(),
            Some((end, at)) => change.commit_seq == end && change.at == at,
        };
        if !fits {
            return Err(Break::Commit(change.seq));
        }
        check_shape(change, has_cause)
    }
}

/// Checks the kind, version, times, value and salt of a change against each other.
pub(super) fn check_shape(change: &ChangeView<'_>, has_cause: HasCause<'_>) -> Result<(), Break> {
    let created_then =
        || change.created_at == change.at || change.created_at < change.at && has_cause(cause::MIGRATED);
    // A key that was forgotten goes on from an earlier version when it is made anew, so a first change may have any.
    let first = change.prev == Seq::ZERO;
    let shape = change.prev < change.seq
        && change.seq <= Seq::MAX
        && (1..=Seq::MAX.as_u64()).contains(&change.version)
        && (change.version > 1 || first)
        && (!first || change.kind == ChangeKind::Created)
        && (change.kind == ChangeKind::Deleted) == change.value_hash.is_none()
        && (change.kind != ChangeKind::Created || created_then())
        && change.until.is_none_or(|until| change.kind != ChangeKind::Deleted && until.fits(change.seq))
        && change.value.is_some() == change.salt.is_some()
        && (change.value.is_none() || change.value_hash.is_some());
    if shape { Ok(()) } else { Err(Break::Shape(change.seq)) }
}

/// Checks a change's value against its hash.
pub(super) fn check_value(change: &ChangeView<'_>) -> Result<(), Break> {
    if change.has_its_value() { Ok(()) } else { Err(Break::Value(change.seq)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Until;

    fn noon_and(micros: i64) -> Timestamp {
        Timestamp::from_micros(1_767_225_600_000_000 + micros)
    }

    fn noon() -> Timestamp {
        noon_and(0)
    }

    /// The first change after position 5: it sets a key that exists, in a commit of its own.
    fn updated() -> Change {
        Change {
            seq: Seq::new(6),
            commit_seq: Seq::new(6),
            at: noon(),
            kind: ChangeKind::Updated,
            key: "/a".into(),
            version: 2,
            created_at: noon_and(-1),
            prev: Seq::new(1),
            until: None,
            value: Some(b"1"[..].into()),
            salt: Some([7; 16]),
            value_hash: Some(hash::value(&[7; 16], b"1")),
            meta: None,
            hash: Hash::from_bytes([0; 32]),
        }
    }

    fn created() -> Change {
        Change { kind: ChangeKind::Created, version: 1, prev: Seq::ZERO, created_at: noon(), ..updated() }
    }

    fn deleted() -> Change {
        Change { kind: ChangeKind::Deleted, value: None, salt: None, value_hash: None, ..updated() }
    }

    /// What a log that ends before a change says of it. Its hash is made to fit.
    fn said(before: &Follow, mut change: Change) -> Result<(), Break> {
        before.clone().chain(&mut change, Hash::from_bytes([1; 32]))
    }

    /// The end of a log at a position, of which nothing else is known.
    fn end(seq: Seq) -> Follow {
        Follow::after(Head { seq, hash: Hash::from_bytes([2; 32]) })
    }

    // Each change breaks one rule alone.
    #[test]
    fn fields_that_contradict_each_other_are_a_break_each_for_itself() {
        let before = end(Seq::new(5));
        let erased = Change { value: None, salt: None, ..updated() };
        let since_now = Change { created_at: noon(), ..updated() };
        let again = Change { kind: ChangeKind::Created, created_at: noon(), ..updated() };
        // One that was forgotten goes on from an earlier version.
        let forgotten = Change { version: 7, ..created() };
        let ends = |seq: i64| Change { until: Until::from_number(-seq), ..updated() };
        for sound in [updated(), created(), deleted(), erased, since_now, again, forgotten, ends(5)] {
            assert_eq!(said(&before, sound.clone()), Ok(()), "{sound:?}");
        }
        let (salt, hash) = (Some([7; 16]), updated().value_hash);
        for broken in [
            Change { prev: Seq::new(6), ..updated() },
            Change { prev: Seq::new(7), ..updated() },
            Change { version: Seq::MAX.as_u64() + 1, ..updated() },
            Change { version: 1, ..updated() },
            Change { version: 0, ..updated() },
            Change { kind: ChangeKind::Updated, ..created() },
            Change { kind: ChangeKind::Deleted, version: 1, prev: Seq::ZERO, ..deleted() },
            Change { value_hash: hash, ..deleted() },
            Change { value: None, salt: None, value_hash: None, ..updated() },
            Change { created_at: noon_and(-1), ..created() },
            Change { created_at: noon_and(1), ..created() },
            Change { until: Until::from_number(-5), ..deleted() },
            ends(6),
            Change { salt: None, ..updated() },
            Change { value: None, ..updated() },
            Change { value: updated().value, salt, ..deleted() },
        ] {
            assert_eq!(said(&before, broken.clone()), Err(Break::Shape(Seq::new(6))), "{broken:?}");
        }
    }

    #[test]
    fn the_last_position_and_the_last_version_are_taken_and_nothing_behind_them() {
        let last = Change { seq: Seq::MAX, commit_seq: Seq::MAX, version: Seq::MAX.as_u64(), ..updated() };
        assert_eq!(said(&end(Seq::MAX.previous()), last), Ok(()));
        let behind = Seq::MAX.next();
        let change = Change { seq: behind, commit_seq: behind, ..updated() };
        assert_eq!(said(&end(Seq::MAX), change), Err(Break::Shape(behind)));
    }

    #[test]
    fn a_commit_has_one_end_and_one_time_and_the_next_one_is_later() {
        let unknown = end(Seq::new(5));
        let with = |end, at| Follow { commit: Some((Seq::new(end), at)), ..unknown.clone() };
        let until = |end| Change { commit_seq: Seq::new(end), ..updated() };
        let (between, within) = (with(5, noon_and(-1)), with(7, noon()));
        for (before, sound) in [(&unknown, 6), (&unknown, 7), (&between, 6), (&between, 7), (&within, 7)] {
            assert_eq!(said(before, until(sound)), Ok(()), "{before:?} {sound}");
        }
        for (before, broken) in [
            (&unknown, until(5)),
            (&between, until(5)),
            (&with(5, noon()), until(6)),
            (&with(5, noon_and(1)), until(6)),
            (&within, until(6)),
            (&within, until(8)),
            (&within, Change { at: noon_and(1), ..until(7) }),
            (&within, Change { at: noon_and(1), ..until(8) }),
        ] {
            assert_eq!(said(before, broken), Err(Break::Commit(Seq::new(6))), "{before:?}");
        }
    }

    #[test]
    fn what_follows_a_floor_is_later_if_the_time_there_is_known() {
        let (store, floor) = (StoreId::from_bytes([1; 16]), end(Seq::new(5)).head());
        let from = |at| said(&Follow::from_floor(store, floor, at), updated());
        assert_eq!([from(None), from(Some(noon_and(-1)))], [Ok(()); 2]);
        assert_eq!(from(Some(noon())), Err(Break::Commit(Seq::new(6))));
        let genesis = Follow::from_floor(store, Head::genesis(store), Some(noon()));
        assert_eq!(genesis.commit(), Follow::genesis(store).commit());
    }

    #[test]
    fn a_withheld_change_within_a_commit_leaves_its_end_known_and_one_behind_it_does_not() {
        let mut follow = Follow { commit: Some((Seq::new(7), noon())), ..end(Seq::new(5)) };
        for (seq, commit) in [(6, Some((Seq::new(7), noon()))), (7, Some((Seq::new(7), noon()))), (8, None)] {
            follow.pass(Hash::from_bytes([3; 32]));
            assert_eq!((follow.head().seq, follow.commit()), (Seq::new(seq), commit));
        }
    }
}
