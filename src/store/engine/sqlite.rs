//! The engine of a store on SQLite.

use std::sync::Arc;
use std::time::Duration;

use super::follower::Follower;
use super::queue::Task;
use super::readers::Readers;
use super::readings::Readings;
use super::{Chore, Closed, CommitRequest, Engine, Read, Wal};
use crate::error::Result;
use crate::log::Head;
use crate::store::resident::Shared;
use crate::store::stats::Warning;
use crate::store::watched_clock::WatchedClock;
use crate::sync::queue::Sender;

/// The engine of a store on SQLite: one thread writes, several read, one follows
/// other processes.
pub(crate) struct SqliteEngine {
    pub(crate) shared: Arc<Shared>,
    /// What the opening warns of.
    pub(crate) warnings: Vec<Warning>,
    pub(super) clock: Arc<WatchedClock>,
    pub(super) tasks: Sender<Task>,
    /// The other connections; `None` in a store in memory.
    pub(super) beside: Option<Beside>,
}

/// How long closing waits for a thread that runs code of the program, such as the writer of an export. The
/// store's own code ends sooner, because its statements are interrupted.
const FOREIGN_WAIT: Duration = Duration::from_secs(30);

/// The connections beside the writer's, which only a store on disk has.
#[derive(Clone)]
pub(super) struct Beside {
    pub(super) readers: Arc<Readers>,
    pub(super) follower: Arc<Follower>,
    pub(super) readings: Arc<Readings>,
}

impl Beside {
    /// A read that looks at the files first, if that is due.
    fn looking(&self, read: Read) -> Read {
        let follower = self.follower.clone();
        Box::new(move |snapshot| read(follower.look_before_reading().and(snapshot)))
    }

    /// Ends the threads, and waits for them for some time. Returns how many are left over.
    pub(super) fn stop(&self) -> usize {
        self.follower.stop();
        self.readers.stop(FOREIGN_WAIT)
    }
}

impl Engine for SqliteEngine {
    fn order(&self, request: CommitRequest) {
        let _ = self.tasks.send(Task::Commit(request));
    }

    fn tend(&self, chore: Chore) {
        let _ = self.tasks.send(Task::Tend(chore));
    }

    fn start_read(&self, read: Read) {
        match &self.beside {
            Some(beside) => beside.readers.start_read(beside.looking(read)),
            None => drop(self.tasks.send(Task::Read(read))),
        }
    }

    fn read_alone(&self, what: &'static str, read: Read) {
        match &self.beside {
            Some(beside) => beside.readers.read_alone(beside.readings.noted(what, beside.looking(read))),
            None => self.start_read(read),
        }
    }

    fn clock(&self) -> &WatchedClock {
        &self.clock
    }

    fn wal(&self) -> Wal {
        self.beside.as_ref().map(|beside| beside.readings.wal()).unwrap_or_default()
    }

    fn now(&self) -> Result<Head> {
        match (&self.beside, self.shared.current()) {
            (Some(beside), None) => beside.follower.now(),
            (_, Some(published)) => Ok(published.head),
            (None, None) => Ok(self.shared.head()),
        }
    }

    fn stale(&self) {
        if let Some(beside) = &self.beside {
            beside.follower.wake();
        }
    }

    fn attend(&self) {
        if let Some(beside) = &self.beside {
            beside.follower.wake();
        }
    }

    fn settle(&self, settled: Closed) {
        let _ = self.tasks.send(Task::Settle(settled));
    }

    fn close(&self, closed: Closed) {
        // If the writer has ended already, the task is dropped, and the caller learns that by it.
        let _ = self.tasks.send(Task::Close(closed));
    }
}
