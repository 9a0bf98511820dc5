//! Reading one state. All methods read in the read transaction that the caller has begun.

use std::ops::ControlFlow;

use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Params};

use super::order::InOrder;
use super::row::{self, select_deleted, select_live};
use super::{Sqlite, fault, schema};
use crate::backend::{LogView, Row, Snapshot, View, Visit, VisitKey, VisitRow};
use crate::error::Result;
use crate::key::KeyRange;
use crate::log::{Head, StoreId};
use crate::seq::Seq;
use crate::state::{Entry, KeyVersion};

/// A query of the rows of existing and of deleted keys in a range, in the same columns.
const ROWS_AND_TOMBSTONES: &str = concat!(
    select_live!(" FROM kv_store WHERE key >= ?1 AND key < ?2 UNION ALL "),
    select_deleted!(" FROM tombstones WHERE key >= ?1 AND key < ?2 ORDER BY 1")
);

impl Sqlite {
    /// Runs `read` in a read transaction, so that it sees one state.
    pub(crate) fn with_snapshot<T>(&self, read: impl FnOnce(Result<&dyn Snapshot>) -> T) -> T {
        if let Err(error) = self.run_statement("BEGIN") {
            return read(Err(fault::storage(error)));
        }
        self.read_tip.set(None);
        let result = read(Ok(self));
        self.read_tip.set(None);
        if self.run_statement("COMMIT").is_err() {
            // A failure to roll back loses nothing. The transaction must only be closed, because it would keep the
            // write-ahead log from starting over.
            let _ = self.run_statement("ROLLBACK");
        }
        result
    }

