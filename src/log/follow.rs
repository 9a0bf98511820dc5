//! Checking a chain.

use super::{Change, ChangeKind, ChangeView, Hash, Head, LastMeta, StoreId, Timestamp, hash};
use crate::seq::Seq;

/// Follows a log and checks that each change continues it: position, commit, time, value and
/// hash.
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
    /// The commit that is open, and the time of the last one; none where the start is unknown.
    commit: Option<(Seq, Timestamp)>,
    meta: LastMeta,
}

/// Where and how a change contradicts the log before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Break {
    /// Another position was due.
    #[error("change {expected} is missing, {found} follows instead")]
    Position {
        /// The position that was due.
        expected: Seq,
        /// The position that came.
        found: Seq,
    },
    /// The commit's end or time does not fit its neighbours.
    #[error("change {0} does not fit its commit")]
    Commit(Seq),
    /// Kind, version, value and salt do not fit each other.
    #[error("change {0} is malformed")]
    Shape(Seq),
    /// The value does not match its hash.
    #[error("the value of change {0} does not match its hash")]
    Value(Seq),
    /// The header does not match the chain.
    #[error("change {0} does not match the hash chain")]
    Chain(Seq),
}

impl Break {
    /// The position of the contradiction.
    pub fn seq(&self) -> Seq {
        match self {
            Self::Position { expected: seq, .. }
            | Self::Commit(seq)
            | Self::Shape(seq)
            | Self::Value(seq)
            | Self::Chain(seq) => *seq,
        }
    }
}

impl Follow {
    /// From the start of a store's log.
    pub fn genesis(store: StoreId) -> Self {
        Self {
            head: Head::genesis(store),
            commit: Some((Seq::ZERO, Timestamp::EPOCH)),
            meta: LastMeta::default(),
        }
    }

    /// From a head that is the end of a commit.
    pub fn after(head: Head) -> Self {
        Self { head, commit: None, meta: LastMeta::default() }
    }

    /// From where a store's log begins.
    pub(crate) fn from_floor(store: StoreId, floor: Head) -> Self {
        if floor.seq == Seq::ZERO { Self::genesis(store) } else { Self::after(floor) }
    }

    /// The end and the time of the commit that the last change belongs to; none where it is unknown.
    pub(crate) fn commit(&self) -> Option<(Seq, Timestamp)> {
        self.commit
    }

    /// The head of what was followed so far.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Whether the last change closed its commit.
    pub fn is_whole(&self) -> bool {
        self.commit.is_none_or(|(end, _)| end == self.head.seq)
    }

    /// Checks the next change, and goes on to it.
    ///
    /// # Errors
    /// The first contradiction; the position stays before the change then.
    pub fn check(&mut self, change: &Change) -> Result<(), Break> {
        let meta = change.meta.as_ref().map(|meta| self.meta.encode(meta));
        let header = hash::header(&change.view(meta).header());
        self.check_hashed(&change.view(None), header)
    }

    /// The same, where the hash of the header is known.
    pub(crate) fn check_hashed(&mut self, change: &ChangeView<'_>, header: Hash) -> Result<(), Break> {
        self.check_structure(change)?;
        check_value(change)?;
        if hash::link(self.head.hash, header) != change.hash {
            return Err(Break::Chain(change.seq));
        }
        self.go_on(change);
        Ok(())
    }

    /// Chains the next change onto the log, whose hash is not known, but that of its header.
    pub(crate) fn chain(&mut self, change: &mut Change, header: Hash) -> Result<(), Break> {
        change.hash = hash::link(self.head.hash, header);
        let change = change.view(None);
        self.check_structure(&change)?;
        check_value(&change)?;
        self.go_on(&change);
        Ok(())
    }

    /// Goes on over a change of which there is only the hash of its header. Whether it ends a
    /// commit is unknown, unless one before it says so.
    pub(crate) fn pass(&mut self, header: Hash) {
        let seq = self.head.seq.next();
        self.head = Head { seq, hash: hash::link(self.head.hash, header) };
        self.commit = self.commit.filter(|(end, _)| *end >= seq);
    }

    /// Takes the change as it is, to look at the ones behind a contradiction.
    pub fn skip(&mut self, change: &Change) {
        self.go_on(&change.view(None));
    }

    fn go_on(&mut self, change: &ChangeView<'_>) {
        self.head = change.head();
        self.commit = Some((change.commit_seq, change.at));
    }

    fn check_structure(&self, change: &ChangeView<'_>) -> Result<(), Break> {
        let expected = self.head.seq.next();
        if change.seq != expected {
            return Err(Break::Position { expected, found: change.seq });
        }
        let fits = match self.commit {
            _ if change.commit_seq < change.seq => false,
            None => true,
            Some((end, at)) if end == self.head.seq => change.at > at,
            Some((end, at)) => change.commit_seq == end && change.at == at,
        };
        if !fits {
            return Err(Break::Commit(change.seq));
        }
        let first = change.prev == Seq::ZERO;
        let shape = change.prev < change.seq
            && change.seq <= Seq::MAX
            && change.version <= Seq::MAX.as_u64()
            && first == (change.version == 1)
            && (!first || change.kind == ChangeKind::Created)
            && change.version > 0
            && (change.kind == ChangeKind::Deleted) == change.value_hash.is_none()
            && (change.kind != ChangeKind::Created || change.created_at == change.at)
            && change.created_at <= change.at
            && change.value.is_some() == change.salt.is_some()
            && (change.value.is_none() || change.value_hash.is_some());
        if shape { Ok(()) } else { Err(Break::Shape(change.seq)) }
    }
}

/// Checks a change's value against its hash.
fn check_value(change: &ChangeView<'_>) -> Result<(), Break> {
    if change.has_its_value() { Ok(()) } else { Err(Break::Value(change.seq)) }
}
