//! Log and projection in SQLite.

mod config;
mod connection;
mod creation;
mod diagnosis;
mod fault;
mod ffi;
mod jump;
mod load;
mod open;
mod order;
mod path;
mod patience;
mod row;
mod schema;
mod snapshot;
mod transaction;
mod witness;

/// A disk that can lose its power, for tests.
#[cfg(test)]
#[path = "../../../tests/sim/mod.rs"]
pub(crate) mod sim;

pub use config::Durability;
pub(crate) use config::{Location, Opening, SideFile};
pub(crate) use ffi::{Token, WalIndex};
pub(crate) use load::Table;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use rusqlite::Connection;
pub(crate) use rusqlite::InterruptHandle;

pub(crate) use witness::{ACCEPTED_LOSS, Loss};
#[cfg(not(test))]
use witness::{Testimony, Witness};
#[cfg(test)]
pub(crate) use witness::{Testimony, Witness};

use crate::backend::process::Counted;
use crate::backend::{Snapshot, View};
use crate::error::{Result, StateError};
use crate::log::{Head, StoreId, Tip};
use crate::planted::planted;

/// The version of SQLite.
pub(crate) fn version() -> &'static str {
    rusqlite::version()
}

/// A connection to a store.
#[derive(Debug)]
pub(crate) struct Sqlite {
    conn: Connection,
    store: StoreId,
    /// The tip as of `data_version`, so that a writer who is alone need not read it.
    known: Cell<Option<(i64, Tip)>>,
    /// The tip of the read transaction that is open, once it was asked for.
    read_tip: Cell<Option<Tip>>,
    /// What opens another connection to the same store.
    opening: Opening,
    /// How far the log has reached; only of the connection that writes.
    witness: RefCell<Option<Witness>>,
    accepted_loss: Cell<Option<Loss>>,
    /// What whoever opened the store should know.
    warning: Option<String>,
    _counted: Counted,
}

impl Sqlite {
    /// The tip, where it is not as it was when this connection last looked.
    pub(crate) fn foreign_tip(&self) -> Result<Option<Tip>> {
        let version = self.data_version()?;
        if self.known.get().is_some_and(|(known, _)| known == version) {
            return Ok(None);
        }
        let tip = self.read_tip()?;
        self.known.set(Some((version, tip)));
        Ok(Some(tip))
    }

    /// The index of the write-ahead log, kept mapped by this connection; none where it cannot be mapped.
    pub(crate) fn into_wal_index(self) -> Result<Option<WalIndex>> {
        self.read_head()?; // It is mapped by the first read.
        ffi::WalIndex::of(self.conn).map_err(fault::storage)
    }

    /// Moves what is in the write-ahead log into the database as far as readers allow; waits for
    /// them so long, if a time is given, and then empties the file.
    pub(crate) fn checkpoint(&self, truncate: Option<Duration>) -> Result<()> {
        if self.opening.durability == Some(Durability::Buffered) && self.opening.is_file() {
            self.sync()?; // Commits are not, and the witness waits for it.
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

    /// Pages in the write-ahead log since it was last started over.
    pub(crate) fn wal_pages(&self) -> Result<u64> {
        let (_, log, _) = self.checkpoint_counts("PRAGMA wal_checkpoint(NOOP)")?;
        Ok(u64::try_from(log).unwrap_or(0))
    }

    fn checkpoint_counts(&self, sql: &str) -> Result<(i64, i64, i64)> {
        let mut statement = self.conn.prepare_cached(sql).map_err(fault::storage)?;
        statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).map_err(fault::storage)
    }

    /// Tells the witness of a head that is durable. What it misses is heard of late, not lost.
    fn testify(&self, head: Head) {
        if let Some(witness) = &mut *self.witness.borrow_mut() {
            let _ = witness.advance(head);
        }
    }

    /// Syncs the write-ahead log, and tells the witness what is in it.
    fn sync(&self) -> Result<()> {
        let tip = self.read_tip()?;
        ffi::sync_wal(&self.conn).map_err(fault::storage)?;
        self.testify(tip.head);
        Ok(())
    }

    /// What the log lacks of what the witness says it has reached.
    fn loss(&self, testimony: Testimony) -> Result<Option<Loss>> {
        let Testimony::Reached(reached) = testimony else { return Ok(None) };
        if planted("witness_ignored") {
            return Ok(None);
        }
        let ends = self.read_head()?;
        let intact = ends.seq >= reached.seq && self.hash_at(reached.seq)? == Some(reached.hash);
        Ok((!intact).then_some(Loss { reached, ends }))
    }

    /// Whether this loss was accepted before, and is recorded. The witness is told of that a little
    /// later, or may forget it with the power.
    fn has_accepted(&self, loss: Loss) -> bool {
        let recorded = self.entry(ACCEPTED_LOSS).ok().flatten();
        let accepted = recorded.and_then(|entry| serde_json::from_slice::<Loss>(&entry.value).ok());
        accepted.is_some_and(|accepted| accepted.reached == loss.reached)
    }

    /// The loss that this opening accepts, to be recorded and then [settled](Self::settle).
    pub(crate) fn accepted_loss(&self) -> Option<Loss> {
        self.accepted_loss.get()
    }

    /// Lets the witness go back to this head: the loss is recorded.
    pub(crate) fn settle(&self, head: Head) -> Result<()> {
        if let Some(witness) = &mut *self.witness.borrow_mut() {
            witness.reset(head)?;
        }
        self.accepted_loss.set(None);
        Ok(())
    }

    /// A number that changes when another connection commits.
    fn data_version(&self) -> Result<i64> {
        let mut statement = self.conn.prepare_cached("PRAGMA data_version").map_err(fault::storage)?;
        statement.query_row([], |row| row.get(0)).map_err(fault::storage)
    }

    /// What ends a statement of this connection from another thread.
    pub(crate) fn interrupt_handle(&self) -> InterruptHandle {
        self.conn.get_interrupt_handle()
    }

    fn set_busy_timeout(&self, timeout: Duration) -> Result<()> {
        self.conn.busy_timeout(timeout).map_err(fault::storage)
    }

    /// Runs a statement that returns nothing.
    fn run(&self, sql: &str) -> rusqlite::Result<()> {
        self.conn.prepare_cached(sql)?.execute([]).map(|_| ())
    }
}
