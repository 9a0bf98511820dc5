//! BLAKE3, in a separate domain for each use.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};
use serde::{Deserialize, Serialize};

use super::StoreId;
use super::hex::{parse_hex, write_hex};
use crate::error::StateError;

/// A BLAKE3 hash; prints and parses as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

/// A domain of hashes: BLAKE3 in `derive_key` mode. Its context is hashed once and kept.
pub(crate) struct Domain {
    context: &'static str,
    key: OnceLock<ContextKey>,
}

static GENESIS: Domain = Domain::new("univrs-state 1 genesis");
static HEADER: Domain = Domain::new("univrs-state 1 header");
static CHAIN: Domain = Domain::new("univrs-state 1 chain");
static VALUE: Domain = Domain::new("univrs-state 1 value");

impl Domain {
    pub(crate) const fn new(context: &'static str) -> Self {
        Self { context, key: OnceLock::new() }
    }

    /// The hash of the concatenated parts.
    pub(crate) fn hash(&self, parts: &[&[u8]]) -> Hash {
        let mut hasher = self.hasher();
        for part in parts {
            hasher.update(part);
        }
        hasher.finalize().into()
    }

    /// A hasher for what comes part by part.
    pub(super) fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_from_context_key(self.key.get_or_init(|| hash_derive_key_context(self.context)))
    }
}

impl From<blake3::Hash> for Hash {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

/// The chain hash before the first change of a store.
pub(super) fn genesis(store: StoreId) -> Hash {
    GENESIS.hash(&[store.as_bytes()])
}

/// The hash of an encoded header.
pub(crate) fn header(encoded: &[u8]) -> Hash {
    HEADER.hash(&[encoded])
}

/// The chain hash of a change: of the chain hash before it and the hash of its header.
pub(super) fn link(before: Hash, header: Hash) -> Hash {
    CHAIN.hash(&[&before.0, &header.0])
}

/// The hash of a value with its salt.
pub(super) fn value(salt: &[u8], value: &[u8]) -> Hash {
    VALUE.hash(&[salt, value])
}

impl Hash {
    /// The hash with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl FromStr for Hash {
    type Err = StateError;

    fn from_str(text: &str) -> Result<Self, StateError> {
        parse_hex(text)
            .map(Self)
            .ok_or_else(|| StateError::InvalidArgument("a hash has 64 hexadecimal digits".into()))
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
