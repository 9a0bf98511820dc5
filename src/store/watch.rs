//! Live streams: cursors over the log, woken by the bell.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;
use tokio_stream::Stream;

use super::WatchEvent;
use super::core::Core;
use super::read::{self, WatchPage};
use super::shared::{Shared, Watcher};
use crate::error::{Result, StateError};
use crate::log::{Cursor, Head};
use crate::pattern::Pattern;

/// The changes of matching keys, in order, each once, none left out, from a position on.
///
/// A stream never skips: however slow its reader, it reads the log from its own cursor, a page at
/// a time, so its memory is bounded. It ends only when the store closes or with a cause, which
/// [`try_next`](Self::try_next) returns. All methods are cancel safe. A stream does not keep the
/// store open.
///
/// ```
/// use univrs_state::{MemoryStore, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// let mut stream = store.watch("/nodes/*")?;
/// store.set("/nodes/n1", b"up".to_vec()).await?;
/// while let Some(event) = stream.try_next().await? {
///     println!("{} {}", event.seq, event.key);
///     save(stream.cursor().to_string()); // resume here with watch_after
/// #   break;
/// }
/// # fn save(_: String) {}
/// # Ok(()) }
/// ```
pub struct WatchStream {
    core: Weak<Core>,
    shared: Arc<Shared>,
    watcher: Arc<Watcher>,
    cursor: Cursor,
    /// Whole commits that were read and not yet delivered in full.
    commits: VecDeque<Pending>,
    /// Where `commits` end: passed over once they are delivered.
    end: Cursor,
    state: State,
}

/// The rest of a commit.
struct Pending {
    events: VecDeque<WatchEvent>,
    head: Head,
}

enum State {
    /// Nothing of the log was read yet: the cursor is still to be checked.
    Fresh,
    /// Waiting for a page.
    Reading(oneshot::Receiver<Result<WatchPage>>),
    /// Everything that was read is delivered.
    Idle,
    /// Over; the cause is told once by `try_next` and kept for `error`.
    Ended { cause: StateError, told: bool },
}

impl WatchStream {
    pub(super) fn new(core: Weak<Core>, shared: Arc<Shared>, pattern: Pattern, after: Cursor) -> Self {
        let watcher = shared.join(pattern, after.seq());
        Self {
            core,
            shared,
            watcher,
            cursor: after,
            commits: VecDeque::new(),
            end: after,
            state: State::Fresh,
        }
    }

    /// The pattern.
    pub fn pattern(&self) -> &str {
        self.watcher.pattern().as_str()
    }

    /// Where to resume: after the last whole commit that was delivered or passed over. It
    /// advances while nothing matches, each time the stream is polled.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Why the stream ended; none while it has not.
    pub fn error(&self) -> Option<&StateError> {
        match &self.state {
            State::Ended { cause, .. } => Some(cause),
            _ => None,
        }
    }

    /// The next event, waiting for it; none after the stream has ended, see [`error`](Self::error).
    pub async fn next(&mut self) -> Option<WatchEvent> {
        self.try_next().await.ok().flatten()
    }

    /// The next event, waiting for it.
    ///
    /// # Errors
    /// The cause of the end, once (after it `Ok(None)`): [`Closed`](StateError::Closed) when the store
    /// closes, [`CursorDiverged`](StateError::CursorDiverged) or [`Compacted`](StateError::Compacted)
    /// when the position cannot be resumed from, [`Corrupted`](StateError::Corrupted) when the log
    /// contradicts its hashes, or a storage error. [`cursor`](Self::cursor) still says where to resume.
    pub async fn try_next(&mut self) -> Result<Option<WatchEvent>> {
        poll_fn(|context| self.poll_event(context)).await.transpose()
    }

