//! A log as the states that it went through: what was true at which position. Made here with plain
//! maps, so that it shares no code with the store.

use std::collections::BTreeMap;

use univrs_state::Entry;
use univrs_state::log::{Change, ChangeKind};

/// The states of a log. A position is a state where a commit ends; 0 is the one before the first.
pub(crate) struct Timeline<'a> {
    log: &'a [Change],
    /// The changes of each key, oldest first.
    keys: BTreeMap<&'a str, Vec<&'a Change>>,
}

impl<'a> Timeline<'a> {
    /// The log from its first change on, without a gap.
    pub(crate) fn of(log: &'a [Change]) -> Self {
        let mut keys: BTreeMap<&str, Vec<&Change>> = BTreeMap::new();
        for (change, seq) in log.iter().zip(1..) {
            assert_eq!(change.seq.as_u64(), seq, "a gap in the log");
            keys.entry(&change.key).or_default().push(change);
        }
        Self { log, keys }
    }

    /// The last position.
    pub(crate) fn head(&self) -> u64 {
        self.log.len() as u64
    }

    /// The change at a position.
    pub(crate) fn change(&self, seq: u64) -> Option<&'a Change> {
        self.log.get(usize::try_from(seq).ok()?.checked_sub(1)?)
    }

    /// Whether a commit ends there, or nothing has begun.
    pub(crate) fn is_state(&self, at: u64) -> bool {
        at == 0 || self.change(at).is_some_and(Change::closes_commit)
    }

    /// The last state at or before a position.
    pub(crate) fn state_before(&self, at: u64) -> u64 {
        (0..=at.min(self.head())).rev().find(|at| self.is_state(*at)).unwrap_or(0)
    }

    /// The changes of a key up to a position, oldest first.
    fn changes_of(&self, key: &str, at: u64) -> &[&'a Change] {
        let changes = self.keys.get(key).map_or(&[][..], Vec::as_slice);
        &changes[..changes.partition_point(|change| change.seq.as_u64() <= at)]
    }

    /// The last change of a key up to a position.
    pub(crate) fn last(&self, key: &str, at: u64) -> Option<&'a Change> {
        self.changes_of(key, at).last().copied()
    }

    /// The entry of a key at a position.
    pub(crate) fn entry(&self, key: &str, at: u64) -> Option<Entry> {
        let change = self.last(key, at).filter(|change| change.kind != ChangeKind::Deleted)?;
        Some(Entry {
            key: key.to_owned(),
            value: change.value.as_deref()?.to_vec(),
            version: change.version,
            created_at: change.created_at.into(),
            updated_at: change.at.into(),
            seq: change.seq,
            until: None,
        })
    }

    /// The version of a key at a position; 0 if it is absent.
    pub(crate) fn version(&self, key: &str, at: u64) -> u64 {
        let live = self.last(key, at).filter(|change| change.kind != ChangeKind::Deleted);
        live.map_or(0, |change| change.version)
    }

    /// The entries at a position whose keys are wanted, in the order of keys.
    pub(crate) fn entries(&self, at: u64, wanted: impl Fn(&str) -> bool) -> Vec<Entry> {
        self.keys.keys().filter(|key| wanted(key)).filter_map(|key| self.entry(key, at)).collect()
    }

    /// The newest change, deletions included, of the keys with a prefix up to a position.
    pub(crate) fn newest(&self, prefix: &str, at: u64) -> Option<&'a Change> {
        let under = self.keys.keys().filter(|key| key.starts_with(prefix));
        under.filter_map(|key| self.last(key, at)).max_by_key(|change| change.seq)
    }
}
