//! The record of an erasure: the value of a key below `/.univrs/erasures/`.

use serde::{Deserialize, Serialize};

use super::seq_ranges::SeqRanges;
use crate::error::{Result, StateError};
use crate::key::ERASURES_PREFIX;
use crate::log::{Change, ChangeKind};
use crate::seq::Seq;

/// The format of the record.
const FORMAT: u64 = 1;

/// The bytes of a record without ranges.
const EMPTY: usize = 21;

/// Which values an erasure drops: those of the changes at these positions. It names no key, so it says nothing of what is
/// gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ErasureRecord {
    pub(crate) ranges: SeqRanges,
}

/// The record as JSON.
#[derive(Serialize, Deserialize)]
struct Record {
    #[serde(default = "first_format")]
    v: u64,
    ranges: Vec<(Seq, Seq)>,
}

fn first_format() -> u64 {
    FORMAT
}

impl ErasureRecord {
    /// The records that together name these positions, each of at most so many bytes, but of one range at least.
    pub(crate) fn split(all: &SeqRanges, most: usize) -> Vec<Self> {
        let (mut records, mut ranges, mut bytes) = (Vec::new(), Vec::new(), EMPTY);
        for (first, last) in all.as_slice() {
            // Brackets and two commas.
            let more = first.to_string().len() + last.to_string().len() + 4;
            if bytes + more > most && !ranges.is_empty() {
                records.extend(SeqRanges::of(std::mem::take(&mut ranges)));
                bytes = EMPTY;
            }
            bytes += more;
            ranges.push((*first, *last));
        }
        records.extend(SeqRanges::of(ranges).filter(|ranges| !ranges.is_empty()));
        records.into_iter().map(|ranges| Self { ranges }).collect()
    }

    /// The key of the record with a number.
    pub(crate) fn key(number: u64) -> String {
        format!("{ERASURES_PREFIX}{number}")
    }

    /// The number of the record with a key; `None` if it is not the key of one.
    pub(crate) fn number(key: &str) -> Option<u64> {
        let number = key.strip_prefix(ERASURES_PREFIX)?.parse().ok()?;
        (Self::key(number) == key).then_some(number)
    }

    /// Reads the value of a key that is the one of a record. `seq` is the position of the change that set it.
    pub(crate) fn decode(key: &str, value: &[u8], seq: Seq) -> Result<Self> {
        let corrupt = || StateError::Corrupted(format!("the value of {key} is no record of an erasure"));
        let Record { v, ranges } = serde_json::from_slice(value).map_err(|_| corrupt())?;
        if v != FORMAT {
            return Err(StateError::UpgradeNeeded(format!(
                "{key} has the format {v}, and this version reads the format {FORMAT}"
            )));
        }
        let ranges = SeqRanges::of(ranges).ok_or_else(corrupt)?;
        // It names what was there before it, and its number is one.
        let is_one = ranges.as_slice().last().is_some_and(|(_, last)| *last < seq);
        if is_one && Self::number(key).is_some() { Ok(Self { ranges }) } else { Err(corrupt()) }
    }

    /// The error of a record that names the value of a change which is the state of its key, or belongs to the store itself.
    pub(crate) fn names_too_much(value: Seq) -> StateError {
        StateError::Corrupted(format!(
            "a record below {ERASURES_PREFIX} names the value of change {value}, which is live or the store's own and cannot be \
             erased"
        ))
    }

    /// The record as it is written.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        Ok(serde_json::to_vec(&Record { v: FORMAT, ranges: self.ranges.as_slice().to_vec() })?)
    }

    /// The record that a change has; `None` if it has none, or its value is gone.
    ///
    /// # Errors
    /// Its key is that of a record, but its value is none.
    pub(crate) fn of(change: &Change) -> Result<Option<Self>> {
        if !change.key.starts_with(ERASURES_PREFIX) || change.kind == ChangeKind::Deleted {
            return Ok(None);
        }
        let record = |value: &std::sync::Arc<[u8]>| Self::decode(&change.key, value, change.seq);
        change.value.as_ref().map(record).transpose()
    }
}

/// What the erasures of a log have named so far: which values may be gone, because somebody asked for that.
#[derive(Debug, Clone, Default)]
pub(crate) struct Erasures {
    named: SeqRanges,
}

impl Erasures {
    /// Takes a change: it may have the record of an erasure. Returns whether it has.
    ///
    /// # Errors
    /// Its key is that of a record, but its value is none.
    pub(crate) fn take(&mut self, change: &Change) -> Result<bool> {
        let record = ErasureRecord::of(change)?;
        if let Some(record) = &record {
            self.add(record);
        }
        Ok(record.is_some())
    }

