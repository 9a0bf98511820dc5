//! The record of a thinning: the value of a key below `/.univrs/thinned/`.

use serde::{Deserialize, Serialize};

use crate::error::{Result, StateError};
use crate::key::{RESERVED_PREFIX, THINNED_PREFIX};
use crate::log::{Change, ChangeKind, Head, cause};
use crate::pattern::Pattern;
use crate::seq::Seq;

/// The format of the record.
const FORMAT: u64 = 1;

/// Which values a thinning drops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Thinning {
    /// The end of a commit: values go that were superseded there.
    pub(crate) at: Seq,
    /// Of which keys.
    pub(crate) pattern: Pattern,
    /// How many versions of each key stay, counted from the newest one there.
    pub(crate) keep: u64,
}

/// The record as JSON.
#[derive(Serialize, Deserialize)]
struct Record {
    #[serde(default = "first_format")]
    v: u64,
    seq: Seq,
    hash: crate::log::Hash,
    pattern: String,
    keep: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lost: Vec<String>,
}

fn first_format() -> u64 {
    FORMAT
}

impl Thinning {
    /// The key of its record.
    pub(crate) fn key(&self) -> String {
        format!("{THINNED_PREFIX}{}", self.at)
    }

    /// Whether it drops values of a key. Reserved keys keep theirs, because the meaning of the log depends on them.
    pub(crate) fn takes(&self, key: &str) -> bool {
        self.pattern.matches(key) && !key.starts_with(RESERVED_PREFIX)
    }

    /// The record as it is written, with the chain hash at the point, and consumers that were not done with what goes.
    pub(crate) fn encode(&self, at: Head, lost: Vec<String>) -> Result<Vec<u8>> {
        let (pattern, keep) = (self.pattern.as_str().to_owned(), self.keep);
        Ok(serde_json::to_vec(&Record { v: FORMAT, seq: self.at, hash: at.hash, pattern, keep, lost })?)
    }

    /// The thinning that a change begins; `None` if it begins none. A later thinning of the same keys deletes the record.
    ///
    /// # Errors
    /// The change says that it does, but its value is no record.
    pub(crate) fn begun_by(change: &Change) -> Result<Option<Self>> {
        let is_record = change.key.starts_with(THINNED_PREFIX) && change.has_cause(cause::THINNED);
        if !is_record || change.kind == ChangeKind::Deleted {
            return Ok(None);
        }
        Self::decode(&change.key, change.value.as_deref().unwrap_or_default(), change.seq).map(Some)
    }

    /// The thinning of a record, with the key and the position of its change.
    pub(crate) fn decode(key: &str, value: &[u8], seq: Seq) -> Result<Self> {
        let corrupt = || StateError::Corrupted(format!("the value of {key} is no record of a thinning"));
        let record: Record = serde_json::from_slice(value).map_err(|_| corrupt())?;
        if record.v != FORMAT {
            return Err(StateError::UpgradeNeeded(format!(
                "{key} has the format {}, and this version reads the format {FORMAT}",
                record.v
            )));
        }
        if record.seq >= seq {
            return Err(corrupt());
        }
        let pattern = record.pattern.parse().map_err(|_| corrupt())?;
        Ok(Self { at: record.seq, pattern, keep: record.keep })
    }
}
