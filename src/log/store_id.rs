//! The identity of a store.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::hex::{parse_hex, write_hex};
use crate::error::StateError;

/// The identity of a store: 128 random bits, drawn when the store is created. The hash chain begins with
/// it, so changes of two stores cannot be mixed up. Prints and parses as 32 hexadecimal digits.
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

impl Serialize for StoreId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StoreId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
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
