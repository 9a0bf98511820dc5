//! The stream of a watch: it reads the log from a cursor, and is woken when a matching change is published.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;
use tokio::task::consume_budget;
use tokio_stream::Stream;

use super::event::WatchEvent;
use super::page::{self, WatchPage};
use super::pending::{Pending, event};
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::log::{Change, Cursor, Head};
use crate::pattern::Pattern;
use crate::seq::Seq;
use crate::store::feed::{Before, Matching, RecentCommit, Watcher};
use crate::store::open_store::OpenStore;
use crate::store::session::Session;

/// If fewer than one change in this many matches, the storage looks for the matching ones. [`page::watch_few`] says
/// what that gains, and what is not checked then.
const FEW: u64 = 8;
/// The fewest changes of a page from which this is judged.
const FEW_OF: u64 = 500;

/// The changes of the keys that match a pattern, after a position: in order, each once, and without a gap.
///
/// A stream never skips a change, however slow its reader is: it reads the log from its own cursor. It reads a
/// page at a time (1 000 changes or 4 MiB), so its memory is bounded. A change is delivered only when it is
/// as durable as the store promises. All methods are cancel safe. A stream does not keep the store open.
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
    core: Weak<OpenStore>,
    shared: Arc<Session>,
    watcher: Arc<Watcher>,
    cursor: Cursor,
    /// The commits that were read and not yet delivered in full.
    commits: VecDeque<Pending>,
    /// The end of `commits`: the cursor after all of them are delivered.
    end: Cursor,
    /// The next page of the log, which is read while `commits` are delivered.
    ahead: Option<Reading>,
    /// Whether few changes of the last page matched.
    few: bool,
    /// The number of alarms after which the log was read.
    alarms: u64,
    state: State,
}

/// Lets other tasks of the runtime run from time to time, because events in memory are always ready.
pub(super) fn proceed(context: &mut Context<'_>) -> Poll<()> {
    pin!(consume_budget()).poll(context)
}

/// A page of the log that is being read. If the log was known to be longer than where the page starts, the
/// page must not be empty.
struct Reading {
    page: oneshot::Receiver<Result<WatchPage>>,
    after: Seq,
    known: Seq,
}

