//! Implementations that pass every method on.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    DeletedKey, Diff, DiffPage, Page, Past, Point, Receipt, Restore, Scan, SnapshotWatch, StateStore,
    WatchStream,
};
use crate::error::Result;
use crate::log::{Change, Commit, Cursor, Head};
use crate::seq::Seq;
use crate::state::{Batch, Entry, TransactionOp};

/// Implements [`StateStore`] by passing on: all object-safe methods, or with `from commit` only
/// those that are not provided over `commit`, which is then written by the caller.
macro_rules! forward {
    ([$($generics:tt)*] $type:ty, |$this:ident| $inner:expr, all) => {
        forward!([$($generics)*] $type, |$this| $inner, {
            async fn commit(&self, batch: Batch) -> Result<Receipt> {
                let $this = self;
                $inner.commit(batch).await
            }
            async fn set(&self, key: &str, value: Vec<u8>) -> Result<u64> {
                let $this = self;
                $inner.set(key, value).await
            }
            async fn delete(&self, key: &str) -> Result<()> {
                let $this = self;
                $inner.delete(key).await
            }
            async fn compare_and_set(&self, key: &str, expected_version: u64, value: Vec<u8>) -> Result<u64> {
                let $this = self;
                $inner.compare_and_set(key, expected_version, value).await
            }
            async fn create_if_not_exists(&self, key: &str, value: Vec<u8>) -> Result<u64> {
                let $this = self;
                $inner.create_if_not_exists(key, value).await
            }
            async fn restore(&self, restore: Restore) -> Result<Receipt> {
                let $this = self;
                $inner.restore(restore).await
            }
            async fn transaction(&self, ops: Vec<TransactionOp>) -> Result<Receipt> {
                let $this = self;
                $inner.transaction(ops).await
            }
        });
    };
    ([$($generics:tt)*] $type:ty, |$this:ident| $inner:expr, { $($writes:item)* }) => {
        #[async_trait]
        impl<$($generics)*> StateStore for $type {
            $($writes)*

            async fn get(&self, key: &str) -> Result<Option<Entry>> {
                let $this = self;
                $inner.get(key).await
            }
            async fn get_many(&self, keys: &[&str]) -> Result<Page> {
                let $this = self;
                $inner.get_many(keys).await
            }
            async fn scan(&self, scan: Scan) -> Result<Page> {
                let $this = self;
                $inner.scan(scan).await
            }
            async fn list(&self, prefix: &str) -> Result<Vec<String>> {
                let $this = self;
                $inner.list(prefix).await
            }
            async fn exists(&self, key: &str) -> Result<bool> {
                let $this = self;
                $inner.exists(key).await
            }
            async fn version(&self, key: &str) -> Result<u64> {
                let $this = self;
                $inner.version(key).await
            }
            async fn head(&self) -> Result<Head> {
                let $this = self;
                $inner.head().await
            }
            async fn changes(&self, after: Seq, limit: usize) -> Result<Vec<Commit>> {
                let $this = self;
                $inner.changes(after, limit).await
            }
            async fn history(&self, key: &str, before: Option<Seq>, limit: usize) -> Result<Vec<Change>> {
                let $this = self;
                $inner.history(key, before, limit).await
            }
            fn watch_with_snapshot(&self, pattern: &str) -> Result<SnapshotWatch> {
                let $this = self;
                $inner.watch_with_snapshot(pattern)
            }
            async fn at(&self, point: Point) -> Result<Past> {
                let $this = self;
                $inner.at(point).await
            }
            async fn diff(&self, diff: Diff) -> Result<DiffPage> {
                let $this = self;
                $inner.diff(diff).await
            }
            async fn list_deleted(&self, prefix: &str) -> Result<Vec<DeletedKey>> {
                let $this = self;
                $inner.list_deleted(prefix).await
            }
            fn watch(&self, pattern: &str) -> Result<WatchStream> {
                let $this = self;
                $inner.watch(pattern)
            }
            fn watch_after(&self, pattern: &str, after: Cursor) -> Result<WatchStream> {
                let $this = self;
                $inner.watch_after(pattern, after)
            }
        }
    };
}
pub(super) use forward;

forward!([S: StateStore + ?Sized] Arc<S>, |this| (**this), all);
forward!([S: StateStore + ?Sized] Box<S>, |this| (**this), all);
forward!([S: StateStore + ?Sized] &S, |this| (**this), all);
