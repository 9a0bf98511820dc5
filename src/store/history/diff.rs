//! Differences between the states at two points.

use std::ops::ControlFlow;

use super::point::{self, Point};
use crate::backend::{Snapshot, Visit};
use crate::error::{Result, StateError};
use crate::key::{KeyRange, validate_key, validate_prefix};
use crate::limits::{Exceeded, Limits};
use crate::log::{Change, ChangeKind, Cursor};
use crate::seq::Seq;
use crate::store::read::key_history;

/// What to compare: the states at two points, of all keys, of the keys with a prefix, or of some keys. Passed to
/// [`diff`](crate::StateStore::diff), which returns a page at a time. Either point may be the earlier one.
///
/// ```
/// use univrs_state::history::{Diff, Point};
/// use univrs_state::{MemoryStore, Seq, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// store.set("/a", b"1".to_vec()).await?;
/// store.set("/a", b"2".to_vec()).await?;
/// store.set("/b", b"3".to_vec()).await?;
///
/// let mut next = Some(Diff::between(Seq::new(1), Point::Head).prefix("/"));
/// let mut found = Vec::new();
/// while let Some(diff) = next {
///     let page = store.diff(diff).await?;
///     found.extend(page.differences);
///     next = page.next;
/// }
/// let keys: Vec<&str> = found.iter().map(|difference| difference.key.as_str()).collect();
/// assert_eq!(keys, ["/a", "/b"]);
/// assert_eq!(found[0].before.as_ref().unwrap().value.as_deref(), Some(&b"1"[..]));
/// assert!(found[1].before.is_none());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    from: Point,
    to: Point,
    scope: Scope,
    after: Option<String>,
    limit: Option<usize>,
}

/// The keys that are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    Prefix(String),
    /// These keys, in order and without duplicates.
    Keys(Vec<String>),
}

/// A key that differs between the two points.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The key.
    pub key: String,
    /// Its last change as of the first point; `None` if the key was absent there.
    pub before: Option<Change>,
    /// Its last change as of the second point; `None` if the key had no change yet. If the key was deleted, this is
    /// the deletion, with who deleted it and why.
    pub after: Option<Change>,
}

/// A page of the differences between two points, in the order of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiffPage {
    /// The differences.
    pub differences: Vec<Difference>,
    /// The position of the first point.
    pub from: Cursor,
    /// The position of the second point.
    pub to: Cursor,
    /// The request of the next page; `None` at the end.
    pub next: Option<Diff>,
}

impl Diff {
    /// Compares the states at `from` and `to`, of all keys except reserved ones.
    pub fn between(from: impl Into<Point>, to: impl Into<Point>) -> Self {
        let scope = Scope::Prefix(String::new());
        Self { from: from.into(), to: to.into(), scope, after: None, limit: None }
    }

    /// Compares only keys that start with these bytes, which are never a pattern. Reserved keys are compared only if
    /// the prefix names them.
    #[must_use]
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        Self { scope: Scope::Prefix(prefix.into()), ..self }
    }

    /// Compares only these keys.
    #[must_use]
    pub fn keys<K: Into<String>>(self, keys: impl IntoIterator<Item = K>) -> Self {
        Self { scope: Scope::keys(keys), ..self }
    }

    /// Compares only keys after this one, in the order of bytes.
    #[must_use]
    pub fn after(self, key: impl Into<String>) -> Self {
        Self { after: Some(key.into()), ..self }
    }

    /// The most differences of a page. The default is [`Limits::page_entries`]; more is an error. A page ends early
    /// after 4 MiB.
    #[must_use]
    pub fn limit(self, differences: usize) -> Self {
        Self { limit: Some(differences), ..self }
    }

    pub(super) fn in_scope(from: Point, to: Point, scope: Scope) -> Self {
        Self { from, to, scope, after: None, limit: None }
    }

    pub(crate) fn check_scope(&self) -> Result<()> {
        self.scope.check_keys()
    }
}

impl Scope {
    pub(super) fn keys<K: Into<String>>(keys: impl IntoIterator<Item = K>) -> Self {
        let mut keys: Vec<String> = keys.into_iter().map(Into::into).collect();
        keys.sort_unstable();
        keys.dedup();
        Self::Keys(keys)
    }

    fn check_keys(&self) -> Result<()> {
        match self {
            Self::Prefix(prefix) => validate_prefix(prefix),
            Self::Keys(keys) => keys.iter().try_for_each(|key| validate_key(key)),
        }
    }

