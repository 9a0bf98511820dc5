//! Batches: what a program asks the store to record.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::error::Result;
use crate::key::{RESERVED_PREFIX, invalid, validate_key, validate_prefix};
use crate::limits::{Exceeded, Limits, MAX_COMMIT_ID_LENGTH, MAX_CONDITIONS};
use crate::log::{Meta, cause};
use crate::seq::Seq;

/// A request to the store: conditions, writes, and metadata. [`commit`](crate::StateStore::commit) records
/// all writes together, or refuses the batch and records nothing.
///
/// Conditions are judged against the state right before the batch, wherever they stand among the writes.
/// Writes run in order. Sizes are limited by [`Limits`]: by default 10 000 writes, 1 MiB a value and 16 MiB
/// in all. Keys are checked when the batch is committed. `Debug` does not show values.
///
/// ```
/// use univrs_state::{Batch, MemoryStore, Meta, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// let receipt = store
///     .commit(
///         Batch::new()
///             .expect_absent("/leases/build")
///             .set("/leases/build", "n7")
///             .set("/nodes/n7/leases", "1")
///             .meta(Meta::new().actor("scheduler")),
///     )
///     .await?;
/// assert_eq!(receipt.versions, [1, 1]);
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
#[must_use = "a batch does nothing until it is committed"]
pub struct Batch {
    conditions: Vec<Condition>,
    writes: Vec<Write>,
    meta: Meta,
    /// The prefix of reserved keys that this batch may write.
    reserved: Option<&'static str>,
}

/// A condition on the state before the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The key has this version; 0 means absent.
    Version { key: String, version: u64 },
    /// Nothing under the prefix changed after this position. At most `limit` keys may be under it. The
    /// limit is a part of the condition, so that every store that decides the batch decides the same.
    UnchangedSince { prefix: String, seq: Seq, limit: usize },
    /// No consumer beside those with these keys was recorded after `seq` and is not done with what lies before `floor`.
    NoneBehind { floor: Seq, seq: Seq, but_for: Vec<String> },
}

/// One write.
#[derive(Clone)]
pub(crate) enum Write {
    Set { key: Arc<str>, value: Arc<[u8]> },
    Delete { key: Arc<str> },
}

impl Write {
    pub(crate) fn key(&self) -> &Arc<str> {
        match self {
            Self::Set { key, .. } | Self::Delete { key } => key,
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Set { key, value } => key.len() + value.len(),
            Self::Delete { key } => key.len(),
        }
    }
}

impl Batch {
    /// A batch without conditions and writes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the condition that the key has this version; 0 means that it is absent.
    pub fn expect(mut self, key: impl Into<String>, version: u64) -> Self {
        self.conditions.push(Condition::Version { key: key.into(), version });
        self
    }

    /// Adds the condition that the key is absent.
    pub fn expect_absent(self, key: impl Into<String>) -> Self {
        self.expect(key, 0)
    }

    /// Adds the condition that no key with this prefix was created, changed or deleted after `seq`. The
    /// prefix is bytes, never a pattern.
    ///
    /// Choose a prefix that few keys have: if more than [`Limits::page_entries`] of the store have it, deleted
    /// keys included, the store refuses the batch with
    /// [`StateError::LimitExceeded`](crate::StateError::LimitExceeded).
    pub fn expect_unchanged_since(mut self, prefix: impl Into<String>, seq: impl Into<Seq>) -> Self {
        let limit = Limits::default().page_entries;
        self.conditions.push(Condition::UnchangedSince { prefix: prefix.into(), seq: seq.into(), limit });
        self
    }

    /// Adds the condition that no consumer beside those with these keys was recorded after `seq` and is not done with what
    /// lies before `floor`. Consumers that move on above it are in nobody's way.
    pub(crate) fn expect_none_behind(mut self, floor: Seq, seq: Seq, but_for: Vec<String>) -> Self {
        self.conditions.push(Condition::NoneBehind { floor, seq, but_for });
        self
    }

    /// Sets the key to a value. A batch may write a key several times; each write is a change and a version.
    pub fn set(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.writes.push(Write::Set { key: key.into().into(), value: value.into().into() });
        self
    }

    /// Sets the key to a value that is encoded as JSON.
    ///
    /// # Errors
    /// [`StateError::SerializationError`](crate::StateError::SerializationError) if the value cannot be encoded.
    pub fn set_json<T: Serialize>(self, key: impl Into<String>, value: &T) -> Result<Self> {
        Ok(self.set(key, serde_json::to_vec(value)?))
    }

