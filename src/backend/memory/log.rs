//! The changes of a log in memory.

use std::collections::{BTreeMap, VecDeque};

use crate::backend::{Linked, Slice};
use crate::log::{Change, Hash, Head};
use crate::seq::Seq;

/// The changes of a log: those after a position without a gap, and what is left of those before.
#[derive(Debug)]
pub(super) struct MemoryLog {
    /// The head before the first change of `rest`.
    start: Head,
    /// What is left at or before `start`.
    base: BTreeMap<Seq, Linked>,
    rest: VecDeque<Logged>,
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

    fn hash(&self) -> Hash {
        match self {
            Self::Change(change) => change.hash,
            Self::Withheld { hash, .. } => *hash,
        }
    }
}

impl MemoryLog {
    /// An empty log that begins after a head.
    pub(super) fn after(start: Head) -> Self {
        Self { start, base: BTreeMap::new(), rest: VecDeque::new() }
    }

    /// The change at a position, if it is there and not withheld.
    pub(super) fn at(&self, seq: Seq) -> Option<&Change> {
        match self.index(seq) {
            Some(index) => self.rest.get(index)?.change(),
            None => self.base.get(&seq).map(|linked| &linked.change),
        }
    }

    /// The chain hash at a position, if the log has a change there.
    pub(super) fn hash_at(&self, seq: Seq) -> Option<Hash> {
        match self.index(seq) {
            Some(index) => self.rest.get(index).map(Logged::hash),
            None if seq == self.start.seq => Some(self.start.hash),
            None => self.base.get(&seq).map(|linked| linked.change.hash),
        }
    }

    /// The hash of the header of a change that is withheld.
    pub(super) fn withheld(&self, seq: Seq) -> Option<Hash> {
        match self.rest.get(self.index(seq)?)? {
            Logged::Withheld { header, .. } => Some(*header),
            Logged::Change(_) => None,
        }
    }

    /// The changes after a position, in order.
    pub(super) fn after_seq(&self, seq: Seq) -> impl Iterator<Item = &Change> {
        let base = self.base.range(seq.next()..).map(|(_, linked)| &linked.change);
        let passed = self.index(seq.next()).unwrap_or(0).min(self.rest.len());
        base.chain(self.rest.range(passed..).filter_map(Logged::change))
    }

    /// The changes before the end, in order backwards, up to one that is withheld.
    pub(super) fn newest(&self) -> impl Iterator<Item = &Change> {
        self.rest.iter().rev().map_while(Logged::change)
    }

    /// A change with the chain hash before it.
    pub(super) fn linked(&self, change: &Change) -> Option<Linked> {
        match self.base.get(&change.seq) {
            Some(linked) => Some(linked.clone()),
            None => Some(Linked { change: change.clone(), before: self.hash_at(change.seq.previous())? }),
        }
    }

    pub(super) fn push(&mut self, change: Change) {
        self.rest.push_back(Logged::Change(change));
    }

    pub(super) fn push_withheld(&mut self, header: Hash, hash: Hash) {
        self.rest.push_back(Logged::Withheld { header, hash });
    }

    /// Adds a change at or before the start.
    pub(super) fn push_base(&mut self, linked: Linked) {
        self.base.insert(linked.change.seq, linked);
    }

    /// Drops what a slice names, and returns it.
    pub(super) fn drop_slice(&mut self, slice: &Slice) -> Vec<Change> {
        let gone: Vec<Seq> = slice
            .runs
            .iter()
            .flat_map(|(first, last)| self.base.range(*first..=*last))
            .map(|(seq, _)| *seq)
            .collect();
        let mut dropped: Vec<Change> =
            gone.iter().filter_map(|seq| self.base.remove(seq)).map(|linked| linked.change).collect();
        while self.start.seq < slice.to
            && let Some(logged) = self.rest.pop_front()
        {
            let before = self.start.hash;
            self.start = Head { seq: self.start.seq.next(), hash: logged.hash() };
            match logged {
                Logged::Change(change) if slice.drops(change.seq) => dropped.push(change),
                Logged::Change(change) => self.push_base(Linked { change, before }),
                Logged::Withheld { .. } => {}
            }
        }
        dropped
    }

    /// Drops salt and value of the change at a position, if it is there.
    pub(super) fn drop_value(&mut self, seq: Seq) {
        let change = match self.index(seq) {
            Some(index) => match self.rest.get_mut(index) {
                Some(Logged::Change(change)) => Some(change),
                _ => None,
            },
            None => self.base.get_mut(&seq).map(|linked| &mut linked.change),
        };
        if let Some(change) = change {
            (change.salt, change.value) = (None, None);
        }
    }

    /// The index of a position in `rest`; `None` if it is at or before the start.
    fn index(&self, seq: Seq) -> Option<usize> {
        let behind = seq.as_u64().checked_sub(self.start.seq.as_u64())?.checked_sub(1)?;
        Some(usize::try_from(behind).unwrap_or(usize::MAX))
    }
}
