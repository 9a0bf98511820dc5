//! The store under test.

use std::path::Path;
use std::time::Duration;

use univrs_state::stats::{Residency, Stats};
use univrs_state::{Batch, LocalStore, SqliteStore, StateStore};

use super::{Random, VALUE_BYTES, key, meta};

/// Opens a store.
pub(crate) async fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path).await.unwrap()
}

/// Opens a store whose resident projection may take so many bytes; with 0 there is none.
pub(crate) async fn open_with(path: &Path, resident_bytes: usize) -> SqliteStore {
    SqliteStore::options().resident_bytes(resident_bytes).open(path).await.unwrap()
}

/// Whether the resident projection is loaded; none where there is none.
fn is_resident(stats: &Stats) -> Option<bool> {
    match stats.residency {
        Residency::Loading => Some(false),
        Residency::Whole => Some(true),
        _ => None,
    }
}

/// Waits until the resident projection is loaded; says whether there is one.
pub(crate) async fn resident(store: &SqliteStore) -> bool {
    loop {
        match is_resident(&store.stats().await.unwrap()) {
            Some(false) => tokio::time::sleep(Duration::from_millis(1)).await,
            loaded => return loaded.is_some(),
        }
    }
}

/// Sets these keys to random values, in this order, a thousand a commit.
pub(crate) async fn fill(store: &SqliteStore, keys: impl IntoIterator<Item = usize>) {
    fill_with(store, keys, VALUE_BYTES).await;
}

/// Sets these keys to random values, a thousand a commit; each commit has metadata of its own.
pub(crate) async fn fill_with_meta(store: &SqliteStore, keys: impl IntoIterator<Item = usize>) {
    commits(store, keys, VALUE_BYTES, |commit, batch| batch.meta(meta(commit))).await;
}

/// Sets these keys to random values of so many bytes, in this order, a thousand a commit.
pub(crate) async fn fill_with(
    store: &SqliteStore,
    keys: impl IntoIterator<Item = usize>,
    value_bytes: usize,
) {
    commits(store, keys, value_bytes, |_, batch| batch).await;
}

/// Commits what `finish` makes of each batch and its number.
async fn commits(
    store: &SqliteStore,
    keys: impl IntoIterator<Item = usize>,
    value_bytes: usize,
    finish: impl Fn(usize, Batch) -> Batch,
) {
    let mut random = Random::new(3);
    let mut keys = keys.into_iter().peekable();
    for commit in 0.. {
        if keys.peek().is_none() {
            break;
        }
        let keys = keys.by_ref().take(1000);
        let batch = keys.fold(Batch::new(), |batch, n| batch.set(key(n), random.bytes(value_bytes)));
        store.commit(finish(commit, batch)).await.unwrap();
    }
}
