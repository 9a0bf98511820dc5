//! The floor of the log, as the table `meta` and the record of the compaction say it.

use std::sync::Arc;

use super::known_floor::FloorRows;
use super::{Sqlite, fault};
use crate::backend::View;
use crate::error::{Result, StateError};
use crate::key::COMPACTION_KEY;
use crate::log::{Decoder, Encoder, Flaw, Hash, Head, Timestamp};
use crate::seq::Seq;
use crate::state::{Compaction, Floor, Unfinished};

/// The rows of `meta` that say the floor: `[seq, hash, at]`, and while its compaction goes on `[seq]`, up to where
/// everything is as it stays.
const FLOOR: &str = "floor";
const COMPACTING: &str = "compacting";

impl Sqlite {
    /// The floor in the state that is read now.
    pub(super) fn read_floor(&self) -> Result<Floor> {
        let rows = self.floor_rows()?;
        if let Some(floor) = self.floor.said_by(&rows) {
            return Ok(floor);
        }
        let floor = self.decode_floor(&rows)?;
        self.floor.keep(rows, floor.clone());
        Ok(floor)
    }

    fn floor_rows(&self) -> Result<FloorRows> {
        let sql = "SELECT name, value FROM meta WHERE name IN ('compacting', 'floor')";
        let mut statement = self.conn.prepare_cached(sql).map_err(fault::storage)?;
        let mut found = statement.query([]).map_err(fault::storage)?;
        let mut rows = FloorRows::default();
        while let Some(row) = found.next().map_err(fault::storage)? {
            let value = Some(row.get(1).map_err(fault::storage)?);
            match row.get_ref(0).map_err(fault::storage)?.as_str() {
                Ok(FLOOR) => rows.floor = value,
                _ => rows.compacting = value,
            }
        }
        Ok(rows)
    }

    fn decode_floor(&self, rows: &FloorRows) -> Result<Floor> {
        let damaged = |name| move |_| StateError::Corrupted(format!("the row {name} of meta is damaged"));
        let record = match self.entry(COMPACTION_KEY)? {
            Some(entry) => Some(Compaction::decode(&entry.value)?),
            None => None,
        };
        let Some(bytes) = &rows.floor else {
            return match (&rows.compacting, record) {
                (None, None) => Ok(Floor::genesis(self.store)),
                _ => Err(StateError::Corrupted("the log was compacted, but meta has no row floor".into())),
            };
        };
        let (head, at) = decode(bytes).map_err(damaged(FLOOR))?;
        let reached = rows
            .compacting
            .as_ref()
            .map(|bytes| decode_reached(bytes, head.seq).map_err(damaged(COMPACTING)));
        let reached = reached.transpose()?;
        let fits = record
            .as_ref()
            .is_none_or(|record| record.floor.seq < head.seq || record.floor == head && record.at == at);
        if !fits {
            let what = format!("the row floor of meta does not fit the floor that {COMPACTION_KEY} names");
            return Err(StateError::Corrupted(what));
        }
        let unfinished = match (reached, &record) {
            (Some(reached), Some(record)) if record.floor == head => {
                Some(Arc::new(Unfinished { reached, keep: record.keep.clone() }))
            }
            (Some(_), _) => {
                let what =
                    format!("meta says that a compaction goes on, but {COMPACTION_KEY} has another floor");
                return Err(StateError::Corrupted(what));
            }
            (None, _) => None,
        };
        let forgotten = record.and_then(|record| record.forgotten);
        Ok(Floor { head, at: Some(at), forgotten, unfinished })
    }

    /// Writes the floor. The caller has begun a transaction.
    pub(super) fn write_floor(&self, floor: &Floor) -> Result<()> {
        // The record may have been read before its compaction was, while a store is loaded.
        self.floor.forget();
        let Floor { head, at, unfinished, .. } = floor;
        let write = |name, value: Vec<u8>| {
            let sql = "INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)";
            let written =
                self.conn.prepare_cached(sql).and_then(|mut statement| statement.execute((name, value)));
            written.map(drop).map_err(|error| self.write_fault(error))
        };
        write(FLOOR, encode(*head, at.unwrap_or(Timestamp::EPOCH)))?;
        if let Some(going) = unfinished {
            return write(COMPACTING, encode_reached(going.reached));
        }
        let mut removal =
            self.conn.prepare_cached("DELETE FROM meta WHERE name = ?1").map_err(fault::storage)?;
        removal.execute([COMPACTING]).map(drop).map_err(|error| self.write_fault(error))
    }
}

fn encode(head: Head, at: Timestamp) -> Vec<u8> {
    let mut encoder = Encoder::with_capacity(64);
    encoder.array(3);
    encoder.unsigned(head.seq.as_u64());
    encoder.bytes(head.hash.as_bytes());
    encoder.signed(at.as_micros());
    encoder.finish()
}

fn decode(bytes: &[u8]) -> Result<(Head, Timestamp), Flaw> {
    let mut decoder = Decoder::new(bytes);
    let fields = decoder.array()?;
    let seq = Seq::new(decoder.unsigned()?);
    let head = Head { seq, hash: Hash::from_bytes(decoder.fixed()?) };
    let at = Timestamp::from_micros(decoder.signed()?);
    let is_one = fields == 3 && decoder.is_empty() && (Seq::ZERO.next()..=Seq::MAX).contains(&seq);
    if is_one { Ok((head, at)) } else { Err(Flaw::Malformed("it is no floor")) }
}

fn encode_reached(reached: Seq) -> Vec<u8> {
    let mut encoder = Encoder::with_capacity(16);
    encoder.array(1);
    encoder.unsigned(reached.as_u64());
    encoder.finish()
}

fn decode_reached(bytes: &[u8], floor: Seq) -> Result<Seq, Flaw> {
    let mut decoder = Decoder::new(bytes);
    let fields = decoder.array()?;
    let reached = Seq::new(decoder.unsigned()?);
    let is_one = fields == 1 && decoder.is_empty() && reached <= floor;
    if is_one { Ok(reached) } else { Err(Flaw::Malformed("it is no position below the floor")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::StoreId;

    #[test]
    fn the_rows_of_a_floor_are_read_as_they_were_written_and_nothing_else_is() {
        let head = Head { seq: Seq::new(300), hash: Hash::from_bytes([9; 32]) };
        let row = encode(head, Timestamp::from_micros(-7));
        assert_eq!(decode(&row), Ok((head, Timestamp::from_micros(-7))));
        let reached = encode_reached(Seq::new(299));
        assert_eq!(decode_reached(&reached, head.seq), Ok(Seq::new(299)));
        assert!(
            decode_reached(&reached, Seq::new(298)).is_err(),
            "a compaction does not go beyond its floor"
        );
        for cut in 0..row.len() {
            assert!(decode(&row[..cut]).is_err());
        }
        let more = |row: &[u8]| [row, &[0]].concat();
        assert!(decode(&more(&row)).is_err() && decode_reached(&more(&reached), head.seq).is_err());
        assert!(decode(&encode(Head::genesis(StoreId::from_bytes([1; 16])), Timestamp::EPOCH)).is_err());
    }
}
