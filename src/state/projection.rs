//! The fold of the log.

use std::ops::Bound;
use std::sync::Arc;

use super::key_state::KeyState;
use super::tree::Tree;
use super::{KeyVersion, KeyVersions, KeysBelow};
use crate::key::KeyRange;
use crate::log::Change;

/// The fold of the log: the last change of every key, deleted keys included. A copy is cheap and shares all
/// nodes that neither side changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Projection {
    last: Tree<KeyState>,
    live: usize,
    bytes: usize,
}

impl Projection {
    /// The projection with these rows. If a key has several, the row with the greatest `seq` counts.
    pub(crate) fn from_rows(mut rows: Vec<KeyState>) -> Self {
        rows.sort_unstable_by(|a, b| a.key.cmp(&b.key).then(b.key_version.seq.cmp(&a.key_version.seq)));
        rows.dedup_by(|later, first| later.key == first.key);
        let live = rows.iter().filter(|row| row.key_version.is_live()).count();
        let bytes = rows.iter().map(KeyState::size).sum();
        Self { last: Tree::from_sorted(rows.into_iter().map(Arc::new).collect()), live, bytes }
    }

    /// Folds in the next change; returns the key's change before it.
    pub(crate) fn fold(&mut self, change: &Change) -> Option<Arc<KeyState>> {
        self.put(KeyState::from_change(change))
    }

    /// Sets the last change of a key; returns the change that was its last one before.
    pub(crate) fn put(&mut self, latest: impl Into<Arc<KeyState>>) -> Option<Arc<KeyState>> {
        let latest = latest.into();
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

    /// How many keys have changes, deleted ones included.
    pub(crate) fn len(&self) -> usize {
        self.last.len()
    }

    /// About how many bytes the projection takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The last change of the key.
    pub(crate) fn last(&self, key: &str) -> Option<&Arc<KeyState>> {
        self.last.get(key)
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
        self.last.from(start).take_while(move |last| end.as_deref().is_none_or(|end| &*last.key < end))
    }
}

impl KeyVersions for Projection {
    fn key_version(&self, key: &str) -> Option<KeyVersion> {
        self.last(key).map(|last| last.key_version)
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
