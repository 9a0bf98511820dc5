//! All limits, with their units.

use crate::error::{Result, StateError};

/// The longest key, in bytes of UTF-8.
pub const MAX_KEY_LENGTH: usize = 1024;
/// The longest commit id, in bytes of UTF-8.
pub const MAX_COMMIT_ID_LENGTH: usize = 128;
/// The most conditions of a batch.
pub const MAX_CONDITIONS: usize = 10_000;
/// The largest limit of the bytes of a value that can be set.
pub(crate) const MOST_VALUE_BYTES: usize = 256 << 20;

/// The limits of an open store. What is larger is refused with
/// [`StateError::LimitExceeded`] and never cut off. Limits belong to the
/// program that sets them, not to the file: a value that was recorded under a larger limit stays readable.
///
/// ```
/// use univrs_state::{Limits, MemoryStore, StateError, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let mut limits = Limits::default();
/// limits.value_bytes = 16;
/// let store = MemoryStore::options().limits(limits).memory()?;
/// let refused = store.set("/a", vec![0; 17]).await;
/// assert!(matches!(refused, Err(StateError::LimitExceeded(exceeded)) if exceeded.limit == 16));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The most bytes of a value. The default is 1 MiB; it can be set up to 256 MiB.
    pub value_bytes: usize,
    /// The most writes of a batch. The default is 10 000; it can be set up to 1 000 000.
    pub batch_writes: usize,
    /// The most bytes of a batch: keys, values, and the metadata once for each write. The default is 16 MiB; it
    /// can be set up to 512 MiB.
    pub batch_bytes: usize,
    /// The most bytes of the encoded metadata of a batch. The default is 1 KiB; it can be set up to 64 KiB.
    pub meta_bytes: usize,
    /// The most entries of a page, and the most keys that may have the prefix of a condition. The default is
    /// 1 000; it can be set up to 100 000.
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
    /// The number of changes after which a page of the log ends. It ends with a whole commit, so it may have
    /// more.
    pub(crate) const PAGE_CHANGES: usize = 1_000;

    /// Those of what the store itself records of the whole log, however small the batches of the program are to be, and
    /// however many keys it reads for that.
    pub(crate) fn of_records(value_bytes: usize) -> Self {
        Self {
            value_bytes,
            batch_bytes: 512 << 20,
            meta_bytes: 64 << 10,
            page_entries: usize::MAX,
            ..Self::default()
        }
    }

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
                    "limit {name} is {actual}, but must be between 1 and {most}"
                )));
            }
        }
        Ok(())
    }
}

/// Keys are counted only up to the first number above the limit.
fn at_least(of_input: bool) -> &'static str {
    if of_input { "" } else { "at least " }
}

fn advice(of_input: bool) -> &'static str {
    if of_input { "" } else { "; deleted keys count: name a longer prefix, or raise the limit page_entries" }
}

/// A limit, and the number that exceeds it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limit exceeded: {what} has {}{actual} {unit}, the limit is {limit}{}", at_least(*of_input), advice(*of_input))]
#[non_exhaustive]
pub struct Exceeded {
    /// What is too large, such as `the batch` or `the value of /a`.
    pub what: String,
    /// The unit of both numbers: `bytes`, `writes`, `conditions` or `keys`.
    pub unit: &'static str,
    /// The limit.
    pub limit: usize,
    /// The number that exceeds the limit. Keys are counted only up to the first number above the limit.
    pub actual: usize,
    /// Whether the input is too large, so that the same call never succeeds. Otherwise the store has too many
    /// keys with the prefix of a condition, so that the call can succeed later.
    pub of_input: bool,
}

impl Exceeded {
    /// An error if `actual`, a size of the input, is above `limit`.
    pub(crate) fn check_limit(
        actual: usize,
        limit: usize,
        unit: &'static str,
        what: impl FnOnce() -> String,
    ) -> Result<(), Self> {
        if actual <= limit { Ok(()) } else { Err(Self { what: what(), unit, limit, actual, of_input: true }) }
    }

    /// An error if `actual`, a number of keys in the store, is above `limit`.
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
