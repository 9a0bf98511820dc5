//! The stream of a watch: it reads the log from a cursor, and is woken when a matching change is published.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;
use tokio::task::consume_budget;
use tokio_stream::Stream;

use super::event::WatchEvent;
use super::held::Held;
use super::page::After;
use super::pages::{Pages, Reading};
use super::pending::{Deliveries, Delivery, Next};
use crate::error::{Result, StateError};
use crate::log::{Change, Cursor, Head};
use crate::pattern::Pattern;
use crate::store::feed::Watcher;
use crate::store::open_store::OpenStore;
use crate::store::session::Session;

/// The changes of the keys that match a pattern, after a position: in order, each once, and without a gap.
///
/// A stream never skips a change, however slow its reader is: it reads the log from its own cursor. It reads a
/// page at a time (1 000 changes or 4 MiB, with as much that they replaced; a large commit takes several), and the
/// pages of all streams of a store share one budget ([`Options::watch_bytes`](crate::Options::watch_bytes)), so memory
/// is bounded. A change is delivered only when it is as durable as the store promises. All methods are cancel safe. A
/// stream does not keep the store open.
///
/// Read it with [`try_next`](Self::try_next), or turn it with [`results`](Self::results) into a stream of results for
/// combinators: both tell why it ends. The stream itself, of bare events, is the shape of older programs: it just ends.
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
///
/// # States
/// - **Reading the log.** The stream is behind the end of the log: it was started by
///   [`watch_after`](crate::StateStore::watch_after), or its reader is slower than the writers. It
///   reads a page of the log, delivers what matches, and reads the next page. At its first page it also
///   checks its cursor.
/// - **Waiting.** The stream has delivered or passed over everything up to the end of the log. It takes
///   no processor time until a commit with a matching key, of this process or of another one, wakes it.
///   [`cursor`](Self::cursor) moves on at each poll, also over changes that do not match.
/// - **Ended.** [`try_next`](Self::try_next) has returned the cause as an error, once; after that it
///   returns `Ok(None)`, and [`error`](Self::error) keeps the cause. An ended stream never goes on:
///   start a new one.
///
/// # Recovery
/// [`cursor`](Self::cursor) always names the last whole commit that was delivered or passed over, also
/// after the end. A stream that ended within a commit delivers that commit's changes again when it is
/// resumed: a program recognises them by their [`seq`](super::WatchEvent::seq).
///
/// | cause | what to do next |
/// |---|---|
/// | [`Closed`](StateError::Closed) | this program closed the store: open it again and resume with `watch_after` |
/// | [`CursorDiverged`](StateError::CursorDiverged), [`Compacted`](StateError::Compacted) | the log has no such position, because the cursor is of another store, the file was replaced by an older copy, or old changes were dropped: read the state anew with [`watch_with_snapshot`](crate::StateStore::watch_with_snapshot) |
/// | [`Corrupted`](StateError::Corrupted) | the log contradicts its hashes: stop, and [`verify`](crate::LocalStore::verify) |
/// | [`Forked`](StateError::Forked) | this process is a fork of the one that opened the store: watch in that one |
/// | [`Storage`](StateError::Storage) that names a file as moved, replaced or removed, or as written by its owner | the store has ended: close it, open it again, and resume with `watch_after` |
/// | any other error | the storage failed: look at the machine, then resume with `watch_after` |
///
/// A part of a log, such as an export of some keys, cannot be watched, because changes are missing: the
/// call that starts a watch refuses it ([`Unsupported`](StateError::Unsupported)). Read its changes with
/// [`changes`](crate::StateStore::changes).
///
/// A program that holds a copy of a part of the store resumes, or reads anew, where a program can:
///
/// ```
/// use univrs_state::{Cursor, ErrorKind, MemoryStore, Result, Scan, StateStore};
///
/// async fn follow(store: &MemoryStore, cursor: &mut Cursor) -> Result<()> {
///     let mut watch = store.watch_after("/nodes/*", *cursor)?;
///     while let Some(event) = watch.try_next().await? {
///         println!("{} {}", event.event_type, event.key); // change the copy
///         *cursor = watch.cursor();
/// #       break;
///     }
///     Ok(())
/// }
///
/// async fn read_anew(store: &MemoryStore) -> Result<Cursor> {
///     let page = store.scan(Scan::prefix("/nodes/")).await?; // page by page, where there is much
///     println!("{} nodes", page.entries.len()); // replace the copy
/// #   store.set("/nodes/n1", b"up".to_vec()).await?;
///     Ok(page.cursor)
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
/// # let store = MemoryStore::new();
/// # let mut cursor = MemoryStore::new().watch("/*")?.cursor(); // of another store
/// while let Err(error) = follow(&store, &mut cursor).await {
///     match error.kind() {
///         ErrorKind::HistoryGone => cursor = read_anew(&store).await?,
///         ErrorKind::Storage => { /* wait a moment, then resume */ }
///         _ => return Err(error),
///     }
/// }
/// # assert_eq!(cursor.seq(), 1.into());
/// # Ok(()) }
/// ```
pub struct WatchStream {
    pub(super) pages: Pages,
    cursor: Cursor,
    /// The head after the last change that was delivered. It may be within the commit after the cursor.
    delivered: Head,
    /// What was read and not yet delivered in full.
    page: Option<Arc<Held<Deliveries>>>,
    /// The end of `page`, and whether a commit ends there.
    end: Head,
    whole: bool,
    /// The next page of the log, which is read while `page` is delivered.
    ahead: Option<Reading>,
    /// The number of alarms after which the log was read.
    alarms: u64,
    state: State,
}

