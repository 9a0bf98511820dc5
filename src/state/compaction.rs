//! The record of a compaction: the value of the key `/.univrs/compaction`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Result, StateError};
use crate::key::COMPACTION_KEY;
use crate::log::{Hash, Head, Timestamp};
use crate::pattern::Pattern;
use crate::seq::Seq;

/// The format of the record.
const FORMAT: u64 = 1;

/// To which floor the log was compacted, and what is left below it. It is recorded twice: by the commit that begins a
/// compaction, and, with the digest of the base, by the commit that ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compaction {
    /// The end of a commit, which the log begins after.
    pub(crate) floor: Head,
    /// The time of that commit.
    pub(crate) at: Timestamp,
    /// Keys whose history stays below the floor.
    pub(crate) keep: Vec<Pattern>,
    /// What was forgotten by this compaction or by an earlier one.
    pub(crate) forgotten: Option<Arc<Forgotten>>,
    /// Consumers that were not done with what lies before the floor.
    pub(crate) lost: Vec<String>,
    /// What the compaction left at or below the floor; none until it has ended.
    pub(crate) base: Option<BaseSeal>,
}

/// Deleted keys that count as never written: those whose deletion lies before a floor, but for some patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forgotten {
    /// The floor. The change at the floor itself is never forgotten.
    pub(crate) floor: Seq,
    /// The largest version that a forgotten key may have had. A key without a change goes on from it, so that no version
    /// comes twice.
    pub(crate) version: u64,
    /// Keys that are not forgotten.
    pub(crate) keep: Vec<Pattern>,
}

/// How many changes a compaction left at or below its floor, and their digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BaseSeal {
    pub(crate) count: u64,
    pub(crate) digest: Hash,
}

impl Forgotten {
    /// Whether the deletion of a key at a position is forgotten.
    pub(crate) fn covers(&self, key: &str, seq: Seq) -> bool {
        seq < self.floor && !matches(&self.keep, key)
    }
}

/// What is forgotten at a place of the log, as it is read from the beginning on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Forgetting(Option<Arc<Forgotten>>);

impl Forgetting {
    /// Takes the next change: it may be the record of a compaction. One that cannot be read says nothing; the value is
    /// checked elsewhere.
    pub(crate) fn take(&mut self, key: &str, value: Option<&[u8]>) {
        if key == COMPACTION_KEY
            && let Some(record) = value.and_then(|value| Compaction::decode(value).ok())
        {
            self.0 = record.forgotten;
        }
    }

    /// The version that a key without a change goes on from.
    pub(crate) fn version(&self) -> u64 {
        self.0.as_ref().map_or(0, |forgotten| forgotten.version)
    }

    /// Whether the deletion of a key at a position is forgotten.
    pub(crate) fn covers(&self, key: &str, seq: Seq) -> bool {
        self.0.as_ref().is_some_and(|forgotten| forgotten.covers(key, seq))
    }
}

/// Whether one of the patterns matches the key.
pub(crate) fn matches(patterns: &[Pattern], key: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(key))
}

/// The record as JSON.
#[derive(Serialize, Deserialize)]
struct Record {
    #[serde(default = "first_format")]
    v: u64,
    floor: Seq,
    hash: Hash,
    at: Timestamp,
    #[serde(default)]
    keep: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forgotten: Option<ForgottenRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lost: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Hash>,
}

#[derive(Serialize, Deserialize)]
struct ForgottenRecord {
    floor: Seq,
    version: u64,
    #[serde(default)]
    keep: Vec<String>,
}

fn first_format() -> u64 {
    FORMAT
}

