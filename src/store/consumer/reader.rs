//! A consumer that is open.

use std::fmt;
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::claim::Claim;
use super::consumed::{Consumed, Processed};
use super::progress::Progress;
use super::timer::Timer;
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::key::CONSUMERS_PREFIX;
use crate::log::Cursor;
use crate::pattern::Pattern;
use crate::seq::Seq;
use crate::state::Batch;
use crate::store::foreign;
use crate::store::read::log::resolve;
use crate::store::watch::{Commits, WatchStream};

/// A reader of the log whose position the store keeps: a consumer. It is opened by its name
/// ([`LocalStore::consumer`](crate::LocalStore::consumer)) and goes on where it was, after a restart too. It gets, one
/// by one and in order, all commits that have a change of a matching key, with these changes.
///
/// # Two ways to read
/// [`process`](Self::process) is **exactly once** for effects in this store: it records what a commit leads to together
/// with the position, in one commit. Whatever crashes, each commit has its effects once, in order.
///
/// [`next`](Self::next) and [`ack`](Self::ack) are **at least once**, for effects elsewhere: first the work, then the
/// acknowledgement. What was acknowledged is recorded 10 seconds or 10 000 events after the last record, and by
/// [`close`](Self::close). What was delivered after the recorded position comes again after a crash, or when a consumer
/// is dropped without being closed. No commit is left out.
///
/// ```
/// use univrs_state::{Batch, LocalStore, MemoryStore, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// store.set("/orders/7", b"3 chairs".to_vec()).await?;
///
/// // Exactly once: the bill and the position are one commit.
/// let mut billing = store.consumer("billing").pattern("/orders/*").open().await?;
/// billing
///     .process(|commit| {
///         let bill = |batch: Batch, key: &str| batch.set(key.replace("/orders/", "/bills/"), "due");
///         commit.events.iter().fold(Batch::new(), |batch, event| bill(batch, &event.key))
///     })
///     .await?;
/// assert!(store.exists("/bills/7").await?);
///
/// // At least once: the mail may be sent twice, and is never forgotten.
/// let mut mailer = store.consumer("mailer").pattern("/bills/*").open().await?;
/// if let Some(commit) = mailer.next().await? {
///     println!("a mail about {}", commit.events[0].key);
///     mailer.ack(&commit).await?;
/// }
/// mailer.close().await?;
/// # Ok(()) }
/// ```
///
/// # One holder
/// Whoever opens a consumer takes it over, in one commit that counts its *generation* up. Who had it before gets
/// [`StateError::Fenced`] from the next `ack` or `process`, which records nothing. So a program can start a second
/// process before the first one is known to be dead. Both may get a commit by `next`; only one can `process` it.
///
/// # What is recorded
/// The position is an entry of the store, under `/.univrs/consumers/NAME`. A position that is recorded *holds*
/// retention back for 7 days, or as [`hold`](super::ConsumerRequest::hold) says: what comes after it is not dropped. A
/// consumer that lags for longer gets [`StateError::Compacted`] with both positions when the log has been compacted
/// beyond its own. One that keeps up, and waits in `next` or `process`, records every eighth of its hold how far it has
/// come, so that it does not lose its place because its keys change rarely. It records nothing while nobody writes. A
/// consumer never gets changes below `/.univrs/consumers/`, whatever its pattern is, and they alone are no cause to
/// record a position.
///
/// # Waiting and giving up
/// All methods may be dropped while they wait, and the consumer goes on. If `ack` or `process` is dropped, the position
/// may have been recorded or not; the next call finds out. After any other error than `Fenced`, the same call may be
/// made again: a commit whose effects were refused comes again. When reading has ended with an error, such as
/// [`StateError::Closed`] or [`StateError::Compacted`], it is returned once; after that there is no next commit, and
/// the consumer is to be opened again. The handle keeps the store open.
pub struct Consumer {
    name: String,
    claim: Claim,
    commits: Commits,
    progress: Progress,
    /// The next commit, which was read and neither delivered nor processed.
    pending: Option<Consumed>,
    /// Up to here nothing but positions of consumers was passed over since the last record.
    looked: Seq,
    timer: Option<Timer>,
    opened: Instant,
}

