//! Reading one state. All methods read in the read transaction that the caller has begun.

use std::ops::ControlFlow;

use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Params};

use super::order::InOrder;
use super::row::{self, select_changes, select_deleted, select_live};
use super::{Sqlite, fault, schema};
use crate::backend::{
    Link, Linked, LogView, Row, Snapshot, View, Visit, VisitKey, VisitRow, VisitView, missing,
};
use crate::error::{Result, StateError};
use crate::key::KeyRange;
use crate::log::{Change, Follow, Hash, Head, LastMeta, StoreId, Tip};
use crate::seq::Seq;
use crate::state::{Entry, Floor, KeyVersion};

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
    fn each<T>(
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

    /// The chain hash before a change: that of the change before, or the one that stands beside it where that is gone.
    fn chain_before(&self, seq: Seq, beside: Option<Hash>, before: Option<Hash>) -> Result<Hash> {
        match (beside, before) {
            (None, None) if seq == Seq::ZERO.next() => Ok(Head::genesis(self.store).hash),
            (None, Some(before)) | (Some(before), None) => Ok(before),
            (None, None) => Err(missing(seq.previous())),
            (Some(_), Some(_)) => {
                let what =
                    format!("change {seq} has a chain before it, although the change before it is there");
                Err(StateError::Corrupted(what))
            }
        }
    }

    /// The head of the log, as the last row has it; the row is not checked.
    pub(crate) fn read_head(&self) -> Result<Head> {
        let sql = "SELECT seq, hash FROM changes ORDER BY seq DESC LIMIT 1";
        let head = self.first(sql, [], |r| Ok(Head { seq: row::seq(r, 0)?, hash: row::hash(r, 1)? }))?;
        Ok(head.unwrap_or_else(|| Head::genesis(self.store)))
    }

    /// The tip of the log. The hash and the value of the last change are checked, because the next change is
    /// chained onto it.
    pub(super) fn read_tip(&self) -> Result<Tip> {
        match self.read_head()?.seq {
            Seq::ZERO => Ok(Tip::genesis(self.store)),
            end => {
                let change = self.change(end)?.ok_or_else(|| missing(end))?;
                Ok(Tip { head: change.head(), at: change.at })
            }
        }
    }
}

/// The bounds of a range after a key, as SQL values. The smallest text greater than a key is the key and a
/// NUL. Where a range has no end, the bound is a blob, because SQL sorts blobs after every text.
pub(super) fn bounds(range: &KeyRange, after: Option<&str>) -> (String, Value) {
    let start = after.map(|after| format!("{after}\0")).filter(|start| start.as_str() > range.start());
    let end = range.end().map_or(Value::Blob(Vec::new()), |end| Value::Text(end.to_owned()));
    (start.unwrap_or_else(|| range.start().to_owned()), end)
}

