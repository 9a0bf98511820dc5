//! Log and projection in SQLite.

mod fault;
mod ffi;
mod open;
mod path;
mod row;
mod snapshot;
mod transaction;

pub use open::Durability;
pub(crate) use open::{Location, Opening};

use std::cell::Cell;
use std::time::Duration;

use rusqlite::Connection;

use crate::error::{Result, StateError};
use crate::log::{StoreId, Tip};

/// A connection to a store.
#[derive(Debug)]
pub(crate) struct Sqlite {
    conn: Connection,
    store: StoreId,
    /// The tip as of `data_version`, so that a writer who is alone need not read it.
    known: Cell<Option<(i64, Tip)>>,
    /// What opens another connection to the same store.
    opening: Opening,
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

    /// Moves what is in the write-ahead log into the database as far as readers allow; waits for
    /// them so long, if a time is given, and then empties the file.
    pub(crate) fn checkpoint(&self, truncate: Option<Duration>) -> Result<()> {
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

    /// A number that changes when another connection commits.
    fn data_version(&self) -> Result<i64> {
        let mut statement = self.conn.prepare_cached("PRAGMA data_version").map_err(fault::storage)?;
        statement.query_row([], |row| row.get(0)).map_err(fault::storage)
    }

    fn set_busy_timeout(&self, timeout: Duration) -> Result<()> {
        self.conn.busy_timeout(timeout).map_err(fault::storage)
    }

    /// Runs a statement that returns nothing.
    fn run(&self, sql: &str) -> rusqlite::Result<()> {
        self.conn.prepare_cached(sql)?.execute([]).map(|_| ())
    }
}
