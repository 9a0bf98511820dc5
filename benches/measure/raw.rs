//! The baseline: the same rows through plain rusqlite, without anything that makes them true.

use std::path::Path;

use rusqlite::{Connection, Row, params};

use super::{META_BYTES, Random, key};

/// How the table `changes` is read whole.
pub(crate) const SCAN: &str = "SELECT seq, commit_seq, at, kind, key, version, created_at, prev, value, salt, \
    value_hash, meta, hash FROM changes WHERE seq > ?1 AND seq <= ?2 ORDER BY seq";

/// A database with the store's schema and settings.
pub(crate) struct Raw {
    pub(crate) conn: Connection,
    seq: i64,
    /// Of each key the version and the last change: known for free, where a store must read.
    keys: Vec<(i64, i64)>,
    random: Random,
}

impl Raw {
    /// An empty database; `synchronous` as in the pragma.
    pub(crate) fn create(path: &Path, synchronous: &str) -> Self {
        let conn = Connection::open(path).unwrap();
        conn.execute_batch(&format!(
            "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous}; \
             PRAGMA wal_autocheckpoint = 16000; PRAGMA cache_size = -32768"
        ))
        .unwrap();
        conn.execute_batch(include_str!("../../schema/001_store.sql")).unwrap();
        Self { conn, seq: 0, keys: Vec::new(), random: Random::new(7) }
    }

    /// Creates the first `count` keys.
    pub(crate) fn fill(&mut self, count: usize) {
        let known = self.keys.len();
        self.keys.resize(known.max(count), (0, 0));
        let missing: Vec<usize> = (known..count).collect();
        missing.chunks(1000).for_each(|indices| self.write(indices, None));
    }

    /// Writes a value to `rows` random keys in one transaction; returns how many.
    pub(crate) fn batch(&mut self, rows: usize) -> usize {
        self.batch_with(rows, None)
    }

    /// Writes a value and metadata to `rows` random keys in one transaction; returns how many. The metadata is
    /// encoded beforehand, while a store must encode it in each commit.
    pub(crate) fn batch_with_meta(&mut self, rows: usize) -> usize {
        self.batch_with(rows, Some(&[7; META_BYTES]))
    }

    fn batch_with(&mut self, rows: usize, meta: Option<&[u8]>) -> usize {
        let indices: Vec<usize> = (0..rows).map(|_| self.random.below(self.keys.len())).collect();
        self.write(&indices, meta);
        rows
    }

    /// The position of the newest change.
    pub(crate) fn newest(&self) -> i64 {
        self.seq
    }

    /// Checks that everything that was written is there.
    pub(crate) fn check(&self) {
        check(&self.conn, usize::try_from(self.seq).unwrap(), self.keys.len());
    }

    /// Writes a new value to each of these keys, in one transaction.
    fn write(&mut self, indices: &[usize], meta: Option<&[u8]>) {
        let transaction = self.conn.transaction().unwrap();
        {
            let mut append = transaction
                .prepare_cached(
                    "INSERT INTO changes (seq, commit_seq, at, kind, key, version, created_at, prev, jump, value, \
                     salt, value_hash, meta, hash) VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?8, ?9, ?10, ?11, ?10)",
                )
                .unwrap();
            let mut create = transaction
                .prepare_cached(
                    "INSERT INTO kv_store (key, value, version, created_at, updated_at, seq, checksum) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )
                .unwrap();
            let mut update = transaction
                .prepare_cached(
                    "UPDATE kv_store SET value = ?2, version = ?3, created_at = ?4, updated_at = ?5, seq = ?6, \
                     checksum = ?7 WHERE key = ?1",
                )
                .unwrap();
            for index in indices {
                self.seq += 1;
                let (seq, at, created_at) =
                    (self.seq, 1_700_000_000_000_000 + self.seq, 1_700_000_000_000_000_i64);
                let (key, value) = (key(*index), self.random.value());
                let (version, prev) = self.keys[*index];
                let (salt, hash) = (&value[..16], &value[..32]);
                let version = version + 1;
                let kind = if version == 1 { 1 } else { 2 };
                append
                    .execute(params![seq, at, kind, key, version, created_at, prev, value, salt, hash, meta])
                    .unwrap();
                let project = if version == 1 { &mut create } else { &mut update };
                project.execute(params![key, value, version, created_at, at, seq, salt]).unwrap();
                self.keys[*index] = (version, seq);
            }
        }
        transaction.commit().unwrap();
    }
}

/// Reads every column of a change, key and value into memory of their own; the bytes of the value.
pub(crate) fn read_change(row: &Row<'_>) -> usize {
    let numbers: i64 =
        [0, 1, 2, 3, 5, 6, 7].into_iter().map(|n| row.get::<_, i64>(n).unwrap()).max().unwrap();
    let key: String = row.get(4).unwrap();
    let value: Vec<u8> = row.get(8).unwrap();
    let salt: [u8; 16] = row.get(9).unwrap();
    let hashes: [[u8; 32]; 2] = [row.get(10).unwrap(), row.get(12).unwrap()];
    let meta = row.get_ref(11).unwrap();
    std::hint::black_box((numbers, key, salt, hashes, meta));
    value.len()
}

/// Scans the changes after `after` up to `end`; returns how many there are.
pub(crate) fn scan_changes(conn: &Connection, after: usize, end: usize) -> usize {
    let mut statement = conn.prepare_cached(SCAN).unwrap();
    let mut rows = statement.query((i64::try_from(after).unwrap(), i64::try_from(end).unwrap())).unwrap();
    let (mut count, mut bytes) = (0, 0);
    while let Some(row) = rows.next().unwrap() {
        bytes += read_change(row);
        count += 1;
    }
    assert_eq!((count, bytes), (end - after, (end - after) * super::VALUE_BYTES));
    count
}

/// Checks that a database holds what was written: so many changes, none missing, each counted
/// in the version of its key.
pub(crate) fn check(conn: &Connection, changes: usize, keys: usize) {
    let count = |sql| usize::try_from(conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()).unwrap();
    assert_eq!(count("SELECT count(*) FROM changes"), changes);
    assert_eq!(count("SELECT max(seq) FROM changes"), changes);
    assert_eq!(count("SELECT count(*) FROM kv_store"), keys);
    assert_eq!(count("SELECT sum(version) FROM kv_store"), changes);
}
