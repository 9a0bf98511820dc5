//! The thread that writes a store on SQLite.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::background;
use super::checkpoints::Checkpoints;
use super::chore::failure;
use super::queue::{Queue, Task, queue};
use super::readers::Readers;
use super::readings::Readings;
use super::replies::{Replier, Replies};
use super::sqlite::{Beside, SqliteEngine};
use super::{Chore, Closed, CommitRequest, Done, Work};
use crate::backend::sqlite::{ACCEPTED_LOSS, Checkpoint, Loss, Moved, Opening, Sqlite};
use crate::backend::{CommitError, FoldedState};
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::log::{Head, Meta, Timestamp, cause};
use crate::state::Batch;
use crate::store::commit::{Outcome, Recorded, Sources, commit_group};
use crate::store::feed::{Wakers, undisturbed};
use crate::store::foreign::broken;
use crate::store::receipt::Receipt;
use crate::store::resident::{EntryCache, InMemory, Shared, Token};
use crate::store::stats::{About, Warning, above_cap};
use crate::store::watched_clock::WatchedClock;

/// How long the writer waits for readers before it empties the log of a full disk.
const ROOM_WAIT: Duration = Duration::from_millis(100);

/// How long a try to empty the log waits for readers. Commits wait meanwhile.
const LOG_WAIT: Duration = Duration::from_millis(5);

/// The writer of a store. It runs on a thread of its own.
pub(crate) struct Writer {
    sqlite: Sqlite,
    sources: Sources,
    shared: Arc<Shared>,
    queue: Queue,
    beside: Option<Beside>,
    checkpoints: Checkpoints,
    replier: Replier,
}

impl Writer {
    /// Opens a store and starts its other threads.
    pub(crate) fn open(
        opening: Opening,
        sources: Sources,
        resident_bytes: usize,
    ) -> Result<(Self, SqliteEngine)> {
        let mut sqlite = opening.first()?;
        if let Some(loss) = sqlite.accepted_loss() {
            record_loss(&mut sqlite, &sources, loss)?;
        }
        let mut newest = Timestamp::EPOCH;
        let head = match sqlite.foreign_tip() {
            Ok(Some(tip)) => {
                newest = tip.at;
                tip.head
            }
            // A damaged store can still be read and verified.
            Ok(None) => sqlite.read_head()?,
            Err(StateError::Corrupted(_)) if sqlite.opening().read_only => sqlite.read_head()?,
            Err(error) => return Err(error),
        };
        sqlite.check_unchanged()?;
        let (shared, beside) = Self::surround(&sqlite, head, resident_bytes)?;
        let (tasks, queue) = queue();
        let engine = SqliteEngine {
            shared: shared.clone(),
            warnings: warnings(&sqlite, &sources.clock, newest, beside.as_ref()),
            clock: sources.clock.clone(),
            tasks,
            beside: beside.clone(),
        };
        let checkpoints = match Checkpoints::start(&sqlite, &shared) {
            Ok(checkpoints) => checkpoints,
            Err(error) => {
                let _: usize = beside.iter().map(Beside::stop).sum();
                return Err(error);
            }
        };
        let replier = Replier::new(shared.clone());
        Ok((Self { sqlite, sources, shared, queue, beside, checkpoints, replier }, engine))
    }

    /// Makes the published state and, for a store on disk, starts the threads that read.
    fn surround(sqlite: &Sqlite, head: Head, budget: usize) -> Result<(Arc<Shared>, Option<Beside>)> {
        let opening = sqlite.opening();
        if !opening.is_file() {
            // A store in memory is empty when it is opened, and no other process can write it.
            let shared =
                Shared::alone(sqlite.id(), head, InMemory::All(FoldedState::genesis(sqlite.id())), budget);
            return Ok((Arc::new(shared.of_this_process()), None));
        }
        let shared = Shared::alone(sqlite.id(), head, InMemory::Some(EntryCache::new(budget)), budget)
            .of_this_process();
        let shared = Arc::new(if opening.immutable {
            shared
        } else {
            shared.beside_others(sqlite.another(true)?.into_wal_index()?)
        });
        shared.set_looked(false);
        let follower = background::start(sqlite.another(true)?, shared.clone())?;
        let readings = Readings::new(sqlite, &shared);
        match Readers::start(opening, sqlite.id()).and_then(|readers| Ok((readers, readings?))) {
            Ok((readers, readings)) => {
                follower.wake();
                Ok((shared.clone(), Some(Beside { readers, follower, readings })))
            }
            Err(error) => {
                follower.stop();
                Err(error)
            }
        }
    }

    /// How the store was opened.
    pub(crate) fn opening(&self) -> &Opening {
        self.sqlite.opening()
    }

    /// Writes on this thread until the store is closed.
    pub(crate) fn run_until_closed(mut self) {
        // Also after a panic, all threads are ended and all files closed.
        let closed = catch_unwind(AssertUnwindSafe(|| self.serve())).unwrap_or(None);
        self.close(closed);
    }

