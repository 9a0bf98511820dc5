//! The version of a key, and whether it exists.

use crate::log::{Change, ChangeKind, Timestamp};
use crate::seq::Seq;

/// The last change of a key, without its value: what deciding a batch needs. A deleted key keeps it, so
/// that its versions go on when it is set again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyVersion {
    pub(crate) version: u64,
    pub(crate) seq: Seq,
    pub(crate) life: Life,
}

/// Whether the key exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Live { created_at: Timestamp },
    Deleted,
}

impl KeyVersion {
    pub(crate) fn from_change(change: &Change) -> Self {
        let life = match change.kind {
            ChangeKind::Deleted => Life::Deleted,
            _ => Life::Live { created_at: change.created_at },
        };
        Self { version: change.version, seq: change.seq, life }
    }

    pub(crate) fn is_live(&self) -> bool {
        matches!(self.life, Life::Live { .. })
    }

    /// When the key was created; `None` for a deleted key.
    pub(crate) fn created_at(&self) -> Option<Timestamp> {
        match self.life {
            Life::Live { created_at } => Some(created_at),
            Life::Deleted => None,
        }
    }

    /// The version that conditions compare with; 0 for a deleted key.
    pub(crate) fn live_version(&self) -> u64 {
        if self.is_live() { self.version } else { 0 }
    }
}