    /// The first row of a query, read by `read`.
    pub(super) fn first<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        let mut statement = self.conn.prepare_cached(sql).map_err(fault::storage)?;
        statement.query_row(params, read).optional().map_err(fault::storage)
    }

    /// Every row of a query, until `visit` breaks.
    pub(super) fn each<T>(
        &self,
        sql: &str,
        params: impl Params,
        mut read: impl FnMut(&rusqlite::Row<'_>) -> Result<T>,
        visit: &mut Visit<'_, T>,
    ) -> Result<()> {
        let mut statement = self.conn.prepare_cached(sql).map_err(fault::storage)?;
        let mut rows = statement.query(params).map_err(fault::storage)?;
        while let Some(row) = rows.next().map_err(fault::storage)? {
            if visit(read(row)?)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The versions of the keys in a range, deleted keys included. Rows are checked; values are not copied.
    pub(super) fn key_versions(
        &self,
        range: &KeyRange,
        visit: &mut Visit<'_, (String, KeyVersion)>,
    ) -> Result<()> {
        let mut order = InOrder::in_range(range, None);
        let read = |r: &rusqlite::Row<'_>| Ok((row::key(r)?, row::key_version(self.store, r)?));
        self.each(ROWS_AND_TOMBSTONES, bounds(range, None), read, &mut |(key, key_version)| {
            order.check_next(&key)?;
            visit((key, key_version))
        })
    }
}

/// The bounds of a range after a key, as SQL values. The smallest text greater than a key is the key and a
/// NUL. Where a range has no end, the bound is a blob, because SQL sorts blobs after every text.
pub(super) fn bounds(range: &KeyRange, after: Option<&str>) -> (String, Value) {
    let start = after.map(|after| format!("{after}\0")).filter(|start| start.as_str() > range.start());
    let end = range.end().map_or(Value::Blob(Vec::new()), |end| Value::Text(end.to_owned()));
    (start.unwrap_or_else(|| range.start().to_owned()), end)
}

impl View for Sqlite {
    fn store_id(&self) -> StoreId {
        self.store
    }

    fn head(&self) -> Result<Head> {
        Ok(self.tip()?.head)
    }

    fn entry(&self, key: &str) -> Result<Option<Entry>> {
        self.first(row::LIVE, [key], |r| Ok(row::of_key(key, r, |r| row::entry(self.store, r))))?.transpose()
    }

    fn key_version(&self, key: &str) -> Result<Option<KeyVersion>> {
        let read = |r: &rusqlite::Row<'_>| row::of_key(key, r, |r| row::key_version(self.store, r));
        let key_version = |sql| self.first(sql, [key], |r| Ok(read(r)))?.transpose();
        match key_version(row::LIVE)? {
            Some(key_version) => Ok(Some(key_version)),
            None => match key_version(row::DELETED)? {
                Some(deleted) => Ok(self.read_floor()?.known(key, Some(deleted))),
                None => Ok(None),
            },
        }
    }

    fn rows(
        &self,
        range: &KeyRange,
        after: Option<&str>,
        deleted: bool,
        visit: &mut Visit<'_, Row>,
    ) -> Result<()> {
        let sql = if deleted {
            ROWS_AND_TOMBSTONES
        } else {
            select_live!(" FROM kv_store WHERE key >= ?1 AND key < ?2 ORDER BY key")
        };
        let mut order = InOrder::in_range(range, after);
        let forgotten = if deleted { self.read_floor()?.forgotten } else { None };
        self.each(sql, bounds(range, after), |r| row::any(self.store, r), &mut |row: Row| {
            // The key of a damaged row cannot be relied on.
            if let Ok((key, _)) = row.place() {
                order.check_next(key)?;
            }
            if row.is_forgotten(forgotten.as_deref()) { Ok(ControlFlow::Continue(())) } else { visit(row) }
        })
    }

    fn keys(&self, range: &KeyRange, visit: &mut VisitKey<'_>) -> Result<()> {
        let sql = "SELECT key FROM kv_store WHERE key >= ?1 AND key < ?2 ORDER BY key";
        let mut statement = self.conn.prepare_cached(sql).map_err(fault::storage)?;
        let mut rows = statement.query(bounds(range, None)).map_err(fault::storage)?;
        let mut order = InOrder::in_range(range, None);
        while let Some(found) = rows.next().map_err(fault::storage)? {
            let key = row::text(found, 0).map_err(fault::storage)?;
            order.check_next(key)?;
            if visit(key)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Snapshot for Sqlite {
    fn check_unchanged(&self) -> Result<()> {
        Self::check_unchanged(self)
    }

    fn every_row(&self, visit: &mut VisitRow<'_>) -> Result<()> {
        let floor = self.read_floor()?;
        for sql in
            [select_live!(" FROM kv_store NOT INDEXED"), select_deleted!(" FROM tombstones NOT INDEXED")]
        {
            let mut statement = self.conn.prepare_cached(sql).map_err(fault::storage)?;
            let mut rows = statement.query([]).map_err(fault::storage)?;
            while let Some(row) = rows.next().map_err(fault::storage)? {
                let row = row::row_view(self.store, row)?;
                let is_forgotten = row.times.is_none() && floor.forgets(row.key, row.seq);
                if !is_forgotten && visit(&row)?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn tombstones(&self, range: &KeyRange, visit: &mut Visit<'_, Row>) -> Result<()> {
        let sql = select_deleted!(" FROM tombstones WHERE key >= ?1 AND key < ?2 ORDER BY key");
        let mut order = InOrder::in_range(range, None);
        let forgotten = self.read_floor()?.forgotten;
        self.each(sql, bounds(range, None), |r| row::row(self.store, r), &mut |row: Row| {
            order.check_next(row.place()?.0)?;
            if row.is_forgotten(forgotten.as_deref()) { Ok(ControlFlow::Continue(())) } else { visit(row) }
        })
    }

    fn commit_ids(&self, visit: &mut Visit<'_, (String, Seq, Seq)>) -> Result<()> {
        let read = |r: &rusqlite::Row<'_>| Ok((r.get(0)?, row::seq(r, 1)?, row::seq(r, 2)?));
        let sql = "SELECT id, first, last FROM commit_ids WHERE last > ?1";
        let floor = row::signed(self.read_floor()?.seq().as_u64())?;
        self.each(sql, [floor], |r| read(r).map_err(fault::storage), visit)
    }

    fn remembered(&self, commit_id: &str) -> Result<Option<(Seq, Seq)>> {
        let sql = "SELECT first, last FROM commit_ids WHERE id = ?1";
        self.first(sql, [commit_id], |r| Ok((row::seq(r, 0)?, row::seq(r, 1)?)))
    }

    fn flaws(&self, visit: &mut Visit<'_, String>) -> Result<()> {
        let mut go_on = ControlFlow::Continue(());
        for check in schema::checks(&self.conn).map_err(fault::storage)? {
            self.each(&check, [], |r| r.get(0).map_err(fault::storage), &mut |flaw: String| {
                if flaw != "ok" {
                    go_on = visit(flaw)?;
                }
                Ok(go_on)
            })?;
            if go_on.is_break() {
                break;
            }
        }
        Ok(())
    }
}