    /// Visits each key that has changed after a position, with the position of its last change.
    fn each(
        &self,
        snapshot: &dyn Snapshot,
        after: Option<&str>,
        visit: &mut Visit<'_, (String, Seq)>,
    ) -> Result<()> {
        match self {
            Self::Prefix(prefix) => {
                let range = KeyRange::prefix(prefix);
                snapshot.rows(&range, after, true, &mut |row| {
                    let (key, seq) = row.place()?;
                    if range.shows(key) {
                        visit((key.to_owned(), seq))
                    } else {
                        Ok(ControlFlow::Continue(()))
                    }
                })
            }
            Self::Keys(keys) => {
                for key in keys.iter().filter(|key| after.is_none_or(|after| key.as_str() > after)) {
                    if let Some(key_version) = snapshot.key_version(key)?
                        && visit((key.clone(), key_version.seq))?.is_break()
                    {
                        break;
                    }
                }
                Ok(())
            }
        }
    }
}

impl Difference {
    /// What happened to the key from the first point to the second, as one change.
    pub fn kind(&self) -> ChangeKind {
        let lives = self.after.as_ref().is_some_and(|after| after.kind != ChangeKind::Deleted);
        match (&self.before, lives) {
            (None, _) => ChangeKind::Created,
            (Some(_), true) => ChangeKind::Updated,
            (Some(_), false) => ChangeKind::Deleted,
        }
    }

    /// Whether the key has the same value at both points, although it was written in between.
    pub fn is_same_value(&self) -> bool {
        let value = |change: &Option<Change>| change.as_ref().and_then(|change| change.value.clone());
        value(&self.before).is_some_and(|before| value(&self.after) == Some(before))
    }

    /// The difference of a key; `None` if its last change is the same, or it is absent at both points.
    fn between(key: String, before: Option<Change>, after: Option<Change>) -> Option<Self> {
        let place = |change: &Option<Change>| change.as_ref().map(|change| change.seq);
        let lives = |change: &Change| change.kind != ChangeKind::Deleted;
        let same = place(&before) == place(&after);
        let before = before.filter(lives);
        let absent = before.is_none() && !after.as_ref().is_some_and(lives);
        (!same && !absent).then_some(Self { key, before, after })
    }

    fn size(&self) -> usize {
        let changes = [&self.before, &self.after];
        self.key.len() + changes.into_iter().flatten().map(Change::size).sum::<usize>()
    }
}

/// One page of the differences.
pub(crate) fn diff(snapshot: &dyn Snapshot, limits: &Limits, diff: &Diff) -> Result<DiffPage> {
    let limit = diff.limit.unwrap_or(limits.page_entries);
    if limit == 0 {
        return Err(StateError::InvalidArgument("a diff's limit is 0; it must be at least 1".into()));
    }
    Exceeded::check_limit(limit, limits.page_entries, "differences", || "the page of a diff".into())?;
    let cursor = |point| Ok(Cursor::new(snapshot.store_id(), point::find(snapshot, point)?.0));
    let (from, to): (Result<_>, Result<_>) = (cursor(diff.from), cursor(diff.to));
    let (from, to) = (from?, to?);
    let (low, high) = (from.seq().min(to.seq()), from.seq().max(to.seq()));
    let mut page = DiffPage { differences: Vec::new(), from, to, next: None };
    let mut bytes = 0;
    diff.scope.each(snapshot, diff.after.as_deref(), &mut |(key, newest)| {
        if newest <= low {
            return Ok(ControlFlow::Continue(()));
        }
        let later = key_history::back_to(snapshot, &key, newest, high)?;
        let earlier = match &later {
            Some(change) => key_history::back_to(snapshot, &key, change.seq, low)?,
            None => None,
        };
        let (before, after) = if from.seq() <= to.seq() { (earlier, later) } else { (later, earlier) };
        let Some(difference) = Difference::between(key, before, after) else {
            return Ok(ControlFlow::Continue(()));
        };
        bytes += difference.size();
        if let Some(last) = page.differences.last()
            && (page.differences.len() == limit || bytes > Limits::PAGE_BYTES)
        {
            let after = Some(last.key.clone());
            page.next = Some(Diff { from: from.into(), to: to.into(), after, ..diff.clone() });
            return Ok(ControlFlow::Break(()));
        }
        page.differences.push(difference);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(page)
}
