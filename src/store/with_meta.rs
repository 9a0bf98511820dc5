//! A handle that says who writes and why.

use super::delegate::delegate;
use super::local_store::LocalStore;
use super::local_store::sealed::{Handle, Opened};
use super::receipt::Receipt;
use super::state_store::StateStore;
use crate::error::Result;
use crate::log::Meta;
use crate::state::Batch;

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

impl<S: Opened> Opened for WithMeta<S> {
    fn opened(&self) -> Handle<'_> {
        self.store.opened()
    }
}

impl<S: LocalStore> LocalStore for WithMeta<S> {}

// The verbs stay those of the trait, over this commit: none escapes the stamp.
delegate!([S: StateStore] WithMeta<S>, |this| this.store, {
    async fn commit(&self, batch: Batch) -> Result<Receipt> {
        self.store.commit(batch.stamped(&self.meta)).await
    }
});
