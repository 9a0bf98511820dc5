//! Erasing values from the file.

use super::row;
use super::transaction::SqliteTransaction;
use crate::error::Result;
use crate::seq::Seq;

impl SqliteTransaction<'_> {
    /// Overwrites salts and values of changes at these positions with zeros, where they are there, and then drops them.
    ///
    /// IMPORTANT: zeros of the same length first. SQLite writes a row that stays as long as it was over itself, in each of its
    /// pages. Whatever moves the row after that, such as the shorter one that takes its place, moves zeros.
    pub(super) fn overwrite_values(&self, seqs: &[Seq]) -> Result<()> {
        let sqls = [
            "UPDATE changes SET value = zeroblob(length(value)), salt = zeroblob(length(salt)) \
             WHERE seq = ?1 AND value IS NOT NULL",
            "UPDATE changes SET value = NULL, salt = NULL WHERE seq = ?1 AND value IS NOT NULL",
        ];
        for sql in sqls {
            for seq in seqs {
                let seq = row::signed(seq.as_u64())?;
                self.with(sql, |statement| statement.execute([seq]))?;
            }
        }
        Ok(())
    }
}
