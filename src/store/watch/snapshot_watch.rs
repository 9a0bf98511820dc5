//! The entries of a state and then every change after it, in one stream without a gap.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;
use tokio_stream::Stream;

use super::event::WatchEvent;
use super::held::{Claim, Held};
use super::stream::{WatchStream, proceed};
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::limits::Limits;
use crate::log::Cursor;
use crate::pattern::Pattern;
use crate::state::Entry;
use crate::store::open_store::OpenStore;
use crate::store::read::{Page, Scan};
use crate::store::session::Session;

/// An item of a [`SnapshotWatch`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotEvent {
    /// An entry of the snapshot.
    Entry(Entry),
    /// The end of the snapshot, and the position that it is of. If no entry came before, no key matches.
    End(Cursor),
    /// A change after the snapshot.
    Change(WatchEvent),
}

/// The entries of one state and then every change after it: what a program needs that holds a copy of a part
/// of the store. Made by [`watch_with_snapshot`](crate::StateStore::watch_with_snapshot).
///
/// The stream delivers the entries of one state whose keys match a pattern, in the order of keys; then
/// [`SnapshotEvent::End`], even if there are no entries; then every matching change after that state, in order
/// and once. The snapshot is read in pages, so it may be larger than memory. The pages of all watches of a store share
/// one budget ([`Options::watch_bytes`](crate::Options::watch_bytes)).
///
/// Before the end of the snapshot the stream cannot be resumed: start a new one. After it, resume from
/// [`cursor`](Self::cursor) with [`watch_after`](crate::StateStore::watch_after). The stream ends like a
/// [`WatchStream`], with the same [causes](WatchStream#recovery), and like it does not keep the store open.
///
/// ```
/// use univrs_state::watch::SnapshotEvent;
/// use univrs_state::{MemoryStore, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// store.set("/nodes/n1", b"up".to_vec()).await?;
/// let mut nodes = store.watch_with_snapshot("/nodes/*")?;
/// assert!(matches!(nodes.try_next().await?, Some(SnapshotEvent::Entry(entry)) if entry.key == "/nodes/n1"));
/// assert!(matches!(nodes.try_next().await?, Some(SnapshotEvent::End(_))));
/// store.delete("/nodes/n1").await?;
/// assert!(matches!(nodes.try_next().await?, Some(SnapshotEvent::Change(change)) if change.new_value.is_none()));
/// # Ok(()) }
/// ```
pub struct SnapshotWatch {
    core: Weak<OpenStore>,
    shared: Arc<Session>,
    pattern: Pattern,
    phase: Phase,
    claim: Claim,
    /// How many matching entries were delivered of a page that was lost: so many are passed over.
    skip: usize,
}

enum Phase {
    /// A page of the snapshot must be read; `None` is the first page.
    Due(Option<Scan>),
    /// The page of this request is being read.
    Reading { read: oneshot::Receiver<Result<()>>, page: Arc<Held<Entries>>, request: Option<Scan> },
    /// The entries of a page are being delivered. `passed` of them were.
    Page { page: Arc<Held<Entries>>, request: Option<Scan>, cursor: Cursor, passed: usize },
    /// The snapshot is complete.
    Changes(WatchStream),
    /// The stream ended within the snapshot. `try_next` returns the cause once; `error` keeps it.
    Ended { cause: StateError, told: bool },
}

/// The entries of a page that are still to be delivered.
struct Entries {
    left: VecDeque<Entry>,
    cursor: Cursor,
    next: Option<Scan>,
}

impl Entries {
    fn of(page: Page, pattern: &Pattern) -> Self {
        let left = page.entries.into_iter().filter(|entry| pattern.matches(&entry.key)).collect();
        Self { left, cursor: page.cursor, next: page.next }
    }

    /// About how many bytes they take in memory.
    fn bytes(&self) -> usize {
        self.left.iter().map(|entry| size_of::<Entry>() + entry.key.len() + entry.value.len()).sum()
    }
}

