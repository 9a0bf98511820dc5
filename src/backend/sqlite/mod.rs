//! Log and projection in SQLite.

mod beside;
mod busy;
mod checksum;
mod config;
mod connection;
mod creation;
mod diagnosis;
mod doubt;
mod erasure;
mod fault;
mod ffi;
mod floor;
mod head_file;
mod judge;
mod jump;
mod known_floor;
mod load;
mod log_view;
mod mark_holder;
mod open;
mod order;
mod path;
mod patience;
mod place;
mod project;
mod rebuild;
mod renewal;
mod retain;
mod row;
mod schema;
mod seen_file;
mod slot;
mod snapshot;
mod thinning;
mod transaction;

/// A simulated disk for tests, which can lose power.
#[cfg(test)]
#[path = "../../../tests/sim/mod.rs"]
pub(crate) mod sim;

pub use config::Durability;
pub(crate) use config::{Location, Opening, SideFile, WAL_CAP};
#[cfg(target_os = "linux")]
pub(crate) use ffi::rename_new;
pub(crate) use ffi::{LogPages, Token, WalIndex, uptime};
pub(crate) use judge::Judge;
pub(crate) use load::Table;
pub(crate) use mark_holder::mark_holders;
pub(crate) use place::{Place, PlaceLocks};
#[cfg(test)]
pub(crate) use slot::{LogMark, Pair, Stamp};

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
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

/// How far a checkpoint goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checkpoint {
    /// Moves what no reader needs, and waits for nobody. Commits go on meanwhile.
    Passive,
    /// Also waits for readers, for at most this time, so that the next commit starts the log over. No commit
    /// runs meanwhile.
    Restart(Duration),
    /// Also cuts the file of the log to no bytes.
    Empty(Duration),
}

/// What a checkpoint moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    /// All pages that the log had when it began.
    All,
    /// Not all of them: a reader needs the database as it is, or the log.
    Held,
    /// Nothing: another connection makes a checkpoint, or holds a lock.
    Nothing,
}

impl Moved {
    /// By the row that the pragma returns: whether it was busy, pages in the log, and how many of them were moved.
    fn of((busy, used, moved): (i64, i64, i64)) -> Self {
        match (busy, used, moved) {
            (_, used, moved) if used >= 0 && moved < used => Self::Held,
            (0, ..) => Self::All,
            (_, used, _) if used >= 0 => Self::Held, // All was moved, but readers use the log.
            _ => Self::Nothing,
        }
    }
}

/// The bytes of the file of the write-ahead log beside a database; zero if there is none.
pub(crate) fn wal_file_bytes(database: &Path) -> u64 {
    SideFile::Log.beside(database).metadata().map_or(0, |found| found.len())
}

/// A connection to a store.
#[derive(Debug)]
pub(crate) struct Sqlite {
    conn: Connection,
    store: StoreId,
    /// The tip at a value of `data_version`, so that a writer without other processes need not read it.
    known: Cell<Option<(i64, Tip)>>,
    /// The floor as it was read last, and the value of `data_version` that it is the one of.
    floor: known_floor::KnownFloor,
    floor_version: Cell<Option<i64>>,
    /// The tip in the read transaction that is open, once it was read.
    read_tip: Cell<Option<Tip>>,
    /// How to open another connection to the same store.
    opening: Opening,
    /// The head file; only the connections that write and make checkpoints have it.
    head_file: Arc<Mutex<Option<HeadFile>>>,
    /// Whether a sync of the log failed since it was last emptied; shared as the head file is.
    is_doubtful: Arc<AtomicBool>,
    /// The log as far as a sync of this process brought it to disk; shared as the head file is.
    synced: Arc<Mutex<Option<slot::LogMark>>>,
    /// The salts of the log when its pair was last recorded.
    log_salts: Cell<Option<[u32; 2]>>,
    accepted_loss: Cell<Option<Loss>>,
    /// A warning of the opening for the program.
    warning: Option<String>,
    /// A warning of what other programs keep in the file.
    others: Option<String>,
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

    /// Moves the write-ahead log into the database, as far as readers allow. Every checkpoint of a store goes
    /// through this, and ends here.
    ///
    /// IMPORTANT: the database file changed, also if that failed on the way. So it is recorded anew.
    pub(crate) fn checkpoint(&self, how: Checkpoint) -> Result<Moved> {
        self.check_own()?;
        self.check_synced()?;
        let moved = self.move_log(how);
        self.note_unsynced(&moved);
        self.record(None, true);
        moved
    }

    fn move_log(&self, how: Checkpoint) -> Result<Moved> {
        if self.is_buffered() {
            self.sync()?; // IMPORTANT: commits are not synced, and the head file may name only synced ones.
        }
        let (sql, wait) = match how {
            Checkpoint::Passive => ("PRAGMA wal_checkpoint(PASSIVE)", None),
            Checkpoint::Restart(wait) => ("PRAGMA wal_checkpoint(RESTART)", Some(wait)),
            Checkpoint::Empty(wait) => ("PRAGMA wal_checkpoint(TRUNCATE)", Some(wait)),
        };
        if let Some(wait) = wait {
            self.set_busy_timeout(wait)?;
        }
        let counts = self.checkpoint_counts(sql);
        if wait.is_some() {
            self.set_busy_timeout(self.opening.busy_timeout)?;
        }
        match counts {
            Ok(counts) => Ok(Moved::of(counts)),
            Err(StateError::Busy(_)) if wait.is_some() => Ok(Moved::Nothing),
            Err(error) => Err(error),
        }
    }

    /// The checkpoint of a store that closes. If other processes are in the way, the log stays, and the next
    /// opening moves it. If other files have taken the place of the store's, or a sync of the log failed, nothing is
    /// written.
    pub(crate) fn last_checkpoint(&self) -> Result<()> {
        if let Err(refused) = self.check_own().and_then(|()| self.check_synced()) {
            let keep = self.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
            return keep.map_err(fault::storage).and(Err(refused));
        }
        match self.checkpoint(Checkpoint::Empty(Duration::ZERO)).map(drop) {
            // IMPORTANT: the log of a buffered store is synced all the same; only the head file could not be
            // brought up to date, because that takes a read.
            Err(StateError::Busy(_)) => ffi::sync_wal(&self.conn).map_err(fault::storage),
            checkpoint => checkpoint,
        }
    }

    /// The bytes of a page in the write-ahead log: a page of the database and 24 bytes before it.
    pub(crate) fn frame_bytes(&self) -> Result<u64> {
        let page = self.conn.query_row("PRAGMA page_size", [], |row| row.get::<_, u32>(0));
        Ok(u64::from(page.map_err(fault::storage)?) + 24)
    }

    /// The bytes of the file of the write-ahead log; zero if there is none.
    pub(crate) fn wal_file_bytes(&self) -> u64 {
        let Location::File(file) = &self.opening.location else { return 0 };
        wal_file_bytes(file)
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
        let log = self.log_mark()?;
        if !failpoint("buffered_log_not_synced") {
            ffi::sync_wal(&self.conn).map_err(fault::storage)?;
        }
        *lock(&self.synced) = log;
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
        // What lies below the floor was dropped on purpose.
        let intact = reached.seq < self.read_floor()?.seq()
            || ends.seq >= reached.seq && self.hash_at(reached.seq)? == Some(reached.hash);
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
        busy::set_busy_timeout(&self.conn, timeout).map_err(fault::storage)
    }

    /// Runs a statement that returns nothing.
    fn run_statement(&self, sql: &str) -> rusqlite::Result<()> {
        self.conn.prepare_cached(sql)?.execute([]).map(|_| ())
    }
}
