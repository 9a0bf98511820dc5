//! The implementation of the trait by an open store. Each method reads the state in memory if it is the newest,
//! and otherwise the storage.

use async_trait::async_trait;
// Reads are mostly ready at once. A task that only reads must nevertheless let other tasks run.
use tokio::task::consume_budget;

use crate::error::{Result, StateError};
use crate::key::{validate_key, validate_prefix};
use crate::limits::Exceeded;
use crate::log::{Change, Commit, Cursor, Head};
use crate::seq::Seq;
use crate::state::{Batch, Entry};
use crate::store::history::{Diff, DiffPage, Past, Point, as_of, diff, point};
use crate::store::open_store::OpenStore;
use crate::store::read::{DeletedKey, Page, Scan, current, key_history, log};
use crate::store::receipt::Receipt;
use crate::store::state_store::StateStore;
use crate::store::watch::{SnapshotWatch, WatchStream};

#[async_trait]
impl StateStore for OpenStore {
    async fn commit(&self, batch: Batch) -> Result<Receipt> {
        self.order(batch).await
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        validate_key(key)?;
        consume_budget().await;
        self.entry(key).await
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Page> {
        Exceeded::check_limit(keys.len(), self.limits().page_entries, "keys", || "get_many".into())?;
        keys.iter().try_for_each(|key| validate_key(key))?;
        consume_budget().await;
        if let Some(page) = self.folded(|folded| current::get_many(folded, keys)) {
            return page;
        }
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        self.read_snapshot(move |snapshot| current::get_many(snapshot, &keys)).await
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        validate_prefix(&scan.prefix)?;
        consume_budget().await;
        self.page(scan).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        validate_prefix(prefix)?;
        consume_budget().await;
        if let Some(keys) = self.folded(|folded| current::list(folded, prefix)) {
            return keys;
        }
        let prefix = prefix.to_owned();
        self.read_snapshot(move |snapshot| current::list(snapshot, &prefix)).await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        validate_key(key)?;
        consume_budget().await;
        if let Some(key_version) = self.at_hand(|published| published.in_memory.key_version(key)) {
            return Ok(key_version?.is_some_and(|key_version| key_version.is_live()));
        }
        let key = key.to_owned();
        self.read_snapshot(move |snapshot| snapshot.exists(&key)).await
    }

    async fn version(&self, key: &str) -> Result<u64> {
        validate_key(key)?;
        consume_budget().await;
        self.version_of(key).await
    }

    async fn head(&self) -> Result<Head> {
        consume_budget().await;
        self.newest().await
    }

    async fn changes(&self, after: Seq, limit: usize) -> Result<Vec<Commit>> {
        self.read_snapshot(move |snapshot| log::changes(snapshot, after, limit)).await
    }

    async fn history(&self, key: &str, before: Option<Seq>, limit: usize) -> Result<Vec<Change>> {
        validate_key(key)?;
        let key = key.to_owned();
        self.read_snapshot(move |snapshot| key_history::history(snapshot, &key, before, limit)).await
    }

    fn watch_with_snapshot(&self, pattern: &str) -> Result<SnapshotWatch> {
        let pattern = self.watchable(pattern)?;
        Ok(SnapshotWatch::new(self.weak(), self.shared.clone(), pattern))
    }

    async fn at(&self, point: Point) -> Result<Past> {
        let (head, at) = self.read_snapshot(move |snapshot| point::find(snapshot, point)).await?;
        Ok(Past::new(self.weak().upgrade().ok_or(StateError::Closed)?, head, at))
    }

    async fn diff(&self, diff: Diff) -> Result<DiffPage> {
        diff.check_scope()?;
        let limits = self.limits().clone();
        self.read_snapshot(move |snapshot| diff::diff(snapshot, &limits, &diff)).await
    }

    async fn list_deleted(&self, prefix: &str) -> Result<Vec<DeletedKey>> {
        validate_prefix(prefix)?;
        let prefix = prefix.to_owned();
        self.read_snapshot(move |snapshot| as_of::list_deleted_now(snapshot, &prefix)).await
    }

    fn watch(&self, pattern: &str) -> Result<WatchStream> {
        let (pattern, shared) = (self.watchable(pattern)?, self.shared.clone());
        let head = self.engine.now()?;
        let stream = WatchStream::from_head(self.weak(), shared, pattern, head);
        self.engine.attend();
        Ok(stream)
    }

    fn watch_after(&self, pattern: &str, after: Cursor) -> Result<WatchStream> {
        let (pattern, shared) = (self.watchable(pattern)?, self.shared.clone());
        after.belongs_to(shared.store)?;
        let stream = WatchStream::after(self.weak(), shared, pattern, after);
        self.engine.attend();
        Ok(stream)
    }
}
