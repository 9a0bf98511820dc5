//! The fold of the log.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::{Slot, Slots};
use crate::key::KeyRange;
use crate::log::Change;
use crate::seq::Seq;

/// The last change of every key, deleted ones included: the fold of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Projection {
    last: BTreeMap<Arc<str>, Change>,
    live: usize,
}

impl Projection {
    /// Folds in the next change.
    pub(crate) fn fold(&mut self, change: Change) {
        let is_live = Slot::of(&change).is_live();
        let was_live =
            self.last.insert(change.key.clone(), change).is_some_and(|old| Slot::of(&old).is_live());
        self.live = self.live + usize::from(is_live) - usize::from(was_live);
    }

    /// How many keys exist.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// The last change of the key.
    pub(crate) fn last(&self, key: &str) -> Option<&Change> {
        self.last.get(key)
    }

    /// The last changes of the keys in the range after `after`, in the order of keys.
    pub(crate) fn range(&self, range: &KeyRange, after: Option<&str>) -> impl Iterator<Item = &Change> {
        let start = match after {
            Some(after) if after >= range.start() => Bound::Excluded(after),
            _ => Bound::Included(range.start()),
        };
        // BTreeMap panics on a range that ends before it starts.
        let empty =
            matches!((start, range.end()), (Bound::Excluded(s) | Bound::Included(s), Some(end)) if s >= end);
        let end = if empty { Some(range.start()) } else { range.end() };
        let start = if empty { Bound::Included(range.start()) } else { start };
        self.last
            .range::<str, _>((start, end.map_or(Bound::Unbounded, Bound::Excluded)))
            .map(|(_, change)| change)
    }
}

impl Slots for Projection {
    fn slot(&self, key: &str) -> Option<Slot> {
        self.last(key).map(Slot::of)
    }

    fn newest(&self, prefix: &str) -> Option<(String, Seq)> {
        let range = KeyRange::prefix(prefix);
        let shown = self.range(&range, None).filter(|change| range.shows(&change.key));
        shown.max_by_key(|change| change.seq).map(|change| (change.key.as_ref().to_owned(), change.seq))
    }
}
