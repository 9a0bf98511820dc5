//! BLAKE3 in five separate domains.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};
use serde::{Deserialize, Serialize};

use super::{StoreId, Timestamp};
use crate::error::StateError;

/// A BLAKE3 hash; prints and parses as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

/// BLAKE3 in `derive_key` mode with a context that is hashed once.
pub(crate) struct Kdf(LazyLock<ContextKey>);

macro_rules! kdf {
    ($(#[$doc:meta])* $name:ident = $context:literal) => {
        $(#[$doc])*
        pub(crate) static $name: Kdf = Kdf(LazyLock::new(|| hash_derive_key_context($context)));
    };
}
kdf!(
    /// The start of the chain, from the store id.
    GENESIS = "univrs-state 1 genesis"
);
kdf!(
    /// A change's header.
    HEADER = "univrs-state 1 header"
);
kdf!(
    /// A link of the chain.
    CHAIN = "univrs-state 1 chain"
);
kdf!(
    /// A value with its salt.
    VALUE = "univrs-state 1 value"
);
kdf!(
    /// A row of the table `kv_store`.
    KV_STORE_ROW = "univrs-state 1 kv_store row"
);
kdf!(
    /// A row of the table `tombstones`.
    TOMBSTONES_ROW = "univrs-state 1 tombstones row"
);

impl Kdf {
    /// The hash of the parts, one after the other.
    pub(crate) fn hash(&self, parts: &[&[u8]]) -> Hash {
        let mut hasher = blake3::Hasher::new_from_context_key(&self.0);
        for part in parts {
            hasher.update(part);
        }
        Hash(*hasher.finalize().as_bytes())
    }

    /// The first 16 bytes of the hash of a projection row: store id, key length and key, version,
    /// `created_at`, `updated_at`, seq (integers as eight bytes, big-endian), then the value.
    pub(crate) fn row(
        &self,
        store: StoreId,
        key: &str,
        numbers: (u64, Timestamp, Timestamp, u64),
        value: &[u8],
    ) -> [u8; 16] {
        let (version, created_at, updated_at, seq) = numbers;
        let hash = self.hash(&[
            store.as_bytes(),
            &(key.len() as u64).to_be_bytes(),
            key.as_bytes(),
            &version.to_be_bytes(),
            &created_at.as_micros().to_be_bytes(),
            &updated_at.as_micros().to_be_bytes(),
            &seq.to_be_bytes(),
            value,
        ]);
        let mut short = [0; 16];
        short.copy_from_slice(hash.0.split_at(16).0);
        short
    }
}

/// The hash before the first change of a store.
pub(super) fn genesis(store: StoreId) -> Hash {
    GENESIS.hash(&[store.as_bytes()])
}

/// The hash of an encoded header.
pub(super) fn header(encoded: &[u8]) -> Hash {
    HEADER.hash(&[encoded])
}

/// One link: the chain up to here and the header that follows.
pub(super) fn link(before: Hash, header: Hash) -> Hash {
    CHAIN.hash(&[&before.0, &header.0])
}

/// The commitment to a value.
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

/// Bytes as lower-case hexadecimal digits.
pub(super) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Exactly `N` bytes from hexadecimal digits.
pub(super) fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let value = char::from(*digit).to_digit(16)?;
            *byte = *byte << 4 | u8::try_from(value).ok()?;
        }
    }
    Some(bytes)
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
