//! The threads of a store on SQLite: one that writes, several that read.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, unbounded};
use tokio::sync::oneshot;

use super::Receipt;
use super::engine::{Closed, Engine, Order, Read};
use super::group::{Outcome, Rules, commit_group};
use super::shared::Shared;
use crate::backend::sqlite::{Opening, Sqlite};
use crate::error::{Result, StateError};
use crate::state::Batch;

/// How often the writer looks for commits of other processes while there are watches.
const POLL: Duration = Duration::from_millis(20);
/// The most batches of one group, and bytes after which it is closed.
const GROUP_BATCHES: usize = 4096;
const GROUP_BYTES: usize = 16 << 20;
/// Pages in the write-ahead log after which a group is followed by a checkpoint.
const CHECKPOINT_PAGES: u64 = 16_000;
/// Pages after which the writer waits for readers, up to the busy timeout, to start the log over.
const WAL_CAP_PAGES: u64 = 4 * CHECKPOINT_PAGES;

/// What the writer is asked for.
enum Task {
    Commit(Order),
    /// Only of a store in memory, which has one connection.
    Read(Read),
    /// A watch has joined.
    Attend,
    Close(Closed),
}

/// The queue of the writer and that of the readers.
pub(super) struct SqliteEngine {
    tasks: Sender<Task>,
    /// None in a store in memory.
    reads: Option<Sender<Read>>,
}

impl Engine for SqliteEngine {
    fn order(&self, order: Order) {
        let _ = self.tasks.send(Task::Commit(order));
    }

    fn read(&self, read: Read) {
        match &self.reads {
            Some(reads) => drop(reads.send(read)),
            None => drop(self.tasks.send(Task::Read(read))),
        }
    }

    fn attend(&self) {
        let _ = self.tasks.send(Task::Attend);
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
    started: oneshot::Sender<Result<(Arc<Shared>, SqliteEngine)>>,
) -> Result<()> {
    let run = move || match Writer::open(opening, rules) {
        Ok((writer, engine)) => {
            let shared = writer.shared.clone();
            // Where nobody waits any more, the engine is dropped, and the writer ends.
            let _ = started.send(Ok((shared, engine)));
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
    readers: Vec<JoinHandle<()>>,
    /// Ends the readers when it is dropped.
    stop_readers: Option<Sender<()>>,
    /// Why no more batches are taken, after the connection was lost for good.
    lost: Option<StateError>,
}

impl Writer {
    fn open(opening: Opening, rules: Rules) -> Result<(Self, SqliteEngine)> {
        let mut sqlite = opening.first()?;
        let head = match sqlite.foreign_tip()? {
            Some(tip) => tip.head,
            None => crate::log::Head::genesis(sqlite.id()),
        };
        let shared = Arc::new(Shared::new(sqlite.id(), head));
        let (task_sender, tasks) = unbounded();
        let mut writer =
            Self { sqlite, rules, shared, tasks, readers: Vec::new(), stop_readers: None, lost: None };
        let reads = if writer.sqlite.opening().is_file() { Some(writer.start_readers()?) } else { None };
        Ok((writer, SqliteEngine { tasks: task_sender, reads }))
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
        let mut held = None;
        let closed = loop {
            let task = match held.take() {
                Some(task) => task,
                None => match self.wait() {
                    Ok(Some(task)) => task,
                    Ok(None) => continue,
                    Err(()) => break None,
                },
            };
            match task {
                Task::Commit(order) => held = self.commit(order),
                Task::Read(read) => self.sqlite.read(read),
                Task::Attend => self.notice(),
                Task::Close(closed) => break Some(closed),
            }
        };
        self.close(closed);
    }

    /// The next task. While there are watches, also looks for commits of other processes.
    fn wait(&mut self) -> std::result::Result<Option<Task>, ()> {
        if self.shared.watching() == 0 || !self.sqlite.opening().is_file() {
            return self.tasks.recv().map(Some).map_err(|_| ());
        }
        match self.tasks.recv_timeout(POLL) {
            Ok(task) => Ok(Some(task)),
            Err(RecvTimeoutError::Timeout) => {
                self.notice();
                Ok(None)
            }
            Err(RecvTimeoutError::Disconnected) => Err(()),
        }
    }

    /// Rings for commits of other processes.
    fn notice(&mut self) {
        // A failure to look shows to whoever reads or writes.
        if let Ok(Some(tip)) = self.sqlite.foreign_tip()
            && self.shared.advance(tip.head)
        {
            self.shared.ring();
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
        let outcome = commit_group(&mut self.sqlite, &self.rules, batches);
        if outcome.unknown {
            // The failed connection may hold on to what it could not sync: start from the file.
            match self.sqlite.another(false) {
                Ok(sqlite) => self.sqlite = sqlite,
                Err(error) => {
                    self.lost =
                        Some(StateError::Storage(format!("the store was lost after a failed sync: {error}")));
                }
            }
        }
        outcome
    }

    fn checkpoint_if_due(&self) {
        if !self.sqlite.opening().is_file() {
            return;
        }
        match self.sqlite.wal_pages() {
            Ok(pages) if pages >= CHECKPOINT_PAGES => self.checkpoint(pages >= WAL_CAP_PAGES),
            _ => {}
        }
    }

    fn checkpoint(&self, truncate: bool) {
        let start = Instant::now();
        let failed = self.sqlite.checkpoint(truncate).is_err();
        self.shared.count(|counters| counters.checkpoint(start.elapsed(), failed));
    }

    fn close(mut self, closed: Option<Closed>) {
        self.shared.close();
        self.stop_readers = None;
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        let opening = self.sqlite.opening();
        let result =
            if opening.is_file() && !opening.read_only { self.sqlite.checkpoint(true) } else { Ok(()) };
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
            closed(match result {
                // Another process is at work on the file, and will do it.
                Err(StateError::Busy(_)) => Ok(()),
                result => result,
            });
        }
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
