//! How large the files are, against the keys and values in them.

use std::path::Path;

use rusqlite::Connection;
use tokio::runtime::Runtime;
use univrs_state::LocalStore;

use crate::measure::ratio::print_ratio;
use crate::measure::{self, Effort, Random, store};

pub(crate) fn run(effort: Effort) {
    let folder = measure::folder("size", effort);
    let runtime = Runtime::new().unwrap();
    println!("four changes of each key, in random order");
    for (name, value_bytes, count, allowed) in
        [("file_bytes_128", 128, 200_000, 2.0), ("file_bytes_1024", 1024, 50_000, 1.2)]
    {
        let folder = folder.path().join(name);
        let path = folder.join("store.db");
        let count = effort.items(count);
        runtime.block_on(async {
            let store = store::open(&path).await;
            let mut random = Random::new(11);
            let keys = (0..count).map(|_| random.below(count.div_ceil(4)));
            store::fill_with(&store, keys, value_bytes).await;
            store.close().await.unwrap();
        });
        let (files, data) = (files_bytes(&folder), data_bytes(&path));
        let what = format!("bytes of keys and values / of the files, {data} / {files}");
        print_ratio(name, &what, &[data / files], Some(rounded(1.0 / allowed)));
    }
}

/// Two digits are enough of a target.
fn rounded(target: f64) -> f64 {
    (target * 100.0).round() / 100.0
}

#[allow(clippy::cast_precision_loss)]
fn files_bytes(folder: &Path) -> f64 {
    let files = std::fs::read_dir(folder).unwrap();
    let bytes = files.map(|file| file.unwrap().metadata().unwrap().len() as f64);
    bytes.sum()
}

/// Bytes of the keys and values in the log and in the projection.
fn data_bytes(path: &Path) -> f64 {
    let conn = Connection::open(path).unwrap();
    bytes_in(&conn, "changes") + bytes_in(&conn, "kv_store")
}

/// Bytes of the keys and values in a table.
pub(crate) fn bytes_in(conn: &Connection, table: &str) -> f64 {
    let sql = format!("SELECT total(octet_length(key) + octet_length(value)) FROM {table}");
    conn.query_row(&sql, [], |row| row.get(0)).unwrap()
}
