//! Operations of the simple `transaction` verb.

use std::fmt;

use serde::Serialize;

use super::Batch;
use crate::error::Result;

/// One operation of [`transaction`](crate::StateStore::transaction). `Debug` does not show values.
#[derive(Clone, PartialEq, Eq)]
pub enum TransactionOp {
    /// Sets a key to a value.
    Set {
        /// The key.
        key: String,
        /// The value.
        value: Vec<u8>,
    },
    /// Deletes a key; deleting an absent key is no error and records nothing.
    Delete {
        /// The key.
        key: String,
    },
    /// Requires that the key has this version before the transaction; otherwise nothing is written.
    CheckVersion {
        /// The key.
        key: String,
        /// The version; 0 means absent.
        expected_version: u64,
    },
}

impl TransactionOp {
    /// Sets a key to a value.
    pub fn set(key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self::Set { key: key.into(), value: value.into() }
    }

    /// Sets a key to a value that is encoded as JSON.
    ///
    /// # Errors
    /// [`StateError::SerializationError`](crate::StateError::SerializationError) if the value cannot be encoded.
    pub fn set_json<T: Serialize>(key: impl Into<String>, value: &T) -> Result<Self> {
        Ok(Self::Set { key: key.into(), value: serde_json::to_vec(value)? })
    }

    /// Deletes a key.
    pub fn delete(key: impl Into<String>) -> Self {
        Self::Delete { key: key.into() }
    }

    /// Requires that the key has this version before the transaction (0: that it is absent).
    pub fn check_version(key: impl Into<String>, expected_version: u64) -> Self {
        Self::CheckVersion { key: key.into(), expected_version }
    }
}

impl From<Vec<TransactionOp>> for Batch {
    /// Checks become conditions on the state before the batch; the other operations become writes, in order.
    fn from(ops: Vec<TransactionOp>) -> Self {
        ops.into_iter().fold(Self::new(), |batch, op| match op {
            TransactionOp::Set { key, value } => batch.set(key, value),
            TransactionOp::Delete { key } => batch.delete(key),
            TransactionOp::CheckVersion { key, expected_version } => batch.expect(key, expected_version),
        })
    }
}

/// Shows no value.
impl fmt::Debug for TransactionOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set { key, value } => {
                f.debug_struct("Set").field("key", key).field("value_bytes", &value.len()).finish()
            }
            Self::Delete { key } => f.debug_struct("Delete").field("key", key).finish(),
            Self::CheckVersion { key, expected_version } => f
                .debug_struct("CheckVersion")
                .field("key", key)
                .field("expected_version", expected_version)
                .finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_shows_its_key_and_how_long_its_value_is() {
        let shown = |op: TransactionOp| format!("{op:?}");
        assert_eq!(shown(TransactionOp::set("/a", "secret")), r#"Set { key: "/a", value_bytes: 6 }"#);
        assert_eq!(shown(TransactionOp::delete("/a")), r#"Delete { key: "/a" }"#);
        let check = TransactionOp::check_version("/a", 7);
        assert_eq!(shown(check), r#"CheckVersion { key: "/a", expected_version: 7 }"#);
    }
}
