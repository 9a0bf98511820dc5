//! The checksums of the rows of the projection.

use crate::log::{Change, Domain, StoreId, Timestamp, Until};
use crate::seq::Seq;

pub(super) static KV_STORE_ROW: Domain = Domain::new("univrs-state 1 kv_store row");
pub(super) static ERASED_ROW: Domain = Domain::new("univrs-state 1 kv_store erased row");
pub(super) static TOMBSTONES_ROW: Domain = Domain::new("univrs-state 1 tombstones row");

/// The first 16 bytes of the hash of a row of the projection: store id, length of the key, key,
/// version, `created_at`, `updated_at`, seq, until (0 for none), value; integers as eight bytes, big-endian.
pub(super) fn checksum(
    domain: &Domain,
    store: StoreId,
    key: &str,
    numbers: Numbers,
    value: &[u8],
) -> [u8; 16] {
    let Numbers { version, created_at, updated_at, seq, until } = numbers;
    let hash = domain.hash(&[
        store.as_bytes(),
        &(key.len() as u64).to_be_bytes(),
        key.as_bytes(),
        &version.to_be_bytes(),
        &created_at.as_micros().to_be_bytes(),
        &updated_at.as_micros().to_be_bytes(),
        &seq.to_be_bytes(),
        &until.map_or(0, Until::number).to_be_bytes(),
        value,
    ]);
    let mut short = [0; 16];
    short.copy_from_slice(hash.as_bytes().split_at(16).0);
    short
}

/// The numbers of a row of the projection. A tombstone has neither times nor an end.
#[derive(Clone, Copy)]
pub(super) struct Numbers {
    pub(super) version: u64,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    pub(super) seq: u64,
    pub(super) until: Option<Until>,
}

/// The checksum of a key's row in `kv_store`. If the value was erased, another domain is hashed.
pub(super) fn entry_checksum(store: StoreId, change: &Change) -> [u8; 16] {
    let Change { version, created_at, at: updated_at, until, .. } = *change;
    let numbers = Numbers { version, created_at, updated_at, seq: change.seq.as_u64(), until };
    let domain = if change.value.is_some() { &KV_STORE_ROW } else { &ERASED_ROW };
    checksum(domain, store, &change.key, numbers, change.value.as_deref().unwrap_or_default())
}

/// The checksum of a key's row in `tombstones`; it has no times and no value.
pub(super) fn tombstone_checksum(store: StoreId, key: &str, version: u64, seq: Seq) -> [u8; 16] {
    let (epoch, seq) = (Timestamp::EPOCH, seq.as_u64());
    let numbers = Numbers { version, created_at: epoch, updated_at: epoch, seq, until: None };
    checksum(&TOMBSTONES_ROW, store, key, numbers, &[])
}
