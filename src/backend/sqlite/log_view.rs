//! Reading the log of one state.

use super::row::{self, select_changes};
use super::snapshot::bounds;
use super::{Sqlite, fault};
use crate::backend::{Link, Linked, LogView, Valued, Visit, VisitView, missing};
use crate::error::{Result, StateError};
use crate::key::KeyRange;
use crate::log::{Change, Follow, Hash, Head, LastMeta, Tip};
use crate::seq::Seq;
use crate::state::{Floor, Thinning};

/// The change, if it matches the chain hash of the change before.
fn intact(change: Change, before: Hash) -> Result<Change> {
    let before = Head { seq: change.seq.previous(), hash: before };
    match Follow::after(before).check(&change) {
        Ok(()) => Ok(change),
        Err(error) => Err(StateError::Corrupted(error.to_string())),
    }
}

impl Sqlite {
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

    fn valued(&self, after: Seq, to: Seq, visit: &mut Visit<'_, Valued>) -> Result<()> {
        // IMPORTANT: SQLite knows the length of a blob without reading it, so pages that have values alone are not read.
        let sql = "SELECT seq, key, length(value) FROM changes \
                   WHERE seq > ?1 AND seq <= ?2 AND value IS NOT NULL ORDER BY seq";
        let bounds = (row::signed(after.as_u64())?, row::signed(to.as_u64())?);
        let read = |r: &rusqlite::Row<'_>| {
            Ok(Valued { seq: row::seq(r, 0)?, key: row::text(r, 1)?.into(), bytes: row::unsigned(r, 2)? })
        };
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

    fn thinning(&self) -> Result<Option<Thinning>> {
        self.read_thinning()
    }
}