/// Lets other tasks of the runtime run from time to time, because events in memory are always ready.
pub(super) fn proceed(context: &mut Context<'_>) -> Poll<()> {
    pin!(consume_budget()).poll(context)
}

enum State {
    /// Nothing of the log was read yet, so the cursor must still be checked.
    Fresh,
    /// A page of the log is being read; `fresh` if it is the first.
    Reading { reading: Reading, fresh: bool },
    /// The states that the changes of the next commit replaced are being read.
    ReadingOld(oneshot::Receiver<Result<()>>),
    /// Nothing is being read.
    Idle,
    /// The stream has ended. `try_next` returns the cause once; `error` keeps it.
    Ended { cause: StateError, told: bool },
}

impl WatchStream {
    /// A stream that starts after a head that the log is known to have.
    pub(crate) fn from_head(
        core: Weak<OpenStore>,
        shared: Arc<Session>,
        pattern: Pattern,
        head: Head,
    ) -> Self {
        let watcher = shared.join(pattern, head);
        Self::with(core, watcher, Cursor::new(shared.store, head), State::Idle, shared)
    }

    /// A stream that starts after a cursor. The cursor is checked at the first poll.
    pub(crate) fn after(
        core: Weak<OpenStore>,
        shared: Arc<Session>,
        pattern: Pattern,
        after: Cursor,
    ) -> Self {
        let watcher = shared.join(pattern, Head::genesis(shared.store));
        watcher.delivers(Some(after.seq()));
        Self::with(core, watcher, after, State::Fresh, shared)
    }

    fn with(
        core: Weak<OpenStore>,
        watcher: Arc<Watcher>,
        after: Cursor,
        state: State,
        shared: Arc<Session>,
    ) -> Self {
        let alarms = shared.registry().alarms();
        let start = after.head().unwrap_or_else(|| Head::genesis(shared.store));
        Self {
            pages: Pages::new(core, shared, watcher),
            cursor: after,
            delivered: start,
            page: None,
            end: start,
            whole: true,
            ahead: None,
            alarms,
            state,
        }
    }

    /// The pattern.
    pub fn pattern(&self) -> &str {
        self.pages.watcher.pattern().as_str()
    }

    /// Where to resume: after the last whole commit that was delivered, or that has no matching change. At each
    /// poll it also moves on over commits without a matching change.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The cause of the end; `None` if the stream has not ended.
    pub fn error(&self) -> Option<&StateError> {
        match &self.state {
            State::Ended { cause, .. } => Some(cause),
            _ => None,
        }
    }