    /// Deletes the key. If it is absent, this write records nothing, and its version in the receipt is 0.
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.writes.push(Write::Delete { key: key.into().into() });
        self
    }

    /// Sets who writes and why; replaces earlier metadata. The [`commit_id`](Self::commit_id) that this batch
    /// has is kept. If `meta` was read from a commit, what the store recorded in it, such as its commit id and its
    /// cause, is not copied.
    pub fn meta(mut self, meta: Meta) -> Self {
        self.meta = Meta { commit_id: self.meta.commit_id.take(), ..meta.of_program() };
        self
    }

    /// Makes a retry safe: if a batch with this id (1 to 128 bytes) was recorded before, the store writes
    /// nothing and returns the first receipt again.
    ///
    /// If that batch wrote other keys, or set where this one deletes, the error is
    /// [`StateError::CommitIdReused`](crate::StateError::CommitIdReused). Values are not compared: never use
    /// an id for a second batch, because the store would return the first receipt and write nothing.
    /// Deletions of absent keys are not compared either. A batch that records nothing is not remembered.
    ///
    /// ```
    /// use univrs_state::{Batch, MemoryStore, StateStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
    /// let store = MemoryStore::new();
    /// let batch = Batch::new().set("/a", "1").commit_id("request-17");
    /// let first = store.commit(batch.clone()).await?;
    /// assert_eq!(store.commit(batch).await?, first);
    /// assert_eq!(store.version("/a").await?, 1);
    /// # Ok(()) }
    /// ```
    pub fn commit_id(mut self, id: impl Into<String>) -> Self {
        self.meta.commit_id = Some(id.into());
        self
    }

    /// How many writes the batch has.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether the batch has no writes.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    pub(crate) fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    pub(crate) fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// This batch as one that the store itself writes, for this cause.
    pub(crate) fn caused(mut self, cause: &str) -> Self {
        self.meta.cause = Some(cause.to_owned());
        self
    }

    /// This batch as one of the store, for a program: it may write the reserved keys with this prefix.
    pub(crate) fn may_write(mut self, prefix: &'static str) -> Self {
        self.reserved = Some(prefix);
        self
    }

    /// Whether the batch accepts the clock: its time is the clock's, whatever the time of the commit before is.
    pub(crate) fn accepts_clock(&self) -> bool {
        self.meta.has_cause(cause::CLOCK_ACCEPTED)
    }

    /// Whether the batch begins a compaction, which moves the floor of the log, or a thinning. It is then alone in its
    /// storage transaction, because it changes what others are judged on, or fails where they do not.
    pub(crate) fn is_alone(&self) -> bool {
        self.meta.has_cause(cause::COMPACTING) || self.meta.has_cause(cause::THINNED)
    }

    /// This batch as one that restores the state at a position.
    pub(crate) fn restored(mut self, from: Seq) -> Self {
        self.meta.cause = Some(cause::RESTORED.to_owned());
        self.meta.labels.insert("restored_from".to_owned(), from.to_string());
        self
    }

    /// The metadata of the changes; `None` if it is empty.
    pub(crate) fn recorded_meta(&self) -> Option<Arc<Meta>> {
        (!self.meta.is_empty()).then(|| Arc::new(self.meta.clone()))
    }

    pub(crate) fn id(&self) -> Option<&str> {
        self.meta.commit_id()
    }

    /// This batch, with the metadata of `base` where it has none itself.
    pub(crate) fn stamped(mut self, base: &Meta) -> Self {
        self.meta = self.meta.over(base);
        self
    }

    /// The size that counts against the limit, in bytes: keys, values, and the metadata once for each write.
    pub(crate) fn size(&self) -> usize {
        let meta = if self.meta.is_empty() { 0 } else { self.meta.encoded_len() };
        self.writes.iter().map(|write| write.size() + meta).sum()
    }

    /// Checks the batch against these limits, and gives its conditions their limit of keys.
    pub(crate) fn bounded(mut self, limits: &Limits) -> Result<Self> {
        self.check_input(limits)?;
        for condition in &mut self.conditions {
            if let Condition::UnchangedSince { limit, .. } = condition {
                *limit = limits.page_entries;
            }
        }
        Ok(self)
    }

    /// How many values the batch sets; each of them is recorded with a salt of its own.
    pub(crate) fn values(&self) -> usize {
        self.writes.iter().filter(|write| matches!(write, Write::Set { .. })).count()
    }

    /// Checks keys and sizes, which needs no state.
    fn check_input(&self, limits: &Limits) -> Result<()> {
        Exceeded::check_limit(self.writes.len(), limits.batch_writes, "writes", || "the batch".into())?;
        Exceeded::check_limit(self.conditions.len(), MAX_CONDITIONS, "conditions", || "the batch".into())?;
        for condition in &self.conditions {
            match condition {
                Condition::Version { key, .. } => validate_key(key)?,
                Condition::UnchangedSince { prefix, .. } => validate_prefix(prefix)?,
                Condition::NoneBehind { .. } => {}
            }
        }
        for write in &self.writes {
            let key = write.key();
            validate_key(key)?;
            if key.starts_with(RESERVED_PREFIX) && !self.reserved.is_some_and(|own| key.starts_with(own)) {
                return Err(invalid(key, &format!("keys below {RESERVED_PREFIX} belong to the store")));
            }
            if let Write::Set { value, .. } = write {
                Exceeded::check_limit(value.len(), limits.value_bytes, "bytes", || {
                    format!("the value of {key}")
                })?;
            }
        }
        if let Some(id) = self.id() {
            Exceeded::check_limit(id.len(), MAX_COMMIT_ID_LENGTH, "bytes", || "the commit id".into())?;
            if id.is_empty() {
                return Err(crate::error::StateError::InvalidArgument("the commit id is empty".into()));
            }
        }
        Exceeded::check_limit(self.meta.encoded_len(), limits.meta_bytes, "bytes", || "the metadata".into())?;
        Exceeded::check_limit(self.size(), limits.batch_bytes, "bytes", || "the batch".into())?;
        Ok(())
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("conditions", &self.conditions)
            .field("writes", &self.writes)
            .field("meta", &self.meta)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set { key, value } => write!(f, "set {key} ({} bytes)", value.len()),
            Self::Delete { key } => write!(f, "delete {key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StateError;

    fn refusal(batch: impl Into<Batch>) -> StateError {
        batch.into().check_input(&Limits::default()).unwrap_err()
    }

    #[test]
    fn a_batch_is_empty_until_it_writes() {
        assert!(Batch::new().is_empty() && Batch::new().expect("/a", 1).is_empty());
        assert!(!Batch::new().delete("/a").is_empty());
        let lengths = [Batch::new(), Batch::new().expect("/a", 1), Batch::new().set("/a", "1").delete("/b")];
        assert_eq!(lengths.map(|batch| batch.len()), [0, 0, 2]);
    }

    #[test]
    fn a_value_is_written_as_json_or_refused_where_it_is_none() {
        let batch = Batch::new().set_json("/a", &["x", "y"]).unwrap();
        let written = |write: &Write| matches!(write, Write::Set { key, value } if &**key == "/a" && value[..] == *br#"["x","y"]"#);
        assert!(batch.writes.len() == 1 && batch.writes.iter().all(written));
        let none = std::collections::HashMap::from([((1, 2), 3)]);
        assert!(matches!(Batch::new().set_json("/a", &none), Err(StateError::SerializationError(_))));
    }

    #[test]
    fn limits_count_to_the_byte_and_name_limit_and_actual() {
        let limits = Limits::default();
        let mib = 1 << 20;
        assert_eq!(Batch::new().set("/a", vec![0; mib]).check_input(&limits), Ok(()));
        let error = refusal(Batch::new().set("/a", vec![0; mib + 1])).to_string();
        assert!(error.contains("/a has 1048577 bytes, the limit is 1048576"), "{error}");

        let many = |n| (0..n).fold(Batch::new(), |batch, i| batch.delete(format!("/{i}")));
        assert_eq!(many(10_000).check_input(&limits), Ok(()));
        assert!(refusal(many(10_001)).to_string().contains("10001 writes"));

        // Sixteen writes of 1 MiB less the bytes of their keys fill a batch exactly.
        let full = (0..16).fold(Batch::new(), |batch, i| batch.set(format!("/{i:03}"), vec![0; mib - 4]));
        assert_eq!(full.check_input(&limits), Ok(()));
        let with_meta = full.clone().meta(Meta::new().actor("a"));
        assert!(refusal(with_meta).to_string().contains("the batch has"), "meta counts for each write");
        assert!(refusal(full.delete("/x")).to_string().contains("16777218 bytes, the limit is 16777216"));
    }

    #[test]
    fn metadata_over_its_limit_is_refused() {
        let room = 1024 - Meta::new().reason("x".repeat(900)).encode().len();
        let fits = Meta::new().reason("x".repeat(900 + room));
        assert_eq!(Batch::new().delete("/a").meta(fits.clone()).check_input(&Limits::default()), Ok(()));
        let error = refusal(Batch::new().delete("/a").meta(fits.label("l", "")));
        assert!(error.to_string().contains("the metadata has 1035 bytes"), "{error}");
    }

    #[test]
    fn reserved_keys_are_not_written_but_may_be_expected() {
        assert!(matches!(refusal(Batch::new().set("/.univrs/x", "")), StateError::InvalidKey(_)));
        assert!(matches!(refusal(Batch::new().delete("/.univrs/x")), StateError::InvalidKey(_)));
        assert_eq!(Batch::new().expect_absent("/.univrs/x").check_input(&Limits::default()), Ok(()));
        let own = |key| Batch::new().set("/a", "").set(key, "").may_write("/.univrs/marks/");
        assert_eq!(own("/.univrs/marks/x").check_input(&Limits::default()), Ok(()));
        assert!(matches!(refusal(own("/.univrs/accepted-loss")), StateError::InvalidKey(_)));
    }

    #[test]
    fn a_commit_id_is_kept_whatever_the_order_of_the_builder() {
        let batch = Batch::new().commit_id("id").meta(Meta::new().actor("a"));
        assert_eq!((batch.id(), batch.recorded_meta().unwrap().actor.as_deref()), (Some("id"), Some("a")));
        assert!(matches!(refusal(Batch::new().commit_id("")), StateError::InvalidArgument(_)));
        assert!(matches!(refusal(Batch::new().commit_id("x".repeat(129))), StateError::LimitExceeded(_)));
    }

    #[test]
    fn debug_shows_no_value() {
        let batch = Batch::new().set("/a", "hunter2").expect("/b", 3);
        let text = format!("{batch:?}");
        assert!(!text.contains("hunter2") && text.contains("set /a (7 bytes)"), "{text}");
    }
}
