//! Decided, not yet numbered.

use std::sync::Arc;

use super::{ChangeKind, Timestamp};
use crate::seq::Seq;

/// A change that is decided but has neither number, time, salt nor hash.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) kind: ChangeKind,
    pub(crate) key: Arc<str>,
    pub(crate) version: u64,
    /// When this life of the key began; none if it begins in this commit.
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) prev: Prev,
    pub(crate) value: Option<Arc<[u8]>>,
}

/// The key's previous change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prev {
    /// It is recorded; zero if there is none.
    Recorded(Seq),
    /// It is the draft at this index of the same batch.
    Draft(usize),
}
