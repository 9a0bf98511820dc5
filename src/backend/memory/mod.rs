//! Log and projection in memory.

mod log;
mod snapshot;
mod transaction;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use self::log::MemoryLog;
use super::{FoldedState, Linked, LogView, Slice};
use crate::error::{Result, StateError};
use crate::key::RESERVED_PREFIX;
use crate::log::{Change, Hash, Head, Meta, StoreId, Timestamp, Tip};
use crate::seq::Seq;
use crate::state::{ErasureRecord, Floor, KeyVersion, KeyVersions, Thinning};

/// A log and its fold. If it was read from an export, it may be a part of a log: it may begin after a floor without
/// the base there, and lack changes that are withheld.
#[derive(Debug)]
pub(crate) struct Memory {
    floor: Floor,
    /// The thinning that goes on.
    thinning: Option<Thinning>,
    export: bool,
    log: MemoryLog,
    folded: FoldedState,
    /// The time of the last change that is not withheld.
    at: Timestamp,
    commit_ids: HashMap<String, (Seq, Seq)>,
    /// The key history of each key: the positions of its changes, and the version of the first of them.
    histories: HashMap<Arc<str>, (u64, VecDeque<Seq>)>,
}

impl Memory {
    pub(crate) fn new(store: StoreId) -> Self {
        Self::after(store, Floor::genesis(store), true)
    }

