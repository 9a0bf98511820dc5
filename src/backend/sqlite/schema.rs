//! The schema of a store's file, and a new file with it.
//!
//! The objects of a store must be there as they were made. Triggers, and further indexes on its tables, could make
//! SQLite do something else than the store asks for, and are refused. Tables and views of others are left alone.

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

/// An object of a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Object {
    name: String,
    kind: String,
    table: String,
    /// The SQL text; an index that SQLite makes itself has none.
    sql: Option<String>,
}

/// Why a database cannot be used as a store, in words that follow its path: an object of a store is missing or has
/// another shape, or another object could change what writes do. `None` if nothing is in the way.
///
/// Tables and views of other programs are no reason, and what [`others`] lists: nothing here reads or writes them. A
/// trigger is one, whatever its table is, because its text may write to any. So is an index of a store's table: a
/// unique one, or one of an expression, can make a write fail, and each slows writes down.
pub(super) fn refusal(conn: &Connection) -> Result<Option<String>> {
    let (expected, found) = (expected()?, objects(conn)?);
    if found == expected {
        return Ok(None);
    }
    if found.iter().any(Object::is_of_before_the_first_release) {
        return Ok(Some(
            "is of a version before the first release: export it with the program that made it, then import that"
                .to_owned(),
        ));
    }
    for object in &found {
        match expected.iter().find(|known| is_same(&known.name, &object.name)) {
            Some(known) if known == object => {}
            Some(_) => {
                return Ok(Some(format!("has {} in another shape than a store has", quoted(&object.name))));
            }
            None => {
                if let Some(refusal) = object.refusal(expected) {
                    return Ok(Some(refusal));
                }
            }
        }
    }
    let count = |known| found.iter().filter(|object| *object == known).count();
    for known in expected {
        match count(known) {
            1 => {}
            0 => {
                let Object { kind, name, .. } = known;
                return Ok(Some(format!("has no {kind} {}, which every store has", quoted(name))));
            }
            _ => return Ok(Some("has an object of its schema twice".to_owned())),
        }
    }
    Ok(None)
}

/// The tables and views that no store has, in words; `None` if there are none.
pub(super) fn others(conn: &Connection) -> Result<Option<String>> {
    const NAMED: usize = 8;
    let (expected, found) = (expected()?, objects(conn)?);
    let others = found.iter().filter(|object| !expected.contains(object) && object.kind != "index");
    let mut named: Vec<String> =
        others.map(|other| format!("{} {}", other.kind, quoted(&other.name))).collect();
    let more = named.len().saturating_sub(NAMED);
    named.truncate(NAMED);
    if more > 0 {
        named.push(format!("{more} more"));
    }
    Ok((!named.is_empty()).then(|| named.join(", ")))
}

impl Object {
    /// Whether it is the log of a store as it was before the format was fixed: without the columns that came last.
    fn is_of_before_the_first_release(&self) -> bool {
        let lacks = |sql: &str| sql.contains("prev ") && sql.contains("jump ") && !sql.contains("until ");
        self.name == "changes" && self.sql.as_deref().is_some_and(lacks)
    }

    /// Why this object, which no store has, is in the way; `None` if it is not.
    fn refusal(&self, expected: &[Self]) -> Option<String> {
        let Self { name, kind, table, .. } = self;
        let is_ours = expected.iter().any(|known| is_same(&known.name, table));
        match kind.as_str() {
            "trigger" => {
                let removal = removal(kind, name);
                Some(format!("has a trigger {}, which no store has: {removal}", quoted(name)))
            }
            "index" if is_ours => Some(format!(
                "has an index {} on its table {}, which no store has: {}",
                quoted(name),
                quoted(table),
                removal(kind, name)
            )),
            _ => None,
        }
    }
}

/// How to remove an object, in words and SQL.
fn removal(kind: &str, name: &str) -> String {
    let (kind, quoted) = (kind.to_uppercase(), quoted(name));
    if quoted == format!("\"{}\"", name.replace('"', "\"\"")) {
        format!("remove it with the statement DROP {kind} {quoted};")
    } else {
        format!("remove it with a statement DROP {kind}; its name is escaped or shortened here")
    }
}

/// A name in double quotes, as SQL has it. Characters that a screen does not show as they are become escapes, and a
/// long name is shortened.
fn quoted(name: &str) -> String {
    const SHOWN: usize = 200;
    let mut shown = String::from("\"");
    for c in name.chars().take(SHOWN) {
        match c {
            '"' => shown.push_str("\"\""),
            '\'' | '\\' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    if name.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown.push('"');
    shown
}

/// Whether SQLite takes two names for the same.
fn is_same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
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
    let rows = statement.query_map([], |row| {
        Ok(Object { name: row.get(0)?, kind: row.get(1)?, table: row.get(2)?, sql: row.get(3)? })
    })?;
    rows.collect()
}

/// The statements that check the storage of a store. Tables of other programs are theirs to check, because they may need
/// functions that only those programs have. Beside them, nobody checks the list of free pages.
pub(super) fn checks(conn: &Connection) -> Result<Vec<String>> {
    if others(conn)?.is_none() {
        return Ok(vec!["PRAGMA integrity_check".to_owned()]);
    }
    let tables = expected()?.iter().filter(|known| known.kind == "table");
    Ok(tables.map(|table| format!("PRAGMA integrity_check({})", table.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_message_is_sql_or_says_that_it_is_not() {
        assert_eq!(removal("index", "by_key"), "remove it with the statement DROP INDEX \"by_key\";");
        assert_eq!(
            removal("trigger", "a\"; DROP TABLE changes --"),
            "remove it with the statement DROP TRIGGER \"a\"\"; DROP TABLE changes --\";"
        );
        assert_eq!(quoted("it's \\ é"), "\"it's \\ é\"");
        for name in ["a\nb", "\u{1b}[2J", "a\u{202e}b", &"n".repeat(201)] {
            assert!(removal("index", name).ends_with("escaped or shortened here"), "{name:?}");
            assert!(!quoted(name).contains(['\n', '\u{1b}', '\u{202e}']), "{name:?}");
            assert!(quoted(name).chars().count() < 210, "{name:?}");
        }
    }
}
