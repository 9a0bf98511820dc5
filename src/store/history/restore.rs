//! Restoring a past state by new changes.

use super::diff::{Diff, DiffPage, Difference, Scope};
use super::point::Point;
use crate::error::{FailedCondition, Rejection, Result};
use crate::log::{ChangeKind, Meta};
use crate::seq::Seq;
use crate::state::{Batch, Entry};

/// No store accepts larger batches, so a restore that needs more writes is refused without reading on.
const MOST_WRITES: usize = 1_000_000;
const MOST_BYTES: usize = 512 << 20;

/// Which keys to restore, and to which point of the history. Passed to
/// [`restore`](crate::StateStore::restore).
///
/// Each key that has another value now is set to the value that it had at the point, or deleted if it did not
/// exist. All of it is one commit of new changes, so the history stays and the restore can itself be undone.
/// A value that comes back does not end by itself, also if it did then: its [`until`](crate::Entry::until) is `None`.
/// The metadata has the cause `restored`, and the label `restored_from` names the position.
/// [`Restore::diff`] shows beforehand what would change. A restore must fit the limits of a batch.
///
/// ```
/// use univrs_state::history::Restore;
/// use univrs_state::{MemoryStore, Seq, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// store.set("/config/rate", b"7".to_vec()).await?;
/// let good = store.head().await?;
/// store.set("/config/rate", b"0".to_vec()).await?;
/// store.set("/config/new", b"1".to_vec()).await?;
///
/// let restore = Restore::prefix("/config/", good);
/// assert_eq!(store.diff(restore.diff()).await?.differences.len(), 2);
/// let receipt = store.restore(restore).await?;
/// assert_eq!(receipt.last, Seq::new(5));
/// assert_eq!(store.get("/config/rate").await?.unwrap().value, b"7");
/// assert!(!store.exists("/config/new").await?);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a restore does nothing until it is given to a store"]
pub struct Restore {
    scope: Scope,
    to: Point,
    meta: Meta,
    unchanged_since: Option<Seq>,
}

impl Restore {
    /// Restores all keys that start with these bytes, except reserved keys.
    pub fn prefix(prefix: impl Into<String>, to: impl Into<Point>) -> Self {
        Self::in_scope(Scope::Prefix(prefix.into()), to.into())
    }

    /// Restores these keys.
    pub fn keys<K: Into<String>>(keys: impl IntoIterator<Item = K>, to: impl Into<Point>) -> Self {
        Self::in_scope(Scope::keys(keys), to.into())
    }

    fn in_scope(scope: Scope, to: Point) -> Self {
        Self { scope, to, meta: Meta::new(), unchanged_since: None }
    }

    /// Refuses the restore if a key that it would change has changed after this position. So a restore that takes
    /// back a commit does not take back later changes of others.
    pub fn expect_unchanged_since(self, seq: Seq) -> Self {
        Self { unchanged_since: Some(seq), ..self }
    }

    /// Sets who restores and why.
    pub fn meta(self, meta: Meta) -> Self {
        Self { meta, ..self }
    }

    /// The differences that the restore would undo now: between the current state and the point. Keys with the
    /// [same value](crate::history::Difference::is_same_value) are not changed, and end as they do now.
    #[must_use]
    pub fn diff(&self) -> Diff {
        Diff::in_scope(Point::Head, self.to, self.scope.clone())
    }
}

/// Turns the differences into the batch that restores a state. It asks for pages of differences, and for the
/// last changes of deleted keys, which the pages do not have.
pub(crate) struct RestorePlan {
    meta: Meta,
    unchanged_since: Option<Seq>,
    batch: Batch,
    from: Seq,
    next: Option<Diff>,
    failed: Vec<FailedCondition>,
}

impl RestorePlan {
    pub(crate) fn new(restore: Restore) -> Self {
        let next = Some(restore.diff());
        let Restore { meta, unchanged_since, .. } = restore;
        Self { meta, unchanged_since, batch: Batch::new(), from: Seq::ZERO, next, failed: Vec::new() }
    }

    /// The next page of differences to read; `None` if there are no more.
    pub(crate) fn next_page(&mut self) -> Option<Diff> {
        self.next.take()
    }

    /// Adds a page; returns the keys that are deleted now, whose last change must be looked up.
    pub(crate) fn take(&mut self, page: DiffPage) -> Result<Vec<String>> {
        self.from = page.to.seq();
        let mut unknown = Vec::new();
        for difference in page.differences.iter().filter(|difference| !difference.is_same_value()) {
            match &difference.before {
                Some(before) => self.changed_at(&difference.key, before.seq),
                None if self.unchanged_since.is_some() => unknown.push(difference.key.clone()),
                None => {}
            }
            let batch = std::mem::take(&mut self.batch);
            self.batch = bring_back(batch, difference)?;
        }
        let refused = self.batch.len() > MOST_WRITES || self.batch.size() > MOST_BYTES;
        self.next = page.next.filter(|_| !refused);
        Ok(unknown)
    }

    /// Adds the position of the last change of a key that is deleted now.
    pub(crate) fn changed_at(&mut self, key: &str, found: Seq) {
        if let Some(expected) = self.unchanged_since.filter(|since| found > *since) {
            let (prefix, key) = (key.to_owned(), Some(key.to_owned()));
            self.failed.push(FailedCondition::ChangedSince { prefix, expected, found, key });
        }
    }

    /// The batch; an error if a key has changed after the position of
    /// [`expect_unchanged_since`](Restore::expect_unchanged_since).
    pub(crate) fn into_batch(mut self) -> Result<Batch> {
        if self.failed.is_empty() {
            return Ok(self.batch.meta(self.meta).restored(self.from));
        }
        self.failed.sort_by(|a, b| changed_key(a).cmp(&changed_key(b)));
        Err(Rejection { failed: self.failed }.into())
    }
}

fn changed_key(failed: &FailedCondition) -> Option<&str> {
    match failed {
        FailedCondition::ChangedSince { key, .. } => key.as_deref(),
        FailedCondition::Version { key, .. } => Some(key),
    }
}

/// Adds the write that restores one key, on the condition that the key does not change meanwhile.
fn bring_back(batch: Batch, difference: &Difference) -> Result<Batch> {
    let version = difference.before.as_ref().map_or(0, |before| before.version);
    let key = difference.key.clone();
    let batch = batch.expect(key.clone(), version);
    Ok(match (difference.kind(), &difference.after) {
        (ChangeKind::Created | ChangeKind::Updated, Some(after)) => match Entry::left_by(after)? {
            Some(entry) => batch.set(key, entry.value),
            None => batch.delete(key),
        },
        _ => batch.delete(key),
    })
}
