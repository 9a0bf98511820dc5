//! The threads of a store on SQLite: one that writes, several that read.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use tokio::sync::oneshot;

use super::Receipt;
use super::engine::{Closed, Engine, Order, Read};
use super::group::{Outcome, Rules, commit_group};
use super::poller::Poller;
use super::shared::Shared;
use crate::backend::sqlite::{Loss, Opening, Sqlite};
use crate::error::{Result, StateError};
use crate::log::Head;
use crate::state::Batch;

/// The most batches of one group, and bytes after which it is closed.
const GROUP_BATCHES: usize = 4096;
const GROUP_BYTES: usize = 16 << 20;
/// How long the writer looks for work before it sleeps.
const SPIN: Duration = Duration::from_micros(50);
/// Pages in the write-ahead log after which a group is followed by a checkpoint.
const CHECKPOINT_PAGES: u64 = 16_000;
/// Pages after which a checkpoint waits for readers, so that the log can start over.
const WAL_CAP_PAGES: u64 = 4 * CHECKPOINT_PAGES;
/// How long it waits.
const WAL_CAP_WAIT: Duration = Duration::from_millis(100);

/// The key of the losses that were accepted.
const ACCEPTED_LOSS: &str = "/.univrs/accepted-loss";

/// What the writer is asked for.
enum Task {
    Commit(Order),
    /// Only of a store in memory, which has one connection.
    Read(Read),
    Close(Closed),
}

/// The queues to the threads.
pub(super) struct SqliteEngine {
    pub(super) shared: Arc<Shared>,
    pub(super) immutable: bool,
    pub(super) warning: Option<String>,
    tasks: Sender<Task>,
    /// None in a store in memory.
    file: Option<FileThreads>,
}

/// What only a store on disk has: other connections.
struct FileThreads {
    reads: Sender<Read>,
    poller: Arc<Poller>,
}

impl Engine for SqliteEngine {
    fn order(&self, order: Order) {
        let _ = self.tasks.send(Task::Commit(order));
    }

    fn read(&self, read: Read) {
        match &self.file {
            Some(file) => drop(file.reads.send(read)),
            None => drop(self.tasks.send(Task::Read(read))),
        }
    }

    fn now(&self) -> Result<Head> {
        self.file.as_ref().map_or_else(|| Ok(self.shared.head()), |file| file.poller.now())
    }

    fn attend(&self) {
        if let Some(file) = &self.file {
            file.poller.wake();
        }
    }

    fn close(&self, closed: Closed) {
        if let Err(unsent) = self.tasks.send(Task::Close(closed))
            && let Task::Close(closed) = unsent.into_inner()
        {
            closed(Ok(())); // It was closed before.
        }
    }
}

/// Starts the threads of a store; `started` learns when they serve.
pub(super) fn spawn(
    opening: Opening,
    rules: Rules,
    started: oneshot::Sender<Result<SqliteEngine>>,
) -> Result<()> {
    let run = move || match Writer::open(opening, rules) {
        Ok((writer, engine)) => {
            // Where nobody waits any more, the engine is dropped, and the writer ends.
            let _ = started.send(Ok(engine));
            writer.run();
        }
        Err(error) => drop(started.send(Err(error))),
    };
    thread::Builder::new()
        .name("univrs-state writer".into())
        .spawn(run)
        .map_err(|error| no_thread(&error))?;
    Ok(())
}

fn no_thread(error: &std::io::Error) -> StateError {
    StateError::Storage(format!("no thread can be started: {error}"))
}

struct Writer {
    sqlite: Sqlite,
    rules: Rules,
    shared: Arc<Shared>,
    tasks: Receiver<Task>,
    poller: Option<Arc<Poller>>,
    readers: Vec<JoinHandle<()>>,
    /// Ends the readers when it is dropped.
    stop_readers: Option<Sender<()>>,
    checkpoints: Checkpoints,
    /// Why no more batches are taken, after the connection was lost for good.
    lost: Option<StateError>,
}

