//! Log and projection in SQLite.

mod config;
mod connection;
mod creation;
mod diagnosis;
mod doubt;
mod fault;
mod ffi;
mod head_file;
mod judge;
mod jump;
mod load;
mod open;
mod order;
mod path;
mod patience;
mod place;
mod row;
mod schema;
mod seen_file;
mod slot;
mod snapshot;
mod transaction;

/// A simulated disk for tests, which can lose power.
#[cfg(test)]
#[path = "../../../tests/sim/mod.rs"]
pub(crate) mod sim;

pub use config::Durability;
pub(crate) use config::{Location, Opening, SideFile};
#[cfg(target_os = "linux")]
pub(crate) use ffi::rename_new;
pub(crate) use ffi::{Token, WalIndex};
pub(crate) use judge::Judge;
pub(crate) use load::Table;
pub(crate) use place::{Place, PlaceLocks};
#[cfg(test)]
pub(crate) use slot::{LogMark, Pair, Stamp};

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
pub(crate) use rusqlite::InterruptHandle;
use rusqlite::config::DbConfig;

pub(crate) use head_file::{ACCEPTED_LOSS, Loss};
#[cfg(not(test))]
use head_file::{HeadFile, RecordedHead};
#[cfg(test)]
pub(crate) use head_file::{HeadFile, RecordedHead};

use crate::backend::process::CountedConnection;
use crate::backend::{LogView, View};
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::log::{Head, StoreId, Tip};
use crate::sync::{Mutex, lock};

/// The version of SQLite that is linked.
pub(crate) fn version() -> &'static str {
    rusqlite::version()
}

/// A connection to a store.
#[derive(Debug)]
pub(crate) struct Sqlite {
    conn: Connection,
    store: StoreId,
    /// The tip at a value of `data_version`, so that a writer without other processes need not read it.
    known: Cell<Option<(i64, Tip)>>,
    /// The tip in the read transaction that is open, once it was read.
    read_tip: Cell<Option<Tip>>,
    /// How to open another connection to the same store.
    opening: Opening,
    /// The head file; only the connections that write and make checkpoints have it.
    head_file: Arc<Mutex<Option<HeadFile>>>,
    /// The salts of the log when its pair was last recorded.
    log_salts: Cell<Option<[u32; 2]>>,
    accepted_loss: Cell<Option<Loss>>,
    /// A warning of the opening for the program.
    warning: Option<String>,
    _counted: CountedConnection,
}

impl Sqlite {
    /// The tip, if another connection has committed since this one last looked; otherwise `None`.
    pub(crate) fn foreign_tip(&self) -> Result<Option<Tip>> {
        let version = self.data_version()?;
        if self.known.get().is_some_and(|(known, _)| known == version) {
            return Ok(None);
        }
        let tip = self.read_tip()?;
        self.known.set(Some((version, tip)));
        Ok(Some(tip))
    }

    /// The index of the write-ahead log, kept mapped by this connection; `None` if it cannot be mapped.
    pub(crate) fn into_wal_index(self) -> Result<Option<WalIndex>> {
        self.read_head()?; // It is mapped by the first read.
        ffi::WalIndex::mapped_by(self.conn).map_err(fault::storage)
    }

    /// Moves the write-ahead log into the database, as far as readers allow. If a time is given, waits for
    /// readers for at most that time, and then also empties the log file.
    ///
    /// IMPORTANT: the database file changed, also if that failed on the way. So it is recorded anew.
    pub(crate) fn checkpoint(&self, truncate: Option<Duration>) -> Result<()> {
        self.check_own()?;
        let moved = self.move_log(truncate);
        self.record(None, true);
        moved
    }

