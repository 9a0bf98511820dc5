//! A change that a watch delivers, with the state of the key before it.

use std::fmt;
use std::sync::Arc;

use crate::log::{Change, ChangeKind};
use crate::state::KeyState;

/// A change that a watch delivers.
#[derive(Debug, Clone)]
pub(crate) struct Matching {
    pub(crate) change: Change,
    pub(crate) old: Old,
}

/// The state of the key before the change.
#[derive(Debug, Clone)]
pub(crate) enum Old {
    /// It was read; `None` if the key was absent.
    Read(Option<Before>),
    /// It must still be read.
    Due,
}

/// The state that a change replaced. `Debug` does not show the value.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Before {
    pub(crate) value: Option<Arc<[u8]>>,
    pub(crate) erased: bool,
}

impl Before {
    /// About how many bytes it takes in memory.
    pub(crate) fn size(&self) -> usize {
        self.value.as_ref().map_or(0, |value| value.len())
    }

    /// The state that this change left, for the next change of the key.
    pub(crate) fn change(change: &Change) -> Self {
        Self { value: change.value.clone(), erased: change.is_erased() }
    }

    /// The state that the projection has of a key, for the next change of the key.
    pub(crate) fn latest(last: &KeyState) -> Self {
        Self { value: last.value.clone(), erased: last.key_version.is_live() && last.value.is_none() }
    }
}

impl fmt::Debug for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.value.as_ref().map(|value| value.len());
        f.debug_struct("Before").field("value_bytes", &bytes).field("erased", &self.erased).finish()
    }
}

impl Matching {
    /// A change whose state before must still be read.
    pub(crate) fn alone(change: Change) -> Self {
        let old = if change.kind == ChangeKind::Created { Old::Read(None) } else { Old::Due };
        Self { change, old }
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn size(&self) -> usize {
        let old = match &self.old {
            Old::Read(Some(before)) => before.size(),
            _ => 0,
        };
        self.change.size() + old
    }
}
