//! The identity of a store.

use std::fmt;
use std::str::FromStr;

use super::hash::{parse_hex, write_hex};
use crate::error::StateError;

/// 128 random bits, drawn when a store is created: logs of two stores cannot be mixed up.
/// Prints and parses as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreId([u8; 16]);

impl StoreId {
    /// The store id with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl FromStr for StoreId {
    type Err = StateError;

    fn from_str(text: &str) -> Result<Self, StateError> {
        parse_hex(text)
            .map(Self)
            .ok_or_else(|| StateError::InvalidArgument("a store id has 32 hexadecimal digits".into()))
    }
}