impl Writer {
    fn open(opening: Opening, rules: Rules) -> Result<(Self, SqliteEngine)> {
        let mut sqlite = opening.first()?;
        if let Some(loss) = sqlite.accepted_loss() {
            record_loss(&mut sqlite, &rules, loss)?;
        }
        let head = match sqlite.foreign_tip()? {
            Some(tip) => tip.head,
            None => Head::genesis(sqlite.id()),
        };
        let shared = Arc::new(Shared::new(sqlite.id(), head));
        let (task_sender, tasks) = unbounded();
        let mut writer = Self {
            sqlite,
            rules,
            shared: shared.clone(),
            tasks,
            poller: None,
            readers: Vec::new(),
            stop_readers: None,
            checkpoints: Checkpoints::default(),
            lost: None,
        };
        let mut engine = SqliteEngine {
            shared: shared.clone(),
            immutable: writer.sqlite.opening().immutable,
            warning: writer.sqlite.warning().map(str::to_owned),
            tasks: task_sender,
            file: None,
        };
        if writer.sqlite.opening().is_file() {
            let reads = writer.start_readers()?;
            let poller =
                Poller::start(writer.sqlite.another(true)?, shared).map_err(|error| no_thread(&error))?;
            writer.poller = Some(poller.clone());
            engine.file = Some(FileThreads { reads, poller });
        }
        Ok((writer, engine))
    }

