//! Deterministic CBOR (RFC 8949, section 4.2): definite lengths, shortest integers, map keys in
//! the order of their encoded bytes. Written here because the encoding is the format: a
//! serializer's habits must not reach the hashes.

/// Appends CBOR items to a buffer.
#[derive(Default)]
pub(super) struct Encoder(Vec<u8>);

impl Encoder {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    fn head(&mut self, major: u8, argument: u64) {
        let major = major << 5;
        let bytes = argument.to_be_bytes();
        let (info, width) = match argument {
            0..=23 => {
                self.0.push(major | bytes[7]);
                return;
            }
            24..=0xff => (24, 1),
            0x100..=0xffff => (25, 2),
            0x1_0000..=0xffff_ffff => (26, 4),
            _ => (27, 8),
        };
        self.0.push(major | info);
        self.0.extend_from_slice(bytes.split_at(8 - width).1);
    }

    pub(super) fn unsigned(&mut self, value: u64) {
        self.head(0, value);
    }

    pub(super) fn signed(&mut self, value: i64) {
        if value < 0 { self.head(1, !value.cast_unsigned()) } else { self.head(0, value.cast_unsigned()) }
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        self.head(2, value.len() as u64);
        self.0.extend_from_slice(value);
    }

    pub(super) fn text(&mut self, value: &str) {
        self.head(3, value.len() as u64);
        self.0.extend_from_slice(value.as_bytes());
    }

    pub(super) fn array(&mut self, length: usize) {
        self.head(4, length as u64);
    }

    pub(super) fn map(&mut self, length: usize) {
        self.head(5, length as u64);
    }

    pub(super) fn null(&mut self) {
        self.0.push(0xf6);
    }

    /// An item that is encoded already.
    pub(super) fn raw(&mut self, item: &[u8]) {
        self.0.extend_from_slice(item);
    }
}

/// Reads CBOR items from a slice and refuses what the encoder would not have written, as far as
/// it can see one item at a time; callers encode again and compare.
pub(super) struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// The argument of an item of this major type.
    fn head(&mut self, major: u8) -> Option<u64> {
        let first = *self.take(1)?.first()?;
        if first >> 5 != major {
            return None;
        }
        let width = match first & 0x1f {
            info @ 0..=23 => return Some(u64::from(info)),
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => return None,
        };
        let bytes = self.take(width)?;
        Some(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    pub(super) fn map(&mut self) -> Option<u64> {
        self.head(5)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.head(3)?).ok()?;
        std::str::from_utf8(self.take(length)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(write: impl FnOnce(&mut Encoder)) -> Vec<u8> {
        let mut encoder = Encoder::default();
        write(&mut encoder);
        encoder.finish()
    }

    #[test]
    fn integers_are_as_short_as_rfc_8949_has_them() {
        // Appendix A of RFC 8949.
        let cases: [(i64, &[u8]); 12] = [
            (0, &[0x00]),
            (23, &[0x17]),
            (24, &[0x18, 0x18]),
            (255, &[0x18, 0xff]),
            (256, &[0x19, 0x01, 0x00]),
            (65_536, &[0x1a, 0x00, 0x01, 0x00, 0x00]),
            (1_000_000_000_000, &[0x1b, 0x00, 0x00, 0x00, 0xe8, 0xd4, 0xa5, 0x10, 0x00]),
            (-1, &[0x20]),
            (-10, &[0x29]),
            (-100, &[0x38, 0x63]),
            (-1000, &[0x39, 0x03, 0xe7]),
            (i64::MIN, &[0x3b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ];
        for (value, bytes) in cases {
            assert_eq!(encoded(|e| e.signed(value)), bytes, "{value}");
        }
        assert_eq!(encoded(|e| e.unsigned(u64::MAX)), [0x1b, 255, 255, 255, 255, 255, 255, 255, 255]);
    }

    #[test]
    fn a_length_that_the_bytes_do_not_hold_is_refused_without_allocating() {
        assert_eq!(Decoder::new(&[0x7b, 0x7f, 255, 255, 255, 255, 255, 255, 255, b'a']).text(), None);
        assert_eq!(Decoder::new(&[0x7f, 0x61, b'a', 0xff]).text(), None, "indefinite");
        assert_eq!(Decoder::new(&[0x61, 0xff]).text(), None, "not UTF-8");
        assert_eq!(Decoder::new(&[0x61, b'a']).text(), Some("a"));
    }
}
