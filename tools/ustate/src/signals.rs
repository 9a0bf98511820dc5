//! The signals that end a watch.

use crate::stop::{Done, Failure, Stop};

/// SIGINT and SIGTERM.
pub(crate) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    pub(crate) fn new() -> Done<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen =
            |kind| signal(kind).map_err(|error| Stop::from(Failure::io("cannot listen to signals", &error)));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// The number of the next one.
    #[cfg(unix)]
    pub(crate) async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
        }
    }

    #[cfg(not(unix))]
    #[allow(clippy::unnecessary_wraps)]
    pub(crate) fn new() -> Done<Self> {
        Ok(Self {})
    }

    /// The number of the next one.
    #[cfg(not(unix))]
    pub(crate) async fn next(&mut self) -> u8 {
        drop(tokio::signal::ctrl_c().await);
        2
    }
}
