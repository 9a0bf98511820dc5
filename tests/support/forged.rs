//! Logs that no program writes: their changes were altered, and their hashes are right.

use univrs_state::log::{Change, Follow, Hash, StoreId};

/// Gives the changes of a whole log the hashes that follow from what else they say.
pub(crate) fn chain(store: StoreId, log: &mut [Change]) {
    let mut hash = Follow::genesis(store).head().hash;
    for change in log {
        let parts = [hash.as_bytes().as_slice(), change.header_hash().as_bytes()].concat();
        hash = Hash::from_bytes(blake3::derive_key("univrs-state 1 chain", &parts));
        change.hash = hash;
    }
}
