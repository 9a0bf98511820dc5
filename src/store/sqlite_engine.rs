//! The engine of a store on SQLite.

use std::sync::Arc;

use super::engine::{Closed, Engine, Order, Read};
use super::follower::Follower;
use super::readers::Readers;
use super::shared::Shared;
use super::waiting::Task;
use crate::error::Result;
use crate::log::Head;
use crate::sync::queue::Sender;

/// The engine of a store on SQLite: one thread writes, several read, one follows
/// other processes.
pub(super) struct SqliteEngine {
    pub(super) shared: Arc<Shared>,
    pub(super) immutable: bool,
    pub(super) warning: Option<String>,
    pub(super) tasks: Sender<Task>,
    /// None in a store in memory.
    pub(super) beside: Option<Beside>,
}

/// What only a store on disk has: connections beside the writer's.
#[derive(Clone)]
pub(super) struct Beside {
    pub(super) readers: Arc<Readers>,
    pub(super) follower: Arc<Follower>,
}

impl Beside {
    /// Ends the threads.
    pub(super) fn stop(&self) {
        self.follower.stop();
        self.readers.stop();
    }
}

impl Engine for SqliteEngine {
    fn order(&self, order: Order) {
        let _ = self.tasks.send(Task::Commit(order));
    }

    fn read(&self, read: Read) {
        match &self.beside {
            Some(beside) => beside.readers.read(read),
            None => drop(self.tasks.send(Task::Read(read))),
        }
    }

    fn read_alone(&self, read: Read) {
        match &self.beside {
            Some(beside) => beside.readers.read_alone(read),
            None => self.read(read),
        }
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

    fn close(&self, closed: Closed) {
        // It was closed before where nobody takes it, and who waits learns that.
        let _ = self.tasks.send(Task::Close(closed));
    }
}
