//! Reading headers back.

use std::sync::Arc;

use super::cbor::{Decoder, Flaw};
use super::change::FORMAT;
use super::{Change, ChangeKind, Hash, LastMeta, Timestamp, Until, hash};
use crate::key::validate_key;
use crate::limits::MAX_KEY_LENGTH;
use crate::seq::Seq;

impl Change {
    /// Reads a header: returns the change, without value, salt and chain hash, and the hash of the header.
    /// `last` is the metadata of the change before. Bytes that [`header`](Self::header) would not write are
    /// refused.
    pub(crate) fn read_header(decoder: &mut Decoder<'_>, last: &mut LastMeta) -> Result<(Self, Hash), Flaw> {
        let before = decoder.rest();
        let fields = decoder.array()?;
        if !matches!(fields, 11 | 12) || decoder.unsigned()? != FORMAT {
            return Err(Flaw::Malformed("a header is not of format version 1"));
        }
        let change = Self {
            seq: Seq::new(decoder.unsigned()?),
            commit_seq: Seq::new(decoder.unsigned()?),
            at: Timestamp::from_micros(decoder.signed()?),
            kind: kind(decoder)?,
            key: key(decoder)?,
            version: decoder.unsigned()?,
            created_at: Timestamp::from_micros(decoder.signed()?),
            prev: Seq::new(decoder.unsigned()?),
            until: if fields == 12 { Some(until(decoder)?) } else { None },
            value_hash: if decoder.null()? { None } else { Some(Hash::from_bytes(decoder.fixed()?)) },
            meta: if decoder.null()? { None } else { Some(last.read_meta(decoder)?) },
            value: None,
            salt: None,
            hash: Hash::from_bytes([0; 32]),
        };
        Ok((change, hash::header(decoder.since(before))))
    }
}

fn kind(decoder: &mut Decoder<'_>) -> Result<ChangeKind, Flaw> {
    ChangeKind::from_code(decoder.signed()?).ok_or(Flaw::Malformed("a change has an unknown kind"))
}

fn until(decoder: &mut Decoder<'_>) -> Result<Until, Flaw> {
    Until::from_number(decoder.signed()?).ok_or(Flaw::Malformed("a change ends at no time and with no lease"))
}

fn key(decoder: &mut Decoder<'_>) -> Result<Arc<str>, Flaw> {
    let key = decoder.text(MAX_KEY_LENGTH)?;
    validate_key(key).map_err(|_| Flaw::Malformed("a key is invalid"))?;
    Ok(key.into())
}

#[cfg(test)]
mod tests {
    use super::super::Meta;
    use super::*;

    #[test]
    fn a_header_is_read_from_what_was_written_and_from_nothing_else() {
        let change = Change {
            seq: Seq::new(300),
            commit_seq: Seq::new(301),
            at: Timestamp::from_micros(-5),
            kind: ChangeKind::Updated,
            key: "/nodes/ä".into(),
            version: 24,
            created_at: Timestamp::from_micros(i64::MIN),
            prev: Seq::new(23),
            until: None,
            value: None,
            salt: None,
            value_hash: Some(Hash::from_bytes([7; 32])),
            meta: Some(Arc::new(Meta::new().actor("a").label("l", "v"))),
            hash: Hash::from_bytes([0; 32]),
        };
        let header = change.header();
        let mut decoder = Decoder::new(&header);
        assert_eq!(
            Change::read_header(&mut decoder, &mut LastMeta::default()),
            Ok((change.clone(), change.header_hash()))
        );
        assert!(decoder.is_empty());
        for cut in 0..header.len() {
            assert_eq!(
                Change::read_header(&mut Decoder::new(&header[..cut]), &mut LastMeta::default()),
                Err(Flaw::Cut),
                "cut at {cut}"
            );
        }
        let mut last = LastMeta::default();
        for at in 0..header.len() {
            for bit in 0..8 {
                let mut flipped = header.clone();
                flipped[at] ^= 1 << bit;
                if let Ok((read, hash)) = Change::read_header(&mut Decoder::new(&flipped), &mut last) {
                    // Another change, or the same bytes with more behind them; never another spelling.
                    assert!(flipped.starts_with(&read.header()) && hash == read.header_hash());
                    assert!(read != change);
                }
            }
        }
    }
}
