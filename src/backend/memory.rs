//! Log and projection in memory.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::{
    Backend, CommitError, DecisionView, FoldedState, Link, LogView, Row, Snapshot, Transaction, View, Visit,
    VisitKey, VisitRow, VisitView, missing,
};
use crate::error::{Result, StateError};
use crate::key::KeyRange;
use crate::log::{Change, Hash, Head, LastMeta, Meta, StoreId, Timestamp, Tip, jump_version};
use crate::seq::Seq;
use crate::state::{Entry, KeyVersion, KeyVersions, KeysBelow, RowView};

/// A log and its fold. If it was read from an export, it may be a part of a log: it may begin after a floor
/// and lack changes that are withheld.
#[derive(Debug)]
pub(crate) struct Memory {
    floor: Head,
    /// The time of the commit that ends at the floor, if it is known.
    floor_at: Option<Timestamp>,
    export: bool,
    log: Vec<Logged>,
    folded: FoldedState,
    /// The time of the last change that is not withheld.
    at: Timestamp,
    commit_ids: HashMap<String, (Seq, Seq)>,
    /// The key history of each key: the positions of its changes, and the version of the first of them.
    histories: HashMap<Arc<str>, (u64, Vec<Seq>)>,
}

#[derive(Debug)]
enum Logged {
    Change(Change),
    Withheld { header: Hash, hash: Hash },
}

impl Logged {
    fn change(&self) -> Option<&Change> {
        match self {
            Self::Change(change) => Some(change),
            Self::Withheld { .. } => None,
        }
    }
}

impl Memory {
    pub(crate) fn new(store: StoreId) -> Self {
        Self::after(store, Head::genesis(store), None)
    }

    /// An empty log that begins after a floor, which is the end of a commit with this time, if that is known.
    pub(crate) fn after(store: StoreId, floor: Head, floor_at: Option<Timestamp>) -> Self {
        let mut folded = FoldedState::genesis(store);
        folded.head = floor;
        folded.missing.floor = floor.seq;
        let at = floor_at.unwrap_or(Timestamp::EPOCH);
        let (commit_ids, histories) = (HashMap::new(), HashMap::new());
        Self { floor, floor_at, export: false, log: Vec::new(), folded, at, commit_ids, histories }
    }

    /// The same log as that of an export, and not of a store that goes on.
    pub(crate) fn into_export(self) -> Self {
        Self { export: true, ..self }
    }

    /// The fold, without the log.
    pub(crate) fn folded(&self) -> &FoldedState {
        &self.folded
    }

    /// How many changes are withheld.
    pub(crate) fn count_withheld(&self) -> u64 {
        self.folded.missing.withheld
    }

    /// The position of the key's change with this version.
    fn of_version(&self, key: &str, version: u64) -> Option<Seq> {
        let (first, history) = self.histories.get(key)?;
        history.get(usize::try_from(version.checked_sub(*first)?).ok()?).copied()
    }

    /// The index of a position in the vector.
    fn index(&self, seq: Seq) -> Option<usize> {
        usize::try_from(seq.as_u64().checked_sub(self.floor.seq.as_u64())?.checked_sub(1)?).ok()
    }

    fn at(&self, seq: Seq) -> Option<&Change> {
        self.log.get(self.index(seq)?)?.change()
    }

    fn all_after(&self, seq: Seq) -> impl Iterator<Item = &Change> {
        let start = self.index(seq.next().max(self.floor.seq.next()));
        let after = start.and_then(|start| self.log.get(start..)).unwrap_or_default();
        after.iter().filter_map(Logged::change)
    }

    fn end(&self) -> Tip {
        Tip { head: self.folded.head, at: self.at }
    }

    /// The last change of the key, if the log has one.
    pub(crate) fn last(&self, key: &str) -> Option<KeyVersion> {
        self.folded.projection.key_version(key)
    }