impl SnapshotWatch {
    pub(crate) fn new(core: Weak<OpenStore>, shared: Arc<Session>, pattern: Pattern) -> Self {
        Self { core, shared, pattern, phase: Phase::Due(None), claim: Claim::default(), skip: 0 }
    }

    /// The pattern.
    pub fn pattern(&self) -> &str {
        self.pattern.as_str()
    }

    /// Where to resume, as [`WatchStream::cursor`]; `None` before the end of the snapshot.
    pub fn cursor(&self) -> Option<Cursor> {
        match &self.phase {
            Phase::Changes(watch) => Some(watch.cursor()),
            _ => None,
        }
    }

    /// The cause of the end; `None` if the stream has not ended.
    pub fn error(&self) -> Option<&StateError> {
        match &self.phase {
            Phase::Changes(watch) => watch.error(),
            Phase::Ended { cause, .. } => Some(cause),
            _ => None,
        }
    }

    /// Waits for the next item; `None` after the end, which only [`error`](Self::error) explains.
    /// [`try_next`](Self::try_next) returns the cause instead. Cancel safe.
    pub async fn next(&mut self) -> Option<SnapshotEvent> {
        self.try_next().await.ok().flatten()
    }

    /// Waits for the next item. Cancel safe.
    ///
    /// # Errors
    /// Those of [`WatchStream::try_next`].
    pub async fn try_next(&mut self) -> Result<Option<SnapshotEvent>> {
        poll_fn(|context| self.poll_item(context)).await.transpose()
    }

    pub(super) fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<SnapshotEvent>>> {
        // In a fork, no thread would answer.
        if self.shared.is_forked() && !matches!(self.phase, Phase::Changes(_) | Phase::Ended { .. }) {
            self.phase = ended(self.shared.check_open().err().unwrap_or(StateError::Closed));
        }
        loop {
            match &mut self.phase {
                Phase::Due(_) => ready!(self.read(context)),
                Phase::Reading { read, .. } => {
                    let read = ready!(Pin::new(read).poll(context));
                    self.take(read.unwrap_or_else(|_| Err(self.shared.unanswered())));
                }
                Phase::Page { page, passed, .. } => {
                    ready!(proceed(context));
                    match page.with(|page| page.left.pop_front()) {
                        Ok(Some(entry)) => {
                            *passed += 1;
                            page.delivers();
                            self.claim.delivered();
                            return Poll::Ready(Some(Ok(SnapshotEvent::Entry(entry))));
                        }
                        Ok(None) => {
                            if let Some(end) = self.end_page() {
                                return Poll::Ready(Some(Ok(SnapshotEvent::End(end))));
                            }
                        }
                        Err(need) => self.lose(need),
                    }
                }
                Phase::Changes(watch) => {
                    let event = ready!(watch.poll_event(context));
                    return Poll::Ready(event.map(|event| event.map(SnapshotEvent::Change)));
                }
                Phase::Ended { told: true, .. } => return Poll::Ready(None),
                Phase::Ended { cause, told } => {
                    *told = true;
                    return Poll::Ready(Some(Err(cause.clone())));
                }
            }
        }
    }

    /// Starts to read the page that is due, when there is room for it.
    fn read(&mut self, context: &Context<'_>) -> Poll<()> {
        let Phase::Due(request) = &self.phase else { return Poll::Ready(()) };
        let Some(core) = self.core.upgrade() else {
            self.phase = ended(StateError::Closed);
            return Poll::Ready(());
        };
        let budget = self.shared.registry().budget();
        let bytes = Claim::page(budget).min(Limits::PAGE_BYTES);
        let page = match Held::ask(budget, bytes, self.claim, context.waker()) {
            Ok(page) => page,
            Err(denied) => return self.claim.wait(denied, context),
        };
        let (held, pattern, need, request) =
            (page.clone(), self.pattern.clone(), self.claim.need, request.clone());
        let read = core.start_snapshot(&self.pattern, request.clone(), bytes, move |page| {
            held.fill(need, page.map(|page| Entries::of(page, &pattern)), Entries::bytes)
        });
        self.phase = Phase::Reading { read, page, request };
        Poll::Ready(())
    }