    /// The same stream by whole commits: the matching events of each, in order.
    pub fn commits(self) -> Commits {
        Commits(self)
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<WatchEvent>>> {
        let Some(pending) = ready!(self.poll_commit(context)) else { return Poll::Ready(self.tell()) };
        let event = pending.events.pop_front();
        if pending.events.is_empty() {
            self.delivered();
        }
        // A commit that is pending has events.
        event.map_or(Poll::Ready(None), |event| Poll::Ready(Some(Ok(event))))
    }

    /// The commit that is due, or none at the end of the stream.
    fn poll_commit(&mut self, context: &mut Context<'_>) -> Poll<Option<&mut Pending>> {
        while self.commits.is_empty() {
            match &mut self.state {
                State::Ended { .. } => return Poll::Ready(None),
                State::Reading(page) => match ready!(Pin::new(page).poll(context)) {
                    Ok(Ok(page)) => self.take(page),
                    Ok(Err(cause)) => self.finish(cause),
                    Err(_) => self.finish(StateError::Closed),
                },
                State::Idle | State::Fresh => {
                    self.watcher.listen(context.waker());
                    let behind =
                        matches!(self.state, State::Fresh) || self.shared.head().seq > self.end.seq();
                    if self.shared.is_closed() {
                        self.finish(StateError::Closed);
                    } else if behind {
                        self.read_on();
                    } else {
                        return Poll::Pending;
                    }
                }
            }
        }
        Poll::Ready(self.commits.front_mut())
    }

    fn read_on(&mut self) {
        let Some(core) = self.core.upgrade() else { return self.finish(StateError::Closed) };
        let (watcher, after) = (self.watcher.clone(), self.end);
        let page = core.start(move |snapshot| read::watch(snapshot, watcher.pattern(), after));
        self.state = State::Reading(page);
    }

    fn take(&mut self, page: WatchPage) {
        self.commits =
            page.commits.into_iter().map(|(events, head)| Pending { events: events.into(), head }).collect();
        self.end = Cursor::new(self.shared.store, page.end);
        self.state = State::Idle;
        if self.commits.is_empty() {
            self.move_to(self.end);
        }
    }

    /// The first commit has been delivered in full; with the last one, so has the page.
    fn delivered(&mut self) {
        if let Some(done) = self.commits.pop_front() {
            let cursor = Cursor::new(self.shared.store, done.head);
            self.move_to(if self.commits.is_empty() { self.end } else { cursor });
        }
    }

    fn move_to(&mut self, cursor: Cursor) {
        self.cursor = cursor;
        self.watcher.moved_to(cursor.seq());
    }

    fn finish(&mut self, cause: StateError) {
        self.state = State::Ended { cause, told: false };
    }

    /// The cause of the end, the first time.
    fn tell<T>(&mut self) -> Option<Result<T>> {
        match &mut self.state {
            State::Ended { cause, told: told @ false } => {
                *told = true;
                Some(Err(cause.clone()))
            }
            _ => None,
        }
    }
}

impl Stream for WatchStream {
    type Item = WatchEvent;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        self.get_mut().poll_event(context).map(|event| event.and_then(Result::ok))
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.shared.leave(&self.watcher);
    }
}

impl fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchStream")
            .field("pattern", &self.pattern())
            .field("cursor", &self.cursor)
            .field("error", &self.error())
            .finish_non_exhaustive()
    }
}

/// A watch by whole commits: each item has the matching events of one commit, in order.
#[derive(Debug)]
pub struct Commits(WatchStream);

impl Commits {
    /// The next commit's events, waiting for them; none after the stream has ended.
    pub async fn next(&mut self) -> Option<Vec<WatchEvent>> {
        self.try_next().await.ok().flatten()
    }

    /// The next commit's events, waiting for them.
    ///
    /// # Errors
    /// As those of [`WatchStream::try_next`].
    pub async fn try_next(&mut self) -> Result<Option<Vec<WatchEvent>>> {
        poll_fn(|context| self.poll_commit(context)).await.transpose()
    }

    /// Where to resume: after the last commit that was delivered or passed over.
    pub fn cursor(&self) -> Cursor {
        self.0.cursor()
    }

    /// Why the stream ended; none while it has not.
    pub fn error(&self) -> Option<&StateError> {
        self.0.error()
    }

    fn poll_commit(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Vec<WatchEvent>>>> {
        let Some(pending) = ready!(self.0.poll_commit(context)) else { return Poll::Ready(self.0.tell()) };
        let events = std::mem::take(&mut pending.events).into();
        self.0.delivered();
        Poll::Ready(Some(Ok(events)))
    }
}

impl Stream for Commits {
    type Item = Vec<WatchEvent>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Vec<WatchEvent>>> {
        self.get_mut().poll_commit(context).map(|commit| commit.and_then(Result::ok))
    }
}