    /// An empty log that begins after a floor. With `whole`, what it has of the changes before is added by
    /// [`push_base`](Self::push_base).
    pub(crate) fn after(store: StoreId, floor: Floor, whole: bool) -> Self {
        let mut folded = FoldedState::genesis(store);
        folded.head = floor.head;
        if !whole {
            folded.missing.floor = floor.seq();
        }
        let at = floor.at.unwrap_or(Timestamp::EPOCH);
        let (log, commit_ids, histories) = (MemoryLog::after(floor.head), HashMap::new(), HashMap::new());
        Self { floor, thinning: None, export: false, log, folded, at, commit_ids, histories }
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

    fn end(&self) -> Tip {
        Tip { head: self.folded.head, at: self.at }
    }

    /// The last change of the key, if the log has one and it is not forgotten.
    pub(crate) fn last(&self, key: &str) -> Option<KeyVersion> {
        self.folded.projection.key_version(key)
    }

    /// Appends the next change of the log, and folds it in.
    pub(crate) fn push(&mut self, change: Change) {
        if let Some(id) = change.meta.as_deref().and_then(Meta::commit_id)
            && change.closes_commit()
        {
            let commit = self.log.newest().take_while(|earlier| earlier.commit_seq == change.seq).count();
            let first = Seq::new(change.seq.as_u64() - commit as u64);
            let known = self.commit_ids.entry(id.to_owned()).or_insert((first, change.seq));
            if known.1 <= self.floor.seq() {
                *known = (first, change.seq); // The id of a commit at or below the floor counts as never used.
            }
        }
        self.place(&change);
        self.folded.fold(&change);
        self.at = change.at;
        self.log.push(change);
    }

    /// Appends the next change of a log that was recorded elsewhere, and folds it in. It may begin a compaction, and it may
    /// name values that are erased.
    pub(crate) fn take(&mut self, change: Change) -> Result<()> {
        if let Some(record) = ErasureRecord::of(&change)? {
            self.erase(&record)?;
        }
        let moved = self.floor.moved_by(&change)?;
        if let Some(floor) = &moved
            && self.commit_end(floor.seq())? != floor.head
        {
            let (seq, floor) = (change.seq, floor.seq());
            return Err(StateError::Corrupted(format!(
                "change {seq} begins a compaction to {floor}, where the log has another hash or no end of a commit"
            )));
        }
        self.push(change);
        if let Some(floor) = moved {
            self.set_floor(floor);
        }
        Ok(())
    }

    /// Drops the values that a record names.
    fn erase(&mut self, record: &ErasureRecord) -> Result<()> {
        let mut gone = Vec::new();
        for (first, last) in record.ranges.as_slice() {
            let within = self.log.after_seq(first.previous()).take_while(|change| change.seq <= *last);
            for change in within.filter(|change| change.value.is_some()) {
                let last_of_key = self.folded.projection.key_version(&change.key);
                let is_state = last_of_key.is_some_and(|last| last.seq == change.seq);
                if change.key.starts_with(RESERVED_PREFIX) || is_state && self.is_whole() {
                    return Err(ErasureRecord::names_too_much(change.seq));
                }
                // What replaced it may be withheld. Then it stays the state, and its value with it.
                gone.extend((!is_state).then_some(change.seq));
            }
        }
        for seq in gone {
            self.log.drop_value(seq);
        }
        Ok(())
    }

    /// The version that a key without a change goes on from.
    pub(crate) fn forgotten_version(&self) -> u64 {
        self.folded.projection.forgotten().map_or(0, |forgotten| forgotten.version)
    }

    /// Adds a change at or below the floor. They are added in order, before any other change.
    pub(crate) fn push_base(&mut self, linked: Linked) {
        self.place(&linked.change);
        self.folded.projection.fold(&linked.change);
        self.log.push_base(linked);
    }

    /// Notes that a change at or below the floor is withheld.
    pub(crate) fn lack_of_base(&mut self) {
        self.folded.missing.withheld += 1;
    }

    /// Appends a change that is withheld: only the hash of its header is known.
    pub(crate) fn push_withheld(&mut self, header: Hash, head: Head) {
        self.log.push_withheld(header, head.hash);
        self.folded.missing.withheld += 1;
        self.folded.head = head;
    }

    /// Sets the floor.
    pub(crate) fn set_floor(&mut self, floor: Floor) {
        self.floor = floor;
        if self.floor.unfinished.is_none()
            && let Some(swept) = self.folded.projection.swept()
        {
            self.folded.projection = swept;
        }
    }

    /// Adds the place of a change to the history of its key.
    fn place(&mut self, change: &Change) {
        let (first, history) = self.histories.entry(change.key.clone()).or_default();
        if *first + history.len() as u64 != change.version {
            // What came before is not in this log, or forgotten.
            (*first, *history) = (change.version, VecDeque::new());
        }
        history.push_back(change.seq);
    }

    fn drop_slice(&mut self, slice: &Slice) {
        for change in self.log.drop_slice(slice) {
            let Some((first, history)) = self.histories.get_mut(&change.key) else { continue };
            if history.front() == Some(&change.seq) {
                history.pop_front();
                *first += 1;
            }
            if history.is_empty() {
                self.histories.remove(&change.key);
            }
        }
        for (id, last) in &slice.commit_ids {
            if self.commit_ids.get(id).is_some_and(|(_, known)| known == last) {
                self.commit_ids.remove(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{SALT_BYTES, seal};
    use crate::state::{Batch, SeqRanges, decide};

    /// A log of one key with three values, of which an erasure names some, as it is read from an export.
    fn taken(named: (u64, u64), withheld: u64) -> Result<Memory> {
        let store = StoreId::from_bytes([1; 16]);
        let ranges = SeqRanges::of(vec![(Seq::new(named.0), Seq::new(named.1))]).unwrap();
        let record = ErasureRecord { ranges }.encode().unwrap();
        let values = (1..4).map(|n| Batch::new().set("/a", n.to_string()));
        let recorded = Memory::of(store, values.chain([Batch::new().set(ErasureRecord::key(1), record)]));
        let mut memory = Memory::new(store);
        for change in recorded.log.after_seq(Seq::ZERO) {
            if change.seq == Seq::new(withheld) {
                memory.push_withheld(Hash::from_bytes([2; 32]), change.head());
            } else {
                memory.take(change.clone())?;
            }
        }
        Ok(memory)
    }

    #[test]
    fn a_log_that_names_values_as_erased_is_read_without_them() {
        let values = |memory: &Memory| -> Vec<bool> {
            memory.log.after_seq(Seq::ZERO).map(|change| change.value.is_some()).collect()
        };
        let memory = taken((1, 2), 0).unwrap();
        assert_eq!(values(&memory), [false, false, true, true]);
        assert!(memory.log.at(Seq::new(1)).unwrap().salt.is_none());
        let live = taken((2, 3), 0);
        assert!(matches!(live, Err(StateError::Corrupted(what)) if what.contains("of change 3,")));
        // Of a part of a log nobody knows that the second value was replaced. It is shown as it was exported.
        assert_eq!(values(&taken((1, 2), 3).unwrap()), [false, true, true]);
    }

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