    fn take(&mut self, read: Result<()>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Due(None));
        let Phase::Reading { page, request, .. } = phase else { return };
        let skip = self.skip;
        let taken = page.with(|page| {
            let passed = skip.min(page.left.len());
            page.left.drain(..passed);
            (page.cursor, passed)
        });
        self.phase = match (read, taken) {
            (Err(cause), _) => ended(cause),
            (Ok(()), Ok((cursor, passed))) => {
                self.skip -= passed;
                Phase::Page { page, request, cursor, passed }
            }
            (Ok(()), Err(need)) => {
                self.claim.lost(need);
                Phase::Due(request)
            }
        };
    }

    /// Goes on behind a page that was delivered. At the end of the snapshot, returns its position.
    fn end_page(&mut self) -> Option<Cursor> {
        let Phase::Page { page, cursor, .. } = &self.phase else { return None };
        let cursor = *cursor;
        match page.with(|page| page.next.take()) {
            Ok(None) => {
                self.phase = self.changes_after(cursor);
                Some(cursor)
            }
            Ok(next) => {
                self.phase = Phase::Due(next);
                None
            }
            Err(need) => {
                self.lose(need);
                None
            }
        }
    }

    /// Reads a page again that is lost: of the same state, if something of it was delivered.
    fn lose(&mut self, need: usize) {
        let phase = std::mem::replace(&mut self.phase, Phase::Due(None));
        let Phase::Page { request, cursor, passed, .. } = phase else { return };
        self.claim.lost(need);
        self.skip += passed;
        let again = || Scan { as_of: Some(cursor), ..Scan::prefix(self.pattern.prefix()) };
        let request = if self.skip > 0 { request.or_else(|| Some(again())) } else { request };
        self.phase = Phase::Due(request);
    }

    /// The phase of the changes after the snapshot.
    fn changes_after(&self, cursor: Cursor) -> Phase {
        let (core, shared, pattern) = (self.core.clone(), self.shared.clone(), self.pattern.clone());
        let watch = match cursor.head() {
            _ if failpoint("snapshot_gap") => {
                let head = shared.head();
                WatchStream::from_head(core, shared, pattern, head)
            }
            Some(head) => WatchStream::from_head(core, shared, pattern, head),
            None => WatchStream::after(core, shared, pattern, cursor),
        };
        if let Some(core) = self.core.upgrade() {
            core.attend();
        }
        Phase::Changes(watch)
    }
}

fn ended(cause: StateError) -> Phase {
    Phase::Ended { cause, told: false }
}

/// The shape of older programs: the stream just ends, and only [`SnapshotWatch::error`] says why.
/// [`SnapshotWatch::results`] is a stream that tells.
impl Stream for SnapshotWatch {
    type Item = SnapshotEvent;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<SnapshotEvent>> {
        self.get_mut().poll_item(context).map(|item| item.and_then(Result::ok))
    }
}

impl fmt::Debug for SnapshotWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotWatch")
            .field("pattern", &self.pattern())
            .field("cursor", &self.cursor())
            .field("error", &self.error())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::seq::Seq;

    #[test]
    fn entries_take_the_room_of_their_keys_and_values_and_those_that_do_not_match_take_none() {
        let now = SystemTime::now();
        let entry = |key: &str, bytes| Entry {
            key: key.into(),
            value: vec![0; bytes],
            version: 1,
            created_at: now,
            updated_at: now,
            seq: 1.into(),
            until: None,
        };
        let mut page = Page::at(Seq::ZERO.into());
        page.entries = vec![entry("/a/1", 100), entry("/b", 5_000), entry("/a/long", 0)];
        let entries = Entries::of(page, &"/a/*".parse().unwrap());
        assert_eq!(entries.bytes(), 2 * size_of::<Entry>() + 4 + 100 + 7);
    }
}
