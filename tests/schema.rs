//! What could change what a store does is refused, nothing that was planted runs, and what other programs keep in the
//! file is left alone.
//!
//! A trigger planted in the file once ran on our own INSERT.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use univrs_state::{LocalStore, SqliteStore, StateError, StateStore};

use crate::support::child::Child;
use crate::support::{Local, audit, folder};

/// A closed store with two changes, and somebody else's connection to it.
async fn store(folder: &Path) -> (PathBuf, Connection) {
    let file = folder.join("state.db");
    let store = SqliteStore::open(&file).await.unwrap();
    store.set("/a", b"1".to_vec()).await.unwrap();
    store.set("/b", b"2".to_vec()).await.unwrap();
    store.close().await.unwrap();
    let raw = Connection::open(&file).unwrap();
    raw.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
    (file, raw)
}

/// What the tables hold.
fn content(raw: &Connection) -> Vec<i64> {
    let count = |table| raw.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0));
    ["changes", "kv_store", "tombstones", "commit_ids", "meta"].map(|table| count(table).unwrap_or(-1)).into()
}

/// Opens the file with and without writing, sees that both are refused with these words, and that nothing ran.
async fn is_refused(file: &Path, raw: Connection, planted: &str, says: &str) {
    let before = content(&raw);
    drop(raw);
    for read_only in [false, true] {
        let error = SqliteStore::options().read_only(read_only).open(file).await.unwrap_err();
        assert!(matches!(error, StateError::CannotOpen { .. }), "{planted}: {error:?}");
        assert!(error.to_string().contains(says), "{planted}: {error}");
    }
    let raw = Connection::open(file).unwrap();
    assert_eq!(content(&raw), before, "{planted}: it ran, or something was written");
}

#[tokio::test]
async fn what_could_change_what_a_store_does_is_refused_by_its_name() {
    for (planted, says) in [
        ("DROP TABLE tombstones", "no table \"tombstones\""),
        ("DROP TABLE meta", "no table \"meta\""),
        ("ALTER TABLE kv_store RENAME COLUMN seq TO place", "\"kv_store\" in another shape"),
        ("ALTER TABLE changes ADD COLUMN more INTEGER", "\"changes\" in another shape"),
        ("ALTER TABLE kv_store ADD COLUMN twice TEXT AS (key || key)", "\"kv_store\" in another shape"),
        ("ALTER TABLE kv_store RENAME TO kv_stored", "\"kv_store_until\" in another shape"),
        ("DROP INDEX kv_store_until", "no index \"kv_store_until\""),
        ("DROP TABLE idx_kv_store_prefix", "no table \"idx_kv_store_prefix\""),
        ("DROP TABLE kv_store; CREATE VIEW kv_store AS SELECT 1", "\"kv_store\" in another shape"),
        ("DROP TABLE kv_store; CREATE TABLE \"KV_Store\" (a)", "\"KV_Store\" in another shape"),
    ] {
        let folder = folder();
        let (file, raw) = store(folder.path()).await;
        raw.execute_batch(planted).unwrap();
        is_refused(&file, raw, planted, says).await;
    }
}

#[tokio::test]
async fn a_trigger_or_an_index_is_refused_with_the_statement_that_removes_it() {
    for (planted, removal) in [
        (
            "CREATE TRIGGER spy AFTER INSERT ON changes BEGIN DELETE FROM kv_store; END",
            "DROP TRIGGER \"spy\";",
        ),
        (
            "CREATE TRIGGER kept BEFORE DELETE ON kv_store BEGIN SELECT RAISE(IGNORE); END",
            "DROP TRIGGER \"kept\";",
        ),
        (
            "CREATE TABLE other (a); CREATE TRIGGER far AFTER INSERT ON other BEGIN DELETE FROM kv_store; END",
            "DROP TRIGGER \"far\";",
        ),
        (
            "CREATE VIEW peek AS SELECT 1; CREATE TRIGGER t INSTEAD OF INSERT ON peek BEGIN DELETE FROM kv_store; END",
            "DROP TRIGGER \"t\";",
        ),
        ("CREATE INDEX by_key ON changes (key, seq)", "DROP INDEX \"by_key\";"),
        ("CREATE INDEX far ON KV_STORE (version)", "DROP INDEX \"far\";"),
        ("CREATE UNIQUE INDEX one ON kv_store (value)", "DROP INDEX \"one\";"),
        ("CREATE INDEX some ON tombstones (version) WHERE version > 3", "DROP INDEX \"some\";"),
        ("CREATE INDEX long ON changes (length(value))", "DROP INDEX \"long\";"),
        ("CREATE INDEX \"it's \"\"mine\"\"; --\" ON meta (value)", "DROP INDEX \"it's \"\"mine\"\"; --\";"),
    ] {
        let folder = folder();
        let (file, raw) = store(folder.path()).await;
        raw.execute_batch(planted).unwrap();
        is_refused(&file, raw, planted, &format!("remove it with the statement {removal}")).await;
        // It does what it is told to do.
        Connection::open(&file).unwrap().execute_batch(removal).unwrap();
        audit(&Local::Sqlite(SqliteStore::open(&file).await.unwrap())).await;
    }
    let folder = folder();
    let (file, raw) = store(folder.path()).await;
    raw.execute_batch("CREATE INDEX \"a\n\u{1b}[2J\" ON meta (value)").unwrap();
    is_refused(&file, raw, "controls", "index \"a\\n\\u{1b}[2J\" on its table \"meta\"").await;
}

