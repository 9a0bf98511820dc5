//! Scans and what they return.

use crate::log::Cursor;
use crate::seq::Seq;
use crate::state::Entry;
use crate::store::resident::Pinned;

/// What to read: the entries whose keys start with a prefix, a page at a time.
///
/// All pages of one scan are one state: the first page's. Follow [`Page::next`] to the end.
///
/// ```
/// use univrs_state::{MemoryStore, Scan, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// for n in 0..5 {
///     store.set(&format!("/nodes/n{n}"), b"up".to_vec()).await?;
/// }
/// let mut entries = Vec::new();
/// let mut next = Some(Scan::prefix("/nodes/").limit(2));
/// while let Some(scan) = next {
///     let page = store.scan(scan).await?;
///     entries.extend(page.entries);
///     next = page.next;
/// }
/// assert_eq!(entries.len(), 5);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    pub(crate) prefix: String,
    pub(crate) after: Option<String>,
    pub(crate) limit: Option<usize>,
    pub(crate) as_of: Option<Cursor>,
    /// The state that it goes on reading, where that is in memory.
    pub(crate) pinned: Option<Pinned>,
    pub(crate) skip_erased: bool,
}

impl Scan {
    /// The entries whose keys start with these bytes; never a pattern. Reserved keys only if the
    /// prefix names them.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            after: None,
            limit: None,
            as_of: None,
            pinned: None,
            skip_erased: false,
        }
    }

    /// Only keys after this one, in the order of bytes.
    #[must_use]
    pub fn after(mut self, key: impl Into<String>) -> Self {
        self.after = Some(key.into());
        self
    }

    /// At most so many entries in a page; by default as many as the store's limit allows. A page
    /// of large values ends earlier.
    #[must_use]
    pub fn limit(mut self, entries: usize) -> Self {
        self.limit = Some(entries);
        self
    }

    /// Where a value was erased, name its key in [`Page::erased`] instead of refusing the page.
    #[must_use]
    pub fn skip_erased(mut self) -> Self {
        self.skip_erased = true;
        self
    }
}

/// A key that was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeletedKey {
    /// The key.
    pub key: String,
    /// Its count of changes; that of a new life goes on from here.
    pub version: u64,
    /// The place of the change that deleted it.
    pub seq: Seq,
}

/// Entries of one state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// The entries.
    pub entries: Vec<Entry>,
    /// The position that they are of. A watch resumed from here misses nothing.
    pub cursor: Cursor,
    /// Keys that exist, but whose values are gone: only where a scan [skips](Scan::skip_erased) them.
    pub erased: Vec<String>,
    /// What reads on from here, in the same state; none at the end. While it is kept, that state may
    /// stay in memory.
    pub next: Option<Scan>,
}

impl Page {
    /// A page of this position, with nothing on it yet.
    pub(crate) fn at(cursor: Cursor) -> Self {
        Self { entries: Vec::new(), cursor, erased: Vec::new(), next: None }
    }

    /// The last key on it.
    pub(crate) fn last_key(&self) -> Option<&str> {
        let entry = self.entries.last().map(|entry| entry.key.as_str());
        entry.max(self.erased.last().map(String::as_str))
    }
}
