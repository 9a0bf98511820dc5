//! A verification with a table of all keys, which finds each contradiction.

use std::ops::ControlFlow;

use super::base::seal;
use super::corruption::corruption;
use super::observer::Observer;
use crate::audit::{Level, Verification, VerifyReport};
use crate::backend::{Row, Snapshot};
use crate::error::{Result, StateError};
use crate::key::KeyRange;
use crate::seq::Seq;

/// Checks the log and the projection with a table of all keys, which finds each contradiction. It takes more
/// time and memory than the sums, so it runs only if they differ.
pub(super) fn look_again(
    snapshot: &dyn Snapshot,
    level: Level,
    observer: &Observer<'_>,
) -> Result<VerifyReport> {
    let observer = Observer { total: snapshot.tip().map_or(0, |tip| tip.head.seq.as_u64()), ..*observer };
    let floor = snapshot.floor()?;
    let mut verification = Verification::new(snapshot.store_id(), &floor, !snapshot.is_whole(), level);
    let base = snapshot.linked(Seq::ZERO, floor.seq(), &mut |linked| {
        let seq = linked.change.seq.as_u64();
        verification.base(linked.change, linked.before);
        if seq.is_multiple_of(1 << 10) { observer.at(seq) } else { Ok(ControlFlow::Continue(())) }
    });
    let sealed = base.and_then(|()| Ok(seal(snapshot, &floor)?.contradicts(verification.sealed(), &floor)));
    match sealed {
        Ok(None) => {}
        Ok(Some(what)) | Err(StateError::Corrupted(what)) => verification.find_in_base(what),
        Err(error) => return Err(error),
    }
    let mut reached = floor.seq();
    let log = snapshot.changes(reached, &mut |change| {
        verification.pass_withheld(change.seq, |seq| snapshot.withheld(seq));
        reached = change.seq;
        verification.change(change);
        if reached.as_u64().is_multiple_of(1 << 10) {
            observer.at(reached.as_u64())
        } else {
            Ok(ControlFlow::Continue(()))
        }
    });
    verification.pass_withheld(Seq::MAX, |seq| snapshot.withheld(seq));
    verification.end_of_log(corruption(log)?);
    if level != Level::Full {
        return Ok(verification.report());
    }
    let on = || observer.at(reached.as_u64());
    // In a part of a log it is unknown where commits begin, so commit ids cannot be compared.
    if snapshot.is_whole() {
        let commit_ids = snapshot.commit_ids(&mut |(id, first, last)| {
            verification.commit_id(&id, first, last);
            on()
        });
        verification.end_of_commit_ids(corruption(commit_ids)?);
    }
    let projection = snapshot.rows(&KeyRange::prefix(""), None, true, &mut |row| {
        match &row {
            Row::Live(entry) => verification.entry(entry),
            Row::Erased { key, version, created_at, updated_at, seq, until } => {
                verification.erased(key, (*version, *created_at, *updated_at, *seq, *until));
            }
            Row::Deleted { key, version, seq } => verification.tombstone(key, *version, *seq),
            Row::Damaged { key, what } => verification.damaged(key, what),
        }
        on()
    });
    Ok(verification.finish(corruption(projection)?))
}
