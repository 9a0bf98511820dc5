//! The threads of a store.

use std::thread::{Builder, JoinHandle};

use tokio::sync::oneshot;

use crate::error::Result;
use crate::store::foreign::{broken, no_thread};

/// Starts a thread.
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    Builder::new().name(name.into()).spawn(run).map_err(no_thread)
}

/// Runs what takes long, so that no runtime is blocked.
pub(crate) async fn on_a_thread<T: Send + 'static>(
    run: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (reply, answer) = oneshot::channel();
    spawn("univrs-state import", move || drop(reply.send(run())))?;
    answer.await.unwrap_or_else(|_| Err(broken()))
}
