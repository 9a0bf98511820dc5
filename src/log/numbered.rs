//! Fields of metadata that newer versions may add: they have numbers as names.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::cbor::{Decoder, Encoder, Flaw};
use super::hex::Hex;

/// The deepest nesting of a field's value: a value that is no array and no map has the depth 1.
const MOST_DEEP: usize = 8;

/// The numbered fields of metadata, each with its encoded value.
///
/// This version gives none of them a meaning. It keeps them byte for byte and hashes them, so that a log written by a
/// newer version reads, verifies and exports. A negative number says that a reader must understand the field: this
/// version understands none, and refuses it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Numbered(BTreeMap<u64, Vec<u8>>);

impl Numbered {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many bytes [`encode`](Self::encode) appends.
    pub(super) fn encoded_len(&self) -> usize {
        self.0.iter().map(|(number, value)| Encoder::number_len(*number) + value.len()).sum()
    }

    /// Appends the fields, in ascending order.
    pub(super) fn encode(&self, encoder: &mut Encoder) {
        for (number, value) in &self.0 {
            encoder.unsigned(*number);
            encoder.raw(value);
        }
    }

    /// Reads the field that is next; false if the next field has no number.
    pub(super) fn read_from(&mut self, decoder: &mut Decoder<'_>) -> Result<bool, Flaw> {
        match decoder.major()? {
            0 => {}
            1 => return Err(Flaw::Newer("metadata has a field that only a newer version understands")),
            _ => return Ok(false),
        }
        let number = decoder.unsigned()?;
        if self.0.last_key_value().is_some_and(|(last, _)| *last >= number) {
            return Err(Flaw::Malformed("the numbers in metadata are not in order, or one is there twice"));
        }
        let before = decoder.rest();
        decoder.any(MOST_DEEP)?;
        self.0.insert(number, decoder.since(before).to_owned());
        Ok(true)
    }

    #[cfg(test)]
    pub(super) fn with(mut self, number: u64, value: &[u8]) -> Self {
        self.0.insert(number, value.to_owned());
        self
    }
}

/// Numbers as names, and the bytes of the values as hexadecimal digits.
impl Serialize for Numbered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer
            .collect_map(self.0.iter().map(|(number, value)| (number.to_string(), Hex(value).to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of a map with these bytes, up to the first field without a number.
    fn read(bytes: &[u8]) -> Result<Numbered, Flaw> {
        let (mut decoder, mut numbered) = (Decoder::new(bytes), Numbered::default());
        while !decoder.is_empty() && numbered.read_from(&mut decoder)? {}
        assert!(decoder.is_empty() || decoder.major() == Ok(3), "{bytes:?}");
        Ok(numbered)
    }

    #[test]
    fn fields_with_numbers_are_kept_byte_for_byte() {
        let good: [&[u8]; 7] = [
            b"",
            b"\x00\xf6",
            b"\x00\x01\x01\x20\x18\x18\xf5",
            b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff\x40",
            b"\x05\x88\x00\x20\x41\x00\x61a\x80\xa0\xc0\x60\xf9\x3c\x00",
            b"\x05\xa2\x00\x00\x61a\x81\xa1\x20\xf4",
            b"\x05\x81\x81\x81\x81\x81\x81\x81\x00",
        ];
        for bytes in good {
            let numbered = read(bytes).unwrap_or_else(|flaw| panic!("{bytes:02x?}: {flaw:?}"));
            let mut encoder = Encoder::with_capacity(8);
            numbered.encode(&mut encoder);
            assert_eq!(encoder.finish(), bytes);
            assert_eq!(numbered.encoded_len(), bytes.len());
        }
        // The head of a number has as many bytes as it needs.
        for (number, head) in [(23, 1), (24, 2), (255, 2), (256, 3), (65_535, 3), (65_536, 5), (1 << 32, 9)] {
            let numbered = Numbered::default().with(number, b"\xf6");
            assert_eq!(numbered.encoded_len(), head + 1, "{number}");
        }
        assert_eq!(
            (Numbered::default().with(7, b"\x00").with(8, b"\x00").len(), Numbered::default().len()),
            (2, 0)
        );
        let shown = serde_json::to_string(&read(b"\x00\xf6\x18\x18\x41\xab").unwrap()).unwrap();
        assert_eq!(shown, r#"{"0":"f6","24":"41ab"}"#);
    }

    #[test]
    fn a_field_with_a_negative_number_needs_a_newer_version() {
        for bytes in [&b"\x20\xf6"[..], b"\x00\xf6\x38\x18\x00", b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff\xf6"]
        {
            assert!(matches!(read(bytes), Err(Flaw::Newer(_))), "{bytes:02x?}");
        }
    }

    #[test]
    fn a_field_that_is_not_deterministic_or_too_deep_is_refused() {
        let bad: [&[u8]; 12] = [
            b"\x01\x00\x00\x00",
            b"\x00\x00\x00\x00",
            b"\x18\x17\x00",
            b"\x00\x18\x17",
            b"\x00\x9f\xff",
            b"\x00\xa2\x01\x00\x00\x00",
            b"\x00\xa2\x00\x00\x00\x00",
            b"\x00\x61\xff",
            b"\x00\xfa\x3f\x80\x00\x00",
            b"\x00\xf8\x14",
            b"\x00\x81\x81\x81\x81\x81\x81\x81\x81\x00",
            b"\x00\x1c",
        ];
        for bytes in bad {
            assert!(matches!(read(bytes), Err(Flaw::Malformed(_))), "{bytes:02x?}: {:?}", read(bytes));
        }
        for cut in [&b"\x00"[..], b"\x00\x82\x00", b"\x00\x42\x00", b"\x00\xa1\x00", b"\x18"] {
            assert_eq!(read(cut), Err(Flaw::Cut), "{cut:02x?}");
        }
    }
}
