//! The engine of a store in memory.

use std::sync::Arc;

use super::chore::failure;
use super::{Chore, Closed, CommitRequest, Engine, Read};
use crate::backend::Memory;
use crate::error::Result;
use crate::log::Head;
use crate::store::commit::{Recorded, Sources, commit_group};
use crate::store::feed::Wakers;
use crate::store::resident::Shared;
use crate::store::watched_clock::WatchedClock;
use crate::sync::{RwLock, read_lock, write_lock};

/// Puts batches in order by a lock, and runs everything on the caller's thread, where nothing blocks for long.
pub(crate) struct MemoryEngine {
    pub(crate) memory: Arc<RwLock<Memory>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) sources: Sources,
}

impl Engine for MemoryEngine {
    fn order(&self, request: CommitRequest) {
        let mut memory = write_lock(&self.memory);
        if self.shared.is_closed() {
            return;
        }
        let outcome = commit_group(&mut *memory, &self.sources, std::slice::from_ref(&request.batch), None);
        self.shared.count(|counters| counters.group(1));
        // IMPORTANT: published while the lock on the log is held, so that log and published state always agree.
        let published = |recorded: Recorded| self.shared.publish(&recorded, None, Some(memory.folded()));
        let wakers: Vec<Wakers> = outcome.recorded.into_iter().filter_map(published).collect();
        drop(memory);
        if let Some(result) = outcome.results.into_iter().next() {
            request.caller.answer(result);
        }
        wakers.into_iter().for_each(Wakers::wake);
    }

    fn tend(&self, chore: Chore) {
        let mut memory = write_lock(&self.memory);
        if self.shared.is_closed() {
            return;
        }
        let done = chore.work.run(&mut *memory).map_err(failure);
        let head = memory.folded().head;
        let unchanged = Recorded { before: head, changes: Vec::new(), head };
        let wakers = self.shared.publish(&unchanged, None, Some(memory.folded()));
        drop(memory);
        (chore.done)(done);
        wakers.into_iter().for_each(Wakers::wake);
    }

    fn clock(&self) -> &WatchedClock {
        &self.sources.clock
    }

    fn start_read(&self, read: Read) {
        if !self.shared.is_closed() {
            read(Ok(&*read_lock(&self.memory)));
        }
    }

    fn now(&self) -> Result<Head> {
        Ok(self.shared.head())
    }

    fn close(&self, closed: Closed) {
        // Waits for a commit in progress.
        let memory = write_lock(&self.memory);
        self.shared.close();
        drop(memory);
        closed(Ok(()));
    }
}
