//! Folding changes into the tables of the projection.

use super::checksum;
use super::row::{self, columns_of_kv_store};
use super::transaction::SqliteTransaction;
use crate::backend::DecisionView;
use crate::error::Result;
use crate::log::{Change, Until};
use crate::state::{KeyVersion, Life};

impl SqliteTransaction<'_> {
    pub(super) fn project_value(&self, change: &Change, before: Option<KeyVersion>) -> Result<()> {
        let sql = if before.is_some_and(|key_version| key_version.is_live()) {
            "UPDATE kv_store SET value = ?2, version = ?3, created_at = ?4, updated_at = ?5, seq = ?6, checksum = ?7, \
             until = ?8 WHERE key = ?1"
        } else {
            concat!(
                "INSERT INTO kv_store (",
                columns_of_kv_store!(),
                ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
            )
        };
        self.execute_one(
            sql,
            (
                &*change.key,
                change.value.as_deref().unwrap_or_default(),
                row::signed(change.version)?,
                change.created_at.as_micros(),
                change.at.as_micros(),
                row::signed(change.seq.as_u64())?,
                checksum::entry_checksum(self.sqlite.store, change).as_slice(),
                change.until.map(Until::number),
            ),
        )?;
        let Some(KeyVersion { life: Life::Deleted, .. }) = before else { return Ok(()) };
        let sql = "DELETE FROM tombstones WHERE key = ?1";
        if self.floor()?.forgotten.is_some() {
            // A slice may have dropped it since the state in memory was loaded.
            return self.with(sql, |s| s.execute([&*change.key])).map(drop);
        }
        self.execute_one(sql, [&*change.key])
    }

    pub(super) fn project_deletion(&self, change: &Change, before: Option<KeyVersion>) -> Result<()> {
        if before.is_some_and(|key_version| key_version.is_live()) {
            self.execute_one("DELETE FROM kv_store WHERE key = ?1", [&*change.key])?;
        }
        let checksum =
            checksum::tombstone_checksum(self.sqlite.store, &change.key, change.version, change.seq);
        self.execute_one(
            "INSERT OR REPLACE INTO tombstones (key, version, seq, checksum) VALUES (?1, ?2, ?3, ?4)",
            (
                &*change.key,
                row::signed(change.version)?,
                row::signed(change.seq.as_u64())?,
                checksum.as_slice(),
            ),
        )
    }
}
