//! A file whose schema is not exactly a store's is refused, and nothing that was planted runs.
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

#[tokio::test]
async fn a_schema_that_is_not_exactly_a_stores_is_refused_by_the_name_of_the_object() {
    for (planted, named) in [
        ("CREATE TRIGGER spy AFTER INSERT ON changes BEGIN DELETE FROM kv_store; END", "trigger \"spy\""),
        ("CREATE TRIGGER kept BEFORE DELETE ON kv_store BEGIN SELECT RAISE(IGNORE); END", "trigger \"kept\""),
        ("CREATE VIEW peek AS SELECT * FROM kv_store", "view \"peek\""),
        ("CREATE INDEX by_key ON changes (key, seq)", "index \"by_key\""),
        ("CREATE TABLE extra (a)", "table \"extra\""),
        ("CREATE TABLE pragma_user_version (user_version)", "table \"pragma_user_version\""),
        ("CREATE VIRTUAL TABLE search USING fts5(key)", "table \"search\""),
        ("DROP TABLE tombstones", "no table \"tombstones\""),
        ("DROP TABLE meta", "no table \"meta\""),
        ("ALTER TABLE kv_store RENAME COLUMN seq TO place", "\"kv_store\" in another shape"),
        ("ALTER TABLE changes ADD COLUMN more INTEGER", "\"changes\" in another shape"),
        ("ALTER TABLE kv_store ADD COLUMN twice TEXT AS (key || key)", "\"kv_store\" in another shape"),
        ("ALTER TABLE kv_store RENAME TO kv_stored", "table \"kv_stored\""),
        ("DROP TABLE kv_store; CREATE VIEW kv_store AS SELECT 1", "\"kv_store\" in another shape"),
        ("ANALYZE", "table \"sqlite_stat1\""),
    ] {
        let folder = folder();
        let (file, raw) = store(folder.path()).await;
        raw.execute_batch(planted).unwrap();
        let before = content(&raw);
        drop(raw);
        for read_only in [false, true] {
            let error = SqliteStore::options().read_only(read_only).open(&file).await.unwrap_err();
            assert!(matches!(error, StateError::CannotOpen { .. }), "{planted}: {error:?}");
            assert!(error.to_string().contains(named), "{planted}: {error}");
        }
        let raw = Connection::open(&file).unwrap();
        assert_eq!(content(&raw), before, "{planted}: it ran, or something was written");
    }
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
