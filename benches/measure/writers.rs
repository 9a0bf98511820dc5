//! Tasks that write at once, each waiting for its own commit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use univrs_state::{Batch, LocalStore, SqliteStore, StateStore};

use super::store::{fill, open};
use super::{META_BYTES, Pace, Random, key, meta, pace, raw};

const HOT_KEYS: usize = 64;

/// What a task writes.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Any key.
    Set,
    /// Any key, in a batch that says who writes, why, and for what.
    SetWithMeta,
    /// One key a task.
    SetHot,
    CompareAndSetHot,
}

/// The store under test and what was written to it.
pub(crate) struct Writers<'a> {
    runtime: &'a Runtime,
    path: PathBuf,
    store: SqliteStore,
    keys: usize,
    written: Arc<AtomicUsize>,
}

impl<'a> Writers<'a> {
    /// A store of so many keys; the log has a change of each, and of random ones beyond that until
    /// it has so many.
    pub(crate) fn create(runtime: &'a Runtime, path: &Path, keys: usize, changes: usize) -> Self {
        let store = runtime.block_on(open(path));
        let mut random = Random::new(11);
        let updated = (keys..changes).map(|_| random.below(keys));
        runtime.block_on(fill(&store, (0..keys).chain(updated)));
        Self { runtime, path: path.into(), store, keys, written: Arc::new(AtomicUsize::new(changes)) }
    }

    /// Writes from so many tasks until the turn is over.
    pub(crate) fn run(&self, tasks: usize, turn: Duration, kind: Kind) -> Pace {
        let before = self.written.load(Ordering::Relaxed);
        let pace = pace(|| {
            let end = Instant::now() + turn;
            let task = |task| {
                let (store, written) = (self.store.clone(), self.written.clone());
                write_until(store, self.keys, written, before + task, end, kind)
            };
            self.runtime.block_on(async {
                let tasks: Vec<_> = (0..tasks).map(|n| tokio::spawn(task(n))).collect();
                for task in tasks {
                    task.await.unwrap();
                }
            });
            self.written.load(Ordering::Relaxed) - before
        });
        let head = self.runtime.block_on(self.store.head()).unwrap();
        assert_eq!(head.seq.as_u64(), self.written.load(Ordering::Relaxed) as u64);
        pace
    }

    /// Closes the store and checks its rows.
    pub(crate) fn check(self) {
        self.runtime.block_on(self.store.close()).unwrap();
        let conn = rusqlite::Connection::open(&self.path).unwrap();
        raw::check(&conn, self.written.load(Ordering::Relaxed), self.keys);
        let sql = "SELECT count(*) FROM changes WHERE length(meta) != ?1";
        let bytes = i64::try_from(META_BYTES).unwrap();
        let others = conn.query_row(sql, [bytes], |row| row.get::<_, i64>(0));
        assert_eq!(others, Ok(0), "plain rusqlite writes as many bytes of metadata");
    }
}

async fn write_until(
    store: SqliteStore,
    keys: usize,
    written: Arc<AtomicUsize>,
    task: usize,
    end: Instant,
    kind: Kind,
) {
    let mut random = Random::new(task as u64);
    let hot = key(task % HOT_KEYS);
    let mut version = store.version(&hot).await.unwrap();
    let mut count = 0;
    while count == 0 || Instant::now() < end {
        let value = random.value();
        match kind {
            Kind::Set => drop(store.set(&key(random.below(keys)), value).await.unwrap()),
            Kind::SetHot => drop(store.set(&hot, value).await.unwrap()),
            Kind::SetWithMeta => {
                let batch = Batch::new().set(key(random.below(keys)), value).meta(meta(count));
                drop(store.commit(batch).await.unwrap());
            }
            // Nobody else writes this key: every one succeeds.
            Kind::CompareAndSetHot => version = store.compare_and_set(&hot, version, value).await.unwrap(),
        }
        count += 1;
    }
    written.fetch_add(count, Ordering::Relaxed);
}
