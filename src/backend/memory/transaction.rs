//! A transaction in memory.

use super::Memory;
use crate::backend::{Backend, CommitError, DecisionView, Linked, Slice, Transaction, View, Visit};
use crate::error::Result;
use crate::log::{Change, Tip};
use crate::seq::Seq;
use crate::state::{Entry, Floor, KeyVersion, KeyVersions, KeysBelow, Thinning};

impl Backend for Memory {
    type Transaction<'a> = MemoryTransaction<'a>;

    fn begin(&mut self) -> Result<MemoryTransaction<'_>> {
        let (appended, thinning) = (Vec::new(), self.thinning.clone());
        Ok(MemoryTransaction {
            memory: self,
            appended,
            slice: None,
            floor: None,
            thinning,
            without_value: Vec::new(),
        })
    }
}

/// A transaction in memory. It holds everything back until the commit.
pub(crate) struct MemoryTransaction<'a> {
    memory: &'a mut Memory,
    appended: Vec<Change>,
    slice: Option<Slice>,
    floor: Option<Floor>,
    /// The thinning that goes on after it.
    thinning: Option<Thinning>,
    /// The changes whose values go.
    without_value: Vec<Seq>,
}

impl DecisionView for MemoryTransaction<'_> {
    fn tip(&self) -> Tip {
        self.memory.end()
    }

    fn floor(&self) -> Result<Floor> {
        Ok(self.memory.floor.clone())
    }

    fn key_version(&self, key: &str) -> Result<Option<KeyVersion>> {
        Ok(self.memory.folded.projection.recorded(key))
    }

    fn below(&self, prefix: &str, limit: usize) -> Result<KeysBelow> {
        Ok(self.memory.folded.projection.below(prefix, limit))
    }

    fn entries(&self, prefix: &str, visit: &mut Visit<'_, Entry>) -> Result<()> {
        View::entries(&*self.memory, prefix, visit)
    }

    fn remembered(&self, commit_id: &str) -> Result<Option<(Seq, Seq)>> {
        Ok(self.memory.commit_ids.get(commit_id).copied())
    }

    fn recorded(&self, first: Seq, last: Seq) -> Result<Vec<Change>> {
        let after = self.memory.log.after_seq(first.previous());
        Ok(after.take_while(|change| change.seq <= last).cloned().collect())
    }
}

impl Transaction for MemoryTransaction<'_> {
    fn append(&mut self, changes: &[Change]) -> Result<()> {
        self.appended.extend_from_slice(changes);
        Ok(())
    }

    fn append_base(&mut self, base: &[Linked]) -> Result<()> {
        for linked in base {
            self.memory.push_base(linked.clone());
        }
        Ok(())
    }

    fn project(&mut self, _: &Change, _: Option<KeyVersion>) -> Result<()> {
        Ok(()) // The commit folds the changes when it appends them.
    }

    fn set_floor(&mut self, floor: &Floor) -> Result<()> {
        self.floor = Some(floor.clone());
        Ok(())
    }

    fn drop_slice(&mut self, slice: &Slice) -> Result<bool> {
        let floor = &self.memory.floor;
        let due = floor.reached_on_way_to(slice.floor) == Some(slice.from);
        if due {
            self.floor = Some(floor.reached(slice.to));
            self.slice = Some(slice.clone());
        }
        Ok(due)
    }

    fn thinning(&self) -> Result<Option<Thinning>> {
        Ok(self.memory.thinning.clone())
    }

    fn set_thinning(&mut self, thinning: Option<&Thinning>) -> Result<()> {
        self.thinning = thinning.cloned();
        Ok(())
    }

    fn thin(&mut self, thinning: &Thinning, seqs: &[Seq]) -> Result<bool> {
        let due = self.memory.thinning.as_ref() == Some(thinning);
        if due {
            self.without_value.extend_from_slice(seqs);
        }
        Ok(due)
    }

    fn erase(&mut self, seqs: &[Seq]) -> Result<()> {
        self.without_value.extend_from_slice(seqs);
        Ok(())
    }

    fn commit(self) -> Result<(), CommitError> {
        for change in self.appended {
            self.memory.push(change);
        }
        if let Some(slice) = self.slice {
            self.memory.drop_slice(&slice);
        }
        if let Some(floor) = self.floor {
            self.memory.set_floor(floor);
        }
        self.without_value.into_iter().for_each(|seq| self.memory.log.drop_value(seq));
        self.memory.thinning = self.thinning;
        Ok(())
    }
}