    fn move_log(&self, truncate: Option<Duration>) -> Result<()> {
        if self.opening.durability == Some(Durability::Buffered) && self.opening.is_file() {
            self.sync()?; // IMPORTANT: commits are not synced, and the head file may name only synced ones.
        }
        let Some(wait) = truncate else {
            return self.checkpoint_counts("PRAGMA wal_checkpoint(PASSIVE)").map(|_| ());
        };
        self.set_busy_timeout(wait)?;
        let checkpoint = self.checkpoint_counts("PRAGMA wal_checkpoint(TRUNCATE)");
        self.set_busy_timeout(self.opening.busy_timeout)?;
        match checkpoint {
            Ok(_) | Err(StateError::Busy(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The checkpoint of a store that closes. If other processes are in the way, the log stays, and the next
    /// opening moves it. If other files have taken the place of the store's, nothing is written.
    pub(crate) fn last_checkpoint(&self) -> Result<()> {
        if let Err(moved) = self.check_own() {
            let keep = self.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
            return keep.map_err(fault::storage).and(Err(moved));
        }
        match self.checkpoint(Some(Duration::ZERO)) {
            // IMPORTANT: the log of a buffered store is synced all the same; only the head file could not be
            // brought up to date, because that takes a read.
            Err(StateError::Busy(_)) => ffi::sync_wal(&self.conn).map_err(fault::storage),
            checkpoint => checkpoint,
        }
    }

    /// Pages in the write-ahead log since it was last started over.
    pub(crate) fn wal_pages(&self) -> Result<u64> {
        let (_, log, _) = self.checkpoint_counts("PRAGMA wal_checkpoint(NOOP)")?;
        Ok(u64::try_from(log).unwrap_or(0))
    }

    fn checkpoint_counts(&self, sql: &str) -> Result<(i64, i64, i64)> {
        let mut statement = self.conn.prepare_cached(sql).map_err(fault::storage)?;
        statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).map_err(fault::storage)
    }

    /// Syncs the write-ahead log, then records its head in the head file.
    ///
    /// IMPORTANT: in this order: the tip is read, the log is synced, the head file is written. The head file
    /// then names a head that is on disk.
    fn sync(&self) -> Result<()> {
        let tip = self.read_tip()?;
        if !failpoint("buffered_log_not_synced") {
            ffi::sync_wal(&self.conn).map_err(fault::storage)?;
        }
        self.record(Some(tip.head), false);
        Ok(())
    }

    /// The loss, if the log does not contain the head that the head file names.
    fn loss(&self, recorded: RecordedHead) -> Result<Option<Loss>> {
        let RecordedHead::Reached(reached) = recorded else { return Ok(None) };
        if failpoint("head_file_ignored") {
            return Ok(None);
        }
        let ends = self.read_head()?;
        let intact = ends.seq >= reached.seq && self.hash_at(reached.seq)? == Some(reached.hash);
        Ok((!intact).then_some(Loss { reached, ends }))
    }

    /// Whether this loss was accepted earlier and recorded in the log. The head file is reset after that and
    /// not synced, so a loss of power may leave the old head there.
    fn has_accepted(&self, loss: Loss) -> bool {
        let recorded = self.entry(ACCEPTED_LOSS).ok().flatten();
        let accepted = recorded.and_then(|entry| serde_json::from_slice::<Loss>(&entry.value).ok());
        accepted.is_some_and(|accepted| accepted.reached == loss.reached)
    }

    /// The loss that this opening accepts.
    ///
    /// IMPORTANT: the loss is recorded in the log first; then the head file is
    /// [reset](Self::reset_head_file).
    pub(crate) fn accepted_loss(&self) -> Option<Loss> {
        self.accepted_loss.get()
    }

    /// Sets the head file back to this head. The loss must be recorded in the log before.
    pub(crate) fn reset_head_file(&self, head: Head) -> Result<()> {
        if let Some(head_file) = &mut *lock(&self.head_file) {
            head_file.reset(head)?;
        }
        self.accepted_loss.set(None);
        Ok(())
    }

    /// A number that changes when another connection commits.
    fn data_version(&self) -> Result<i64> {
        let mut statement = self.conn.prepare_cached("PRAGMA data_version").map_err(fault::storage)?;
        statement.query_row([], |row| row.get(0)).map_err(fault::storage)
    }

    /// The error of a statement that writes. If the schema has got an object that is in the way since the store was
    /// opened, it names that object.
    fn write_fault(&self, error: rusqlite::Error) -> StateError {
        let refused = error.sqlite_error().is_some_and(|failure| {
            failure.code == rusqlite::ErrorCode::ConstraintViolation
                || failure.extended_code == rusqlite::ffi::SQLITE_ERROR
        });
        match (fault::storage(error), refused.then(|| schema::refusal(&self.conn))) {
            (StateError::Storage(fault), Some(Ok(Some(refusal)))) => {
                let path = self.opening.shown().display();
                StateError::Storage(fault.reworded(|what| format!("{path} {refusal} ({what})")))
            }
            (error, _) => error,
        }
    }

    /// A handle that interrupts a statement of this connection from another thread.
    pub(crate) fn interrupt_handle(&self) -> InterruptHandle {
        self.conn.get_interrupt_handle()
    }

    fn set_busy_timeout(&self, timeout: Duration) -> Result<()> {
        self.conn.busy_timeout(timeout).map_err(fault::storage)
    }

    /// Runs a statement that returns nothing.
    fn run_statement(&self, sql: &str) -> rusqlite::Result<()> {
        self.conn.prepare_cached(sql)?.execute([]).map(|_| ())
    }
}
