//! What becomes of a value that is read, changed and written.

use serde::Serialize;

use super::codec::json;
use crate::error::Result;
use crate::state::Batch;

/// What becomes of a key: the answer of the function that
/// [`update_json`](crate::StateStore::update_json) and [`try_update_json`](crate::StateStore::try_update_json) call
/// with the value that they read.
///
/// Deleting the key, leaving it alone, and failing are three answers: the first two stand here, and a function that
/// fails returns an error instead. Both `Keep` and an error write nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update<T> {
    /// The key gets this value, even if it is the one that it has.
    Set(T),
    /// The key is deleted. If it is absent, nothing is written.
    Delete,
    /// The key stays as it is, and nothing is written.
    Keep,
}

impl<T: Serialize> Update<T> {
    /// The batch that does this to a key that has this version (0: that is absent), with its value as JSON; `None`
    /// if there is nothing to write.
    pub(super) fn json_batch(&self, key: &str, version: u64) -> Result<Option<Batch>> {
        let batch = Batch::new().expect(key, version);
        Ok(match self {
            Self::Set(value) => Some(batch.set(key, json(key, value)?)),
            Self::Delete if version > 0 => Some(batch.delete(key)),
            Self::Delete | Self::Keep => None,
        })
    }
}
