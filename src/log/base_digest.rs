//! The digest of a base.

use super::hash::Domain;
use super::{Hash, Head, StoreId};

static BASE: Domain = Domain::new("univrs-state 1 base");

/// The digest of a base, which is what a compaction leaves of the changes at or before its floor: of the store, of the
/// floor, and of the chain hashes of these changes, in order.
///
/// A chain hash covers the header of its change and the chain before it. So neither can be another one, although the chain
/// between two changes of the base is gone.
#[derive(Debug, Clone)]
pub(crate) struct BaseDigest(blake3::Hasher);

impl BaseDigest {
    /// The digest of a base without changes.
    pub(crate) fn new(store: StoreId, floor: Head) -> Self {
        let mut hasher = BASE.hasher();
        hasher.update(store.as_bytes());
        hasher.update(&floor.seq.as_u64().to_be_bytes());
        hasher.update(floor.hash.as_bytes());
        Self(hasher)
    }

    /// Adds the next change, by its chain hash.
    pub(crate) fn push(&mut self, hash: Hash) {
        self.0.update(hash.as_bytes());
    }

    /// The digest of the changes so far.
    pub(crate) fn finish(&self) -> Hash {
        self.0.finalize().into()
    }
}