    /// Runs tasks until one closes the store, or no sender is left.
    fn serve(&mut self) -> Option<Closed> {
        let mut met = None;
        loop {
            match met.take().or_else(|| self.queue.next())? {
                Task::Commit(request) => met = self.commit(request),
                Task::Tend(chore) => self.tend(chore),
                Task::Read(read) => self.sqlite.with_snapshot(read),
                // It wakes a task of the program.
                Task::Settle(settled) => undisturbed(|| settled(Ok(()))),
                Task::Close(closed) => return Some(closed),
            }
        }
    }

    /// Commits the waiting batches as one group; returns the task behind them, if it is no batch.
    ///
    /// IMPORTANT: the order of the write path: record (durable when it returns), publish, then reply and wake.
    /// So no caller and no watch learns of a commit that a loss of power could take back.
    fn commit(&mut self, first: CommitRequest) -> Option<Task> {
        let start = Instant::now();
        let mut group = self.queue.gather(first);
        let met = group.met.take();
        let Outcome { results, recorded, .. } = self.record(&group.batches);
        self.shared.count(|counters| counters.group(group.batches.len()));
        let wakers = self.publish(recorded);
        if results.iter().any(|result| matches!(result, Err(StateError::Storage(_)))) {
            // The cause may be that other files are there now. Then reads and watches end, too.
            self.beside.iter().for_each(|beside| beside.follower.look());
        }
        self.replier.reply(Replies { group, results, wakers });
        if self.checkpoints.after_group(&self.sqlite, &self.shared, start.elapsed()) {
            // The follower tries to load the projection, which may fit into memory now.
            self.beside.iter().for_each(|beside| beside.follower.wake());
        }
        met
    }

    /// Does work that is no batch, and publishes the token of its transaction, so that reads still know their state for the
    /// newest.
    fn tend(&mut self, Chore { work, done }: Chore) {
        let start = Instant::now();
        let result = self.work(&work);
        if self.shared.visible() != self.shared.published().token {
            let head = self.shared.head();
            let wakers = self.publish(vec![Recorded { before: head, changes: Vec::new(), head }]);
            wakers.into_iter().for_each(Wakers::wake);
        }
        undisturbed(|| done(result));
        if self.checkpoints.after_group(&self.sqlite, &self.shared, start.elapsed()) {
            self.beside.iter().for_each(|beside| beside.follower.wake());
        }
    }

    fn work(&mut self, work: &Work) -> Result<Done> {
        if self.sqlite.is_log_doubtful() {
            self.reopen()?;
        }
        let above_cap = self.shared.log_pages().is_some_and(|log| self.checkpoints.are_above_cap(&log));
        let done = match work {
            Work::Drop(_) | Work::Thin(..) | Work::Erase(_) | Work::GiveBack(_) if above_cap => {
                return Ok(Done::NotNow);
            }
            Work::Drop(_) | Work::Finish(_) | Work::Thin(..) | Work::EndThinning(_) | Work::Erase(_) => {
                work.run(&mut self.sqlite)
            }
            Work::EmptyLog => return self.empty_log(),
            Work::Rebuild => {
                return self.sqlite.rebuild().map(|(before, after)| Done::Rebuilt { before, after });
            }
            Work::GiveBack(pages) => return self.sqlite.give_back(*pages).map(Done::Left),
        };
        done.map_err(|error| {
            if matches!(error, CommitError::Unknown(_)) {
                self.sqlite.doubt_log();
                let _ = self.reopen();
            }
            failure(error)
        })
    }

    fn empty_log(&self) -> Result<Done> {
        if !self.sqlite.opening().is_file() || failpoint("erased_kept_in_log") {
            return Ok(Done::Whole);
        }
        // What readers allow is moved first, so that no commit waits for a try that is in vain.
        self.sqlite.checkpoint(Checkpoint::Passive)?;
        let moved = self.sqlite.checkpoint(Checkpoint::Empty(LOG_WAIT))?;
        Ok(if moved == Moved::All { Done::Whole } else { Done::Held })
    }

    /// Publishes recorded changes. If another process has committed in between, the follower publishes them.
    fn publish(&self, recorded: Vec<Recorded>) -> Vec<Wakers> {
        let known = self.shared.published().token;
        let visible = self.shared.visible();
        let mut wakers = Vec::new();
        for (transactions, recorded) in (1..).zip(recorded) {
            // IMPORTANT: the state gets the visible token only if all commits since the last known token are
            // these transactions. Otherwise a commit of another process would count as published.
            let own = |now: &Token| known.is_some_and(|known| now.is_after(&known, transactions));
            let token = visible.filter(own);
            match self.shared.publish(&recorded, token, None) {
                Some(concerned) => wakers.push(concerned),
                None => self.beside.iter().for_each(|beside| beside.follower.wake()),
            }
        }
        wakers
    }

