//! Reading an export into memory.

use std::io::Read;

use crate::audit::{Earlier, LogReader, LoggedChange, Start, contradicts};
use crate::backend::{Linked, Memory};
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::key::{COMPACTION_KEY, ERASURES_PREFIX};
use crate::log::Change;
use crate::seq::Seq;
use crate::state::{Floor, KeyVersion};

/// Reads an export into memory. With `whole` it must have the whole log, or its base, as a store that can be written needs
/// it.
pub(crate) fn load<R: Read>(reader: &mut LogReader<R>, whole: bool) -> Result<Memory> {
    let start = reader.start();
    if whole {
        check_start(&start)?;
    }
    let floor = start.floor.seq;
    let mut memory = Memory::after(start.store, Floor::at(start.floor, start.floor_at), start.base.is_some());
    let mut base = LastOfBase::new(&start);
    while let Some(recorded) = reader.next()? {
        if whole {
            check_needed(&recorded, reader.head().seq)?;
        }
        match recorded {
            LoggedChange::Withheld(header) => memory.push_withheld(header, reader.head()),
            LoggedChange::WithheldBase { .. } => memory.lack_of_base(),
            LoggedChange::Base { before, change } => {
                let earlier = Earlier::at(floor, true, 0);
                check_follows(&change, memory.last(&change.key), earlier)?;
                base.take(change.seq);
                memory.push_base(Linked { change, before });
            }
            LoggedChange::Change(change) => {
                let is_part = start.base.is_none() || memory.count_withheld() > 0;
                let earlier = Earlier::at(floor, is_part, memory.forgotten_version());
                check_follows(&change, memory.last(&change.key), earlier)?;
                memory.take(change)?;
            }
        }
    }
    if whole {
        base.check()?;
    }
    Ok(memory)
}

/// The last change of a base. The one at the floor is always left.
pub(super) struct LastOfBase {
    floor: Seq,
    last: Seq,
}

impl LastOfBase {
    pub(super) fn new(start: &Start) -> Self {
        Self { floor: start.floor.seq, last: Seq::ZERO }
    }

    pub(super) fn take(&mut self, seq: Seq) {
        self.last = seq;
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.last == self.floor {
            return Ok(());
        }
        Err(StateError::Corrupted(format!(
            "the base of the log file lacks the change at its floor {}",
            self.floor
        )))
    }
}

/// Refuses what a store that can be written cannot lack.
pub(super) fn check_needed(recorded: &LoggedChange, at: Seq) -> Result<()> {
    match recorded {
        LoggedChange::Withheld(_) => Err(withheld(&format!("change {at}"))),
        LoggedChange::WithheldBase { .. } => Err(withheld(&format!("a change at or before its floor {at}"))),
        LoggedChange::Base { change, .. } | LoggedChange::Change(change)
            if change.is_erased()
                && (&*change.key == COMPACTION_KEY || change.key.starts_with(ERASURES_PREFIX)) =>
        {
            Err(StateError::Erased(format!(
                "the export leaves out the value of {}: it can be read, but a store that can be written needs it",
                change.key
            )))
        }
        LoggedChange::Base { .. } | LoggedChange::Change(_) => Ok(()),
    }
}

/// Checks a change against the previous change of its key.
pub(super) fn check_follows(change: &Change, last: Option<KeyVersion>, earlier: Earlier) -> Result<()> {
    match contradicts(change, last, earlier) {
        Some(what) if !failpoint("unfollowed_change") => {
            Err(StateError::Corrupted(format!("change {}: {what}", change.seq)))
        }
        _ => Ok(()),
    }
}

/// Refuses an export that begins later than its log, without a base.
pub(super) fn check_start(start: &Start) -> Result<()> {
    if start.base.is_none() {
        return Err(StateError::Erased(format!(
            "the export begins after change {}: it can be read, but a store that can be written needs the changes before it, \
             or their base",
            start.floor.seq
        )));
    }
    if start.floor.seq > Seq::ZERO && start.floor_at.is_none() {
        return Err(StateError::Corrupted("the export has a base, but not the time of its floor".into()));
    }
    Ok(())
}

/// The error of a change that an export withholds.
fn withheld(what: &str) -> StateError {
    StateError::Erased(format!(
        "the export withholds {what}: it can be read, but a store that can be written needs all changes"
    ))
}
