//! Reserved keys and causes that the log itself knows, because a rule of the chain depends on them.

use super::ChangeKind;
use crate::key::CLOCK_KEY;

/// Why the store itself writes something.
pub(crate) mod cause {
    /// The clock was accepted, although the newest commit is ahead of it.
    pub(crate) const CLOCK_ACCEPTED: &str = "clock_accepted";
    /// A compaction begins: from this commit on, the log begins after its floor.
    pub(crate) const COMPACTING: &str = "compacting";
    /// A compaction has ended: this commit names the digest of what it left at or below its floor.
    pub(crate) const COMPACTED: &str = "compacted";
    /// A thinning begins: values that were superseded at a point go.
    pub(crate) const THINNED: &str = "thinned";
    /// An erasure: values that were superseded, or whose keys were deleted, go.
    pub(crate) const ERASED: &str = "erased";
    /// A change that an older store without a log had recorded, with its version and the time of its creation.
    pub(crate) const MIGRATED: &str = "migrated";
    /// A state of the past was written again.
    pub(crate) const RESTORED: &str = "restored";
    /// Changes that were recorded before are lost, and the store goes on without them.
    pub(crate) const LOSS_ACCEPTED: &str = "loss_accepted";
}

/// Whether a change accepts the clock, if it is `alone` in its commit. The time of that commit need not be after that
/// of the commit before.
pub(super) fn accepts_clock(
    key: &str,
    alone: bool,
    kind: ChangeKind,
    has_cause: impl FnOnce(&str) -> bool,
) -> bool {
    key == CLOCK_KEY && alone && kind != ChangeKind::Deleted && has_cause(cause::CLOCK_ACCEPTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_accepts_the_clock_if_its_key_its_place_its_kind_and_its_cause_are_right() {
        let caused = |cause: &'static str| move |asked: &str| asked == cause;
        for kind in [ChangeKind::Created, ChangeKind::Updated] {
            assert!(accepts_clock(CLOCK_KEY, true, kind, caused("clock_accepted")));
        }
        let kind = ChangeKind::Updated;
        assert!(!accepts_clock("/clock", true, kind, caused("clock_accepted")), "another key");
        assert!(!accepts_clock(CLOCK_KEY, false, kind, caused("clock_accepted")), "beside others");
        assert!(!accepts_clock(CLOCK_KEY, true, ChangeKind::Deleted, caused("clock_accepted")), "deleted");
        for cause in ["restored", "loss_accepted", "migrated", ""] {
            assert!(!accepts_clock(CLOCK_KEY, true, kind, caused(cause)), "{cause}");
        }
    }
}
