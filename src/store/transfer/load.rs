//! Reading an export into memory.

use std::io::Read;

use crate::audit::{LogReader, LoggedChange, contradicts};
use crate::backend::Memory;
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::log::Change;
use crate::seq::Seq;
use crate::state::{Floor, KeyVersion};

/// Reads an export into memory. With `whole` it must have the whole log, as a store that can be written needs it.
pub(crate) fn load<R: Read>(reader: &mut LogReader<R>, whole: bool) -> Result<Memory> {
    let start = reader.start();
    if whole {
        check_floor(start.floor.seq)?;
    }
    let mut memory = Memory::after(start.store, Floor::at(start.floor, start.floor_at), start.base.is_some());
    while let Some(recorded) = reader.next()? {
        match recorded {
            LoggedChange::Withheld(_) if whole => return Err(withheld(reader.head().seq)),
            LoggedChange::Withheld(header) => memory.push_withheld(header, reader.head()),
            LoggedChange::Change(change) => {
                let last = memory.last(&change.key);
                let begins_earlier =
                    last.is_none() && change.prev > Seq::ZERO && change.prev <= start.floor.seq;
                if !begins_earlier {
                    check_follows(&change, last, memory.forgotten_version())?;
                }
                memory.take(change)?;
            }
        }
    }
    Ok(memory)
}

/// Checks a change against the previous change of its key. A key without one goes on from the version `forgotten`.
pub(super) fn check_follows(change: &Change, last: Option<KeyVersion>, forgotten: u64) -> Result<()> {
    match contradicts(change, last, forgotten) {
        Some(what) if !failpoint("unfollowed_change") => {
            Err(StateError::Corrupted(format!("change {}: {what}", change.seq)))
        }
        _ => Ok(()),
    }
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
