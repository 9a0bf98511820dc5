//! What leaves the log.

use super::Sqlite;
use super::row;
use super::transaction::SqliteTransaction;
use crate::backend::{Linked, Slice};
use crate::error::Result;
use crate::log::{LastMeta, Tip};
use crate::seq::Seq;

impl SqliteTransaction<'_> {
    /// Inserts changes at or below the floor, in order. The chain before one stands beside it where the change before it is
    /// gone.
    pub(super) fn insert_base(&mut self, base: &[Linked]) -> Result<()> {
        let mut meta = LastMeta::default();
        for Linked { change, before } in base {
            let follows = change.seq.previous() == self.appended.head.seq;
            let beside = (!follows).then_some(*before);
            self.insert(change, change.meta.as_ref().map(|known| meta.encode(known)), beside)?;
            self.appended = Tip { head: change.head(), at: change.at };
        }
        Ok(())
    }

    /// Drops what a slice names.
    pub(super) fn drop_rows(&self, slice: &Slice) -> Result<()> {
        for (first, last) in &slice.runs {
            let bounds = (row::signed(first.as_u64())?, row::signed(last.as_u64())?);
            self.with("DELETE FROM changes WHERE seq BETWEEN ?1 AND ?2", |s| s.execute(bounds))?;
        }
        for (seq, before) in &slice.behind {
            let sql = "UPDATE changes SET before = ?2 WHERE seq = ?1";
            self.with(sql, |s| s.execute((seq.as_u64().cast_signed(), before.as_bytes().as_slice())))?;
        }
        // IMPORTANT: the row may be a younger one by now. The key was made anew, and perhaps deleted again.
        let same = |seq: Seq| row::signed(seq.as_u64());
        for (key, seq) in &slice.forgotten {
            let of = (&**key, same(*seq)?);
            self.with("DELETE FROM tombstones WHERE key = ?1 AND seq = ?2", |s| s.execute(of))?;
        }
        for (id, last) in &slice.commit_ids {
            let of = (id.as_str(), same(*last)?);
            self.with("DELETE FROM commit_ids WHERE id = ?1 AND last = ?2", |s| s.execute(of))?;
        }
        Ok(())
    }
}

impl Sqlite {
    /// Gives back free pages to the file system, at most so many. Returns how many are left.
    ///
    /// The pragma gives back a page at each step, so it is stepped to its end.
    pub(crate) fn give_back(&self, pages: u32) -> Result<u64> {
        let run = || -> rusqlite::Result<u64> {
            let mut statement = self.conn.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
            let mut steps = statement.query([])?;
            while steps.next()?.is_some() {}
            drop(steps);
            self.conn
                .query_row("PRAGMA freelist_count", [], |found| found.get::<_, i64>(0))
                .map(i64::cast_unsigned)
        };
        self.check_own()?;
        run().map_err(|error| self.write_fault(error))
    }
}
