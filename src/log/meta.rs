//! Who wrote something, and why.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cbor::{Decoder, Encoder, Flaw};
use super::numbered::Numbered;

/// The most bytes of encoded metadata that are read: the largest limit that can be set.
const MOST_META: usize = 64 << 10;

/// Who wrote a commit, and why. Every change of the commit carries it, and the hash chain covers it, so
/// that nobody can alter it unnoticed. By default at most 1 KiB encoded: see
/// [`Limits::meta_bytes`](crate::Limits::meta_bytes).
///
/// ```
/// use univrs_state::Meta;
/// let meta = Meta::new().actor("kubelet@n7").reason("drain").label("ticket", "1182");
/// assert_eq!(meta.labels["ticket"], "1182");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Meta {
    /// Who wrote it, such as a program, a node or a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Why it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The id of the request, the job or the trace that it was written for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    /// Any other facts, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The commit id of the batch; set by `Batch::commit_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commit_id: Option<String>,
    /// Why the store itself wrote this; set by the store alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cause: Option<String>,
    /// What a newer version recorded beside this; read, and never written by this version.
    #[serde(default, skip_deserializing, skip_serializing_if = "Numbered::is_empty")]
    pub(crate) numbered: Numbered,
}

impl Meta {
    /// Empty metadata.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets who wrote it.
    #[must_use]
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// Sets why it was written.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Sets the id of the request, the job or the trace that it was written for.
    #[must_use]
    pub fn correlation(mut self, correlation: impl Into<String>) -> Self {
        self.correlation = Some(correlation.into());
        self
    }

    /// Adds a label, or replaces the label of this name.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// The [`commit_id`](crate::Batch::commit_id) of the batch; `None` if it had none.
    pub fn commit_id(&self) -> Option<&str> {
        self.commit_id.as_deref()
    }

    /// Why the store itself wrote this, such as `restored`; `None` for writes of programs.
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    pub(crate) fn has_cause(&self, cause: &str) -> bool {
        self.cause.as_deref() == Some(cause)
    }

    /// This metadata without what only the store records.
    pub(crate) fn of_program(self) -> Self {
        Self { commit_id: None, cause: None, numbered: Numbered::default(), ..self }
    }

    /// Whether no field is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// This metadata, with the fields and labels of `base` where it has none itself.
    #[must_use]
    pub(crate) fn over(mut self, base: &Self) -> Self {
        self.actor = self.actor.or_else(|| base.actor.clone());
        self.reason = self.reason.or_else(|| base.reason.clone());
        self.correlation = self.correlation.or_else(|| base.correlation.clone());
        for (name, value) in &base.labels {
            self.labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
        self
    }

    fn fields(&self) -> [(&'static str, Option<&String>); 5] {
        [
            ("actor", self.actor.as_ref()),
            ("cause", self.cause.as_ref()),
            ("reason", self.reason.as_ref()),
            ("commit_id", self.commit_id.as_ref()),
            ("correlation", self.correlation.as_ref()),
        ]
    }

    /// The metadata as a map in deterministic CBOR. Map keys are sorted by their encoded bytes: numbers before
    /// texts, and texts by length first, because an encoded text begins with its length.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let fields = self.fields();
        let labels = !self.labels.is_empty();
        let texts = fields.iter().filter(|(_, value)| value.is_some()).count() + usize::from(labels);
        let mut encoder = Encoder::with_capacity(64);
        encoder.map(self.numbered.len() + texts);
        self.numbered.encode(&mut encoder);
        for (name, value) in fields {
            if name == "reason" && labels {
                self.encode_labels(&mut encoder);
            }
            if let Some(value) = value {
                encoder.text(name);
                encoder.text(value);
            }
        }
        encoder.finish()
    }

    /// How many bytes [`encode`](Self::encode) writes.
    pub(crate) fn encoded_len(&self) -> usize {
        let pair = |name: &str, value: &str| Encoder::text_len(name.len()) + Encoder::text_len(value.len());
        let fields = self.fields().into_iter().filter_map(|(name, value)| Some(pair(name, value?)));
        let labels = self.labels.iter().map(|(name, value)| pair(name, value));
        let map = match self.labels.len() {
            0 => 0,
            labels => Encoder::text_len("labels".len()) + Encoder::head_len(labels),
        };
        let map = map + self.numbered.encoded_len();
        self.head_len() + fields.sum::<usize>() + map + labels.sum::<usize>()
    }

    /// The bytes of the head of the map: two, once there are 18 numbered fields beside the six texts.
    fn head_len(&self) -> usize {
        let texts = self.fields().iter().filter(|(_, value)| value.is_some()).count();
        Encoder::head_len(self.numbered.len() + texts + usize::from(!self.labels.is_empty()))
    }

    fn encode_labels(&self, encoder: &mut Encoder) {
        let mut labels: Vec<_> = self.labels.iter().collect();
        labels.sort_by_key(|(name, _)| (name.len(), name.as_bytes()));
        encoder.text("labels");
        encoder.map(labels.len());
        for (name, value) in labels {
            encoder.text(name);
            encoder.text(value);
        }
    }

    /// The metadata with exactly this encoding; `None` if [`encode`](Self::encode) would not write these bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut decoder = Decoder::new(bytes);
        let meta = Self::read_from(&mut decoder).ok()?;
        decoder.is_empty().then_some(meta)
    }