    /// Appends the next change of the log, and folds it in.
    pub(crate) fn push(&mut self, change: Change) {
        if let Some(id) = change.meta.as_deref().and_then(Meta::commit_id)
            && change.closes_commit()
        {
            let commit = self.log.iter().rev().map_while(Logged::change);
            let commit = commit.take_while(|earlier| earlier.commit_seq == change.seq).count();
            let first = Seq::new(change.seq.as_u64() - commit as u64);
            self.commit_ids.entry(id.to_owned()).or_insert((first, change.seq));
        }
        let (_, history) = self.histories.entry(change.key.clone()).or_insert((change.version, Vec::new()));
        history.push(change.seq);
        self.folded.fold(&change);
        self.at = change.at;
        self.log.push(Logged::Change(change));
    }

    /// Appends a change that is withheld: only the hash of its header is known.
    pub(crate) fn push_withheld(&mut self, header: Hash, head: Head) {
        self.log.push(Logged::Withheld { header, hash: head.hash });
        self.folded.missing.withheld += 1;
        self.folded.head = head;
    }
}

impl Backend for Memory {
    type Transaction<'a> = MemoryTransaction<'a>;

    fn begin(&mut self) -> Result<MemoryTransaction<'_>> {
        Ok(MemoryTransaction { memory: self, appended: Vec::new() })
    }
}

/// A transaction in memory. It holds the appended changes back until the commit.
pub(crate) struct MemoryTransaction<'a> {
    memory: &'a mut Memory,
    appended: Vec<Change>,
}

impl DecisionView for MemoryTransaction<'_> {
    fn tip(&self) -> Tip {
        self.memory.end()
    }

    fn key_version(&self, key: &str) -> Result<Option<KeyVersion>> {
        Ok(self.memory.last(key))
    }

    fn below(&self, prefix: &str, limit: usize) -> Result<KeysBelow> {
        Ok(self.memory.folded.projection.below(prefix, limit))
    }

    fn remembered(&self, commit_id: &str) -> Result<Option<(Seq, Seq)>> {
        Ok(self.memory.commit_ids.get(commit_id).copied())
    }

    fn recorded(&self, first: Seq, last: Seq) -> Result<Vec<Change>> {
        let after = self.memory.all_after(first.previous());
        Ok(after.take_while(|change| change.seq <= last).cloned().collect())
    }
}

impl Transaction for MemoryTransaction<'_> {
    fn append(&mut self, changes: &[Change]) -> Result<()> {
        self.appended.extend_from_slice(changes);
        Ok(())
    }

    fn project(&mut self, _: &Change, _: Option<KeyVersion>) -> Result<()> {
        Ok(()) // The commit folds the changes when it appends them.
    }

    fn commit(self) -> Result<(), CommitError> {
        for change in self.appended {
            self.memory.push(change);
        }
        Ok(())
    }
}

impl View for Memory {
    fn store_id(&self) -> StoreId {
        self.folded.store_id()
    }

    fn head(&self) -> Result<Head> {
        self.folded.head()
    }

    fn entry(&self, key: &str) -> Result<Option<Entry>> {
        self.folded.entry(key)
    }

    fn key_version(&self, key: &str) -> Result<Option<KeyVersion>> {
        self.folded.key_version(key)
    }

    fn rows(
        &self,
        range: &KeyRange,
        after: Option<&str>,
        deleted: bool,
        visit: &mut Visit<'_, Row>,
    ) -> Result<()> {
        self.folded.rows(range, after, deleted, visit)
    }

    fn keys(&self, range: &KeyRange, visit: &mut VisitKey<'_>) -> Result<()> {
        self.folded.keys(range, visit)
    }
}

impl LogView for Memory {
    fn tip(&self) -> Result<Tip> {
        Ok(self.end())
    }

    fn change(&self, seq: Seq) -> Result<Option<Change>> {
        if seq > Seq::ZERO && seq <= self.floor.seq {
            return Err(StateError::Compacted { requested: seq, oldest: self.floor.seq });
        }
        if self.withheld(seq).is_some() {
            return Err(StateError::Erased(format!("change {seq} is withheld; only its hash is known")));
        }
        Ok(self.at(seq).cloned())
    }

    fn link(&self, seq: Seq) -> Result<Option<Link>> {
        let link = |change: &Change| Link {
            seq,
            at: change.at,
            key: change.key.clone(),
            version: change.version,
            prev: change.prev,
            jump: self.of_version(&change.key, jump_version(change.version)).unwrap_or(Seq::ZERO),
        };
        Ok(self.at(seq).map(link))
    }

