//! Buffers that carry changes from one thread to another. A few buffers go to and fro, so that a change costs
//! no allocation.

use std::ops::Range;

use crate::log::{ChangeKind, ChangeView, Encoder, Hash, SALT_BYTES, Timestamp, Until};
use crate::seq::Seq;

/// A buffer is full with this many bytes, or this many changes.
const BYTES: usize = 192 << 10;
const CHANGES: usize = 1_000;

/// Consecutive changes, each with its encoded header.
#[derive(Default)]
pub(crate) struct ChangeBuffer {
    bytes: Vec<u8>,
    items: Vec<Entry>,
}

#[expect(clippy::large_enum_variant, reason = "nearly all entries are changes")]
enum Entry {
    Change(Fields),
    Withheld(Hash),
}

/// The fields of a change. Key, value and metadata are ranges of the bytes.
struct Fields {
    /// The chain before it, if it is of the base.
    before: Option<Hash>,
    seq: Seq,
    commit_seq: Seq,
    at: Timestamp,
    kind: ChangeKind,
    key: Range<usize>,
    version: u64,
    created_at: Timestamp,
    prev: Seq,
    until: Option<Until>,
    value: Option<Range<usize>>,
    salt: Option<[u8; SALT_BYTES]>,
    value_hash: Option<Hash>,
    meta: Option<Range<usize>>,
    hash: Hash,
    header: Range<usize>,
}

/// An item of a buffer.
pub(crate) enum Buffered<'a> {
    /// The chain before a change of the base, the change, and its encoded header.
    Base(Hash, ChangeView<'a>, &'a [u8]),
    /// A change and its encoded header.
    Change(ChangeView<'a>, &'a [u8]),
    /// The hash of the header of a change that is withheld.
    Withheld(Hash),
}

impl ChangeBuffer {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.items.clear();
        // A large value was in the buffer: give its memory back.
        self.bytes.shrink_to(4 * BYTES);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= BYTES || self.items.len() >= CHANGES
    }

    pub(crate) fn len(&self) -> u64 {
        self.items.len() as u64
    }

    pub(crate) fn push(&mut self, change: &ChangeView<'_>) {
        self.add(change, None);
    }

    /// Adds a change of the base, with the chain before it.
    pub(crate) fn push_base(&mut self, change: &ChangeView<'_>, before: Hash) {
        self.add(change, Some(before));
    }

    fn add(&mut self, change: &ChangeView<'_>, before: Option<Hash>) {
        let mut add = |bytes: &[u8]| {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(bytes);
            start..self.bytes.len()
        };
        let (key, value, meta) =
            (add(change.key.as_bytes()), change.value.map(&mut add), change.meta.map(&mut add));
        let start = self.bytes.len();
        let mut encoder = Encoder::onto(std::mem::take(&mut self.bytes));
        change.encode_header(&mut encoder);
        self.bytes = encoder.finish();
        let header = start..self.bytes.len();
        let ChangeView {
            seq,
            commit_seq,
            at,
            kind,
            version,
            created_at,
            prev,
            until,
            salt,
            value_hash,
            hash,
            ..
        } = *change;
        self.items.push(Entry::Change(Fields {
            before,
            seq,
            commit_seq,
            at,
            kind,
            key,
            version,
            created_at,
            prev,
            until,
            value,
            salt,
            value_hash,
            meta,
            hash,
            header,
        }));
    }

    pub(crate) fn push_withheld(&mut self, header: Hash) {
        self.items.push(Entry::Withheld(header));
    }

    /// The items of the buffer, in order.
    pub(crate) fn unpack(&self) -> impl Iterator<Item = Buffered<'_>> {
        let bytes = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or_default();
        self.items.iter().map(move |item| match item {
            Entry::Withheld(header) => Buffered::Withheld(*header),
            Entry::Change(fields) => {
                let view = ChangeView {
                    seq: fields.seq,
                    commit_seq: fields.commit_seq,
                    at: fields.at,
                    kind: fields.kind,
                    key: std::str::from_utf8(bytes(&fields.key)).unwrap_or_default(),
                    version: fields.version,
                    created_at: fields.created_at,
                    prev: fields.prev,
                    until: fields.until,
                    value: fields.value.as_ref().map(bytes),
                    salt: fields.salt,
                    value_hash: fields.value_hash,
                    meta: fields.meta.as_ref().map(bytes),
                    hash: fields.hash,
                };
                let header = bytes(&fields.header);
                match fields.before {
                    Some(before) => Buffered::Base(before, view, header),
                    None => Buffered::Change(view, header),
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_full_with_so_many_bytes_or_so_many_changes_and_not_before() {
        let value = vec![0; 10_000];
        let change = ChangeView {
            seq: Seq::new(1),
            commit_seq: Seq::new(1),
            at: Timestamp::EPOCH,
            kind: ChangeKind::Created,
            key: "/a",
            version: 1,
            created_at: Timestamp::EPOCH,
            prev: Seq::ZERO,
            until: None,
            value: Some(&value),
            salt: Some([1; SALT_BYTES]),
            value_hash: Some(Hash::from_bytes([1; 32])),
            meta: None,
            hash: Hash::from_bytes([1; 32]),
        };
        let mut buffer = ChangeBuffer::default();
        while !buffer.is_full() {
            assert!(buffer.bytes.len() < BYTES);
            buffer.push(&change);
        }
        assert!((BYTES..BYTES + 11_000).contains(&buffer.bytes.len()));

        buffer.clear();
        while !buffer.is_full() {
            assert!(buffer.items.len() < CHANGES);
            buffer.push_withheld(Hash::from_bytes([1; 32]));
        }
        assert_eq!(buffer.len(), CHANGES as u64);
    }
}
