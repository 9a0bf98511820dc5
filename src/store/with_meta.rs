//! A handle that says who writes and why.

use async_trait::async_trait;

use super::forward::forward;
use super::{
    DeletedKey, Diff, DiffPage, Page, Past, Point, Receipt, Scan, SnapshotWatch, StateStore, WatchStream,
};
use crate::error::Result;
use crate::log::{Change, Commit, Cursor, Head, Meta};
use crate::seq::Seq;
use crate::state::{Batch, Entry};

/// A store whose every batch carries metadata; what a batch says itself goes first. Made by
/// [`StateStore::with_meta`].
#[derive(Debug, Clone)]
pub struct WithMeta<S> {
    store: S,
    meta: Meta,
}

impl<S> WithMeta<S> {
    /// A handle on the store that says this in every batch.
    pub fn new(store: S, meta: Meta) -> Self {
        Self { store, meta }
    }
}

// The verbs stay those of the trait, over this commit: none escapes the stamp.
forward!([S: StateStore] WithMeta<S>, |this| this.store, {
    async fn commit(&self, batch: Batch) -> Result<Receipt> {
        self.store.commit(batch.stamped(&self.meta)).await
    }
});
