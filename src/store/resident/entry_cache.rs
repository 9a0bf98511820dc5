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
        self.newer.last(key).or_else(|| self.older.last(key))
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
    use crate::log::Timestamp;
    use crate::seq::Seq;
    use crate::state::{KeyVersion, Life};

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
}
