//! Scans and their pages.

use crate::limits::Limits;
use crate::log::Cursor;
use crate::seq::Seq;
use crate::state::Entry;
use crate::store::resident::Pinned;

/// What to read: the entries whose keys start with a prefix, in the order of keys. Passed to
/// [`scan`](crate::StateStore::scan), which returns a page at a time.
///
/// All pages of a scan are of one state, that of the first page. Follow [`Page::next`] to the end. A page has at
/// most [`Limits::page_entries`](crate::Limits::page_entries) entries and ends early after 4 MiB.
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
    /// The state that the scan goes on reading, if it is in memory.
    pub(crate) pinned: Option<Pinned>,
    pub(crate) skip_erased: bool,
    /// About how many bytes a page has at most.
    pub(crate) bytes: usize,
}

impl Scan {
    /// Reads the entries whose keys start with these bytes, which are never a pattern. Reserved keys are read only
    /// if the prefix names them.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            after: None,
            limit: None,
            as_of: None,
            pinned: None,
            skip_erased: false,
            bytes: Limits::PAGE_BYTES,
        }
    }

    /// Reads only keys after this one, in the order of bytes.
    #[must_use]
    pub fn after(mut self, key: impl Into<String>) -> Self {
        self.after = Some(key.into());
        self
    }

    /// The most entries of a page. The default is [`Limits::page_entries`](crate::Limits::page_entries); more is an
    /// error. A page ends early after 4 MiB.
    #[must_use]
    pub fn limit(mut self, entries: usize) -> Self {
        self.limit = Some(entries);
        self
    }

    /// Lists keys whose values were erased in [`Page::erased`]. Without this, such a key makes the scan an error.
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
    /// How many times the key has changed. If the key is set again, its version goes on from here.
    pub version: u64,
    /// The position of the change that deleted it.
    pub seq: Seq,
}

/// A page of entries, all of one state.
///
/// ```
/// use univrs_state::{MemoryStore, Scan, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// store.set("/nodes/n1", b"up".to_vec()).await?;
/// let page = store.scan(Scan::prefix("/nodes/")).await?;
/// let mut changes = store.watch_after("/nodes/*", page.cursor)?; // every change after this page
/// store.set("/nodes/n1", b"down".to_vec()).await?;
/// assert_eq!(page.entries[0].value, b"up");
/// assert_eq!(changes.try_next().await?.unwrap().new_value.unwrap(), b"down");
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// The entries, in the order of keys; of `get_many` in the order of the request.
    pub entries: Vec<Entry>,
    /// The position of the state that the entries are of. A watch that resumes from it delivers every later change.
    pub cursor: Cursor,
    /// Keys that exist, but whose values were erased. Only a scan that [skips](Scan::skip_erased) them fills this.
    pub erased: Vec<String>,
    /// The request of the next page, of the same state; `None` at the end. While the program keeps it, that state
    /// may stay in memory.
    pub next: Option<Scan>,
}

impl Page {
    /// An empty page of this position.
    pub(crate) fn at(cursor: Cursor) -> Self {
        Self { entries: Vec::new(), cursor, erased: Vec::new(), next: None }
    }

    /// The last key on it.
    pub(crate) fn last_key(&self) -> Option<&str> {
        let entry = self.entries.last().map(|entry| entry.key.as_str());
        entry.max(self.erased.last().map(String::as_str))
    }
}
