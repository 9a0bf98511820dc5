//! The thinning that goes on, as the table `meta` says it.

use rusqlite::types::Value;
use rusqlite::{OptionalExtension, params_from_iter};

use super::transaction::SqliteTransaction;
use super::{Sqlite, row};
use crate::error::{Result, StateError};
use crate::limits::MAX_KEY_LENGTH;
use crate::log::{Decoder, Encoder, Flaw};
use crate::seq::Seq;
use crate::state::Thinning;

/// The row of `meta`: `[seq, pattern, keep]`, while values are being dropped.
const THINNING: &str = "thinning";

/// The columns that stay when a value is dropped.
macro_rules! columns_without_value {
    () => {
        "seq, commit_seq, at, kind, key, version, created_at, prev, jump, value_hash, meta, hash, until, before"
    };
}
const COLUMNS: usize = 14;

impl Sqlite {
    /// The thinning that goes on in the state that is read now.
    pub(super) fn read_thinning(&self) -> Result<Option<Thinning>> {
        let sql = "SELECT value FROM meta WHERE name = ?1";
        let row: Option<Vec<u8>> = self.first(sql, [THINNING], |r| r.get(0))?;
        let damaged = |_| StateError::Corrupted(format!("the row {THINNING} of meta is damaged"));
        row.map(|row| decode(&row).map_err(damaged)).transpose()
    }
}

impl SqliteTransaction<'_> {
    pub(super) fn write_thinning(&self, thinning: Option<&Thinning>) -> Result<()> {
        let Some(thinning) = thinning else {
            return self.with("DELETE FROM meta WHERE name = ?1", |s| s.execute([THINNING])).map(drop);
        };
        let sql = "INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)";
        self.execute_one(sql, (THINNING, encode(thinning)))
    }

    /// Drops salts and values of changes at these positions, in order, where they are there.
    ///
    /// All rows are deleted first and then inserted anew, so that they come to lie close together. An UPDATE leaves each on
    /// its page, which stays as it is otherwise: it gave back no page at all.
    pub(super) fn drop_values(&self, seqs: &[Seq]) -> Result<()> {
        let mut rows = Vec::with_capacity(seqs.len());
        for seq in seqs {
            let sql = concat!(
                "SELECT ",
                columns_without_value!(),
                " FROM changes WHERE seq = ?1 AND value IS NOT NULL"
            );
            let seq = row::signed(seq.as_u64())?;
            let read = |r: &rusqlite::Row<'_>| (0..COLUMNS).map(|column| r.get(column)).collect();
            let found: Option<Vec<Value>> = self.with(sql, |s| s.query_row([seq], read).optional())?;
            rows.extend(found.map(|found| (seq, found)));
        }
        for (seq, _) in &rows {
            self.execute_one("DELETE FROM changes WHERE seq = ?1", [seq])?;
        }
        for (_, columns) in rows {
            let sql = concat!(
                "INSERT INTO changes (",
                columns_without_value!(),
                ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"
            );
            self.execute_one(sql, params_from_iter(columns))?;
        }
        Ok(())
    }
}

fn encode(thinning: &Thinning) -> Vec<u8> {
    let mut encoder = Encoder::with_capacity(64);
    encoder.array(3);
    encoder.unsigned(thinning.at.as_u64());
    encoder.text(thinning.pattern.as_str());
    encoder.unsigned(thinning.keep);
    encoder.finish()
}

fn decode(bytes: &[u8]) -> Result<Thinning, Flaw> {
    let mut decoder = Decoder::new(bytes);
    let fields = decoder.array()?;
    let at = Seq::new(decoder.unsigned()?);
    let pattern = decoder.text(MAX_KEY_LENGTH)?.parse().map_err(|_| Flaw::Malformed("it is no pattern"))?;
    let keep = decoder.unsigned()?;
    let is_one = fields == 3 && decoder.is_empty() && at <= Seq::MAX;
    if is_one { Ok(Thinning { at, pattern, keep }) } else { Err(Flaw::Malformed("it is no thinning")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_of_a_thinning_is_read_as_it_was_written_and_nothing_else_is() {
        let thinning = Thinning { at: Seq::new(300), pattern: "/a/*".parse().unwrap(), keep: 3 };
        let row = encode(&thinning);
        assert_eq!(decode(&row), Ok(thinning));
        for cut in 0..row.len() {
            assert!(decode(&row[..cut]).is_err());
        }
        assert!(decode(&[&row[..], &[0]].concat()).is_err());
    }
}
