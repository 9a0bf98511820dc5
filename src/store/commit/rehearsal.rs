//! What a batch would do now, without recording it.

use std::ops::ControlFlow;

use super::group_state::GroupState;
use super::proposal::Proposal;
use crate::backend::{DecisionView, Snapshot, Visit};
use crate::error::Result;
use crate::key::KeyRange;
use crate::log::{Change, SALT_BYTES, Timestamp, Tip};
use crate::seq::Seq;
use crate::state::{Batch, Entry, Floor, KeyVersion, KeysBelow};
use crate::store::receipt::Receipt;

/// Loads, decides and seals a batch on a state, as a commit does, and stops there. Returns the end of the log, and what
/// the receipt would be, but for times and hashes.
pub(crate) fn rehearse(snapshot: &dyn Snapshot, batch: &Batch) -> Result<(Tip, Receipt)> {
    let tip = snapshot.tip()?;
    let salts = vec![[0; SALT_BYTES]; batch.values()];
    let proposal = Proposal { batch, clock: Timestamp::EPOCH, salts };
    let verdict = GroupState::new(tip, snapshot.floor()?, None).take(&Stage { snapshot, tip }, &proposal)?;
    Ok((tip, verdict?))
}

/// A state that batches are decided on and that none changes.
struct Stage<'a> {
    snapshot: &'a dyn Snapshot,
    tip: Tip,
}

impl DecisionView for Stage<'_> {
    fn tip(&self) -> Tip {
        self.tip
    }

    fn floor(&self) -> Result<Floor> {
        self.snapshot.floor()
    }

    fn key_version(&self, key: &str) -> Result<Option<KeyVersion>> {
        self.snapshot.key_version(key)
    }

    fn below(&self, prefix: &str, limit: usize) -> Result<KeysBelow> {
        let range = KeyRange::prefix(prefix);
        let KeysBelow { mut count, mut newest } = KeysBelow::default();
        self.snapshot.rows(&range, None, true, &mut |row| {
            let (key, seq) = row.place()?;
            count += 1;
            if range.shows(key) && newest.as_ref().is_none_or(|(_, newest)| seq > *newest) {
                newest = Some((key.to_owned(), seq));
            }
            Ok(if count > limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(KeysBelow { count, newest })
    }

    fn entries(&self, prefix: &str, visit: &mut Visit<'_, Entry>) -> Result<()> {
        self.snapshot.entries(prefix, visit)
    }

    fn remembered(&self, commit_id: &str) -> Result<Option<(Seq, Seq)>> {
        self.snapshot.remembered(commit_id)
    }

    fn recorded(&self, first: Seq, last: Seq) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        self.snapshot.changes(first.previous(), &mut |change| {
            let within = change.seq <= last;
            changes.extend(within.then_some(change));
            Ok(if within { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(changes)
    }
}