    fn start_readers(&mut self) -> Result<Sender<Read>> {
        let count = thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4));
        let (sender, reads) = unbounded::<Read>();
        let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
        self.stop_readers = Some(stop);
        for _ in 0..count {
            let sqlite = self.sqlite.another(true)?;
            let (reads, stopped) = (reads.clone(), stopped.clone());
            let run = move || read_until(&sqlite, &reads, &stopped);
            let reader = thread::Builder::new()
                .name("univrs-state reader".into())
                .spawn(run)
                .map_err(|error| no_thread(&error))?;
            self.readers.push(reader);
        }
        Ok(sender)
    }

    fn run(mut self) {
        let mut met = None;
        let closed = loop {
            let Some(task) = met.take().or_else(|| self.next()) else { break None };
            match task {
                Task::Commit(order) => met = self.commit(order),
                Task::Read(read) => self.sqlite.read(read),
                Task::Close(closed) => break Some(closed),
            }
        };
        self.close(closed);
    }

    /// The next task. Looks for it a little before it sleeps: who waits for one commit often asks
    /// for the next at once, and to wake a thread takes longer than that.
    fn next(&self) -> Option<Task> {
        let start = Instant::now();
        loop {
            match self.tasks.try_recv() {
                Ok(task) => return Some(task),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) if start.elapsed() < SPIN => thread::yield_now(),
                Err(TryRecvError::Empty) => return self.tasks.recv().ok(),
            }
        }
    }

    /// Commits everything that waits as one group; returns a task that was met behind it.
    fn commit(&mut self, first: Order) -> Option<Task> {
        let mut bytes = first.batch.size();
        let (mut batches, mut replies) = (vec![first.batch], vec![(first.reply, first.room)]);
        let mut met = None;
        while batches.len() < GROUP_BATCHES && bytes < GROUP_BYTES {
            match self.tasks.try_recv() {
                Ok(Task::Commit(order)) => {
                    bytes += order.batch.size();
                    batches.push(order.batch);
                    replies.push((order.reply, order.room));
                }
                Ok(task) => {
                    met = Some(task);
                    break;
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        let outcome = self.record(&batches);
        self.shared.count(|counters| counters.group(batches.len()));
        // Known before it is acknowledged, so that a watch from now on starts behind it.
        let news = outcome.tip.is_some_and(|tip| self.shared.advance(tip.head));
        for ((reply, _), result) in replies.into_iter().zip(outcome.results) {
            let _ = reply.send(result);
        }
        if news {
            self.shared.ring();
        }
        self.checkpoint_if_due();
        met
    }

    fn record(&mut self, batches: &[Batch]) -> Outcome {
        if let Some(lost) = &self.lost {
            let results: Vec<Result<Receipt>> = vec![Err(lost.clone()); batches.len()];
            return Outcome { results, tip: None, unknown: false };
        }
        let mut outcome = commit_group(&mut self.sqlite, &self.rules, batches);
        self.make_room(batches, &mut outcome);
        if outcome.unknown {
            // The failed connection may hold on to what it could not sync: start from the file.
            match self.sqlite.another(false) {
                Ok(sqlite) => {
                    sqlite.inherit(&self.sqlite);
                    self.sqlite = sqlite;
                }
                Err(error) => {
                    self.lost =
                        Some(StateError::Storage(format!("the store was lost after a failed sync: {error}")));
                }
            }
        }
        outcome
    }

    /// Where there was no room, starts the write-ahead log over, most of which may be in the
    /// database already or superseded, and tries what failed once more.
    fn make_room(&mut self, batches: &[Batch], outcome: &mut Outcome) {
        let full = |result: &Result<Receipt>| matches!(result, Err(StateError::StorageFull(_)));
        if outcome.unknown || !self.sqlite.opening().is_file() || !outcome.results.iter().any(full) {
            return;
        }
        let _ = self.sqlite.checkpoint(Some(WAL_CAP_WAIT));
        let failed = || outcome.results.iter().zip(batches).filter(|(result, _)| full(result));
        let again: Vec<Batch> = failed().map(|(_, batch)| batch.clone()).collect();
        let retried = commit_group(&mut self.sqlite, &self.rules, &again);
        let places = outcome.results.iter_mut().filter(|result| full(result));
        places.zip(retried.results).for_each(|(place, result)| *place = result);
        outcome.tip = retried.tip.or(outcome.tip);
        outcome.unknown = retried.unknown;
    }

    fn checkpoint_if_due(&mut self) {
        if !self.sqlite.opening().is_file() {
            return;
        }
        // A failure to ask shows at the next commit.
        let due = self.sqlite.wal_pages().is_ok_and(|pages| self.checkpoints.are_due(pages));
        if due {
            let wait = (self.checkpoints.pages >= WAL_CAP_PAGES).then_some(WAL_CAP_WAIT);
            let start = Instant::now();
            let failed = self.sqlite.checkpoint(wait).is_err();
            self.shared.count(|counters| counters.checkpoint(start.elapsed(), failed));
        }
    }

    fn close(mut self, closed: Option<Closed>) {
        self.shared.close();
        if let Some(poller) = self.poller.take() {
            poller.stop();
        }
        self.stop_readers = None;
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        let opening = self.sqlite.opening();
        let result = if opening.is_file() && !opening.read_only {
            self.sqlite.checkpoint(Some(Duration::ZERO))
        } else {
            Ok(())
        };
        drop(self.sqlite);
        // Whoever else closes now finds it done; whatever else waits is dropped.
        let others: Vec<Task> = self.tasks.try_iter().collect();
        drop(self.tasks);
        for task in others {
            if let Task::Close(closed) = task {
                closed(Ok(()));
            }
        }
        if let Some(closed) = closed {
            closed(result);
        }
    }
}

/// Records a loss that this opening accepts, in the log, where everybody can see it.
fn record_loss(sqlite: &mut Sqlite, rules: &Rules, loss: Loss) -> Result<()> {
    let value = serde_json::json!({ "reached": loss.reached, "ends": loss.ends });
    let batch = Batch::new().set(ACCEPTED_LOSS, value.to_string()).caused("loss_accepted", loss.to_string());
    let outcome = commit_group(sqlite, rules, &[batch]);
    for receipt in outcome.results {
        sqlite.settle(receipt?.head)?;
    }
    Ok(())
}

/// When the write-ahead log is due to be moved into the database.
#[derive(Default)]
struct Checkpoints {
    pages: u64,
    /// Pages at the last one: where a reader kept the log from starting over, it goes on from there.
    last: u64,
}

impl Checkpoints {
    fn are_due(&mut self, pages: u64) -> bool {
        if pages < self.pages {
            self.last = 0; // The log was started over.
        }
        self.pages = pages;
        let due = pages - self.last >= CHECKPOINT_PAGES;
        if due {
            self.last = pages;
        }
        due
    }
}

/// Runs reads, each in a transaction of its own, until told to stop.
fn read_until(sqlite: &Sqlite, reads: &Receiver<Read>, stopped: &Receiver<()>) {
    loop {
        crossbeam_channel::select! {
            recv(stopped) -> _ => return,
            recv(reads) -> read => match read {
                Ok(read) => sqlite.read(read),
                Err(_) => return,
            },
        }
    }
}
