//! Checking a chain.

use super::{Change, ChangeKind, ChangeView, Hash, Head, LastMeta, StoreId, Timestamp, hash};
use crate::seq::Seq;

/// Checks a log change by change: each must have the next position, fit its commit, have a later time
/// than the commit before, and match its value hash and the hash chain. A log that passes is exactly the
/// log that leads to [`head`](Self::head).
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

    /// Starts after the floor of a store's log: the position that the log begins after.
    pub(crate) fn from_floor(store: StoreId, floor: Head) -> Self {
        if floor.seq == Seq::ZERO { Self::genesis(store) } else { Self::after(floor) }
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
        self.check_hashed(&change.view(None), header)
    }

    /// Checks the next change, of which the hash of the header is given, and moves on behind it.
    pub(crate) fn check_hashed(&mut self, change: &ChangeView<'_>, header: Hash) -> Result<(), Break> {
        self.check_structure(change)?;
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
        let change = change.view(None);
        self.check_structure(&change)?;
        check_value(&change)?;
        self.go_on(&change);
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
