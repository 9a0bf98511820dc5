//! rusqlite by hand: a table of keys and values; one connection writes, those that read are pooled.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rusqlite::Connection;

use super::Peer;
use crate::measure::reads::end;

pub(super) fn open(path: &Path) -> Box<dyn Peer> {
    let writer = connect(path);
    let schema = "CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL) \
                  STRICT, WITHOUT ROWID";
    writer.execute_batch(schema).unwrap();
    Box::new(Sqlite { path: path.into(), writer: writer.into(), readers: Mutex::default() })
}

fn connect(path: &Path) -> Connection {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 16000; \
         PRAGMA cache_size = -32768",
    )
    .unwrap();
    conn
}

struct Sqlite {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

impl Sqlite {
    /// Reads on a connection that nobody else uses meanwhile.
    fn read<T>(&self, read: impl FnOnce(&Connection) -> T) -> T {
        let pooled = self.readers.lock().unwrap().pop();
        let conn = pooled.unwrap_or_else(|| connect(&self.path));
        let result = read(&conn);
        self.readers.lock().unwrap().push(conn);
        result
    }
}

/// Writes an entry, in a transaction of its own if there is none.
fn put(conn: &Connection, key: &str, value: &[u8]) {
    let sql = "INSERT INTO entries VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
    assert_eq!(conn.prepare_cached(sql).unwrap().execute((key, value)).unwrap(), 1);
}

impl Peer for Sqlite {
    fn fill(&self, entries: &mut dyn Iterator<Item = (String, Vec<u8>)>) {
        let mut conn = self.writer.lock().unwrap();
        let transaction = conn.transaction().unwrap();
        entries.for_each(|(key, value)| put(&transaction, &key, &value));
        transaction.commit().unwrap();
    }

    fn put(&self, key: &str, value: Vec<u8>) {
        put(&self.writer.lock().unwrap(), key, &value);
    }

    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.read(|conn| {
            let mut statement = conn.prepare_cached("SELECT value FROM entries WHERE key = ?1").unwrap();
            let mut values = statement.query_map([key], |row| row.get(0)).unwrap();
            values.next().map(Result::unwrap)
        })
    }

    fn list(&self, prefix: &str) -> Vec<String> {
        self.read(|conn| {
            let sql = "SELECT key FROM entries WHERE key >= ?1 AND key < ?2 ORDER BY key";
            let mut statement = conn.prepare_cached(sql).unwrap();
            let keys = statement.query_map([prefix, &end(prefix)], |row| row.get(0)).unwrap();
            keys.map(Result::unwrap).collect()
        })
    }

    fn count(&self) -> usize {
        let count: i64 =
            self.read(|conn| conn.query_row("SELECT count(*) FROM entries", [], |row| row.get(0)).unwrap());
        usize::try_from(count).unwrap()
    }
}
