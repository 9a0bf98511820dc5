//! What follows a sync of the write-ahead log that failed.
//!
//! The operating system may have dropped the pages that were not written, and no later sync reports it: the log in the
//! page cache may hold commits that are not on disk. To move such a log into the database is no way out: when the power
//! goes meanwhile, neither the log nor the database has those pages whole. So nobody moves it, and no head of it is
//! recorded, until a new connection has written the log anew from the page cache, behind what was synced before, and
//! synced that.

use std::sync::atomic::Ordering;

use rusqlite::{Transaction, TransactionBehavior};

use super::config::{Location, SideFile};
use super::slot::LogMark;
use super::{Checkpoint, Durability, Moved, Sqlite, fault, ffi};
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::sync::lock;

impl Sqlite {
    /// A new connection for writing that replaces this one, whose sync failed.
    ///
    /// IMPORTANT: no later process may serve what the log holds beyond the disk. So the log of a buffered store is written
    /// anew. Either is emptied, if readers end in time; otherwise the next commit overwrites one that failed.
    pub(crate) fn renewed(&self) -> Result<Self> {
        // IMPORTANT: it has no head file yet. What this sync and this checkpoint say to be durable may not be.
        let sqlite = self.opening.another(self.store, false)?;
        if sqlite.opening.is_file() {
            if self.is_buffered() {
                sqlite.rewrite_log(*lock(&self.synced))?;
            } else {
                // All that others can read was synced before; the commit whose sync failed is not among it.
                ffi::sync_wal(&sqlite.conn).map_err(fault::storage)?;
            }
            if !failpoint("log_not_emptied") {
                sqlite.checkpoint(Checkpoint::Empty(sqlite.opening.busy_timeout))?;
            }
        }
        let sqlite = self.shared_with(sqlite);
        sqlite.is_doubtful.store(false, Ordering::SeqCst);
        sqlite.record(None, true);
        Ok(sqlite)
    }

    /// Writes the log anew behind what was synced, and syncs it.
    ///
    /// IMPORTANT: not what was synced. If the power goes meanwhile, a disk may damage what it is writing, although it
    /// writes the same again; the head file may name what is damaged then.
    fn rewrite_log(&self, synced: Option<LogMark>) -> Result<()> {
        let frame = self.frame_bytes()?;
        // Nobody else writes meanwhile.
        let transaction =
            Transaction::new_unchecked(&self.conn, TransactionBehavior::Immediate).map_err(fault::storage)?;
        let rewritten = self.log_mark().and_then(|log| {
            let (salts, frames) = log.map_or(([0; 2], 0), |log| (log.salts, log.frames));
            let synced = synced.filter(|synced| synced.salts == salts && !failpoint("synced_log_rewritten"));
            let end = |frames: u32| match frames {
                0 => 0,
                frames => i64::try_from(ffi::LOG_HEADER as u64 + u64::from(frames) * frame).unwrap_or(0),
            };
            let from = end(synced.map_or(0, |synced| synced.frames));
            ffi::rewrite_wal(&self.conn, from, end(frames)).map_err(fault::storage)
        });
        transaction.rollback().map_err(fault::storage).and(rewritten)
    }

    pub(super) fn log_mark(&self) -> Result<Option<LogMark>> {
        ffi::log(&self.conn).map_err(fault::storage)
    }

    /// Notes that a sync of the log failed, or may have failed.
    pub(crate) fn doubt_log(&self) {
        self.is_doubtful.store(true, Ordering::SeqCst);
    }

    /// Whether a sync of the log failed on a connection that writes or makes checkpoints, so that this one must be
    /// [renewed](Self::renewed) before it writes.
    pub(crate) fn is_log_doubtful(&self) -> bool {
        self.is_doubtful.load(Ordering::SeqCst)
    }

    /// Notes a checkpoint that failed. In a buffered store it is the first to sync what was committed; in a synced one
    /// everything in the log is on disk. A full disk fails writes, of which nothing counts.
    pub(super) fn note_unsynced(&self, moved: &Result<Moved>) {
        if self.is_buffered()
            && matches!(moved, Err(error) if !matches!(error, StateError::Busy(_) | StateError::StorageFull(_)))
        {
            self.doubt_log();
        }
    }

    pub(super) fn is_buffered(&self) -> bool {
        self.opening.durability == Some(Durability::Buffered) && self.opening.is_file()
    }

    /// Refuses to move a log whose sync failed.
    pub(super) fn check_synced(&self) -> Result<()> {
        let (true, Location::File(file)) = (self.is_log_doubtful(), &self.opening.location) else {
            return Ok(());
        };
        let (log, path) = (SideFile::Log.beside(file), file.display());
        let what = format!(
            "{} could not be synced, so it is not known how much of it is on disk: it is not moved into {path} until a \
             sync succeeds; look at the disk, then open {path} again",
            log.display()
        );
        Err(StateError::Storage(what.into()))
    }
}
