//! Reserved keys and causes that the log itself knows, because a rule of the chain depends on them.

use super::{ChangeKind, ChangeView, Meta};
use crate::key::CLOCK_KEY;

/// Why the store itself writes something.
pub(crate) mod cause {
    /// The clock was accepted, although the newest commit is ahead of it.
    pub(crate) const CLOCK_ACCEPTED: &str = "clock_accepted";
    /// A change that an older store without a log had recorded, with its version and the time of its creation.
    pub(crate) const MIGRATED: &str = "migrated";
    /// A state of the past was written again.
    pub(crate) const RESTORED: &str = "restored";
    /// Changes that were recorded before are lost, and the store goes on without them.
    pub(crate) const LOSS_ACCEPTED: &str = "loss_accepted";
}

/// Whether a commit with this metadata and these keys, of which the first is given, accepts the clock: then its time
/// need not be after that of the commit before.
pub(super) fn accepts_clock(key: &str, changes: usize, kind: ChangeKind, meta: Option<&Meta>) -> bool {
    key == CLOCK_KEY
        && changes == 1
        && kind != ChangeKind::Deleted
        && meta.and_then(Meta::cause) == Some(cause::CLOCK_ACCEPTED)
}

impl ChangeView<'_> {
    /// Whether the change is the only one of its commit, as far as its position tells, and accepts the clock.
    pub(super) fn accepts_clock(&self) -> bool {
        // The key is compared first: metadata is decoded for that one key alone.
        self.key == CLOCK_KEY && self.closes_commit() && {
            let meta = self.meta.and_then(Meta::decode);
            accepts_clock(self.key, 1, self.kind, meta.as_ref())
        }
    }
}
