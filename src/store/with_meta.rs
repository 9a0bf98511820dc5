//! A handle that adds metadata to every batch.

use super::delegate::delegate;
use super::local_store::LocalStore;
use super::local_store::sealed::{Handle, Opened};
use super::receipt::Receipt;
use super::state_store::StateStore;
use crate::error::Result;
use crate::log::Meta;
use crate::state::Batch;

/// A handle on a store that adds metadata to every batch. Fields and labels that the batch sets itself are kept.
/// Made by [`StateStore::with_meta`].
#[derive(Debug, Clone)]
pub struct WithMeta<S> {
    store: S,
    meta: Meta,
}

impl<S> WithMeta<S> {
    /// A handle on the store that adds this metadata to every batch.
    pub fn new(store: S, meta: Meta) -> Self {
        Self { store, meta }
    }
}

impl<S: Opened> Opened for WithMeta<S> {
    fn opened(&self) -> Handle<'_> {
        self.store.opened()
    }

    fn stamped(&self, batch: Batch) -> Batch {
        self.store.stamped(batch.stamped(&self.meta))
    }
}

impl<S: LocalStore> LocalStore for WithMeta<S> {}

// IMPORTANT: the verbs are those that the trait provides over this `commit`, so that none omits the metadata.
delegate!([S: StateStore] WithMeta<S>, |this| this.store, {
    async fn commit(&self, batch: Batch) -> Result<Receipt> {
        self.store.commit(batch.stamped(&self.meta)).await
    }
});