/// The change, if it matches the chain hash of the change before.
fn intact(change: Change, before: Hash) -> Result<Change> {
    let before = Head { seq: change.seq.previous(), hash: before };
    match Follow::after(before).check(&change) {
        Ok(()) => Ok(change),
        Err(error) => Err(StateError::Corrupted(error.to_string())),
    }
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

impl LogView for Sqlite {
    fn tip(&self) -> Result<Tip> {
        if let Some(tip) = self.read_tip.get() {
            return Ok(tip);
        }
        let tip = self.read_tip()?;
        // IMPORTANT: only inside a read transaction does the tip stay the same.
        self.read_tip.set((!self.conn.is_autocommit()).then_some(tip));
        Ok(tip)
    }

    fn change(&self, seq: Seq) -> Result<Option<Change>> {
        let sql =
            select_changes!(", (SELECT hash FROM changes WHERE seq = ?1 - 1) FROM changes WHERE seq = ?1");
        let read = self.first(sql, [row::signed(seq.as_u64())?], |r| {
            Ok((row::linked(r, &mut LastMeta::default())?, row::hash_or_null(r, row::BEHIND)?))
        })?;
        match read {
            None => {
                let floor = self.read_floor()?;
                if seq > Seq::ZERO && seq <= floor.seq() { Err(floor.compacted(seq)) } else { Ok(None) }
            }
            Some(((change, beside), before)) => {
                let before = self.chain_before(seq, beside, before)?;
                intact(change, before).map(Some)
            }
        }
    }

    fn linked(&self, after: Seq, to: Seq, visit: &mut Visit<'_, Linked>) -> Result<()> {
        let sql = select_changes!(" FROM changes WHERE seq > ?1 AND seq <= ?2 ORDER BY seq");
        let bounds = (row::signed(after.as_u64())?, row::signed(to.as_u64())?);
        let mut last = LastMeta::default();
        let before =
            self.first("SELECT hash FROM changes WHERE seq = ?1", [bounds.0], |r| row::hash(r, 0))?;
        let mut known = before.map(|hash| Head { seq: after, hash });
        let read = |r: &rusqlite::Row<'_>| row::linked(r, &mut last).map_err(fault::storage);
        self.each(sql, bounds, read, &mut |(change, beside): (Change, Option<Hash>)| {
            let before = known.filter(|known| known.seq == change.seq.previous()).map(|known| known.hash);
            let before = self.chain_before(change.seq, beside, before)?;
            known = Some(change.head());
            visit(Linked { change, before })
        })
    }

    fn replaced(&self, after: Seq, to: Seq, visit: &mut Visit<'_, (Seq, Seq)>) -> Result<()> {
        let sql = "SELECT seq, prev FROM changes WHERE seq > ?1 AND seq <= ?2 ORDER BY seq";
        let bounds = (row::signed(after.as_u64())?, row::signed(to.as_u64())?);
        let read = |r: &rusqlite::Row<'_>| Ok((row::seq(r, 0)?, row::seq(r, 1)?));
        self.each(sql, bounds, |r| read(r).map_err(fault::storage), visit)
    }

    fn link(&self, seq: Seq) -> Result<Option<Link>> {
        self.first(row::LINK, [row::signed(seq.as_u64())?], row::link)
    }

    fn changes(&self, after: Seq, visit: &mut Visit<'_, Change>) -> Result<()> {
        let sql = select_changes!(" FROM changes WHERE seq > ?1 ORDER BY seq");
        let mut last = LastMeta::default();
        let read = |r: &rusqlite::Row<'_>| row::change(r, &mut last).map_err(fault::storage);
        self.each(sql, [row::signed(after.as_u64())?], read, visit)
    }

    fn changes_below(
        &self,
        prefix: &str,
        after: Seq,
        until: Seq,
        visit: &mut Visit<'_, Change>,
    ) -> Result<()> {
        let sql = select_changes!(
            ", (SELECT hash FROM changes AS before WHERE before.seq = changes.seq - 1) FROM changes \
             WHERE key >= ?1 AND key < ?2 AND seq > ?3 AND seq <= ?4 ORDER BY seq"
        );
        let (start, end) = bounds(&KeyRange::prefix(prefix), None);
        let (after, until) = (row::signed(after.as_u64())?, row::signed(until.as_u64())?);
        let genesis = Head::genesis(self.store).hash;
        let mut last = LastMeta::default();
        let mut read = |r: &rusqlite::Row<'_>| {
            let change = row::change(r, &mut last)?;
            let before = if change.seq == Seq::ZERO.next() { genesis } else { row::hash(r, row::BEHIND)? };
            Ok((change, before))
        };
        let read = |r: &rusqlite::Row<'_>| {
            let (change, before) = read(r).map_err(fault::storage)?;
            intact(change, before)
        };
        self.each(sql, (start, end, after, until), read, visit)
    }

    fn views(&self, after: Seq, visit: &mut VisitView<'_>) -> Result<()> {
        let sql = select_changes!(" FROM changes WHERE seq > ?1 ORDER BY seq");
        let mut statement = self.conn.prepare_cached(sql).map_err(fault::storage)?;
        let mut rows = statement.query([row::signed(after.as_u64())?]).map_err(fault::storage)?;
        let mut last = LastMeta::default();
        while let Some(row) = rows.next().map_err(fault::storage)? {
            if visit(&row::view(row, &mut last).map_err(fault::storage)?)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn commit_end(&self, seq: Seq) -> Result<Head> {
        let floor = self.read_floor()?;
        if seq <= floor.seq() {
            return Ok(floor.head);
        }
        let recorded = |seq: Seq| self.change(seq)?.ok_or_else(|| missing(seq));
        let change = recorded(seq)?;
        if change.closes_commit() {
            return Ok(change.head());
        }
        // The commit before: it ends just before the first change that is of the same commit as this one.
        let sql = "SELECT seq FROM changes WHERE seq < ?1 AND seq = commit_seq ORDER BY seq DESC LIMIT 1";
        let end = self.first(sql, [row::signed(seq.as_u64())?], |r| row::seq(r, 0))?.unwrap_or(Seq::ZERO);
        let end = end.max(floor.seq());
        if recorded(end.next())?.commit_seq != change.commit_seq {
            return Err(StateError::Corrupted(format!("change {seq} does not fit its commit")));
        }
        if end == floor.seq() { Ok(floor.head) } else { Ok(recorded(end)?.head()) }
    }

    fn hash_at(&self, seq: Seq) -> Result<Option<Hash>> {
        if seq == Seq::ZERO {
            return Ok(Some(Head::genesis(self.store).hash));
        }
        let seq = row::signed(seq.as_u64())?;
        self.first("SELECT hash FROM changes WHERE seq = ?1", [seq], |r| row::hash(r, 0))
    }

    fn floor(&self) -> Result<Floor> {
        self.read_floor()
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
