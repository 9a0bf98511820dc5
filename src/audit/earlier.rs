//! How the changes of a key go on.

use crate::log::{Change, ChangeKind, cause};
use crate::seq::Seq;
use crate::state::KeyVersion;

/// What a key without a change in a log may have been before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Earlier {
    /// It was never written, or it was forgotten: the log has the last change of each other key. This is the largest
    /// version that was forgotten, after which such a key begins.
    Nothing { forgotten: u64 },
    /// Anything up to this floor: the log is a part of one, without its base, or with changes withheld. At least up to this
    /// version some was forgotten. So it is with each change of a base, which may go on from one that is gone.
    Unknown { floor: Seq, forgotten: u64 },
}

impl Earlier {
    /// What is known in a log with this floor, where changes at or below it may be missing if it is a part of one.
    pub(crate) fn at(floor: Seq, is_part: bool, forgotten: u64) -> Self {
        if is_part { Self::Unknown { floor, forgotten } } else { Self::Nothing { forgotten } }
    }

    /// Whether a change can be the first one that the log has of its key.
    fn begins(self, change: &Change) -> bool {
        let is_first = change.prev == Seq::ZERO;
        let is_migrated = change.has_cause(cause::MIGRATED);
        match self {
            Self::Nothing { forgotten } => {
                is_first && (change.version.checked_sub(1) == Some(forgotten) || is_migrated)
            }
            Self::Unknown { forgotten, .. } if is_first => change.version > forgotten || is_migrated,
            Self::Unknown { floor, .. } => change.prev <= floor,
        }
    }
}

/// How a change contradicts the previous change of its key; `None` if it does not. `last` is the one that the log has, the
/// base included.
pub(crate) fn contradicts(
    change: &Change,
    last: Option<KeyVersion>,
    earlier: Earlier,
) -> Option<&'static str> {
    let since = last.and_then(|last| last.created_at());
    let continues = match last {
        Some(last) => change.prev == last.seq && change.version.checked_sub(1) == Some(last.version),
        None => earlier.begins(change),
    };
    let is_known = last.is_some() || change.prev == Seq::ZERO;
    if !continues {
        Some("its version or prev does not continue the key's previous change")
    } else if is_known && (change.kind == ChangeKind::Created) == since.is_some() {
        Some("its kind contradicts whether the key existed before")
    } else if since.is_some_and(|since| since != change.created_at) {
        Some("its created_at is not that of the key's previous change")
    } else {
        None
    }
}
