//! Reads of an earlier state: pure functions over one snapshot.

use std::ops::ControlFlow;

use crate::backend::{Row, Snapshot};
use crate::error::Result;
use crate::key::KeyRange;
use crate::log::{Change, ChangeKind};
use crate::seq::Seq;
use crate::state::Entry;
use crate::store::read::{DeletedKey, key_history};

/// The entry of a key as of a position.
pub(crate) fn entry(snapshot: &dyn Snapshot, key: &str, at: Seq) -> Result<Option<Entry>> {
    key_history::last_at(snapshot, key, at)?.as_ref().map_or(Ok(None), Entry::left_by)
}

/// The keys with a prefix that existed at a position.
pub(crate) fn list(snapshot: &dyn Snapshot, prefix: &str, at: Seq) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    each(snapshot, prefix, at, &mut |key, row, change| {
        let lived = match change {
            Some(change) => change.kind != ChangeKind::Deleted,
            None => !matches!(row, Row::Deleted { .. }),
        };
        keys.extend(lived.then(|| key.to_owned()));
    })?;
    Ok(keys)
}

/// The keys with a prefix that had been deleted at a position.
pub(crate) fn list_deleted(snapshot: &dyn Snapshot, prefix: &str, at: Seq) -> Result<Vec<DeletedKey>> {
    let mut keys = Vec::new();
    each(snapshot, prefix, at, &mut |key, row, change| {
        let place = match (change, row) {
            (Some(change), _) if change.kind == ChangeKind::Deleted => Some((change.version, change.seq)),
            (None, Row::Deleted { version, seq, .. }) => Some((*version, *seq)),
            _ => None,
        };
        keys.extend(place.map(|(version, seq)| DeletedKey { key: key.to_owned(), version, seq }));
    })?;
    Ok(keys)
}

/// The keys with a prefix that are deleted now.
pub(crate) fn list_deleted_now(snapshot: &dyn Snapshot, prefix: &str) -> Result<Vec<DeletedKey>> {
    let range = KeyRange::prefix(prefix);
    let mut keys = Vec::new();
    snapshot.tombstones(&range, &mut |row| {
        if let Row::Deleted { key, version, seq } = row
            && range.shows(&key)
        {
            keys.push(DeletedKey { key, version, seq });
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(keys)
}

/// Visits every key with a prefix that had a change at or before a position: its row, and its last change as of
/// the position if the row is newer. Reserved keys are visited only if the prefix names them.
fn each(
    snapshot: &dyn Snapshot,
    prefix: &str,
    at: Seq,
    visit: &mut dyn FnMut(&str, &Row, Option<&Change>),
) -> Result<()> {
    let range = KeyRange::prefix(prefix);
    snapshot.rows(&range, None, true, &mut |row| {
        let (key, seq) = row.place()?;
        if range.shows(key) {
            if seq <= at {
                visit(key, &row, None);
            } else if let Some(change) = key_history::back_to(snapshot, key, seq, at)? {
                visit(key, &row, Some(&change));
            }
        }
        Ok(ControlFlow::Continue(()))
    })
}
