//! The schema of a store's file, and a new file with it.
//!
//! A file must have exactly this schema. An additional trigger, view or index, or an altered table, could
//! make SQLite do something else than the store asks for.

use std::sync::OnceLock;

use rusqlite::{Connection, MAIN_DB, Result};

use super::config::Durability;
use crate::log::StoreId;

/// Marks the file as a store: `unvs`.
pub(super) const APPLICATION_ID: i64 = 0x756e_7673;
/// The newest format that this code reads and the one that it writes.
pub(super) const FORMAT: i64 = 1;

/// The statements that make a store.
const SCHEMA: &str = include_str!("../../../schema/001_store.sql");

/// Makes an empty database into a store without changes.
pub(super) fn fill(conn: &Connection, store: StoreId, durability: Durability) -> Result<()> {
    conn.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; BEGIN IMMEDIATE")?;
    conn.execute_batch(SCHEMA)?;
    let mut insert = conn.prepare("INSERT INTO meta (name, value) VALUES (?1, ?2)")?;
    insert.execute(("store_id", store.as_bytes().as_slice()))?;
    insert.execute(("durability", durability.name().as_bytes()))?;
    conn.pragma_update(None, "application_id", APPLICATION_ID)?;
    conn.pragma_update(None, "user_version", FORMAT)?;
    conn.execute_batch("COMMIT")
}

/// The bytes of a new store's file, with a write-ahead log from the beginning.
pub(super) fn image(store: StoreId, durability: Durability) -> Result<Vec<u8>> {
    let mut conn = Connection::open_in_memory()?;
    fill(&conn, store, durability)?;
    let mut bytes = conn.serialize(MAIN_DB)?.to_vec();
    if let Some(versions) = bytes.get_mut(WAL_MARKS) {
        versions.fill(2);
    }
    Ok(bytes)
}

/// The bytes of SQLite's header that say that writers and readers use a write-ahead log.
const WAL_MARKS: std::ops::Range<usize> = 18..20;

/// The name, kind, table and SQL text of an object of the schema. An index that SQLite makes itself has no
/// text.
type Object = (String, String, String, Option<String>);

/// The first difference from the schema of a store, in words; `None` if there is none.
pub(super) fn difference(conn: &Connection) -> Result<Option<String>> {
    let (expected, found) = (expected()?, objects(conn)?);
    for object in &found {
        let (name, kind, ..) = object;
        match expected.iter().find(|known| known.0 == *name) {
            None => return Ok(Some(format!("has a {kind} {name:?}, which no store has"))),
            Some(known) if known != object => {
                return Ok(Some(format!("has {name:?} in another shape than a store has")));
            }
            Some(_) => {}
        }
    }
    let missing = expected.iter().find(|known| !found.contains(known));
    if let Some((name, kind, ..)) = missing {
        return Ok(Some(format!("has no {kind} {name:?}, which every store has")));
    }
    Ok((found.len() != expected.len()).then(|| "has an object of its schema twice".to_owned()))
}

/// The objects that the statements of the schema make in an empty database.
fn expected() -> Result<&'static [Object]> {
    static EXPECTED: OnceLock<Vec<Object>> = OnceLock::new();
    if let Some(expected) = EXPECTED.get() {
        return Ok(expected);
    }
    let conn = Connection::open_in_memory()?;
    conn.execute_batch(SCHEMA)?;
    let objects = objects(&conn)?;
    Ok(EXPECTED.get_or_init(|| objects))
}

fn objects(conn: &Connection) -> Result<Vec<Object>> {
    let mut statement = conn.prepare("SELECT name, type, tbl_name, sql FROM sqlite_schema")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    rows.collect()
}