// It would go on to delete rows of which the log knows nothing.
#[tokio::test]
async fn the_program_that_used_the_table_before_stops_before_it_writes() {
    let folder = folder();
    let (file, raw) = store(folder.path()).await;
    raw.execute_batch("CREATE TABLE IF NOT EXISTS kv_store (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        .unwrap();
    let index = raw.execute_batch("CREATE INDEX IF NOT EXISTS idx_kv_store_prefix ON kv_store(key)");
    assert!(index.unwrap_err().to_string().contains("already a table named idx_kv_store_prefix"));
    drop(raw);
    audit(&Local::Sqlite(SqliteStore::open(&file).await.unwrap())).await;
}

// SQLite goes by the text of an object, and itself refuses a row that says something else.
#[tokio::test]
async fn an_object_that_says_it_is_another_one_is_refused() {
    for planted in [
        "CREATE INDEX far ON other (a); UPDATE sqlite_schema SET sql = 'CREATE INDEX far ON changes (key)'",
        "CREATE INDEX far ON changes (key); UPDATE sqlite_schema SET tbl_name = 'other'",
        "CREATE VIEW far AS SELECT 1; UPDATE sqlite_schema SET type = 'table'",
        "CREATE VIEW far AS SELECT 1; UPDATE sqlite_schema SET type = 'map'",
        "CREATE TRIGGER far AFTER INSERT ON changes BEGIN SELECT 1; END; UPDATE sqlite_schema SET type = 'view'",
    ] {
        let folder = folder();
        let (file, raw) = store(folder.path()).await;
        let lie =
            format!("CREATE TABLE other (a); PRAGMA writable_schema = ON; {planted} WHERE name = 'far'");
        raw.execute_batch(&lie).unwrap();
        drop(raw);
        for read_only in [false, true] {
            let error = SqliteStore::options().read_only(read_only).open(&file).await.unwrap_err();
            let is_refused = matches!(error, StateError::Corrupted(_) | StateError::CannotOpen { .. });
            assert!(is_refused, "{planted}: {error:?}");
        }
    }
}

#[tokio::test]
async fn what_other_programs_keep_in_the_file_is_named_and_left_alone() {
    for (planted, named, count) in [
        ("ANALYZE", "table \"sqlite_stat1\"", "sqlite_stat1"),
        ("CREATE VIEW peek AS SELECT * FROM kv_store", "view \"peek\"", "peek"),
        (
            "CREATE TABLE extra (a); INSERT INTO extra VALUES (1); CREATE INDEX i ON extra (a)",
            "table \"extra\"",
            "extra",
        ),
        (
            "CREATE TABLE numbered (a INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO numbered VALUES (NULL)",
            "table \"numbered\", table \"sqlite_sequence\"",
            "sqlite_sequence",
        ),
        (
            "CREATE TABLE pragma_user_version (user_version); INSERT INTO pragma_user_version VALUES (9)",
            "table \"pragma_user_version\"",
            "pragma_user_version",
        ),
        (
            "CREATE VIRTUAL TABLE search USING fts5(key); INSERT INTO search VALUES ('a')",
            "table \"search\"",
            "search",
        ),
        (
            "CREATE TABLE held (key TEXT REFERENCES kv_store (key)); INSERT INTO held VALUES ('/a')",
            "table \"held\"",
            "held",
        ),
        (
            "CREATE TABLE held (key TEXT REFERENCES kv_store (key) ON DELETE CASCADE); INSERT INTO held VALUES ('/a')",
            "table \"held\"",
            "held",
        ),
        (
            "CREATE TABLE \"a\n\"\"b\" (a); CREATE VIEW v AS SELECT 1 AS a",
            "table \"a\\n\"\"b\", view \"v\"",
            "v",
        ),
        (
            "CREATE TABLE strange (a); PRAGMA writable_schema = ON; INSERT INTO strange VALUES (1); \
          UPDATE sqlite_schema SET sql = 'CREATE TABLE strange (a CHECK (a > 1 AND unknown_function(a)))' WHERE name = 'strange'",
            "table \"strange\"",
            "strange",
        ),
    ] {
        let folder = folder();
        let (file, raw) = store(folder.path()).await;
        raw.execute_batch(planted).unwrap();
        let rows = |raw: &Connection| -> i64 {
            raw.query_row(&format!("SELECT count(*) FROM {count}"), [], |row| row.get(0)).unwrap()
        };
        let before = rows(&raw);
        drop(raw);
        for read_only in [true, false] {
            let store = SqliteStore::options().read_only(read_only).open(&file).await.unwrap();
            let warning = store.warning().unwrap_or_else(|| panic!("{planted}: no word of it"));
            assert!(warning.contains(named) && warning.contains("left alone"), "{planted}: {warning}");
            assert_eq!(warning.lines().count(), 1, "{planted}: {warning}");
            assert!(store.verify().await.unwrap().is_intact(), "{planted}");
            store.close().await.unwrap();
        }
        let store = SqliteStore::open(&file).await.unwrap();
        store.delete("/a").await.unwrap();
        store.set("/b", b"3".to_vec()).await.unwrap();
        store.set("/a", b"4".to_vec()).await.unwrap();
        audit(&Local::Sqlite(store.clone())).await;
        store.close().await.unwrap();
        assert_eq!(rows(&Connection::open(&file).unwrap()), before, "{planted}: it was changed");
    }
    let folder = folder();
    let (file, raw) = store(folder.path()).await;
    (0..20).for_each(|n| raw.execute_batch(&format!("CREATE TABLE extra_{n} (a)")).unwrap());
    let store = SqliteStore::open(&file).await.unwrap();
    assert!(store.warning().unwrap().ends_with("table \"extra_7\", 12 more"), "{:?}", store.warning());
}

// Another program may make an index while a writer is at work.
#[tokio::test]
async fn an_index_made_under_an_open_store_makes_no_wrong_row_and_is_named_where_it_refuses_one() {
    let folder = folder();
    let (file, raw) = store(folder.path()).await;
    let store = SqliteStore::open(&file).await.unwrap();
    store.set("/c", b"3".to_vec()).await.unwrap();
    raw.execute_batch("CREATE INDEX slow ON kv_store (version)").unwrap();
    store.set("/c", b"4".to_vec()).await.unwrap();
    raw.execute_batch("CREATE UNIQUE INDEX one ON kv_store (value)").unwrap();
    store.set("/c", b"5".to_vec()).await.unwrap();
    let error = store.set("/c", b"1".to_vec()).await.unwrap_err();
    assert!(matches!(error, StateError::Storage(_)), "{error:?}");
    let says = error.to_string();
    assert!(
        says.contains("index \"slow\" on its table \"kv_store\"") && says.contains("DROP INDEX \"slow\";"),
        "{says}"
    );
    raw.execute_batch("DROP INDEX slow").unwrap();
    let says = store.set("/c", b"1".to_vec()).await.unwrap_err().to_string();
    assert!(says.contains("DROP INDEX \"one\";") && !says.contains("'1'"), "{says}");
    assert_eq!(store.get("/c").await.unwrap().unwrap().value, b"5", "nothing of it was recorded");
    assert!(store.verify().await.unwrap().is_intact());
    raw.execute_batch("DROP INDEX one").unwrap();
    store.set("/c", b"1".to_vec()).await.unwrap();
    audit(&Local::Sqlite(store)).await;
}

#[tokio::test]
async fn the_schema_is_compared_in_its_text_and_not_in_what_sqlite_makes_of_it() {
    let folder = folder();
    let (file, raw) = store(folder.path()).await;
    raw.execute_batch(
        "PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = replace(sql, 'version    INTEGER NOT NULL',
             'version    INTEGER NOT NULL CHECK (version < 9)') WHERE name = 'kv_store';",
    )
    .unwrap();
    drop(raw);
    let error = SqliteStore::open(&file).await.unwrap_err();
    assert!(error.to_string().contains("\"kv_store\" in another shape"), "{error}");
}

