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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Timestamp;
    use crate::seq::Seq;
    use crate::state::{KeyVersion, Life};

    fn change(kind: ChangeKind) -> Change {
        Change { kind, value: Some(vec![0; 1_000].into()), ..Change::plain(1) }
    }

    #[test]
    fn a_change_takes_the_room_of_its_value_and_of_the_one_that_it_replaced() {
        let created = change(ChangeKind::Created);
        let before = Before { value: Some(vec![0; 70].into()), erased: false };
        assert_eq!(before.size(), 70);
        assert_eq!(Before { value: None, erased: true }.size(), 0);
        assert_eq!(Matching::alone(created.clone()).size(), created.size());
        let with = |old| Matching { change: created.clone(), old }.size();
        assert_eq!(with(Old::Due), created.size());
        assert_eq!(with(Old::Read(None)), created.size());
        assert_eq!(with(Old::Read(Some(before))), created.size() + 70);
        assert!(created.size() > 1_000);
    }

    #[test]
    fn what_a_creation_replaced_is_known_without_a_look() {
        let old = |kind| Matching::alone(change(kind)).old;
        assert!(matches!(old(ChangeKind::Created), Old::Read(None)));
        assert!(matches!(old(ChangeKind::Updated), Old::Due) && matches!(old(ChangeKind::Deleted), Old::Due));
    }

    #[test]
    fn a_value_is_gone_if_its_key_exists_without_it() {
        let erased = |life, value: Option<&[u8]>| {
            let key_version = KeyVersion { version: 1, seq: Seq::new(1), life };
            let value = value.map(Arc::from);
            Before::latest(&KeyState {
                key: "/a".into(),
                key_version,
                at: Timestamp::EPOCH,
                until: None,
                value,
            })
            .erased
        };
        let live = Life::Live { created_at: Timestamp::EPOCH };
        assert!(erased(live, None));
        assert!(!erased(live, Some(b"1")) && !erased(Life::Deleted, None));
    }
}
