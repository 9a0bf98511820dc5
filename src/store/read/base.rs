//! The base of a log: what is left of the changes at or below its floor.

use std::ops::ControlFlow;

use crate::backend::{Linked, LogView, Visit};
use crate::error::Result;
use crate::seq::Seq;
use crate::state::{Fate, Floor, Leaving};

/// What a compaction to this floor drops, as far as it was not dropped yet.
pub(crate) fn leaving(log: &dyn LogView, floor: &Floor) -> Result<Leaving> {
    let mut leaving = Leaving::below(floor);
    let to = if leaving.forgets() { Seq::MAX } else { floor.seq() };
    log.replaced(Seq::ZERO, to, &mut |(seq, before)| {
        leaving.replaces(seq, before);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(leaving)
}

/// Visits the base at a floor, in order, until `visit` breaks: that of the log itself, or the state at the end of a later
/// commit. What an unfinished compaction has not yet dropped is left out, so the base is the same before and after.
pub(crate) fn base(log: &dyn LogView, at: &Floor, visit: &mut Visit<'_, Linked>) -> Result<()> {
    if at.seq() == log.floor()?.seq() && at.unfinished.is_none() {
        return log.linked(Seq::ZERO, at.seq(), visit);
    }
    let leaving = leaving(log, at)?;
    log.linked(Seq::ZERO, at.seq(), &mut |linked| match leaving.fate(&linked.change) {
        Fate::Stays => visit(linked),
        Fate::Replaced | Fate::Forgotten => Ok(ControlFlow::Continue(())),
    })
}

/// How many changes the base at a floor has.
pub(crate) fn count(log: &dyn LogView, at: &Floor) -> Result<u64> {
    let mut count = 0;
    if at.seq() == log.floor()?.seq() && at.unfinished.is_none() {
        log.replaced(Seq::ZERO, at.seq(), &mut |_| {
            count += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        return Ok(count);
    }
    base(log, at, &mut |_| {
        count += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(count)
}
