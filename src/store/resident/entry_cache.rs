//! A cache of the entries that were read last, for a projection that does not fit in memory.

use std::sync::Arc;

use crate::log::Change;
use crate::state::{KeyState, Projection};

/// A cache of entries with a budget of bytes. When the newer half of the budget is used up, it becomes the
/// older half, and the older half before it is dropped. A copy is cheap.
#[derive(Debug, Clone)]
pub(crate) struct EntryCache {
    newer: Projection,
    older: Projection,
    budget: usize,
}

impl EntryCache {
    pub(crate) fn new(budget: usize) -> Self {
        Self { newer: Projection::default(), older: Projection::default(), budget }
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.newer.bytes() + self.older.bytes()
    }

    /// The last change of the key, if it is in the cache.
    pub(crate) fn get(&self, key: &str) -> Option<&Arc<KeyState>> {
        // IMPORTANT: also a deletion that is forgotten. The older half may still have what it deleted.
        self.newer.row(key).or_else(|| self.older.row(key))
    }

    /// Adds the last change of a key that was read.
    pub(crate) fn put(&mut self, latest: KeyState) {
        if latest.size() > self.budget / 2 {
            return;
        }
        if self.newer.bytes() + latest.size() > self.budget / 2 {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.put(latest);
    }

    /// Applies a change, so that the cache never has an older state of a key.
    pub(crate) fn follow(&mut self, change: &Change) {
        if self.get(&change.key).is_none() {
            return;
        }
        let latest = KeyState::from_change(change);
        if latest.size() > self.budget / 2 {
            // The cached state of the key is out of date, and the new one does not fit.
            *self = Self::new(self.budget);
        } else {
            self.put(latest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::COMPACTION_KEY;
    use crate::log::{ChangeKind, Hash, Head, Timestamp};
    use crate::seq::Seq;
    use crate::state::{Compaction, Forgotten, KeyVersion, Life};

    fn latest(key: &str, seq: u64, bytes: usize) -> KeyState {
        let key_version =
            KeyVersion { version: 1, seq: Seq::new(seq), life: Life::Live { created_at: Timestamp::EPOCH } };
        let value = Some(vec![0; bytes].into());
        KeyState { key: key.into(), key_version, at: Timestamp::EPOCH, until: None, value }
    }

    #[test]
    fn it_keeps_what_was_read_last_within_its_budget() {
        let mut cache = EntryCache::new(100_000);
        for n in 0..1_000 {
            cache.put(latest(&format!("/k{n}"), n + 1, 1_000));
            assert!(cache.bytes() <= 100_000);
            assert_eq!(cache.get(&format!("/k{n}")).map(|last| last.key_version.seq), Some(Seq::new(n + 1)));
        }
        assert!(cache.get("/k960").is_some() && cache.get("/k0").is_none());
        cache.put(latest("/large", 1, 60_000));
        assert!(cache.get("/large").is_none() && cache.get("/k999").is_some());
    }

    /// A cache that holds twice two entries of this size.
    fn of_four(bytes: usize) -> (EntryCache, usize) {
        let size = latest("/k0", 1, bytes).size();
        (EntryCache::new(4 * size), size)
    }

    fn has(cache: &EntryCache, keys: std::ops::RangeInclusive<u64>) -> Vec<bool> {
        keys.map(|n| cache.get(&format!("/k{n}")).is_some()).collect()
    }

    #[test]
    fn the_older_half_is_dropped_when_the_newer_one_is_full_and_not_before() {
        let (mut cache, size) = of_four(1_000);
        for n in 1..=4 {
            cache.put(latest(&format!("/k{n}"), n, 1_000));
            assert_eq!(cache.bytes(), usize::try_from(n).unwrap() * size);
        }
        assert_eq!(has(&cache, 1..=4), [true; 4]);
        cache.put(latest("/k5", 5, 1_000));
        assert_eq!(has(&cache, 1..=5), [false, false, true, true, true]);
        assert_eq!(cache.bytes(), 3 * size);
    }

    #[test]
    fn an_entry_takes_half_of_the_budget_at_most() {
        let (mut cache, size) = of_four(1_000);
        let rest = 2 * size - latest("/k0", 1, 0).size();
        cache.put(latest("/k1", 1, rest + 1));
        assert_eq!(has(&cache, 1..=1), [false]);
        cache.put(latest("/k1", 1, rest));
        assert_eq!(has(&cache, 1..=1), [true]);
    }

    #[test]
    fn a_change_replaces_what_is_known_of_its_key_and_adds_nothing_else() {
        let change = |n: u64, seq: u64, bytes: usize| Change {
            kind: ChangeKind::Updated,
            key: format!("/k{n}").into(),
            version: seq,
            prev: Seq::new(1),
            value: Some(vec![0; bytes].into()),
            ..Change::plain(seq)
        };
        let (mut cache, size) = of_four(1_000);
        let rest = 2 * size - latest("/k0", 1, 0).size();
        cache.put(latest("/k1", 1, 1_000));
        cache.put(latest("/k2", 2, 1_000));
        cache.follow(&change(3, 3, 10));
        assert_eq!(has(&cache, 1..=3), [true, true, false], "a key that nobody has read");
        let seq = |cache: &EntryCache, key| cache.get(key).map(|last| last.key_version.seq.as_u64());
        cache.follow(&change(1, 4, rest));
        assert_eq!((seq(&cache, "/k1"), seq(&cache, "/k2")), (Some(4), Some(2)));
        cache.follow(&change(1, 5, rest + 1));
        assert_eq!(
            has(&cache, 1..=2),
            [false, false],
            "the new state does not fit, and the old one is wrong"
        );
        cache.put(latest("/k2", 2, 1_000));
        assert_eq!(has(&cache, 2..=2), [true], "its budget is the same");
    }

    #[test]
    fn what_was_deleted_stays_so_when_the_deletion_is_forgotten() {
        let (mut cache, _) = of_four(1_000);
        for n in 1..=3 {
            cache.put(latest(&format!("/k{n}"), n, 1_000));
        }
        assert!(cache.older.row("/k1").is_some(), "the premise");
        let change = |kind, key: &str, value: Option<Vec<u8>>| {
            let (key, value, prev) = (key.into(), value.map(Arc::from), Seq::new(1));
            Change { kind, key, version: 2, prev, value, ..Change::plain(5) }
        };
        cache.follow(&change(ChangeKind::Deleted, "/k1", None));
        let head = Head { seq: Seq::new(9), hash: Hash::from_bytes([1; 32]) };
        let forgotten = Forgotten { floor: head.seq, version: 9, keep: Vec::new() };
        let record = Compaction {
            floor: head,
            at: Timestamp::EPOCH,
            keep: Vec::new(),
            forgotten: Some(Arc::new(forgotten)),
            lost: Vec::new(),
            base: None,
        };
        let record = change(ChangeKind::Updated, COMPACTION_KEY, Some(record.encode().unwrap()));
        cache.put(KeyState::from_change(&record));
        assert!(cache.newer.row("/k1").is_some() && cache.newer.last("/k1").is_none(), "the premise");
        assert_eq!(cache.get("/k1").map(|last| last.key_version.life), Some(Life::Deleted));
    }
}
