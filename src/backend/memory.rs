//! Log and projection in memory.

use std::collections::HashMap;

use super::{Backend, CommitError, Folded, Row, Snapshot, Transaction, View, Visit, VisitKey, missing};
use crate::error::Result;
use crate::key::KeyRange;
use crate::limits::Exceeded;
use crate::log::{Change, Head, Meta, StoreId, Tip};
use crate::seq::Seq;
use crate::state::{Entry, Slot, Slots};

/// A log and its fold.
#[derive(Debug)]
pub(crate) struct Memory {
    log: Vec<Change>,
    folded: Folded,
    commit_ids: HashMap<String, (Seq, Seq)>,
}

impl Memory {
    pub(crate) fn new(store: StoreId) -> Self {
        Self { log: Vec::new(), folded: Folded::genesis(store), commit_ids: HashMap::new() }
    }

    /// The state without its log.
    pub(crate) fn folded(&self) -> &Folded {
        &self.folded
    }

    fn at(&self, seq: Seq) -> Option<&Change> {
        self.log.get(index(seq)?)
    }

    fn after(&self, seq: Seq) -> &[Change] {
        usize::try_from(seq.as_u64()).ok().and_then(|start| self.log.get(start..)).unwrap_or_default()
    }

    fn end(&self) -> Tip {
        let end = self.log.last().map(|c| Tip { head: Head { seq: c.seq, hash: c.hash }, at: c.at });
        end.unwrap_or_else(|| Tip::genesis(self.folded.store))
    }

    /// The last change of the key.
    pub(crate) fn last(&self, key: &str) -> Option<Slot> {
        self.folded.projection.slot(key)
    }

    /// Takes in a change that continues the log.
    pub(crate) fn push(&mut self, change: Change) {
        if let Some(id) = change.meta.as_deref().and_then(Meta::commit_id)
            && change.closes_commit()
        {
            let commit = self.log.iter().rev().take_while(|earlier| earlier.commit_seq == change.seq).count();
            let first = Seq::new(change.seq.as_u64() - commit as u64);
            self.commit_ids.entry(id.to_owned()).or_insert((first, change.seq));
        }
        self.folded.fold(&change);
        self.log.push(change);
    }
}

/// The place in the vector of a position.
fn index(seq: Seq) -> Option<usize> {
    usize::try_from(seq.as_u64().checked_sub(1)?).ok()
}

impl Backend for Memory {
    type Transaction<'a> = MemoryTransaction<'a>;

    fn begin(&mut self) -> Result<MemoryTransaction<'_>> {
        Ok(MemoryTransaction { memory: self, appended: Vec::new() })
    }
}

/// Holds what is appended back until the commit.
pub(crate) struct MemoryTransaction<'a> {
    memory: &'a mut Memory,
    appended: Vec<Change>,
}

impl Transaction for MemoryTransaction<'_> {
    fn tip(&self) -> Tip {
        self.memory.end()
    }

    fn slot(&self, key: &str) -> Result<Option<Slot>> {
        Ok(self.memory.folded.projection.slot(key))
    }

    fn newest(&self, prefix: &str, limit: usize) -> Result<Option<(String, Seq)>> {
        let range = KeyRange::prefix(prefix);
        let read = self.memory.folded.projection.range(&range, None).take(limit.saturating_add(1)).count();
        Exceeded::check(read, limit, "keys", || format!("the prefix {prefix:?}"))?;
        Ok(self.memory.folded.projection.newest(prefix))
    }

    fn remembered(&self, commit_id: &str) -> Result<Option<(Seq, Seq)>> {
        Ok(self.memory.commit_ids.get(commit_id).copied())
    }

    fn recorded(&self, first: Seq, last: Seq) -> Result<Vec<Change>> {
        let after = self.memory.after(first.previous());
        Ok(after.iter().take_while(|change| change.seq <= last).cloned().collect())
    }

    fn append(&mut self, changes: &[Change]) -> Result<()> {
        self.appended.extend_from_slice(changes);
        Ok(())
    }

    fn project(&mut self, _: &Change, _: Option<Slot>) -> Result<()> {
        Ok(()) // Done with the log, at the commit.
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

    fn slot(&self, key: &str) -> Result<Option<Slot>> {
        self.folded.slot(key)
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

impl Snapshot for Memory {
    fn tip(&self) -> Result<Tip> {
        Ok(self.end())
    }

    fn change(&self, seq: Seq) -> Result<Option<Change>> {
        Ok(self.at(seq).cloned())
    }

    fn changes(&self, after: Seq, visit: &mut Visit<'_, Change>) -> Result<()> {
        for change in self.after(after) {
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
        let within = self.after(after).iter().take_while(|change| change.seq <= until);
        for change in within.filter(|change| change.key.starts_with(prefix)) {
            if visit(change.clone())?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn commit_ids(&self, visit: &mut Visit<'_, (String, Seq, Seq)>) -> Result<()> {
        for (id, (first, last)) in &self.commit_ids {
            if visit((id.clone(), *first, *last))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn commit_end(&self, seq: Seq) -> Result<Head> {
        let mut seq = seq.min(self.end().head.seq);
        while let Some(change) = self.at(seq) {
            if change.closes_commit() {
                return Ok(Head { seq, hash: change.hash });
            }
            seq = seq.previous();
        }
        if seq == Seq::ZERO { Ok(Head::genesis(self.folded.store)) } else { Err(missing(seq)) }
    }
}