/// What ends waiting.
enum Turn {
    Commit(Consumed),
    /// The position may have to be recorded.
    Due,
    End,
}

impl Consumer {
    pub(super) fn new(name: String, claim: Claim, pattern: Pattern) -> Result<Self> {
        let (store, cursor, opened) = (&claim.store, claim.record.cursor, Instant::now());
        let stream = WatchStream::after(store.weak(), store.shared.clone(), pattern, cursor);
        let commits = stream.commits().of_consumer();
        store.attend();
        let progress = Progress::new(cursor, claim.record.hold, moment(&claim, opened)?);
        Ok(Self { name, claim, commits, progress, pending: None, looked: cursor.seq(), timer: None, opened })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The keys that it reads.
    pub fn pattern(&self) -> &str {
        &self.claim.record.pattern
    }

    /// How often a consumer of this name was opened or reset since it was made, this opening included.
    pub fn generation(&self) -> u64 {
        self.claim.record.generation
    }

    /// Up to here everything that matches is acknowledged or processed. The record may lag behind.
    pub fn cursor(&self) -> Cursor {
        if self.pending.is_none() && self.progress.is_settled() {
            self.commits.cursor()
        } else {
            let (acknowledged, recorded) = (self.progress.acknowledged(), self.claim.record.cursor);
            if recorded.seq() > acknowledged.seq() { recorded } else { acknowledged }
        }
    }

    /// Waits for the next commit and delivers it; `None` after the end. To be acknowledged with [`ack`](Self::ack) when
    /// the work is done; several commits may be delivered before.
    ///
    /// # Errors
    /// The cause of the end, once: those of [`WatchStream::try_next`], which lists the causes and what to do next.
    /// While it waits, a position may be recorded, with the errors of [`ack`](Self::ack); the next call goes on
    /// waiting.
    pub async fn next(&mut self) -> Result<Option<Consumed>> {
        self.wait().await?;
        let next = self.pending.take();
        if let Some(commit) = &next {
            self.progress.deliver(commit.cursor, commit.events.len());
        }
        Ok(next)
    }

    /// Acknowledges everything up to a position that was delivered: a commit, or a cursor. It is recorded 10 seconds or
    /// 10 000 events after the last record, by a call or while this consumer waits, and by [`close`](Self::close).
    ///
    /// # Errors
    /// [`StateError::Fenced`] if somebody else has taken the consumer over. [`StateError::InvalidArgument`] for a
    /// position that was not delivered yet, or lies before what was acknowledged; [`StateError::CursorDiverged`] for
    /// one of another log. If the position is recorded, those of [`StateStore::commit`](crate::StateStore::commit); it
    /// is then tried again later.
    pub async fn ack(&mut self, to: impl Into<Cursor>) -> Result<()> {
        let to: Cursor = to.into();
        let store = self.claim.store.clone();
        to.belongs_to(store.shared.store)?;
        self.progress.judge(to.seq(), self.reached())?;
        let known = [self.progress.delivered(), self.progress.acknowledged(), self.commits.cursor()];
        let to = if known.contains(&to) {
            to
        } else {
            let head = store.read_snapshot(move |snapshot| resolve(snapshot, to)).await?;
            Cursor::new(store.shared.store, head)
        };
        self.claim.check().await?;
        self.progress.acknowledge(to, self.claim.record.cursor.seq());
        if self.progress.is_owed() && self.progress.until_due(self.moment()?).is_zero() {
            self.record().await?;
        }
        Ok(())
    }

    /// Waits for the next commit, and records what comes of it together with the position, in one commit; `None` after
    /// the end. If the function returns an empty batch, nothing is recorded, and the position moves in memory: then the
    /// commit may come again after a crash, for another decision.
    ///
    /// The function may be called again, for the same commit after an error, and within a call for a later commit if it
    /// turns out that an earlier call, which was dropped, has done with the first. The batch may have conditions;
    /// metadata, which then are those of the effects and of the position; and a commit id, which must differ from
    /// commit to commit.
    ///
    /// ```
    /// use univrs_state::{Batch, LocalStore, MemoryStore, StateStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
    /// # let store = MemoryStore::new();
    /// store.commit(Batch::new().set("/in/a", "1").set("/in/b", "2")).await?;
    /// let mut count = store.consumer("count").pattern("/in/*").open().await?;
    /// let counted = count.process(|commit| Batch::new().set("/count", commit.events.len().to_string())).await?;
    /// assert_eq!(store.get("/count").await?.unwrap().value, b"2");
    /// assert_eq!(counted.unwrap().cursor.seq(), 2.into());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Nothing is recorded then, unless the outcome is unknown, and the same commit comes again.
    /// [`StateError::Fenced`] if somebody else has taken the consumer over; [`StateError::InvalidArgument`] if a commit
    /// was delivered by [`next`](Self::next) and is not acknowledged; [`StateError::Panicked`] if the function panics;
    /// [`StateError::InvalidKey`] if its batch writes reserved keys; [`StateError::CommitIdReused`]; those of `next`,
    /// and those of [`StateStore::commit`](crate::StateStore::commit) for the batch with the position, which takes one
    /// write, one condition and some 350 bytes.
    pub async fn process<F>(&mut self, mut effects: F) -> Result<Option<Processed>>
    where
        F: FnMut(&Consumed) -> Batch,
    {
        if !self.progress.is_settled() {
            return Err(StateError::InvalidArgument(format!(
                "the commit up to {} was delivered and is not acknowledged: acknowledge it before the next one is processed",
                self.progress.delivered().seq()
            )));
        }
        loop {
            self.wait().await?;
            let Some(commit) = &self.pending else { return Ok(None) };
            let (cursor, batch) = (commit.cursor, foreign::effects(|| effects(commit))?);
            let batch = batch.bounded(self.claim.store.limits())?;
            let receipt = if batch.is_empty() {
                self.settle_without_effects(&batch, cursor).await?;
                None
            } else {
                let receipt = self.claim.record(&batch, cursor).await?;
                self.note_record()?;
                if receipt.is_none() {
                    continue; // It was processed before.
                }
                receipt
            };
            self.pending = None;
            self.progress.pass(cursor);
            return Ok(Some(Processed { cursor, receipt }));
        }
    }

    /// Records how far this consumer is, if that is not recorded, and ends it. The store stays open.
    ///
    /// # Errors
    /// [`StateError::Fenced`] if there was something to record and somebody else has taken the consumer over; those of
    /// [`StateStore::commit`](crate::StateStore::commit).
    pub async fn close(mut self) -> Result<()> {
        self.record_if_moved().await
    }

    /// A commit without effects moves the position in memory. From time to time it is recorded.
    async fn settle_without_effects(&mut self, conditions: &Batch, to: Cursor) -> Result<()> {
        if conditions.conditions().is_empty() {
            self.claim.check().await?;
        } else {
            self.claim.judge(conditions, to).await?;
        }
        if self.progress.until_due(self.moment()?).is_zero() {
            self.claim.record(&Batch::new(), to).await?;
            self.note_record()?;
        }
        Ok(())
    }

    /// Waits for the next commit, which then is pending; none is at the end. Records the position when that is due.
    async fn wait(&mut self) -> Result<()> {
        let recorded = self.claim.record.cursor.seq();
        self.pending.take_if(|commit| commit.cursor.seq() <= recorded);
        while self.pending.is_none() {
            match poll_fn(|context| self.poll_turn(context)).await? {
                Turn::Commit(commit) if commit.cursor.seq() <= self.claim.record.cursor.seq() => {}
                Turn::Commit(commit) => self.pending = Some(commit),
                Turn::Due => {
                    let recorded = self.record_if_moved().await;
                    self.progress.postpone(self.moment()?);
                    recorded?;
                }
                Turn::End => break,
            }
        }
        Ok(())
    }

    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<Result<Turn>> {
        loop {
            match self.commits.poll_commit(context) {
                Poll::Ready(Some(Ok((mut events, head)))) => {
                    events.retain(|event| !event.key.starts_with(CONSUMERS_PREFIX));
                    if events.is_empty() {
                        continue;
                    }
                    let cursor = Cursor::new(self.claim.store.shared.store, head);
                    return Poll::Ready(Ok(Turn::Commit(Consumed { events, cursor })));
                }
                Poll::Ready(Some(Err(cause))) => return Poll::Ready(Err(cause)),
                Poll::Ready(None) => return Poll::Ready(Ok(Turn::End)),
                Poll::Pending => return self.poll_due(context),
            }
        }
    }

    /// Waits until the position may have to be recorded.
    fn poll_due(&mut self, context: &Context<'_>) -> Poll<Result<Turn>> {
        let left = self.progress.until_due(self.moment()?);
        if left.is_zero() {
            return Poll::Ready(Ok(Turn::Due));
        }
        let at = Instant::now() + left;
        if !self.timer.as_ref().is_some_and(|timer| timer.serves(at, context.waker())) {
            self.timer = Some(Timer::start(at, context.waker())?);
        }
        Poll::Pending
    }

    /// Up to here, everything that matches was delivered.
    fn reached(&self) -> Seq {
        let delivered = self.progress.delivered().seq();
        if self.pending.is_none() { self.commits.cursor().seq().max(delivered) } else { delivered }
    }

    async fn record_if_moved(&mut self) -> Result<()> {
        if self.has_moved().await? { self.record().await } else { Ok(()) }
    }

    /// Whether something is not recorded that is worth it: what was acknowledged, or passed over. Positions of
    /// consumers alone are not, or two consumers would write for ever, each what the other one wrote.
    async fn has_moved(&mut self) -> Result<bool> {
        let recorded = self.claim.record.cursor.seq();
        if self.progress.is_owed() || self.progress.acknowledged().seq() > recorded {
            return Ok(true);
        }
        let (after, to) = (self.looked.max(recorded), self.cursor().seq());
        if to <= after {
            return Ok(false);
        }
        let passed_others = self.claim.store.read_snapshot(move |snapshot| {
            let mut found = false;
            snapshot.changes(after, &mut |change| {
                let is_position =
                    change.key.starts_with(CONSUMERS_PREFIX) && !failpoint("own_position_recorded");
                found = change.seq <= to && !is_position;
                Ok(if found || change.seq >= to { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            Ok(found)
        });
        let moved = passed_others.await?;
        if !moved {
            self.looked = to;
        }
        Ok(moved)
    }

    async fn record(&mut self) -> Result<()> {
        let to = self.cursor();
        self.claim.record(&Batch::new(), to).await?;
        self.note_record()
    }

    fn note_record(&mut self) -> Result<()> {
        let now = self.moment()?;
        self.progress.record(now);
        Ok(())
    }

    fn moment(&self) -> Result<Duration> {
        moment(&self.claim, self.opened)
    }
}

/// The present moment of a clock that nobody sets.
fn moment(claim: &Claim, opened: Instant) -> Result<Duration> {
    Ok(claim.store.engine.clock().uptime()?.unwrap_or_else(|| opened.elapsed()))
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("name", &self.name)
            .field("pattern", &self.pattern())
            .field("generation", &self.generation())
            .field("cursor", &self.cursor())
            .finish_non_exhaustive()
    }
}