    /// Reads the metadata that is next.
    ///
    /// Each metadata has exactly one encoding: the decoder accepts lengths in their shortest form only, names
    /// must ascend, and a map of labels must not be empty. Any other encoding is refused.
    pub(crate) fn read_from(decoder: &mut Decoder<'_>) -> Result<Self, Flaw> {
        let before = decoder.rest();
        let mut meta = Self::default();
        let mut names = Ascending::default();
        for _ in 0..decoder.map()? {
            if names.is_first() && meta.numbered.read_from(decoder)? {
                continue;
            }
            let field = match names.next(decoder)? {
                "actor" => &mut meta.actor,
                "cause" => &mut meta.cause,
                "reason" => &mut meta.reason,
                "commit_id" => &mut meta.commit_id,
                "correlation" => &mut meta.correlation,
                "labels" => {
                    meta.labels = read_labels(decoder)?;
                    continue;
                }
                _ => return Err(Flaw::Malformed("metadata has an unknown field")),
            };
            *field = Some(decoder.text(MOST_META)?.to_owned());
        }
        if decoder.since(before).len() <= MOST_META {
            Ok(meta)
        } else {
            Err(Flaw::Malformed("metadata is over its limit"))
        }
    }
}

fn read_labels(decoder: &mut Decoder<'_>) -> Result<BTreeMap<String, String>, Flaw> {
    let (mut labels, mut names) = (BTreeMap::new(), Ascending::default());
    for _ in 0..decoder.map()? {
        let name = names.next(decoder)?.to_owned();
        labels.insert(name, decoder.text(MOST_META)?.to_owned());
    }
    if labels.is_empty() { Err(Flaw::Malformed("metadata has an empty map of labels")) } else { Ok(labels) }
}

/// Checks that the names of a map ascend in the order of their encoded bytes.
#[derive(Default)]
struct Ascending<'a> {
    last: Option<&'a str>,
}

impl<'a> Ascending<'a> {
    fn is_first(&self) -> bool {
        self.last.is_none()
    }

