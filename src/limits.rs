//! What may be how large: all limits, with their units.

use crate::error::{Result, StateError};

/// The longest key, in bytes of UTF-8.
pub const MAX_KEY_LENGTH: usize = 1024;
/// The longest commit id, in bytes of UTF-8.
pub const MAX_COMMIT_ID_LENGTH: usize = 128;
/// The most conditions a batch may carry.
pub const MAX_CONDITIONS: usize = 10_000;
/// The most bytes that values can be allowed to have.
pub(crate) const MOST_VALUE_BYTES: usize = 256 << 20;

/// The limits of an open store. They guard the program that sets them and are not part of the
/// file: a value recorded under a larger limit stays readable.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one value. Default 1 MiB; at most 256 MiB.
    pub value_bytes: usize,
    /// Writes in one batch. Default 10 000; at most 1 000 000.
    pub batch_writes: usize,
    /// Bytes of one batch: keys, values, and the metadata once for each write. Default 16 MiB; at most 512 MiB.
    pub batch_bytes: usize,
    /// Bytes of the encoded metadata of a batch. Default 1 KiB; at most 64 KiB.
    pub meta_bytes: usize,
    /// Entries in one page of a scan, and keys that a prefix condition may read. Default 1 000; at most 100 000.
    pub page_entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            value_bytes: 1 << 20,
            batch_writes: 10_000,
            batch_bytes: 16 << 20,
            meta_bytes: 1 << 10,
            page_entries: 1_000,
        }
    }
}

impl Limits {
    /// Bytes of keys and values after which a page of a scan or of the log ends early.
    pub(crate) const PAGE_BYTES: usize = 4 << 20;
    /// The most changes of one page of the log, but for those that finish its last commit.
    pub(crate) const PAGE_CHANGES: usize = 1_000;

    /// Checks that every limit is usable.
    pub(crate) fn check_ranges(&self) -> Result<()> {
        let ranges = [
            ("value_bytes", self.value_bytes, MOST_VALUE_BYTES),
            ("batch_writes", self.batch_writes, 1_000_000),
            ("batch_bytes", self.batch_bytes, 512 << 20),
            ("meta_bytes", self.meta_bytes, 64 << 10),
            ("page_entries", self.page_entries, 100_000),
        ];
        for (name, actual, most) in ranges {
            if actual == 0 || actual > most {
                return Err(StateError::InvalidArgument(format!(
                    "limit {name} is {actual}, but must lie between 1 and {most}"
                )));
            }
        }
        Ok(())
    }
}

/// A limit and what went over it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limit exceeded: {what} has {actual} {unit}, the limit is {limit}")]
#[non_exhaustive]
pub struct Exceeded {
    /// What is limited, such as `value`; names the key where there is one.
    pub what: String,
    /// The unit of both numbers: `bytes`, `writes`, `conditions` or `keys`.
    pub unit: &'static str,
    /// The limit.
    pub limit: usize,
    /// What was asked for. Where counting stopped at the limit, the first number over it.
    pub actual: usize,
    /// Whether it is the input that is too large, so that the same call never succeeds. Else it is what
    /// the store holds: too many keys under the prefix of a condition.
    pub of_input: bool,
}

impl Exceeded {
    /// An error if `actual`, of what was given, is over `limit`.
    pub(crate) fn check_limit(
        actual: usize,
        limit: usize,
        unit: &'static str,
        what: impl FnOnce() -> String,
    ) -> Result<(), Self> {
        if actual <= limit { Ok(()) } else { Err(Self { what: what(), unit, limit, actual, of_input: true }) }
    }

    /// An error if `actual`, of what the store holds, is over `limit`.
    pub(crate) fn check_state(
        actual: usize,
        limit: usize,
        unit: &'static str,
        what: impl FnOnce() -> String,
    ) -> Result<(), Self> {
        Self::check_limit(actual, limit, unit, what).map_err(|exceeded| Self { of_input: false, ..exceeded })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_cannot_work_is_refused_by_name() {
        assert_eq!(Limits::default().check_ranges(), Ok(()));
        let error = Limits { batch_writes: 0, ..Limits::default() }.check_ranges().unwrap_err();
        assert!(error.to_string().contains("batch_writes"), "{error}");
        let error = Limits { value_bytes: usize::MAX, ..Limits::default() }.check_ranges().unwrap_err();
        assert!(error.to_string().contains("value_bytes"), "{error}");
    }
}
