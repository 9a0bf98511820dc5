//! The items of a log file: `schema/change.cddl` describes them.

use crate::log::{Change, Decoder, Encoder, Flaw, Hash, Head, LastMeta, SALT_BYTES, StoreId, Timestamp};
use crate::seq::Seq;

/// The text that every log file begins with.
pub(super) const MAGIC: &str = "univrs-state log";
/// The text that every item of the base begins with.
const BASE: &str = "base";
/// The layout of the file that this code writes and reads.
pub(super) const FORMAT: u64 = 1;
/// Bytes of the largest value that any store can hold.
const MOST_VALUE: usize = 256 << 20;
/// Bytes of the largest item: the largest value, and a key, metadata, numbers and hashes.
pub(super) const MOST_ITEM: usize = MOST_VALUE + (128 << 10);

/// The first item of a log file: the store, and the floor that the log begins after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) store: StoreId,
    pub(crate) floor: Head,
    /// The time of the commit that ends at the floor; `None` if it is not known, or the floor is 0.
    pub(crate) floor_at: Option<Timestamp>,
    /// How many changes at or before the floor the file has beside the log; `None` if what lies before the floor is
    /// not in the file.
    pub(crate) base: Option<u64>,
}

impl Start {
    /// The start of a log without a base: of a whole one, or of one that begins after a floor.
    pub(crate) fn new(store: StoreId, floor: Head, floor_at: Option<Timestamp>) -> Self {
        let base = (floor.seq == Seq::ZERO).then_some(0);
        Self { store, floor, floor_at, base }
    }
}

/// An item after the first one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LogItem {
    /// The chain before a change of the base, the change without its chain hash, and the hash of its header.
    Base(Hash, Change, Hash),
    /// The chain before a change of the base that is withheld, and the hash of its header.
    WithheldBase(Hash, Hash),
    /// A change without its chain hash, and the hash of its header.
    Change(Change, Hash),
    /// The hash of the header of a change that is withheld.
    Withheld(Hash),
    /// The last item: the number of changes, and the head that they lead to.
    End(u64, Head),
}

/// `[magic, format, store id, floor, hash there, time there, base items]`
pub(super) fn start(start: &Start) -> Vec<u8> {
    let mut encoder = Encoder::with_capacity(96);
    encoder.array(7);
    encoder.text(MAGIC);
    encoder.unsigned(FORMAT);
    encoder.bytes(start.store.as_bytes());
    encoder.unsigned(start.floor.seq.as_u64());
    encoder.bytes(start.floor.hash.as_bytes());
    match start.floor_at {
        Some(at) => encoder.signed(at.as_micros()),
        None => encoder.null(),
    }
    match start.base {
        Some(count) => encoder.unsigned(count),
        None => encoder.null(),
    }
    encoder.finish()
}

/// `[header, salt, value]`, or `[header]` for a deletion and for an erased value; for a change of the base, with `"base"`
/// and the chain before it in front. Without the bytes of the value, which the caller appends.
pub(super) fn change(
    before: Option<Hash>,
    header: &[u8],
    value: Option<(&[u8; SALT_BYTES], usize)>,
) -> Vec<u8> {
    let mut encoder = Encoder::with_capacity(header.len() + 80);
    let fields = if value.is_some() { 3 } else { 1 };
    encoder.array(if before.is_some() { 2 + fields } else { fields });
    if let Some(before) = before {
        encoder.text(BASE);
        encoder.bytes(before.as_bytes());
    }
    encoder.raw(header);
    if let Some((salt, length)) = value {
        encoder.bytes(salt);
        encoder.byte_string(length);
    }
    encoder.finish()
}

/// The 32 bytes.
pub(super) fn withheld(header: Hash) -> Vec<u8> {
    let mut encoder = Encoder::with_capacity(34);
    encoder.bytes(header.as_bytes());
    encoder.finish()
}

/// `["base", before, header hash]`
pub(super) fn withheld_base(before: Hash, header: Hash) -> Vec<u8> {
    let mut encoder = Encoder::with_capacity(80);
    encoder.array(3);
    encoder.text(BASE);
    encoder.bytes(before.as_bytes());
    encoder.bytes(header.as_bytes());
    encoder.finish()
}

/// `["end", count, seq, hash]`
pub(super) fn end(count: u64, head: Head) -> Vec<u8> {
    let mut encoder = Encoder::with_capacity(64);
    encoder.array(4);
    encoder.text("end");
    encoder.unsigned(count);
    encoder.unsigned(head.seq.as_u64());
    encoder.bytes(head.hash.as_bytes());
    encoder.finish()
}