    fn changes(&self, after: Seq, visit: &mut Visit<'_, Change>) -> Result<()> {
        for change in self.all_after(after) {
            if visit(change.clone())?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn changes_below(
        &self,
        prefix: &str,
        after: Seq,
        until: Seq,
        visit: &mut Visit<'_, Change>,
    ) -> Result<()> {
        let within = self.all_after(after).take_while(|change| change.seq <= until);
        for change in within.filter(|change| change.key.starts_with(prefix)) {
            if visit(change.clone())?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn views(&self, after: Seq, visit: &mut VisitView<'_>) -> Result<()> {
        let mut last = LastMeta::default();
        for change in self.all_after(after) {
            let meta = change.meta.as_ref().map(|meta| last.encode(meta));
            if visit(&change.view(meta))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn withheld(&self, seq: Seq) -> Option<Hash> {
        match self.log.get(self.index(seq)?)? {
            Logged::Withheld { header, .. } => Some(*header),
            Logged::Change(_) => None,
        }
    }

    fn is_whole(&self) -> bool {
        self.folded.missing.is_nothing()
    }

    fn is_export(&self) -> bool {
        self.export
    }

    fn floor(&self) -> Head {
        self.floor
    }

    fn floor_at(&self) -> Option<Timestamp> {
        self.floor_at
    }

    fn hash_at(&self, seq: Seq) -> Result<Option<Hash>> {
        if seq == self.floor.seq {
            return Ok(Some(self.floor.hash));
        }
        let logged = self.index(seq).and_then(|index| self.log.get(index));
        Ok(logged.map(|logged| match logged {
            Logged::Change(change) => change.hash,
            Logged::Withheld { hash, .. } => *hash,
        }))
    }

    fn commit_end(&self, seq: Seq) -> Result<Head> {
        let mut seq = seq.min(self.folded.head.seq);
        loop {
            // Where a change is withheld, it is unknown whether a commit ends there.
            let inside = self.at(seq).is_some_and(|change| !change.closes_commit());
            match self.hash_at(seq)? {
                Some(hash) if !inside => return Ok(Head { seq, hash }),
                Some(_) => seq = seq.previous(),
                None => return Err(missing(seq)),
            }
        }
    }
}

impl Snapshot for Memory {
    fn every_row(&self, visit: &mut VisitRow<'_>) -> Result<()> {
        for last in self.folded.projection.range(&KeyRange::prefix(""), None) {
            let KeyVersion { version, seq, .. } = last.key_version;
            let times = last.key_version.created_at().map(|created_at| (created_at, last.at));
            let (until, value) = (last.until, last.value.as_deref());
            let row = RowView { key: &last.key, version, seq, times, until, value };
            if visit(&row)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn tombstones(&self, range: &KeyRange, visit: &mut Visit<'_, Row>) -> Result<()> {
        self.rows(range, None, true, &mut |row| match row {
            Row::Deleted { .. } => visit(row),
            _ => Ok(ControlFlow::Continue(())),
        })
    }

    fn remembered(&self, commit_id: &str) -> Result<Option<(Seq, Seq)>> {
        Ok(self.commit_ids.get(commit_id).copied())
    }

    fn commit_ids(&self, visit: &mut Visit<'_, (String, Seq, Seq)>) -> Result<()> {
        for (id, (first, last)) in &self.commit_ids {
            if visit((id.clone(), *first, *last))?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{SALT_BYTES, seal};
    use crate::state::{Batch, decide};

    impl Memory {
        /// The log of these commits, each at the time after the one before.
        pub(crate) fn of(store: StoreId, commits: impl IntoIterator<Item = Batch>) -> Self {
            let mut memory = Self::new(store);
            for batch in commits {
                let tip = memory.end();
                let decision = decide(&batch, tip.head.seq, &memory.folded.projection).unwrap();
                let (changes, _) = seal(decision.drafts, None, tip, Timestamp::EPOCH, || [1; SALT_BYTES]);
                for change in changes {
                    memory.push(change);
                }
            }
            memory
        }
    }
}