enum State {
    /// Nothing of the log was read yet, so the cursor must still be checked.
    Fresh,
    /// A page of the log is being read.
    Reading(Reading),
    /// The states that the changes of the next commit replaced are being read.
    ReadingOld(oneshot::Receiver<Result<Vec<Option<Before>>>>),
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
        let (alarms, commits) = (shared.registry().alarms(), VecDeque::new());
        Self {
            core,
            shared,
            watcher,
            cursor: after,
            commits,
            end: after,
            ahead: None,
            few: false,
            alarms,
            state,
        }
    }

    /// The pattern.
    pub fn pattern(&self) -> &str {
        self.watcher.pattern().as_str()
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
        ready!(proceed(context));
        let Some(pending) = ready!(self.poll_commit(context, false)) else { return Poll::Ready(self.tell()) };
        let first = pending.changes.pop_front();
        if pending.changes.is_empty() {
            self.delivered();
        }
        // A pending commit has at least one change.
        Poll::Ready(first.map(|matching| Ok(event(matching))))
    }

    /// The next commit; `None` at the end. The states that its first change replaced, or with `all` all of its
    /// changes, are read.
    pub(super) fn poll_commit(&mut self, context: &mut Context<'_>, all: bool) -> Poll<Option<&mut Pending>> {
        if self.shared.is_forked() && !matches!(self.state, State::Ended { .. }) {
            self.finish(self.shared.check_open().err().unwrap_or(StateError::Closed));
        }
        loop {
            match &mut self.state {
                State::Ended { .. } => return Poll::Ready(None),
                State::Reading(reading) => {
                    let page = ready!(Pin::new(&mut reading.page).poll(context));
                    let (after, known) = (reading.after, reading.known);
                    match page {
                        Ok(Ok(page)) => self.take_read(page, after, known),
                        Ok(Err(cause)) => self.finish(cause),
                        Err(_) => self.finish(self.shared.unanswered()),
                    }
                }
                State::ReadingOld(old) => match ready!(Pin::new(old).poll(context)) {
                    Ok(Ok(old)) => self.fill(old),
                    Ok(Err(cause)) => self.finish(cause),
                    Err(_) => self.finish(self.shared.unanswered()),
                },
                State::Idle | State::Fresh => match self.commits.front().map(|pending| pending.due(all)) {
                    Some(None) => return Poll::Ready(self.commits.front_mut()),
                    Some(Some(due)) => self.read_old(due),
                    None => ready!(self.poll_news(context)),
                },
            }
        }
    }

    /// Waits until there is something to read, then takes it from memory or starts to read the log.
    fn poll_news(&mut self, context: &Context<'_>) -> Poll<()> {
        // IMPORTANT: the head is read before `behind`. A watch that is not behind after that has no matching
        // change up to this head, because watches are marked before a head is published.
        let head = self.shared.head();
        let behind = self.watcher.listen(context.waker());
        let alarms = self.shared.registry().alarms();
        let must_read = matches!(self.state, State::Fresh) || alarms != self.alarms;
        if let Err(cause) = self.shared.check_open() {
            self.finish(cause);
        } else if let Some(ahead) = self.ahead.take() {
            self.state = State::Reading(ahead);
        } else if must_read {
            self.alarms = alarms;
            self.read_log(self.end);
        } else if behind {
            // The newest commits are in memory; older ones must be read from the log.
            let read = self.end.head().unwrap_or_else(|| Head::genesis(self.shared.store));
            match self.shared.registry().recent(&self.watcher, read) {
                Some((commits, end)) => self.take(self.matching(&commits, end)),
                None => self.read_log(Cursor::new(self.shared.store, self.watcher.pass(read))),
            }
        } else {
            if head.seq > self.cursor.seq() {
                self.end = Cursor::new(self.shared.store, head);
                self.move_to(self.end);
            }
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// A page of the matching changes of these commits.
    fn matching(&self, commits: &[Arc<RecentCommit>], end: Head) -> WatchPage {
        let pattern = self.watcher.pattern();
        let matching = |commit: &Arc<RecentCommit>| {
            let changes = commit.changes.iter().filter(|matching| pattern.matches(&matching.change.key));
            let changes: Vec<Matching> = changes.cloned().collect();
            (!changes.is_empty()).then_some((changes, commit.head))
        };
        WatchPage { commits: commits.iter().filter_map(matching).collect(), end }
    }

    /// Starts to read a page of the log.
    fn read_log(&mut self, after: Cursor) {
        match self.page_after(after) {
            Some(reading) => self.state = State::Reading(reading),
            None => self.finish(StateError::Closed),
        }
    }

    fn page_after(&self, after: Cursor) -> Option<Reading> {
        let (watcher, known) = (self.watcher.clone(), self.shared.head().seq);
        let core = self.core.upgrade()?;
        let read = if self.few { page::watch_few } else { page::watch };
        let page = core.start(move |snapshot| read(snapshot, watcher.pattern(), after));
        Some(Reading { page, after: after.seq(), known })
    }

    fn read_old(&mut self, due: Vec<Change>) {
        match self.core.upgrade() {
            Some(core) => self.state = State::ReadingOld(core.start(move |s| page::old_changes(s, &due))),
            None => self.finish(StateError::Closed),
        }
    }

    fn fill(&mut self, old: Vec<Option<Before>>) {
        if let Some(pending) = self.commits.front_mut() {
            pending.fill(old);
        }
        self.state = State::Idle;
    }

    fn take_read(&mut self, page: WatchPage, after: Seq, known: Seq) {
        // Changes that were recorded before the read began must be there.
        if page.end.seq == after && page.end.seq < known {
            let what = format!("the log ends at {}, but {known} was recorded", page.end.seq);
            return self.finish(StateError::Corrupted(what));
        }
        let passed = page.end.seq.as_u64().saturating_sub(after.as_u64());
        let matching: usize = page.commits.iter().map(|(changes, _)| changes.len()).sum();
        self.few = passed >= FEW_OF && (matching as u64) < passed / FEW;
        let more = page.end.seq < self.shared.head().seq && !page.commits.is_empty();
        self.take(page);
        if more {
            self.ahead = self.page_after(self.end);
        }
    }

    fn take(&mut self, page: WatchPage) {
        let pending = |(mut changes, head): (Vec<Matching>, Head)| {
            if failpoint("dropped_event") {
                changes.pop();
            } else if failpoint("reordered_events") {
                changes.reverse();
            } else if failpoint("doubled_events") {
                changes.extend(changes.clone());
            } else if failpoint("half_commit") {
                changes.truncate(changes.len().div_ceil(2));
            }
            Pending { changes: changes.into(), head }
        };
        self.commits = page.commits.into_iter().map(pending).collect();
        self.end = Cursor::new(self.shared.store, page.end);
        self.watcher.pass(page.end);
        self.state = State::Idle;
        self.move_to(if self.commits.is_empty() { self.end } else { self.cursor });
    }

    /// Notes that the first commit was delivered in full. With the last one, the page was delivered.
    pub(super) fn delivered(&mut self) {
        if let Some(done) = self.commits.pop_front() {
            let cursor = Cursor::new(self.shared.store, done.head);
            self.move_to(if self.commits.is_empty() { self.end } else { cursor });
        }
    }

    fn move_to(&mut self, cursor: Cursor) {
        self.cursor = cursor;
        self.watcher.delivers((!self.commits.is_empty()).then_some(cursor.seq()));
    }

    fn finish(&mut self, cause: StateError) {
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
