//! Bringing back what was, as new changes.

use super::diff::Scope;
use super::{Diff, Difference, Point, Receipt, StateStore};
use crate::error::{FailedCondition, Rejection, Result};
use crate::log::{ChangeKind, Meta};
use crate::seq::Seq;
use crate::state::{Batch, Entry};

/// No store takes larger batches: where one grows beyond, it is refused without reading on.
const MOST_WRITES: usize = 1_000_000;
const MOST_BYTES: usize = 512 << 20;

/// What to bring back, and as of when.
///
/// Every key that has another value now is set to its value of then, or deleted if it did not exist,
/// in one commit of new changes; nothing of the history goes. Their metadata has the cause `restored`,
/// and the label `restored_from` says of which position. What it would do beforehand:
/// [`Restore::diff`].
///
/// ```
/// use univrs_state::{MemoryStore, Restore, Seq, StateStore};
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
    /// All keys that start with these bytes, but for reserved ones.
    pub fn prefix(prefix: impl Into<String>, to: impl Into<Point>) -> Self {
        Self::of(Scope::Prefix(prefix.into()), to.into())
    }

    /// These keys.
    pub fn keys<K: Into<String>>(keys: impl IntoIterator<Item = K>, to: impl Into<Point>) -> Self {
        Self::of(Scope::keys(keys), to.into())
    }

    fn of(scope: Scope, to: Point) -> Self {
        Self { scope, to, meta: Meta::new(), unchanged_since: None }
    }

    /// Refuse it if a key that it would change was changed after this position: by others than those
    /// whose work it takes back.
    pub fn expect_unchanged_since(self, seq: Seq) -> Self {
        Self { unchanged_since: Some(seq), ..self }
    }

    /// Say who restores and why.
    pub fn meta(self, meta: Meta) -> Self {
        Self { meta, ..self }
    }

    /// What it would do now: what is different at the point from what is. Keys with the
    /// [same value](super::Difference::is_same_value) are left alone.
    #[must_use]
    pub fn diff(&self) -> Diff {
        Diff::of(Point::Head, self.to, self.scope.clone())
    }
}

/// Commits what brings a store back; refused if one of the keys changes meanwhile.
pub(super) async fn restore<S: StateStore + ?Sized>(store: &S, restore: Restore) -> Result<Receipt> {
    let mut batch = Batch::new();
    let mut next = Some(restore.diff());
    let (mut from, mut failed) = (Seq::ZERO, Vec::new());
    while let Some(diff) = next {
        let page = store.diff(diff).await?;
        from = page.to.seq();
        for difference in page.differences.iter().filter(|difference| !difference.is_same_value()) {
            if let Some(since) = restore.unchanged_since {
                failed.extend(changed_since(store, difference, since).await?);
            }
            let version = difference.before.as_ref().map_or(0, |before| before.version);
            let key = difference.key.clone();
            batch = batch.expect(key.clone(), version);
            batch = match (difference.kind(), &difference.after) {
                (ChangeKind::Created | ChangeKind::Updated, Some(after)) => match Entry::left_by(after)? {
                    Some(entry) => batch.set(key, entry.value),
                    None => batch.delete(key),
                },
                _ => batch.delete(key),
            };
        }
        let refused = batch.len() > MOST_WRITES || batch.size() > MOST_BYTES;
        next = page.next.filter(|_| !refused);
    }
    if !failed.is_empty() {
        return Err(Rejection { failed }.into());
    }
    store.commit(batch.meta(restore.meta).restored(from)).await
}

/// The condition that fails where a key was changed after a position.
async fn changed_since<S: StateStore + ?Sized>(
    store: &S,
    difference: &Difference,
    since: Seq,
) -> Result<Option<FailedCondition>> {
    let key = &difference.key;
    let found = match &difference.before {
        Some(before) => before.seq,
        // It is deleted now; the log knows since when.
        None => store.history(key, None, 1).await?.first().map_or(Seq::ZERO, |last| last.seq),
    };
    let changed =
        FailedCondition::ChangedSince { prefix: key.clone(), expected: since, found, key: Some(key.clone()) };
    Ok((found > since).then_some(changed))
}
