//! Whether the base of a log is the one that its last compaction left.

use crate::audit::BaseCheck;
use crate::backend::Snapshot;
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::key::COMPACTION_KEY;
use crate::log::Hash;
use crate::seq::Seq;
use crate::state::{BaseSeal, Compaction, Floor};

/// What the log says of its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seal {
    /// The log begins with its first change.
    NoBase,
    /// The compaction goes on.
    Open,
    /// The log names the digest of the base.
    Sealed(BaseSeal),
    /// The log was imported from an export that begins after its last compaction: no change names the digest.
    Unnamed,
}

/// What the log says of its base.
///
/// # Errors
/// [`StateError::Corrupted`] if the record of the last compaction does not fit the floor.
pub(super) fn seal(snapshot: &dyn Snapshot, floor: &Floor) -> Result<Seal> {
    if !snapshot.is_whole() {
        return Ok(Seal::NoBase); // The log is a part of one, and may lack anything.
    }
    let record = snapshot.entry(COMPACTION_KEY)?.map(|entry| Compaction::decode(&entry.value)).transpose()?;
    let Some(record) = record else {
        return Ok(if floor.seq() == Seq::ZERO { Seal::NoBase } else { Seal::Unnamed });
    };
    if record.floor.seq < floor.seq() {
        return Ok(Seal::Unnamed);
    }
    if record.floor != floor.head || Some(record.at) != floor.at {
        let (named, found) = (record.floor.seq, floor.seq());
        return Err(StateError::Corrupted(format!(
            "{COMPACTION_KEY} says that the log begins after {named}, and meta that it begins after {found}, with another hash \
             or time"
        )));
    }
    match record.base {
        _ if floor.unfinished.is_some() => Ok(Seal::Open),
        Some(base) => Ok(Seal::Sealed(base)),
        None => Err(StateError::Corrupted(format!(
            "meta says that the compaction to {} has ended, but {COMPACTION_KEY} does not name the digest of the base",
            floor.seq()
        ))),
    }
}

impl Seal {
    /// What a report says of the base; nothing where there is none.
    pub(super) fn told(self) -> Option<BaseCheck> {
        match self {
            Self::NoBase => None,
            Self::Open => Some(BaseCheck::Open),
            Self::Sealed(base) => Some(BaseCheck::Sealed(base.count)),
            Self::Unnamed => Some(BaseCheck::Unnamed),
        }
    }

    /// Compares the base that was found; the message if it is another one.
    pub(super) fn contradicts(self, (count, digest): (u64, Hash), floor: &Floor) -> Option<String> {
        let Self::Sealed(base) = self else { return None };
        let other = base != BaseSeal { count, digest } && !failpoint("digest_unchecked");
        other.then(|| {
            format!(
                "the base at {} has {count} changes with another digest than the {} that {COMPACTION_KEY} names",
                floor.seq(),
                base.count
            )
        })
    }
}
