//! What a compaction records.

use std::sync::Arc;

use super::check::Check;
use super::compact::Compact;
use crate::backend::Snapshot;
use crate::error::{Result, StateError};
use crate::key::COMPACTION_KEY;
use crate::log::{Head, Timestamp};
use crate::seq::Seq;
use crate::state::{BaseSeal, Batch, Compaction, Floor, Forgotten, YOUNG};

/// What the log says of its last compaction, and the version of the key that says it.
pub(crate) struct Record {
    pub(crate) floor: Floor,
    pub(crate) last: Option<Compaction>,
    pub(crate) version: u64,
}

impl Record {
    pub(crate) fn read(snapshot: &dyn Snapshot) -> Result<Self> {
        let entry = snapshot.entry(COMPACTION_KEY)?;
        let version = entry.as_ref().map_or(0, |entry| entry.version);
        let last = entry.map(|entry| Compaction::decode(&entry.value)).transpose()?;
        Ok(Self { floor: snapshot.floor()?, last, version })
    }

    /// The seal of the base that there is, if the log names it.
    pub(crate) fn seal(&self) -> Option<BaseSeal> {
        self.last.as_ref().filter(|last| last.floor == self.floor.head)?.base
    }

    /// Refuses a floor at which no compaction can begin. `now` is none where its age does not matter.
    pub(crate) fn check(&self, to: Head, at: Timestamp, now: Option<Timestamp>) -> Result<()> {
        let floor = self.floor.seq();
        if self.floor.unfinished.is_some() {
            return Err(StateError::Busy(format!(
                "the compaction to {floor} is not finished: finish it first, with resume_compaction"
            )));
        }
        if to.seq <= floor {
            return Err(StateError::InvalidArgument(format!(
                "the log begins after {floor} already, and can only be compacted to a later position"
            )));
        }
        if now.is_some_and(|now| at.plus(YOUNG) > now) {
            return Err(StateError::InvalidArgument(format!(
                "the commit at {} is younger than {} minutes: open scans and retries may need what lies before it; name an \
                 earlier position, or force it",
                to.seq,
                YOUNG.as_secs() / 60
            )));
        }
        Ok(())
    }

    /// The record of a compaction that begins at the floor that was checked.
    pub(crate) fn next(&self, check: &Check, compact: &Compact, lost: Vec<String>) -> Compaction {
        let (floor, at) = check.floor();
        let forgotten = self.forgotten(compact, floor.seq, check.deleted());
        Compaction { floor, at, keep: compact.keep.clone(), forgotten, lost, base: None }
    }

    /// What is forgotten after a compaction to a floor, where `deleted` is the largest version of a key that was deleted up
    /// to there.
    pub(crate) fn forgotten(&self, compact: &Compact, floor: Seq, deleted: u64) -> Option<Arc<Forgotten>> {
        let known = self.floor.forgotten.clone();
        if !compact.forget {
            return known;
        }
        let before = known.map_or(0, |known| known.version);
        // Keys that were migrated may have larger versions than positions.
        let version = deleted.max(floor.as_u64()).max(before);
        Some(Arc::new(Forgotten { floor, version, keep: compact.keep.clone() }))
    }
}

/// The batch that records a compaction, if nobody else has recorded one since this version.
pub(crate) fn recording(batch: Batch, record: &Compaction, version: u64, cause: &str) -> Result<Batch> {
    let batch = batch.expect(COMPACTION_KEY, version).set(COMPACTION_KEY, record.encode()?);
    Ok(batch.may_write(COMPACTION_KEY).caused(cause))
}