    fn next(&mut self, decoder: &mut Decoder<'a>) -> Result<&'a str, Flaw> {
        let name = decoder.text(MOST_META)?;
        let place = |name: &'a str| (name.len(), name);
        if self.last.is_some_and(|last| place(last) >= place(name)) {
            return Err(Flaw::Malformed("the names in metadata are not in order, or one is there twice"));
        }
        self.last = Some(name);
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Meta {
        let mut meta = Meta::new()
            .actor("a")
            .reason("r")
            .correlation("c")
            .label("zz", "1")
            .label("b", "2")
            .label("aa", "3");
        meta.commit_id = Some("id".into());
        meta.cause = Some("restored".into());
        meta
    }

    fn numbers(numbers: &[u64]) -> Numbered {
        numbers.iter().fold(Numbered::default(), |all, number| all.with(*number, b"\x82\x01\x61x"))
    }

    #[test]
    fn every_field_survives_encoding() {
        let numbered = Meta { numbered: numbers(&[0, 24, 1 << 40]), ..full() };
        let many = Meta { numbered: numbers(&(0..24).collect::<Vec<_>>()), ..Meta::new() };
        let short = [Meta::new(), Meta::new().label("only", ""), Meta::new().reason("ä\u{202e}")];
        for meta in short.into_iter().chain([full(), numbered, many]) {
            assert_eq!(meta.encoded_len(), meta.encode().len());
            assert_eq!(Meta::decode(&meta.encode()), Some(meta));
        }
    }

    #[test]
    fn map_keys_are_sorted_by_their_encoded_bytes() {
        let bytes = full().encode();
        let text = String::from_utf8_lossy(&bytes);
        let order = ["actor", "cause", "labels", "reason", "commit_id", "correlation"];
        let places: Vec<_> = order.iter().map(|name| text.find(name).unwrap()).collect();
        assert!(places.is_sorted(), "{text}");
        let labels = ["\u{61}b", "\u{62}aa", "\u{62}zz"].map(|name| text.find(name));
        assert!(labels[0] < labels[1] && labels[1] < labels[2], "{text:?}");
    }

    #[test]
    fn bytes_that_the_encoder_would_not_write_are_refused() {
        let good = Meta::new().actor("x").label("l", "v").encode();
        assert!(Meta::decode(&good).is_some());
        let longer_length = [&[0xb8, 0x02], good.get(1..).unwrap()].concat();
        assert_eq!(Meta::decode(&longer_length), None, "a length not in its shortest form");
        assert_eq!(Meta::decode(&[good.as_slice(), &[0]].concat()), None, "something after the map");
        assert_eq!(Meta::decode(&good[..good.len() - 1]), None, "cut");
        assert_eq!(Meta::decode(&[0xa1, 0x61, b'x', 0x61, b'y']), None, "an unknown field");
        let twice =
            [0xa2, 0x65, b'a', b'c', b't', b'o', b'r', 0x60, 0x65, b'a', b'c', b't', b'o', b'r', 0x60];
        assert_eq!(Meta::decode(&twice), None, "a field twice");
        assert_eq!(Meta::decode(&[]), None);
        assert_eq!(Meta::decode(b"\xa1\x66labels\xa0"), None, "no labels");
        assert_eq!(Meta::decode(b"\xa1\x66labels\xa2\x61b\x60\x61a\x60"), None, "labels out of order");
        assert_eq!(Meta::decode(b"\xa1\x66labels\xa2\x62aa\x60\x61b\x60"), None, "the longer one first");
        assert_eq!(Meta::decode(b"\xa1\x66labels\xa2\x61a\x60\x61a\x60"), None, "a label twice");
        assert_eq!(Meta::decode(b"\xa2\x66reason\x60\x65actor\x60"), None, "fields out of order");
    }

    #[test]
    fn fields_of_newer_versions_stay_first_and_are_no_field_of_programs() {
        let meta = Meta { numbered: numbers(&[0]), ..Meta::new().actor("a") };
        let bytes = meta.encode();
        assert_eq!(bytes, b"\xa2\x00\x82\x01\x61x\x65actor\x61a");
        assert_eq!(Meta::decode(b"\xa2\x65actor\x61a\x00\x82\x01\x61x"), None, "behind a text");
        assert_eq!(Meta::decode(b"\xa2\x20\x00\x65actor\x61a"), None, "one that must be understood");
        let json = serde_json::to_string(&meta).unwrap();
        assert_eq!(json, r#"{"actor":"a","numbered":{"0":"82016178"}}"#);
        assert_eq!(serde_json::from_str::<Meta>(&json).unwrap(), Meta::new().actor("a"));
        assert_eq!(meta.of_program(), Meta::new().actor("a"));
    }

    #[test]
    fn what_is_decoded_has_no_other_encoding_than_these_bytes() {
        let good = Meta { numbered: numbers(&[7]), ..full() }.encode();
        let mut decoded = 0;
        for (at, byte) in (0..good.len()).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
            let mut bytes = good.clone();
            bytes[at] = byte;
            if let Some(meta) = Meta::decode(&bytes) {
                assert_eq!(meta.encode(), bytes, "byte {at} as {byte}");
                decoded += 1;
            }
        }
        assert!(decoded > good.len(), "some bytes are free: {decoded}");
    }

    #[test]
    fn metadata_is_read_up_to_the_largest_limit_whatever_takes_the_room() {
        let actor = |length| Meta::new().actor("x".repeat(length));
        let label = |length| Meta::new().label("l", "x".repeat(length));
        let number = |length: usize| {
            let value =
                [&[0x59], &u16::try_from(length).unwrap().to_be_bytes()[..], &vec![7; length]].concat();
            Meta { numbered: Numbered::default().with(0, &value), ..Meta::new() }
        };
        let makers: [&dyn Fn(usize) -> Meta; 3] = [&actor, &label, &number];
        for make in makers {
            let fits = MOST_META - (make(60_000).encoded_len() - 60_000);
            assert_eq!(make(fits).encode().len(), MOST_META);
            assert_eq!(Meta::decode(&make(fits).encode()), Some(make(fits)));
            assert_eq!(Meta::decode(&make(fits + 1).encode()), None);
        }
    }

    #[test]
    fn the_length_of_an_encoding_is_known_without_it() {
        for length in [0, 23, 24, 255, 256, 65_535, 65_536] {
            let text = "x".repeat(length);
            let labelled = (0..length.min(300)).fold(Meta::new(), |meta, n| meta.label(n.to_string(), "v"));
            for meta in [Meta::new().actor(&text), Meta::new().label(&text, "v"), labelled] {
                assert_eq!(meta.encoded_len(), meta.encode().len(), "{length}");
            }
        }
    }

    #[test]
    fn what_a_batch_says_goes_over_what_the_handle_says() {
        let base = Meta::new().actor("base").reason("base").label("a", "base").label("b", "base");
        let meta = Meta::new().actor("own").label("a", "own").over(&base);
        assert_eq!(meta, Meta::new().actor("own").reason("base").label("a", "own").label("b", "base"));
    }
}
