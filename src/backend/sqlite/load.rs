//! Reading the whole projection in slices, in the order of the tables, so that no row is looked up by an index.

use super::row::{self, select_deleted, select_live};
use super::{Sqlite, fault};
use crate::error::{Result, StateError};
use crate::state::KeyState;

/// The tables of the projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Live,
    Deleted,
}

impl Table {
    fn sql(self) -> &'static str {
        match self {
            Self::Live => {
                select_live!(", rowid FROM kv_store WHERE rowid > ?1 ORDER BY rowid LIMIT ?2")
            }
            Self::Deleted => {
                select_deleted!(", rowid FROM tombstones WHERE rowid > ?1 ORDER BY rowid LIMIT ?2")
            }
        }
    }
}

impl Sqlite {
    /// Reads at most `limit` rows after a row id; returns the last row id if there may be more rows.
    pub(crate) fn slice(
        &self,
        table: Table,
        after: Option<i64>,
        limit: u32,
        mut visit: impl FnMut(KeyState),
    ) -> Result<Option<i64>> {
        let mut statement = self.conn.prepare_cached(table.sql()).map_err(fault::storage)?;
        let bounds = (after.unwrap_or(i64::MIN), limit);
        let mut rows = statement.query(bounds).map_err(fault::storage)?;
        let (mut last, mut read) = (None, 0);
        while let Some(found) = rows.next().map_err(fault::storage)? {
            visit(row::latest(self.store, found)?);
            last = Some(found.get(row::BEHIND_PROJECTION).map_err(fault::storage)?);
            read += 1;
        }
        Ok(last.filter(|_| read == limit))
    }

    /// How many keys exist and how many are deleted. If an index has another number of rows than its table,
    /// it hides keys or invents some, which is an error.
    pub(crate) fn counts(&self) -> Result<(u64, u64)> {
        let counts = |table: &str| -> Result<u64> {
            let count = |how: &str| {
                let sql = format!("SELECT count(*) FROM {table} {how}");
                self.first(&sql, [], |found| row::unsigned(found, 0)).map(Option::unwrap_or_default)
            };
            let (rows, indexed) =
                (count("NOT INDEXED")?, count(&format!("INDEXED BY sqlite_autoindex_{table}_1"))?);
            if rows == indexed {
                Ok(rows)
            } else {
                let what = format!("the index of {table} has {indexed} rows, but the table has {rows}");
                Err(StateError::Corrupted(what))
            }
        };
        Ok((counts("kv_store")?, counts("tombstones")?))
    }
}
