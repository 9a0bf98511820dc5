//! The store under test.

use std::path::Path;

use univrs_state::{Batch, SqliteStore, StateStore};

use super::{Random, VALUE_BYTES, key};

/// Opens a store.
pub(crate) async fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path).await.unwrap()
}

/// Sets these keys to random values, in this order, a thousand a commit.
pub(crate) async fn fill(store: &SqliteStore, keys: impl IntoIterator<Item = usize>) {
    fill_with(store, keys, VALUE_BYTES).await;
}

/// The same with values of so many bytes.
pub(crate) async fn fill_with(
    store: &SqliteStore,
    keys: impl IntoIterator<Item = usize>,
    value_bytes: usize,
) {
    let mut random = Random::new(3);
    let mut keys = keys.into_iter().peekable();
    while keys.peek().is_some() {
        let keys = keys.by_ref().take(1000);
        let batch = keys.fold(Batch::new(), |batch, n| batch.set(key(n), random.bytes(value_bytes)));
        store.commit(batch).await.unwrap();
    }
}
