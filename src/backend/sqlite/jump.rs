//! The jump pointer of a change that is appended.

use rusqlite::OptionalExtension;

use super::row;
use super::transaction::SqliteTransaction;
use crate::error::Result;
use crate::log::{Change, jump_version};
use crate::seq::Seq;

impl SqliteTransaction<'_> {
    /// The earlier change of the key that this change jumps to: two jumps from the change before. If a row on
    /// this way is damaged, the change before itself, which is slower but right.
    pub(super) fn jump(&self, change: &Change) -> Result<Seq> {
        let Some(before) = change.version.checked_sub(1) else { return Ok(change.prev) };
        if jump_version(change.version) == before {
            return Ok(change.prev);
        }
        let once = self.jumped(change, change.prev, before)?;
        let twice = match once {
            Some(once) => self.jumped(change, once, jump_version(before))?,
            None => None,
        };
        Ok(twice.unwrap_or(change.prev))
    }

    /// The jump pointer of the key's change at this position, if that change has this version.
    fn jumped(&self, change: &Change, seq: Seq, version: u64) -> Result<Option<Seq>> {
        let sql = "SELECT jump FROM changes WHERE seq = ?1 AND version = ?2 AND key = ?3";
        let due = (row::signed(seq.as_u64())?, row::signed(version)?, &*change.key);
        self.with(sql, |s| s.query_row(due, |r| Ok(row::seq(r, 0).unwrap_or_default())).optional())
    }
}
