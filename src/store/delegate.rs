//! Implementations of the trait that pass every method on to another store.

use std::sync::Arc;

use super::state_store::StateStore;

/// Implements `StateStore` by passing on: all object-safe methods, or only
/// those that are not provided over `commit`, which is then written by the caller.
macro_rules! delegate {
    ([$($generics:tt)*] $type:ty, |$this:ident| $inner:expr, all) => {
        delegate!([$($generics)*] $type, |$this| $inner, {
            async fn commit(&self, batch: crate::state::Batch) -> crate::error::Result<crate::store::receipt::Receipt> {
                let $this = self;
                $inner.commit(batch).await
            }
            async fn set(&self, key: &str, value: Vec<u8>) -> crate::error::Result<u64> {
                let $this = self;
                $inner.set(key, value).await
            }
            async fn delete(&self, key: &str) -> crate::error::Result<()> {
                let $this = self;
                $inner.delete(key).await
            }
            async fn compare_and_set(&self, key: &str, expected_version: u64, value: Vec<u8>) -> crate::error::Result<u64> {
                let $this = self;
                $inner.compare_and_set(key, expected_version, value).await
            }
            async fn create_if_not_exists(&self, key: &str, value: Vec<u8>) -> crate::error::Result<u64> {
                let $this = self;
                $inner.create_if_not_exists(key, value).await
            }
            async fn restore(&self, restore: crate::store::history::Restore) -> crate::error::Result<crate::store::receipt::Receipt> {
                let $this = self;
                $inner.restore(restore).await
            }
            async fn transaction(&self, ops: Vec<crate::state::TransactionOp>) -> crate::error::Result<crate::store::receipt::Receipt> {
                let $this = self;
                $inner.transaction(ops).await
            }
        });
    };
    ([$($generics:tt)*] $type:ty, |$this:ident| $inner:expr, { $($writes:item)* }) => {
        #[async_trait::async_trait]
        impl<$($generics)*> crate::store::state_store::StateStore for $type {
            $($writes)*

            async fn get(&self, key: &str) -> crate::error::Result<Option<crate::state::Entry>> {
                let $this = self;
                $inner.get(key).await
            }
            async fn get_many(&self, keys: &[&str]) -> crate::error::Result<crate::store::read::Page> {
                let $this = self;
                $inner.get_many(keys).await
            }
            async fn scan(&self, scan: crate::store::read::Scan) -> crate::error::Result<crate::store::read::Page> {
                let $this = self;
                $inner.scan(scan).await
            }
            async fn list(&self, prefix: &str) -> crate::error::Result<Vec<String>> {
                let $this = self;
                $inner.list(prefix).await
            }
            async fn exists(&self, key: &str) -> crate::error::Result<bool> {
                let $this = self;
                $inner.exists(key).await
            }
            async fn version(&self, key: &str) -> crate::error::Result<u64> {
                let $this = self;
                $inner.version(key).await
            }
            async fn head(&self) -> crate::error::Result<crate::log::Head> {
                let $this = self;
                $inner.head().await
            }
            async fn changes(&self, after: crate::seq::Seq, limit: usize) -> crate::error::Result<Vec<crate::log::Commit>> {
                let $this = self;
                $inner.changes(after, limit).await
            }
            async fn history(&self, key: &str, before: Option<crate::seq::Seq>, limit: usize) -> crate::error::Result<Vec<crate::log::Change>> {
                let $this = self;
                $inner.history(key, before, limit).await
            }
            fn watch_with_snapshot(&self, pattern: &str) -> crate::error::Result<crate::store::watch::SnapshotWatch> {
                let $this = self;
                $inner.watch_with_snapshot(pattern)
            }
            async fn at(&self, point: crate::store::history::Point) -> crate::error::Result<crate::store::history::Past> {
                let $this = self;
                $inner.at(point).await
            }
            async fn diff(&self, diff: crate::store::history::Diff) -> crate::error::Result<crate::store::history::DiffPage> {
                let $this = self;
                $inner.diff(diff).await
            }
            async fn list_deleted(&self, prefix: &str) -> crate::error::Result<Vec<crate::store::read::DeletedKey>> {
                let $this = self;
                $inner.list_deleted(prefix).await
            }
            fn watch(&self, pattern: &str) -> crate::error::Result<crate::store::watch::WatchStream> {
                let $this = self;
                $inner.watch(pattern)
            }
            fn watch_after(&self, pattern: &str, after: crate::log::Cursor) -> crate::error::Result<crate::store::watch::WatchStream> {
                let $this = self;
                $inner.watch_after(pattern, after)
            }
        }
    };
}
pub(super) use delegate;

delegate!([S: StateStore + ?Sized] Arc<S>, |this| (**this), all);
delegate!([S: StateStore + ?Sized] Box<S>, |this| (**this), all);
delegate!([S: StateStore + ?Sized] &S, |this| (**this), all);
