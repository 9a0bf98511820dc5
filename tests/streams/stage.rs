//! What readers of streams know of the store that they watch.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use univrs_state::StateStore;

use crate::support::PATIENCE;

/// Whoever waits for so long when everything is written waits in vain. That is said before the history as a whole is
/// given up, because it says more.
pub(super) const IN_VAIN: Duration = Duration::from_secs(100);

/// The store that is open now, whether everything is written, and how many streams have begun.
#[derive(Clone)]
pub(crate) struct Stage {
    store: watch::Sender<Arc<dyn StateStore>>,
    pub(super) written: watch::Sender<bool>,
    pub(super) begun: Arc<Semaphore>,
}

impl Stage {
    pub(crate) fn new(store: Arc<dyn StateStore>) -> Self {
        let (store, written) = (watch::Sender::new(store), watch::Sender::new(false));
        Self { store, written, begun: Arc::new(Semaphore::new(0)) }
    }

    pub(crate) fn current(&self) -> Arc<dyn StateStore> {
        self.store.borrow().clone()
    }

    /// Waits until another store than this one is open.
    pub(crate) async fn next(&self, store: &Arc<dyn StateStore>) {
        let mut stores = self.store.subscribe();
        let next = stores.wait_for(|other| !Arc::ptr_eq(store, other));
        drop(tokio::time::timeout(PATIENCE, next).await.expect("a store that was closed is opened again"));
    }

    /// Goes on with another store; the one before is closed.
    pub(crate) fn reopened(&self, store: Arc<dyn StateStore>) {
        self.store.send_replace(store);
    }

    /// Waits until so many streams have begun.
    pub(crate) async fn begun(&self, streams: usize) {
        let begun = self.begun.acquire_many(u32::try_from(streams).unwrap()).await;
        begun.unwrap().forget();
    }

    /// Everything is written but for the end, for which a stream that has not begun waits in vain.
    pub(crate) fn written(&self) {
        self.written.send_replace(true);
    }
}
