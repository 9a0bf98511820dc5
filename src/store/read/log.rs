//! Reads of the log of one state.

use std::ops::ControlFlow;

use crate::backend::{LogView, Snapshot, missing};
use crate::error::{Result, StateError};
use crate::limits::Limits;
use crate::log::{Change, Commit, Cursor, Follow, Head};
use crate::seq::Seq;

/// The change at a position; an error if the log lacks it.
pub(crate) fn recorded(log: &dyn LogView, seq: Seq) -> Result<Change> {
    let change = log.change(seq)?;
    change.ok_or_else(|| missing(seq))
}

/// The head that a cursor names: checked against the log, and rounded down to the end of a commit.
pub(crate) fn resolve(snapshot: &dyn Snapshot, cursor: Cursor) -> Result<Head> {
    check(snapshot, cursor)?;
    snapshot.commit_end(cursor.seq())
}

/// Checks a cursor against the log.
pub(crate) fn check(snapshot: &dyn Snapshot, cursor: Cursor) -> Result<()> {
    cursor.belongs_to(snapshot.store_id())?;
    let (seq, end) = (cursor.seq(), snapshot.tip()?.head.seq);
    if seq > end {
        return Err(StateError::CursorDiverged(format!(
            "position {seq} lies beyond the end of the log at {end}; an older copy of the store may have been restored"
        )));
    }
    let floor = snapshot.floor()?;
    if seq < floor.seq() {
        return Err(floor.compacted(seq));
    }
    if let Some(head) = cursor.head()
        && snapshot.hash_at(seq)? != Some(head.hash)
    {
        return Err(StateError::CursorDiverged(format!(
            "the log has another hash at position {seq}; the store went on from an older copy"
        )));
    }
    Ok(())
}

/// Visits whole commits after a position, checked against the hash chain: until `limit` changes or
/// [`Limits::PAGE_BYTES`] are reached, then to the end of that commit.
pub(crate) fn follow(
    log: &dyn LogView,
    after: Head,
    limit: usize,
    mut visit: impl FnMut(Change),
) -> Result<Head> {
    follow_until(log, after, limit, |change| {
        visit(change);
        Enough::NotYet
    })
}

/// Whether a reader of the log has enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enough {
    NotYet,
    /// With the end of this commit.
    WithCommit,
    /// With this change.
    Here,
}

/// Visits changes after a position as [`follow`] does, until `visit` has enough, maybe within a commit. Returns the
/// head after the last change that was visited.
pub(crate) fn follow_until(
    log: &dyn LogView,
    after: Head,
    limit: usize,
    mut visit: impl FnMut(Change) -> Enough,
) -> Result<Head> {
    let mut follow = Follow::after(after);
    let (mut changes, mut bytes, mut enough, mut full) = (0, 0, false, false);
    log.changes(after.seq, &mut |change| {
        pass_withheld(log, &mut follow, change.seq);
        follow.check(&change).map_err(|error| StateError::Corrupted(error.to_string()))?;
        changes += 1;
        bytes += change.size();
        let closes = change.closes_commit();
        let told = visit(change);
        enough |= told != Enough::NotYet || changes >= limit || bytes >= Limits::PAGE_BYTES;
        full = closes && enough || told == Enough::Here;
        Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    if !full {
        pass_withheld(log, &mut follow, Seq::MAX);
    }
    if full || follow.is_whole() {
        Ok(follow.head())
    } else {
        Err(StateError::Corrupted(format!("the log ends within the commit of change {}", follow.head().seq)))
    }
}

/// Moves on behind withheld changes, up to the next change that is not withheld.
pub(crate) fn pass_withheld(log: &dyn LogView, follow: &mut Follow, to: Seq) {
    while follow.head().seq.next() < to
        && let Some(header) = log.withheld(follow.head().seq.next())
    {
        follow.pass(header);
    }
}

/// Whole commits after a position.
pub(crate) fn changes(snapshot: &dyn Snapshot, after: Seq, limit: usize) -> Result<Vec<Commit>> {
    let after = resolve(snapshot, after.into())?;
    let mut changes = Vec::new();
    if limit > 0 {
        follow(snapshot, after, limit, |change| changes.push(change))?;
    }
    Ok(Commit::group(changes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Memory;
    use crate::log::{Hash, StoreId};

    #[test]
    fn withheld_changes_are_passed_up_to_a_position_and_no_further() {
        let store = StoreId::from_bytes([1; 16]);
        let (mut log, mut whole) = (Memory::new(store), Follow::genesis(store));
        for n in 1..=3 {
            whole.pass(Hash::from_bytes([n; 32]));
            log.push_withheld(Hash::from_bytes([n; 32]), whole.head());
        }
        let mut follow = Follow::genesis(store);
        for (to, passed) in [(1, 0), (2, 1), (4, 3), (9, 3)] {
            pass_withheld(&log, &mut follow, Seq::new(to));
            assert_eq!(follow.head().seq, Seq::new(passed));
        }
        assert_eq!(follow.head(), whole.head());
    }
}
