//! What a batch comes to in a state: the rules of the store once more, as plainly as they can be put.

use std::collections::BTreeMap;

use univrs_state::log::{Change, ChangeKind};

use super::operation::{Condition, Failed, Write};
use crate::support::timeline::Timeline;

/// A change that a batch makes: its key, what it does, the version after, and the new value.
pub(super) type Made<'w> = (&'w str, ChangeKind, u64, Option<&'w [u8]>);

/// What a batch comes to.
pub(super) struct Outcome<'w> {
    pub(super) changes: Vec<Made<'w>>,
    /// For each write the version after it; 0 for a deletion.
    pub(super) versions: Vec<u64>,
}

/// What a batch comes to in the state at a position, or the conditions that do not hold there.
pub(super) fn judge<'w>(timeline: &Timeline, write: &'w Write, at: u64) -> Result<Outcome<'w>, Vec<Failed>> {
    let failed: Vec<Failed> = write.conditions.iter().filter_map(|c| fails(timeline, c, at)).collect();
    if !failed.is_empty() {
        return Err(failed);
    }
    let mut keys: BTreeMap<&str, (u64, bool)> = BTreeMap::new();
    let mut outcome = Outcome { changes: Vec::new(), versions: Vec::new() };
    for (key, value) in write.changes() {
        let (version, lives) = keys.entry(key).or_insert_with(|| {
            let last = timeline.last(key, at);
            (last.map_or(0, |change| change.version), timeline.version(key, at) > 0)
        });
        let kind = match (*lives, value) {
            (false, None) => {
                outcome.versions.push(0);
                continue;
            }
            (false, Some(_)) => ChangeKind::Created,
            (true, Some(_)) => ChangeKind::Updated,
            (true, None) => ChangeKind::Deleted,
        };
        *version += 1;
        *lives = value.is_some();
        outcome.versions.push(if *lives { *version } else { 0 });
        outcome.changes.push((key, kind, *version, value));
    }
    Ok(outcome)
}

/// What a recorded change did.
pub(super) fn made(change: &Change) -> Made<'_> {
    (&change.key, change.kind, change.version, change.value.as_deref())
}

fn fails(timeline: &Timeline, condition: &Condition, at: u64) -> Option<Failed> {
    match condition {
        Condition::Version { key, expected } => {
            let found = timeline.version(key, at);
            let failed = Failed::Version { key: key.clone(), expected: *expected, found };
            (found != *expected).then_some(failed)
        }
        Condition::Unchanged { prefix, since } => {
            let (found, key) = if *since > at {
                (at, None)
            } else {
                let newest = timeline.newest(prefix, at).filter(|change| change.seq.as_u64() > *since)?;
                (newest.seq.as_u64(), Some(newest.key.to_string()))
            };
            Some(Failed::Changed { prefix: prefix.clone(), since: *since, found, key })
        }
    }
}
