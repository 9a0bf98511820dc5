//! A borrowed change, such as one in a row of a database.

use super::cbor::Encoder;
use super::change::FORMAT;
use super::{Change, ChangeKind, Hash, Head, Meta, SALT_BYTES, Timestamp, Until, hash};
use crate::seq::Seq;

/// The fields of a change, borrowed, so that checking, hashing and writing it copies nothing.
#[derive(Clone, Copy)]
pub(crate) struct ChangeView<'a> {
    pub(crate) seq: Seq,
    pub(crate) commit_seq: Seq,
    pub(crate) at: Timestamp,
    pub(crate) kind: ChangeKind,
    pub(crate) key: &'a str,
    pub(crate) version: u64,
    pub(crate) created_at: Timestamp,
    pub(crate) prev: Seq,
    pub(crate) until: Option<Until>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) salt: Option<[u8; SALT_BYTES]>,
    pub(crate) value_hash: Option<Hash>,
    /// The encoded metadata.
    pub(crate) meta: Option<&'a [u8]>,
    pub(crate) hash: Hash,
}

impl ChangeView<'_> {
    /// Whether this is the last change of its commit.
    pub(crate) fn closes_commit(&self) -> bool {
        self.seq == self.commit_seq
    }

    /// The head of the log right after this change.
    pub(crate) fn head(&self) -> Head {
        Head { seq: self.seq, hash: self.hash }
    }

    /// Whether the change set a value that has been erased since.
    pub(crate) fn is_erased(&self) -> bool {
        self.value.is_none() && self.value_hash.is_some()
    }

    /// Whether the value matches its hash; true if the change has no value, or an erased one.
    pub(crate) fn has_its_value(&self) -> bool {
        let computed = self.value.zip(self.salt).map(|(value, salt)| hash::value(&salt, value));
        computed.is_none_or(|computed| self.value_hash == Some(computed))
    }

    /// Whether the store itself wrote the change, for this cause.
    pub(crate) fn has_cause(&self, cause: &str) -> bool {
        self.meta.and_then(Meta::decode).is_some_and(|meta| meta.has_cause(cause))
    }

    /// The header in deterministic CBOR.
    pub(crate) fn header(&self) -> Vec<u8> {
        let meta = self.meta.map_or(0, <[u8]>::len);
        let mut encoder = Encoder::with_capacity(128 + self.key.len() + meta);
        self.encode_header(&mut encoder);
        encoder.finish()
    }

    /// Appends the header in deterministic CBOR.
    pub(crate) fn encode_header(&self, encoder: &mut Encoder) {
        encoder.array(11 + usize::from(self.until.is_some()));
        encoder.unsigned(FORMAT);
        encoder.unsigned(self.seq.as_u64());
        encoder.unsigned(self.commit_seq.as_u64());
        encoder.signed(self.at.as_micros());
        encoder.unsigned(u64::from(self.kind.code()));
        encoder.text(self.key);
        encoder.unsigned(self.version);
        encoder.signed(self.created_at.as_micros());
        encoder.unsigned(self.prev.as_u64());
        if let Some(until) = self.until {
            encoder.signed(until.number());
        }
        match &self.value_hash {
            Some(hash) => encoder.bytes(hash.as_bytes()),
            None => encoder.null(),
        }
        match self.meta {
            Some(meta) => encoder.raw(meta),
            None => encoder.null(),
        }
    }
}

impl Change {
    /// A view of the change; `meta` is its encoded metadata.
    pub(crate) fn view<'a>(&'a self, meta: Option<&'a [u8]>) -> ChangeView<'a> {
        ChangeView {
            seq: self.seq,
            commit_seq: self.commit_seq,
            at: self.at,
            kind: self.kind,
            key: &self.key,
            version: self.version,
            created_at: self.created_at,
            prev: self.prev,
            until: self.until,
            value: self.value.as_deref(),
            salt: self.salt,
            value_hash: self.value_hash,
            meta,
            hash: self.hash,
        }
    }
}
