//! The current state of a key.

use std::fmt;
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Result, StateError};
use crate::log::{Change, Until};
use crate::seq::Seq;

/// The current state of a key that exists. `Debug` does not show the value.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value, which may be any bytes.
    pub value: Vec<u8>,
    /// The key's version: how many times it has changed, deletions included. The first is 1. A version never
    /// repeats, also if the key is deleted and set again.
    pub version: u64,
    /// When the key was created; a key that was deleted and set again was created then.
    pub created_at: SystemTime,
    /// When the value was written.
    pub updated_at: SystemTime,
    /// The position of the change that wrote the value.
    pub seq: Seq,
    /// When the entry ends by itself; `None` if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
}

impl Entry {
    /// Decodes the value as JSON.
    ///
    /// # Errors
    /// [`StateError::SerializationError`](crate::StateError::SerializationError) if the value is not JSON, or
    /// not of the type `T`.
    pub fn value_json<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_slice(&self.value)?)
    }

    /// The key's entry right after this change; `None` if the change deleted the key.
    ///
    /// # Errors
    /// [`StateError::Erased`] if the value was erased.
    pub(crate) fn left_by(change: &Change) -> Result<Option<Self>> {
        if change.is_erased() {
            Err(Self::erased(&change.key, change.seq))
        } else {
            Ok(Self::from_change(change))
        }
    }

    /// The error of reading a value that was erased.
    pub(crate) fn erased(key: &str, seq: Seq) -> StateError {
        StateError::Erased(format!("the value that change {seq} gave {key} is gone; its hash remains"))
    }

    /// The key's entry right after this change; `None` if the change deleted the key, or its value was erased.
    pub(crate) fn from_change(change: &Change) -> Option<Self> {
        Some(Self {
            key: change.key.as_ref().to_owned(),
            value: change.value.as_deref()?.to_vec(),
            version: change.version,
            created_at: change.created_at.into(),
            updated_at: change.at.into(),
            seq: change.seq,
            until: change.until,
        })
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key)
            .field("value_bytes", &self.value.len())
            .field("version", &self.version)
            .field("created_at", &self.created_at)
            .field("updated_at", &self.updated_at)
            .field("seq", &self.seq)
            .field("until", &self.until)
            .finish()
    }
}