    /// Adds what a record names.
    pub(crate) fn add(&mut self, record: &ErasureRecord) {
        self.named.add_all(&record.ranges);
    }

    /// Whether an erasure named the value of the change at a position.
    pub(crate) fn has(&self, seq: Seq) -> bool {
        self.named.has(seq)
    }

    /// All positions that were named.
    pub(crate) fn into_named(self) -> SeqRanges {
        self.named
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More bytes than a range has.
    const LONGEST: usize = 48;

    fn ranges(of: &[(u64, u64)]) -> SeqRanges {
        SeqRanges::of(of.iter().map(|(first, last)| (Seq::new(*first), Seq::new(*last))).collect()).unwrap()
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_half_a_record_is_none() {
        let record = ErasureRecord { ranges: ranges(&[(1, 3), (7, 7)]) };
        let text = String::from_utf8(record.encode().unwrap()).unwrap();
        assert_eq!(text, r#"{"v":1,"ranges":[[1,3],[7,7]]}"#);
        let read = |key: &str, text: &str, seq| ErasureRecord::decode(key, text.as_bytes(), Seq::new(seq));
        let key = ErasureRecord::key(4);
        assert_eq!(read(&key, &text, 8), Ok(record.clone()));
        assert_eq!(read(&key, &text.replace("\"v\":1,", ""), 8), Ok(record));
        for (from, to) in [
            ("[7,7]", "[7,6]"),
            ("[7,7]", "[3,7]"),
            ("[1,3]", "[0,3]"),
            ("[[1,3],[7,7]]", "[]"),
            ("7]]}", ""),
        ] {
            let altered = text.replace(from, to);
            assert!(altered != text && matches!(read(&key, &altered, 8), Err(StateError::Corrupted(_))));
        }
        for (key, seq) in [(&*key, 7), ("/.univrs/erasures/04", 8), ("/.univrs/erasures/x", 8)] {
            assert!(matches!(read(key, &text, seq), Err(StateError::Corrupted(_))), "{key} at {seq}");
        }
        let newer = text.replace("\"v\":1", "\"v\":2");
        assert!(matches!(read(&key, &newer, 8), Err(StateError::UpgradeNeeded(_))));
    }

    #[test]
    fn records_have_so_many_bytes_and_together_name_each_position_once() {
        let of: Vec<(u64, u64)> = (1..2_000).map(|n| (n * n, n * n + n)).collect();
        let all = ranges(&of);
        for most in [1, 100, 1_000, 1 << 20] {
            let records = ErasureRecord::split(&all, most);
            let joined: Vec<(Seq, Seq)> =
                records.iter().flat_map(|record| record.ranges.as_slice().to_vec()).collect();
            assert_eq!(SeqRanges::of(joined), Some(all.clone()));
            for record in &records {
                let bytes = record.encode().unwrap().len();
                assert!(bytes <= most || record.ranges.as_slice().len() == 1, "{bytes} of {most}");
                assert!(
                    bytes + LONGEST > most || records.last() == Some(record),
                    "another one would have fit into {bytes} of {most}"
                );
            }
        }
        assert!(ErasureRecord::split(&SeqRanges::default(), 100).is_empty());
    }

    #[test]
    fn what_any_erasure_named_is_named() {
        let change = |seq: u64, key: String, of: &[(u64, u64)]| {
            let value = ErasureRecord { ranges: ranges(of) }.encode().unwrap();
            Change { key: key.into(), value: Some(value.into()), ..Change::plain(seq) }
        };
        let mut erasures = Erasures::default();
        for change in [
            change(9, ErasureRecord::key(1), &[(1, 2), (6, 6)]),
            change(10, ErasureRecord::key(2), &[(3, 3), (8, 8)]),
            change(11, "/erasures/3".into(), &[(5, 5)]),
            Change { value: None, ..change(12, ErasureRecord::key(3), &[(4, 4)]) },
        ] {
            erasures.take(&change).unwrap();
        }
        let named: Vec<u64> = (0..20).filter(|seq| erasures.has(Seq::new(*seq))).collect();
        assert_eq!(named, [1, 2, 3, 6, 8]);
        assert_eq!(erasures.clone().into_named(), ranges(&[(1, 3), (6, 6), (8, 8)]));
        let broken =
            Change { value: Some(b"{}".as_slice().into()), ..change(13, ErasureRecord::key(4), &[(1, 1)]) };
        assert!(matches!(erasures.take(&broken), Err(StateError::Corrupted(_))));
    }
}