impl Compaction {
    /// Reads a record.
    pub(crate) fn decode(value: &[u8]) -> Result<Self> {
        let corrupt =
            || StateError::Corrupted(format!("the value of {COMPACTION_KEY} is no record of a compaction"));
        let record: Record = serde_json::from_slice(value).map_err(|_| corrupt())?;
        if record.v != FORMAT {
            return Err(StateError::UpgradeNeeded(format!(
                "{COMPACTION_KEY} has the format {}, and this version reads the format {FORMAT}",
                record.v
            )));
        }
        let patterns = |texts: Vec<String>| -> Result<Vec<Pattern>> {
            texts.iter().map(|text| text.parse().map_err(|_| corrupt())).collect()
        };
        let forgotten = match record.forgotten {
            Some(ForgottenRecord { floor, version, keep })
                if floor <= record.floor && version <= Seq::MAX.as_u64() =>
            {
                Some(Arc::new(Forgotten { floor, version, keep: patterns(keep)? }))
            }
            Some(_) => return Err(corrupt()),
            None => None,
        };
        let base = match (record.count, record.digest) {
            (Some(count), Some(digest)) => Some(BaseSeal { count, digest }),
            (None, None) => None,
            _ => return Err(corrupt()),
        };
        if !(Seq::ZERO.next()..=Seq::MAX).contains(&record.floor) {
            return Err(corrupt());
        }
        let floor = Head { seq: record.floor, hash: record.hash };
        Ok(Self { floor, at: record.at, keep: patterns(record.keep)?, forgotten, lost: record.lost, base })
    }

    /// The record as it is written.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let texts =
            |patterns: &[Pattern]| patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect();
        let forgotten = self.forgotten.as_ref().map(|forgotten| ForgottenRecord {
            floor: forgotten.floor,
            version: forgotten.version,
            keep: texts(&forgotten.keep),
        });
        let (count, digest) = self.base.map(|base| (base.count, base.digest)).unzip();
        let (Head { seq: floor, hash }, lost) = (self.floor, self.lost.clone());
        let record = Record {
            v: FORMAT,
            floor,
            hash,
            at: self.at,
            keep: texts(&self.keep),
            forgotten,
            lost,
            count,
            digest,
        };
        Ok(serde_json::to_vec(&record)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Compaction {
        let keep = vec!["/audit/*".parse().unwrap()];
        Compaction {
            floor: Head { seq: Seq::new(7), hash: Hash::from_bytes([7; 32]) },
            at: Timestamp::from_micros(5),
            keep: keep.clone(),
            forgotten: Some(Arc::new(Forgotten { floor: Seq::new(7), version: 9, keep })),
            lost: vec!["indexer".to_owned()],
            base: Some(BaseSeal { count: 3, digest: Hash::from_bytes([1; 32]) }),
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_half_a_record_is_none() {
        let whole = record();
        let plain =
            Compaction { keep: Vec::new(), forgotten: None, lost: Vec::new(), base: None, ..record() };
        for record in [whole, plain] {
            assert_eq!(Compaction::decode(&record.encode().unwrap()), Ok(record));
        }
        let text = String::from_utf8(record().encode().unwrap()).unwrap();
        for (from, to) in [
            ("\"floor\":7,\"hash\"", "\"floor\":0,\"hash\""),
            ("\"count\":3,", ""),
            ("\"version\":9", "\"version\":-9"),
            ("/audit/*", "audit"),
            ("{\"floor\":7,\"version\"", "{\"floor\":8,\"version\""),
            ("0707", ""),
        ] {
            let altered = text.replacen(from, to, 1);
            assert!(
                altered != text
                    && matches!(Compaction::decode(altered.as_bytes()), Err(StateError::Corrupted(_)))
            );
        }
        let newer = text.replacen("\"v\":1", "\"v\":2", 1);
        assert!(matches!(Compaction::decode(newer.as_bytes()), Err(StateError::UpgradeNeeded(_))));
    }

    #[test]
    fn the_change_at_the_floor_and_kept_keys_are_not_forgotten() {
        let forgotten = record().forgotten.unwrap();
        assert!(forgotten.covers("/a", Seq::new(6)));
        assert!(!forgotten.covers("/a", Seq::new(7)));
        assert!(!forgotten.covers("/audit/a", Seq::new(6)));
    }
}
