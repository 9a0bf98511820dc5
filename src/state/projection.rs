//! The fold of the log.

use std::ops::Bound;
use std::sync::Arc;

use super::compaction::{Compaction, Forgotten};
use super::consumer_record::ConsumerRecord;
use super::floor::is_forgotten;
use super::key_state::KeyState;
use super::tree::Tree;
use super::{KeyVersion, KeyVersions, KeysBelow};
use crate::key::{COMPACTION_KEY, CONSUMERS_PREFIX, KeyRange};
use crate::log::Change;
use crate::seq::Seq;

/// The fold of the log: the last change of every key, deleted keys included. A copy is cheap and shares all
/// nodes that neither side changes.
///
/// A deletion that is forgotten counts as never made, from the change on that says so. Its row may stay until
/// [`swept`](Self::swept) drops it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Projection {
    last: Tree<KeyState>,
    live: usize,
    bytes: usize,
    /// What was forgotten since the rows of forgotten keys were last dropped, the newest last. What one compaction forgot
    /// stays forgotten, whatever a later one keeps.
    forgotten: Vec<Arc<Forgotten>>,
}

impl Projection {
    /// The projection with these rows. If a key has several, the row with the greatest `seq` counts.
    pub(crate) fn from_rows(mut rows: Vec<KeyState>) -> Self {
        rows.sort_unstable_by(|a, b| a.key.cmp(&b.key).then(b.key_version.seq.cmp(&a.key_version.seq)));
        rows.dedup_by(|later, first| later.key == first.key);
        let live = rows.iter().filter(|row| row.key_version.is_live()).count();
        let bytes = rows.iter().map(KeyState::size).sum();
        let forgotten = rows.iter().find_map(Self::forgotten_by).into_iter().collect();
        Self { last: Tree::from_sorted(rows.into_iter().map(Arc::new).collect()), live, bytes, forgotten }
    }

    /// Folds in the next change; returns the key's change before it.
    pub(crate) fn fold(&mut self, change: &Change) -> Option<Arc<KeyState>> {
        self.put(KeyState::from_change(change))
    }

    /// Sets the last change of a key; returns the change that was its last one before.
    pub(crate) fn put(&mut self, latest: impl Into<Arc<KeyState>>) -> Option<Arc<KeyState>> {
        let latest = latest.into();
        if let Some(forgotten) = Self::forgotten_by(&latest)
            && self.forgotten.last() != Some(&forgotten)
        {
            self.forgotten.push(forgotten);
        }
        let (live, bytes) = (latest.key_version.is_live(), latest.size());
        let old = self.last.insert(latest);
        let (was_live, freed) =
            old.as_ref().map_or((false, 0), |old| (old.key_version.is_live(), old.size()));
        self.live = self.live + usize::from(live) - usize::from(was_live);
        self.bytes = self.bytes + bytes - freed;
        old
    }

    /// How many keys exist.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// What is forgotten by the value of a key, if it is that of the record of a compaction. Its format was checked when it
    /// was written.
    fn forgotten_by(latest: &KeyState) -> Option<Arc<Forgotten>> {
        let value = latest.value.as_ref().filter(|_| &*latest.key == COMPACTION_KEY)?;
        Compaction::decode(value).ok()?.forgotten
    }

    /// What is forgotten.
    pub(crate) fn forgotten(&self) -> Option<&Arc<Forgotten>> {
        self.forgotten.last()
    }

    /// The same projection without the rows of forgotten keys; `None` if it has none.
    pub(crate) fn swept(&self) -> Option<Self> {
        let forgotten = self.forgotten()?;
        let whole = KeyRange::prefix("");
        let left: Vec<Arc<KeyState>> = self.range(&whole, None).cloned().collect();
        if left.len() == self.last.len() {
            return None;
        }
        let bytes = left.iter().map(|row| row.size()).sum();
        let forgotten = vec![forgotten.clone()];
        Some(Self { last: Tree::from_sorted(left), live: self.live, bytes, forgotten })
    }

    /// How many keys have changes, deleted ones included.
    pub(crate) fn len(&self) -> usize {
        self.last.len()
    }

    /// About how many bytes the projection takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The last change of the key; none if it is forgotten.
    pub(crate) fn last(&self, key: &str) -> Option<&Arc<KeyState>> {
        self.last.get(key).filter(|last| self.shows(last))
    }

    /// The last change of the key, also if it is forgotten and its row is still there.
    pub(crate) fn row(&self, key: &str) -> Option<&Arc<KeyState>> {
        self.last.get(key)
    }

    /// Its version.
    pub(crate) fn recorded(&self, key: &str) -> Option<KeyVersion> {
        self.row(key).map(|last| last.key_version)
    }

    fn shows(&self, last: &KeyState) -> bool {
        !is_forgotten(&self.forgotten, &last.key, &last.key_version)
    }

    /// The last changes of the keys in the range that are greater than `after`, in the order of keys.
    pub(crate) fn range(
        &self,
        range: &KeyRange,
        after: Option<&str>,
    ) -> impl Iterator<Item = &Arc<KeyState>> {
        let start = match after {
            Some(after) if after >= range.start() => Bound::Excluded(after),
            _ => Bound::Included(range.start()),
        };
        let end = range.end().map(str::to_owned);
        let within =
            self.last.from(start).take_while(move |last| end.as_deref().is_none_or(|end| &*last.key < end));
        within.filter(|last| self.shows(last))
    }
}

impl KeyVersions for Projection {
    fn key_version(&self, key: &str) -> Option<KeyVersion> {
        self.last(key).map(|last| last.key_version)
    }

    fn forgotten(&self) -> Option<&Forgotten> {
        self.forgotten().map(|forgotten| &**forgotten)
    }

    fn behind(&self, floor: Seq) -> Vec<(String, Seq)> {
        let behind = |last: &KeyState| {
            let record = ConsumerRecord::decode(&last.key, last.value.as_deref()?).ok()?;
            let is_behind = last.key_version.is_live() && record.cursor.seq() < floor;
            is_behind.then(|| (last.key.as_ref().to_owned(), last.key_version.seq))
        };
        self.range(&KeyRange::prefix(CONSUMERS_PREFIX), None).filter_map(|last| behind(last)).collect()
    }

    fn below(&self, prefix: &str, limit: usize) -> KeysBelow {
        let range = KeyRange::prefix(prefix);
        let (mut count, mut newest) = (0, None);
        for last in self.range(&range, None).take(limit.saturating_add(1)) {
            count += 1;
            if range.shows(&last.key) {
                newest = newest.max(Some((last.key_version.seq, &last.key)));
            }
        }
        KeysBelow { count, newest: newest.map(|(seq, key)| (key.as_ref().to_owned(), seq)) }
    }
}
