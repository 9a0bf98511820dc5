//! The tree that is published next.

use std::sync::Arc;

use super::published::{InMemory, Published};
use crate::backend::FoldedState;
use crate::log::Head;
use crate::state::KeyState;

/// The state that was published before. Brought forward in place, it is published next: two trees take
/// turns, and no node is copied that no reader holds.
#[derive(Debug)]
pub(super) enum StandbyTree {
    /// As it was, with what leads from it to the published one.
    Behind {
        state: Arc<Published>,
        left: Vec<Arc<KeyState>>,
        /// The end of what leads on.
        head: Head,
    },
    /// The published state once more.
    Level(FoldedState),
}

impl StandbyTree {
    /// Brings it forward, unless somebody reads it still.
    pub(super) fn brought_forward(self) -> Self {
        let Self::Behind { state, left, head } = self else { return self };
        match Arc::try_unwrap(state) {
            Ok(Published { in_memory: InMemory::All(mut folded), .. }) => {
                for latest in left {
                    folded.projection.put(latest);
                }
                folded.head = head;
                Self::Level(folded)
            }
            Ok(state) => Self::Behind { state: Arc::new(state), left, head },
            Err(state) => Self::Behind { state, left, head },
        }
    }

    /// The state at this head, in nodes that it alone has; none if it is of another, or read still.
    pub(super) fn at(self, head: Head) -> Option<FoldedState> {
        match self.brought_forward() {
            Self::Level(folded) if folded.head == head => Some(folded),
            _ => None,
        }
    }
}