#[tokio::test]
async fn what_is_planted_while_the_store_is_open_does_not_run() {
    let folder = folder();
    let (file, raw) = store(folder.path()).await;
    let store = SqliteStore::open(&file).await.unwrap();
    raw.execute_batch("CREATE TRIGGER spy AFTER INSERT ON changes BEGIN DELETE FROM tombstones; END")
        .unwrap();
    store.delete("/a").await.unwrap();
    store.set("/b", b"3".to_vec()).await.unwrap();
    assert_eq!(content(&raw), [4, 1, 1, 0, 2], "the trigger ran");
    raw.execute_batch("DROP TRIGGER spy").unwrap();
    audit(&Local::Sqlite(store)).await;
}

#[tokio::test]
async fn a_row_longer_than_any_that_is_written_is_damage_and_takes_no_memory() {
    let folder = folder();
    let (file, raw) = store(folder.path()).await;
    // More than any value may have.
    raw.execute("UPDATE kv_store SET value = zeroblob(270000000) WHERE key = '/a'", []).unwrap();
    drop(raw);
    let mut child = Child::start();
    child.ask(&format!("open\t{}", file.display())).unwrap();
    let before: u64 = child.ask("peak").unwrap().parse().unwrap();
    let error = child.ask("get\t/a").unwrap_err();
    assert!(error.starts_with("corrupted") && error.contains("longer than the longest"), "{error}");
    child.ask("verify").expect_err("a verification finds it, too");
    let grown = child.ask("peak").unwrap().parse::<u64>().unwrap() - before;
    assert!(grown < 64 << 10, "it took {grown} KiB");
    child.ask("get\t/b").expect("the others are read");
}
