//! Deterministic CBOR (RFC 8949, section 4.2): definite lengths, shortest integers, map keys in
//! the order of their encoded bytes. Written here because the encoding is the format: a
//! serializer's habits must not reach the hashes.

use super::float::is_shortest;

/// Appends CBOR items to a buffer.
#[derive(Default)]
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// An encoder that appends to these bytes.
    pub(crate) fn onto(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn finish(self) -> Vec<u8> {
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

    pub(crate) fn unsigned(&mut self, value: u64) {
        self.head(0, value);
    }

    pub(crate) fn signed(&mut self, value: i64) {
        if value < 0 { self.head(1, !value.cast_unsigned()) } else { self.head(0, value.cast_unsigned()) }
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.head(2, value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// Appends the head of a byte string of this length; the caller appends the bytes.
    pub(crate) fn byte_string(&mut self, length: usize) {
        self.head(2, length as u64);
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.head(3, value.len() as u64);
        self.0.extend_from_slice(value.as_bytes());
    }

    pub(crate) fn array(&mut self, length: usize) {
        self.head(4, length as u64);
    }

    pub(crate) fn map(&mut self, length: usize) {
        self.head(5, length as u64);
    }

    pub(crate) fn null(&mut self) {
        self.0.push(0xf6);
    }

    /// The encoded length of a number.
    pub(crate) fn number_len(number: u64) -> usize {
        match number {
            0..=23 => 1,
            24..=0xff => 2,
            0x100..=0xffff => 3,
            0x1_0000..=0xffff_ffff => 5,
            _ => 9,
        }
    }

    /// The encoded length of a text of `length` bytes.
    pub(crate) fn text_len(length: usize) -> usize {
        Self::head_len(length) + length
    }

    /// The length of the head of a text, or of a map, of this length.
    pub(crate) fn head_len(length: usize) -> usize {
        Self::number_len(length as u64)
    }

    /// Appends an item that is already encoded.
    pub(crate) fn raw(&mut self, item: &[u8]) {
        self.0.extend_from_slice(item);
    }
}

/// Why an item cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The bytes end before the item does.
    Cut,
    /// The encoder would not have written these bytes; the text says what is wrong with them.
    Malformed(&'static str),
    /// A newer version wrote these bytes, and this version must not read them; the text says why.
    Newer(&'static str),
}

/// Reads CBOR items from a slice and refuses what the encoder would not have written. It borrows from
/// the slice and allocates nothing, so a length that is too large cannot take memory.
#[derive(Clone)]
pub(crate) struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes that have not been read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// The bytes that were read since [`rest`](Self::rest) returned `before`.
    pub(crate) fn since(&self, before: &'a [u8]) -> &'a [u8] {
        before.get(..before.len() - self.0.len()).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Flaw> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Flaw::Cut)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Passes over these bytes if they are next, and returns whether they were.
    pub(crate) fn skip(&mut self, bytes: &[u8]) -> bool {
        let rest = self.0.strip_prefix(bytes);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// The major type of the next item.
    pub(crate) fn major(&self) -> Result<u8, Flaw> {
        self.0.first().map(|first| first >> 5).ok_or(Flaw::Cut)
    }

    /// Reads the head of an item of this major type, and returns its argument.
    fn head(&mut self, major: u8) -> Result<u64, Flaw> {
        let found = self.major()?;
        let info = self.take(1)?.first().map_or(0, |first| first & 0x1f);
        if found != major {
            return Err(Flaw::Malformed("an item has an unexpected CBOR type"));
        }
        let width = match info {
            0..=23 => return Ok(u64::from(info)),
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => return Err(Flaw::Malformed("an item has no definite length")),
        };
        let argument = self.take(width)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        let shortest = match width {
            1 => argument >= 24,
            2 => argument > 0xff,
            4 => argument > 0xffff,
            _ => argument > 0xffff_ffff,
        };
        if shortest { Ok(argument) } else { Err(Flaw::Malformed("a number is not in its shortest form")) }
    }

    pub(crate) fn unsigned(&mut self) -> Result<u64, Flaw> {
        self.head(0)
    }

    pub(crate) fn signed(&mut self) -> Result<i64, Flaw> {
        let negative = self.major()? == 1;
        let argument = self.head(u8::from(negative))?;
        let value = i64::try_from(argument).map_err(|_| Flaw::Malformed("a number is too large"))?;
        Ok(if negative { !value } else { value })
    }

    pub(crate) fn array(&mut self) -> Result<u64, Flaw> {
        self.head(4)
    }

    pub(crate) fn map(&mut self) -> Result<u64, Flaw> {
        self.head(5)
    }

    /// Reads a byte string of at most `most` bytes.
    pub(crate) fn bytes(&mut self, most: usize) -> Result<&'a [u8], Flaw> {
        let length = self.length(2, most)?;
        self.take(length)
    }

    /// Reads a byte string of exactly `N` bytes.
    pub(crate) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Flaw> {
        self.bytes(N)?.try_into().map_err(|_| Flaw::Malformed("a byte string is too short"))
    }

    /// Reads a text of at most `most` bytes.
    pub(crate) fn text(&mut self, most: usize) -> Result<&'a str, Flaw> {
        let length = self.length(3, most)?;
        std::str::from_utf8(self.take(length)?).map_err(|_| Flaw::Malformed("a text is not UTF-8"))
    }

    fn length(&mut self, major: u8, most: usize) -> Result<usize, Flaw> {
        let length = usize::try_from(self.head(major)?).ok();
        length.filter(|length| *length <= most).ok_or(Flaw::Malformed("a length is over its limit"))
    }

    /// Passes over the next item, whatever it is, if it is in deterministic CBOR and nested at most so deep.
    pub(crate) fn any(&mut self, deep: usize) -> Result<(), Flaw> {
        let Some(below) = deep.checked_sub(1) else {
            return Err(Flaw::Malformed("an item is nested too deep"));
        };
        match self.major()? {
            major @ (0 | 1) => self.head(major).map(drop),
            2 => self.bytes(usize::MAX).map(drop),
            3 => self.text(usize::MAX).map(drop),
            4 => (0..self.array()?).try_for_each(|_| self.any(below)),
            5 => {
                let mut last: &[u8] = &[];
                for _ in 0..self.map()? {
                    let before = self.rest();
                    self.any(below)?;
                    let key = self.since(before);
                    if last >= key {
                        return Err(Flaw::Malformed(
                            "the keys of a map are not in order, or one is there twice",
                        ));
                    }
                    last = key;
                    self.any(below)?;
                }
                Ok(())
            }
            6 => {
                self.head(6)?;
                self.any(below)
            }
            _ => self.simple(),
        }
    }

    /// Passes over a float in its shortest form, or a simple value.
    fn simple(&mut self) -> Result<(), Flaw> {
        let wrong = Err(Flaw::Malformed("a float or a simple value is not in its shortest form"));
        let info = self.take(1)?.first().map_or(0, |first| first & 0x1f);
        match info {
            0..=23 => Ok(()),
            24 if self.take(1)?.first().is_some_and(|value| *value >= 32) => Ok(()),
            25..=27 => {
                let width = 1 << (info - 24);
                let bits = self.take(width)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
                if is_shortest(bits, width) { Ok(()) } else { wrong }
            }
            _ => wrong,
        }
    }

    /// Reads a null if one is next, and returns whether one was.
    pub(crate) fn null(&mut self) -> Result<bool, Flaw> {
        let null = *self.0.first().ok_or(Flaw::Cut)? == 0xf6;
        if null {
            self.take(1)?;
        }
        Ok(null)
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
    fn what_is_written_is_read_and_no_longer_form_of_it() {
        for value in [
            0,
            23,
            24,
            255,
            256,
            65_535,
            65_536,
            0xffff_ffff,
            0x1_0000_0000,
            i64::MAX,
            -1,
            -24,
            -25,
            i64::MIN,
        ] {
            let bytes = encoded(|e| e.signed(value));
            let mut decoder = Decoder::new(&bytes);
            assert_eq!((decoder.signed(), decoder.is_empty()), (Ok(value), true));
            assert_eq!(Decoder::new(&bytes[..bytes.len() - 1]).signed(), Err(Flaw::Cut));
        }
        for longer in [
            &[0x18, 23][..],
            &[0x19, 0, 255],
            &[0x1a, 0, 0, 255, 255],
            &[0x1b, 0, 0, 0, 0, 255, 255, 255, 255],
        ] {
            assert!(matches!(Decoder::new(longer).unsigned(), Err(Flaw::Malformed(_))), "{longer:?}");
        }
    }

    #[test]
    fn a_length_that_the_bytes_do_not_hold_is_refused_without_allocating() {
        let malformed = |bytes: &[u8]| matches!(Decoder::new(bytes).text(9), Err(Flaw::Malformed(_)));
        assert!(malformed(&[0x7b, 0x7f, 255, 255, 255, 255, 255, 255, 255, b'a']));
        assert!(malformed(&[0x7f, 0x61, b'a', 0xff]), "indefinite");
        assert!(malformed(&[0x61, 0xff]), "not UTF-8");
        assert!(malformed(&[0x78, 1, b'a']), "not the shortest form");
        assert!(malformed(&[0x6a]), "over the limit");
        assert_eq!(Decoder::new(&[0x62, b'a']).text(9), Err(Flaw::Cut));
        assert_eq!(Decoder::new(&[0x61, b'a']).text(9), Ok("a"));
    }
}