/// Why the first item of a file is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoStart {
    NoLogFile,
    OtherFormat(u64),
    Flaw(Flaw),
}

impl From<Flaw> for NoStart {
    fn from(flaw: Flaw) -> Self {
        Self::Flaw(flaw)
    }
}

/// How many bytes suffice to recognize a log file.
pub(crate) const TELLING_BYTES: u64 = 32;

/// Whether a file that starts with these bytes is a log file, of any format version.
pub(crate) fn is_log_file(start: &[u8]) -> bool {
    has_magic(&Decoder::new(start)) == Ok(true)
}

fn has_magic(decoder: &Decoder<'_>) -> Result<bool, Flaw> {
    let mut decoder = decoder.clone();
    Ok(matches!(decoder.array()?, 5 | 7) && decoder.text(MAGIC.len())? == MAGIC)
}

pub(super) fn read_start(decoder: &mut Decoder<'_>) -> Result<Start, NoStart> {
    match has_magic(decoder) {
        Ok(true) => {}
        Err(Flaw::Cut) => return Err(Flaw::Cut.into()),
        _ => return Err(NoStart::NoLogFile),
    }
    let fields = decoder.array()?;
    decoder.text(MAGIC.len())?;
    match decoder.unsigned()? {
        FORMAT => {}
        other => return Err(NoStart::OtherFormat(other)),
    }
    let store = StoreId::from_bytes(decoder.fixed()?);
    let floor = Head { seq: position(decoder)?, hash: Hash::from_bytes(decoder.fixed()?) };
    if floor.seq == Seq::ZERO && floor != Head::genesis(store) {
        return Err(
            Flaw::Malformed("the hash before the first change is not the genesis hash of the store").into()
        );
    }
    // The first exports had five elements, and no base.
    if fields == 5 {
        return Ok(Start::new(store, floor, None));
    }
    let floor_at = if decoder.null()? { None } else { Some(Timestamp::from_micros(decoder.signed()?)) };
    let base = if decoder.null()? { None } else { Some(decoder.unsigned()?) };
    let whole = floor.seq == Seq::ZERO;
    let possible = if whole {
        (floor_at, base) == (None, Some(0))
    } else {
        base.is_none_or(|count| count <= floor.seq.as_u64())
    };
    if !possible {
        return Err(Flaw::Malformed("its first item says that it has what cannot be there").into());
    }
    Ok(Start { store, floor, floor_at, base })
}

/// Reads the next item; `last` is the metadata of the change before.
pub(super) fn read_item(decoder: &mut Decoder<'_>, last: &mut LastMeta) -> Result<LogItem, Flaw> {
    if decoder.major()? == 2 {
        return Ok(LogItem::Withheld(Hash::from_bytes(decoder.fixed()?)));
    }
    let fields = decoder.array()?;
    // A change begins with its header, which is an array.
    let kind = match fields {
        3..=5 if decoder.major()? == 3 => Some(decoder.text(BASE.len())?),
        _ => None,
    };
    match (kind, fields) {
        (None, 1 | 3) => {
            let (change, header) = read_change(decoder, fields == 3, last)?;
            Ok(LogItem::Change(change, header))
        }
        (Some(BASE), 3 | 5) => {
            let before = Hash::from_bytes(decoder.fixed()?);
            if fields == 3 && decoder.major()? == 2 {
                return Ok(LogItem::WithheldBase(before, Hash::from_bytes(decoder.fixed()?)));
            }
            let (change, header) = read_change(decoder, fields == 5, last)?;
            Ok(LogItem::Base(before, change, header))
        }
        (Some("end"), 4) => {
            let count = decoder.unsigned()?;
            Ok(LogItem::End(
                count,
                Head { seq: position(decoder)?, hash: Hash::from_bytes(decoder.fixed()?) },
            ))
        }
        _ => Err(Flaw::Malformed("an item is of no known kind")),
    }
}

/// Reads a header, and salt and value behind it if they are there.
fn read_change(
    decoder: &mut Decoder<'_>,
    has_value: bool,
    last: &mut LastMeta,
) -> Result<(Change, Hash), Flaw> {
    let (mut change, header) = Change::read_header(decoder, last)?;
    if has_value {
        change.salt = Some(decoder.fixed()?);
        change.value = Some(decoder.bytes(MOST_VALUE)?.into());
    }
    Ok((change, header))
}

fn position(decoder: &mut Decoder<'_>) -> Result<Seq, Flaw> {
    let seq = Seq::new(decoder.unsigned()?);
    if seq <= Seq::MAX {
        Ok(seq)
    } else {
        Err(Flaw::Malformed("a position is larger than the largest possible one"))
    }
}