    fn record(&mut self, batches: &[Batch]) -> Outcome {
        if self.sqlite.is_log_doubtful()
            && let Err(error) = self.reopen()
        {
            return Outcome::failed(batches.len(), &error);
        }
        // Nothing should panic here. After a panic it is unknown whether the group was recorded.
        let recorded = catch_unwind(AssertUnwindSafe(|| {
            let published = self.shared.published();
            let mut outcome =
                commit_group(&mut self.sqlite, &self.sources, batches, published.in_memory.all());
            drop(published);
            self.make_room(batches, &mut outcome);
            outcome
        }));
        let outcome = recorded.unwrap_or_else(|_| {
            let error = StateError::OutcomeUnknown(broken().to_string());
            Outcome { unknown: true, ..Outcome::failed(batches.len(), &error) }
        });
        if outcome.unknown {
            // IMPORTANT: the connection is replaced, because it may serve pages that it could not sync. If
            // that fails, it is tried again before the next group.
            self.sqlite.doubt_log();
            let _ = self.reopen();
        }
        outcome
    }

    fn reopen(&mut self) -> Result<()> {
        self.sqlite = self.sqlite.renewed()?;
        Ok(())
    }

    /// If the disk was full, empties the write-ahead log, and tries the failed batches once more. The log can be
    /// large while most of its pages are in the database already, or superseded.
    fn make_room(&mut self, batches: &[Batch], outcome: &mut Outcome) {
        let full = |result: &Result<Receipt>| matches!(result, Err(StateError::StorageFull(_)));
        if outcome.unknown || !self.sqlite.opening().is_file() || !outcome.results.iter().any(full) {
            return;
        }
        let _ = self.sqlite.checkpoint(Checkpoint::Empty(ROOM_WAIT));
        let failed = || outcome.results.iter().zip(batches).filter(|(result, _)| full(result));
        let again: Vec<Batch> = failed().map(|(_, batch)| batch.clone()).collect();
        let retried = commit_group(&mut self.sqlite, &self.sources, &again, None);
        let places = outcome.results.iter_mut().filter(|result| full(result));
        places.zip(retried.results).for_each(|(place, result)| *place = result);
        outcome.recorded.extend(retried.recorded);
        outcome.tip = retried.tip.or(outcome.tip);
        outcome.unknown = retried.unknown;
    }

    /// Ends the other threads and connections, and then moves the log into the database.
    fn close(mut self, closed: Option<Closed>) {
        self.replier.stop();
        self.shared.close();
        let left: usize = self.beside.iter().map(Beside::stop).sum();
        self.checkpoints.stop();
        if self.sqlite.is_log_doubtful() {
            // If it cannot be emptied, the last checkpoint refuses, and says so.
            let _ = self.reopen();
        }
        let opening = self.sqlite.opening();
        let emptied =
            if opening.is_file() && !opening.read_only { self.sqlite.last_checkpoint() } else { Ok(()) };
        let path = opening.shown().display().to_string();
        drop(self.sqlite);
        // Other requests to close find the store closed, and waiting batches and reads are dropped.
        drop(self.queue);
        if let Some(closed) = closed {
            closed(if left == 0 { emptied } else { emptied.and(Err(left_over(&path, left))) });
        }
    }
}

/// The error of closing while code of the program still runs within the store.
fn left_over(path: &str, left: usize) -> StateError {
    StateError::Busy(format!(
        "the store is closed, but {left} of its reads run code of this program that has not returned, such as the \
         writer of an export; until they do, {path} and the files beside it stay open"
    ))
}

/// What the operator should know of a store that was just opened.
fn warnings(
    sqlite: &Sqlite,
    clock: &WatchedClock,
    newest: Timestamp,
    beside: Option<&Beside>,
) -> Vec<Warning> {
    let files = sqlite.warning().into_iter().flat_map(str::lines);
    let mut warnings: Vec<_> = files.map(|what| Warning::new(About::Files, what)).collect();
    warnings.extend(sqlite.others().map(|what| Warning::new(About::Others, what)));
    // A clock that panics does so again at the first commit.
    let ahead = clock.ahead(newest).unwrap_or_default();
    warnings.extend(clock.warnings(newest, ahead));
    if let Some(wal) = beside.map(|beside| beside.readings.wal()) {
        warnings.extend(above_cap(wal.used, wal.cap, &wal.readers));
    }
    warnings
}

/// Records the loss that this opening accepts as a change in the log.
///
/// IMPORTANT: the head file is set back after that. If the opening is cut off in between, the next one
/// recognizes the loss in the log.
pub(crate) fn record_loss(sqlite: &mut Sqlite, sources: &Sources, loss: Loss) -> Result<()> {
    let value = serde_json::to_vec(&loss)
        .map_err(|_| StateError::Storage("the accepted loss cannot be encoded as JSON".into()))?;
    // Who accepts it may say why; else the log says what was lost, as the value does in any case.
    let (said, otherwise) = (sqlite.opening().loss_meta.clone(), Meta::new().reason(loss.to_string()));
    let batch =
        Batch::new().set(ACCEPTED_LOSS, value).meta(said).stamped(&otherwise).caused(cause::LOSS_ACCEPTED);
    let outcome = commit_group(sqlite, sources, &[batch], None);
    for receipt in outcome.results {
        sqlite.reset_head_file(receipt?.head)?;
    }
    Ok(())
}