    /// Waits for the next event; `None` after the end, which only [`error`](Self::error) explains.
    /// [`try_next`](Self::try_next) returns the cause instead. Cancel safe.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        self.try_next().await.ok().flatten()
    }

    /// Waits for the next event. Cancel safe.
    ///
    /// # Errors
    /// The cause of the end, once; after that `Ok(None)`. The [causes](Self#recovery), and what to do next, are
    /// listed above. The hashes of all changes that are read are checked; where few changes match, only those of
    /// the matching ones.
    pub async fn try_next(&mut self) -> Result<Option<WatchEvent>> {
        poll_fn(|context| self.poll_event(context)).await.transpose()
    }

    pub(super) fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<WatchEvent>>> {
        self.poll_delivery(context, Deliveries::next_event)
    }

    /// The next delivery, or the cause of the end, once.
    pub(super) fn poll_delivery<T>(
        &mut self,
        context: &mut Context<'_>,
        next: fn(&mut Deliveries) -> Next<T>,
    ) -> Poll<Option<Result<T>>> {
        ready!(proceed(context));
        if self.pages.shared.is_forked() && !matches!(self.state, State::Ended { .. }) {
            self.finish(self.pages.shared.check_open().err().unwrap_or(StateError::Closed));
        }
        loop {
            match &mut self.state {
                State::Ended { .. } => return Poll::Ready(self.tell()),
                State::Reading { reading, .. } => {
                    let read = ready!(Pin::new(&mut reading.read).poll(context));
                    self.take_read(read);
                }
                State::ReadingOld(read) => match ready!(Pin::new(read).poll(context)) {
                    Ok(Ok(())) => self.state = State::Idle,
                    Ok(Err(cause)) => self.finish(cause),
                    Err(_) => self.finish(self.pages.shared.unanswered()),
                },
                State::Idle | State::Fresh => match self.page.as_ref().map(|page| page.with(next)) {
                    None => ready!(self.poll_news(context)),
                    Some(Ok(Next::Item(delivery))) => return Poll::Ready(Some(Ok(self.deliver(delivery)))),
                    Some(Ok(Next::Due(changes))) => self.read_old(changes),
                    Some(Ok(Next::Nothing)) => self.pass_page(),
                    Some(Err(need)) => self.lose(need, false),
                },
            }
        }
    }

    /// Waits until there is something to read, then takes it from memory or starts to read the log.
    fn poll_news(&mut self, context: &Context<'_>) -> Poll<()> {
        // IMPORTANT: the head is read before `behind`. A watch that is not behind after that has no matching
        // change up to this head, because watches are marked before a head is published.
        let head = self.pages.shared.head();
        let behind = self.pages.watcher.listen(context.waker());
        let alarms = self.pages.shared.registry().alarms();
        let fresh = matches!(self.state, State::Fresh);
        if let Err(cause) = self.pages.shared.check_open() {
            self.finish(cause);
        } else if let Some(reading) = self.ahead.take() {
            self.state = State::Reading { reading, fresh };
        } else if fresh || alarms != self.alarms {
            let after = if fresh { After::Named(self.cursor) } else { self.pages.behind(self.end) };
            let reading = ready!(self.pages.log(after, context));
            self.alarms = alarms;
            self.read(reading, fresh);
        } else if behind {
            // The newest commits are in memory; older ones must be read from the log.
            if let Some(page) = ready!(self.pages.recent(self.end, context)) {
                self.take(page, fresh);
            } else {
                let after = self.pages.behind(self.pages.watcher.pass(self.end));
                let reading = ready!(self.pages.log(after, context));
                self.read(reading, fresh);
            }
        } else {
            if head.seq > self.cursor.seq() {
                (self.end, self.whole) = (head, true);
                self.move_to(head);
            }
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn read(&mut self, reading: Result<Reading>, fresh: bool) {
        match reading {
            Ok(reading) => self.state = State::Reading { reading, fresh },
            Err(cause) => self.finish(cause),
        }
    }

    fn read_old(&mut self, due: Vec<Change>) {
        let Some(page) = self.page.clone() else { return };
        match self.pages.old(page, due) {
            Ok(read) => self.state = State::ReadingOld(read),
            Err(cause) => self.finish(cause),
        }
    }

    fn take_read(&mut self, read: Result<Result<()>, oneshot::error::RecvError>) {
        let State::Reading { reading, fresh } = std::mem::replace(&mut self.state, State::Idle) else {
            return;
        };
        match read {
            Ok(Ok(())) => {}
            Ok(Err(cause)) => return self.finish(cause),
            Err(_) => return self.finish(self.pages.shared.unanswered()),
        }
        let Reading { page, after, known, .. } = reading;
        let (end, matching) = match page.with(|page| (page.end, page.changes())) {
            Ok(known) => known,
            Err(need) => return self.lose(need, fresh),
        };
        // Changes that were recorded before the read began must be there.
        if end.seq == after && end.seq < known {
            let what = format!("the log ends at {}, but {known} was recorded", end.seq);
            return self.finish(StateError::Corrupted(what));
        }
        self.pages.judge(end.seq.as_u64().saturating_sub(after.as_u64()), matching);
        self.take(page, fresh);
        self.read_ahead();
    }

    /// Starts to read the page behind this one, if there is more.
    ///
    /// IMPORTANT: only behind a page that is there. One that was lost as it was taken is read again first.
    fn read_ahead(&mut self) {
        if self.page.is_some() && self.end.seq < self.pages.shared.head().seq {
            self.ahead = self.pages.ahead(self.pages.behind(self.end));
        }
    }

    fn take(&mut self, page: Arc<Held<Deliveries>>, fresh: bool) {
        let of = page.with(|page| (page.start, page.end, page.whole, page.is_empty()));
        let (start, end, whole, is_empty) = match of {
            Ok(of) => of,
            Err(need) => return self.lose(need, fresh),
        };
        if fresh {
            self.delivered = start;
        }
        (self.page, self.end, self.whole) = (Some(page), end, whole);
        self.pages.watcher.pass(end);
        self.state = State::Idle;
        if is_empty { self.pass_page() } else { self.note() }
    }

    /// Notes what is delivered. With the last commit, the page was delivered.
    fn deliver<T>(&mut self, delivery: Delivery<T>) -> T {
        if let Some(page) = &self.page {
            page.delivers();
        }
        let Delivery { item, head, commit, last } = delivery;
        self.delivered = head;
        self.pages.claim.delivered();
        if let Some(head) = commit {
            self.move_to(head);
        }
        if last {
            self.pass_page();
        }
        item
    }

    fn pass_page(&mut self) {
        self.page = None;
        if self.whole { self.move_to(self.end) } else { self.note() }
    }

    /// Goes back behind the last change that was delivered, because what was read after it is lost.
    fn lose(&mut self, need: usize, fresh: bool) {
        self.pages.claim.lost(need);
        self.go_back(fresh);
    }

    fn go_back(&mut self, fresh: bool) {
        (self.page, self.ahead) = (None, None);
        (self.end, self.whole) = (self.delivered, self.cursor.head() == Some(self.delivered));
        self.pages.watcher.falls_back(self.delivered);
        self.state = if fresh { State::Fresh } else { State::Idle };
        self.note();
    }

    /// From now on, pages have whole commits only.
    pub(super) fn make_whole(&mut self) {
        self.pages.whole = true;
        let fresh = matches!(self.state, State::Fresh | State::Reading { fresh: true, .. });
        if !matches!(self.state, State::Ended { .. }) {
            self.go_back(fresh);
        }
    }

    fn move_to(&mut self, head: Head) {
        self.cursor = Cursor::new(self.pages.shared.store, head);
        self.delivered = head;
        self.note();
    }

    /// Notes the position up to which everything was delivered, while something is read that was not.
    fn note(&self) {
        let delivers = self.page.is_some() || !self.whole;
        self.pages.watcher.delivers(delivers.then_some(self.cursor.seq()));
    }

    fn finish(&mut self, cause: StateError) {
        (self.page, self.ahead) = (None, None);
        self.state = State::Ended { cause, told: false };
    }

    /// The cause of the end, once.
    pub(super) fn tell<T>(&mut self) -> Option<Result<T>> {
        match &mut self.state {
            State::Ended { cause, told: told @ false } => {
                *told = true;
                Some(Err(cause.clone()))
            }
            _ => None,
        }
    }
}

/// The shape of older programs: the stream just ends, and only [`WatchStream::error`] says why. A combinator such as
/// `map` hides that, too. [`WatchStream::results`] is a stream that tells.
impl Stream for WatchStream {
    type Item = WatchEvent;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        self.get_mut().poll_event(context).map(|event| event.and_then(Result::ok))
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.pages.shared.leave(&self.pages.watcher);
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
