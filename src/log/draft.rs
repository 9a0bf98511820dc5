//! Changes before they are sealed.

use std::sync::Arc;

use super::{ChangeKind, Timestamp, Until};
use crate::seq::Seq;

/// A change that was decided and not yet sealed: it has no position, time, salt or hash.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) kind: ChangeKind,
    pub(crate) key: Arc<str>,
    pub(crate) version: u64,
    /// When the key was created; `None` if this commit creates it.
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) prev: Prev,
    pub(crate) until: Option<Until>,
    pub(crate) value: Option<Arc<[u8]>>,
}

/// The key's previous change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prev {
    /// A recorded change; zero if the key has none.
    Recorded(Seq),
    /// The draft at this index of the same batch.
    Draft(usize),
}
