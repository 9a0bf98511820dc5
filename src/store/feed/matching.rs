//! A change that a watch delivers, with what the key was before.

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

/// What the key was before.
#[derive(Debug, Clone)]
pub(crate) enum Old {
    /// It is at hand, or there was nothing.
    Read(Option<Before>),
    /// It is still to be read.
    Due,
}

/// What a change replaced. `Debug` does not show the value.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Before {
    pub(crate) value: Option<Arc<[u8]>>,
    pub(crate) erased: bool,
}

impl Before {
    /// What a change left, where the next one replaces it.
    pub(crate) fn change(change: &Change) -> Self {
        Self { value: change.value.clone(), erased: change.is_erased() }
    }

    /// What the projection has of a key, where the next change replaces it.
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
    /// A change of which nothing else is at hand.
    pub(crate) fn alone(change: Change) -> Self {
        let old = if change.kind == ChangeKind::Created { Old::Read(None) } else { Old::Due };
        Self { change, old }
    }

    /// About the bytes that it takes in memory.
    pub(crate) fn size(&self) -> usize {
        let old = match &self.old {
            Old::Read(Some(Before { value: Some(value), .. })) => value.len(),
            _ => 0,
        };
        self.change.size() + old
    }
}
