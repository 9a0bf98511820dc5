//! Reading an export into memory.

use std::io::Read;

use crate::audit::{Earlier, LogReader, LoggedChange, Start, contradicts};
use crate::backend::Memory;
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::log::Change;
use crate::seq::Seq;
use crate::state::{Floor, KeyVersion};

/// Reads an export into memory. With `whole` it must have the whole log, as a store that can be written needs it.
pub(crate) fn load<R: Read>(reader: &mut LogReader<R>, whole: bool) -> Result<Memory> {
    let start = reader.start();
    check_base(&start)?;
    if whole {
        check_floor(start.floor.seq)?;
    }
    let mut memory = Memory::after(start.store, Floor::at(start.floor, start.floor_at), start.base.is_some());
    while let Some(recorded) = reader.next()? {
        match recorded {
            LoggedChange::Withheld(_) if whole => return Err(withheld(reader.head().seq)),
            LoggedChange::Withheld(header) => memory.push_withheld(header, reader.head()),
            LoggedChange::Change(change) => {
                let is_part = start.base.is_none() || memory.count_withheld() > 0;
                let earlier = Earlier::at(start.floor.seq, is_part, memory.forgotten_version());
                check_follows(&change, memory.last(&change.key), earlier)?;
                memory.take(change)?;
            }
            LoggedChange::Base { .. } | LoggedChange::WithheldBase { .. } => return Err(based()),
        }
    }
    Ok(memory)
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

/// Refuses an export with a base.
pub(super) fn check_base(start: &Start) -> Result<()> {
    if start.floor.seq > Seq::ZERO && start.base.is_some() { Err(based()) } else { Ok(()) }
}

fn based() -> StateError {
    StateError::UpgradeNeeded("the export has a base, the state that it begins with".into())
}

/// Refuses an export that begins later than its log.
pub(super) fn check_floor(floor: Seq) -> Result<()> {
    if floor == Seq::ZERO {
        return Ok(());
    }
    Err(StateError::Erased(format!(
        "the export begins after change {floor}: it can be read, but a store that can be written needs the changes before it, too"
    )))
}

/// The error of a change that an export withholds.
pub(super) fn withheld(seq: Seq) -> StateError {
    StateError::Erased(format!(
        "the export withholds change {seq}: it can be read, but a store that can be written needs all changes"
    ))
}
