//! The signals that end a command which waits.

use crate::stop::{Done, Failure, Stop};

/// SIGHUP, SIGINT and SIGTERM, but for those that are ignored, as `nohup` has it.
pub(crate) struct Signals {
    #[cfg(unix)]
    hangup: Option<tokio::signal::unix::Signal>,
    #[cfg(unix)]
    interrupt: Option<tokio::signal::unix::Signal>,
    #[cfg(unix)]
    terminate: Option<tokio::signal::unix::Signal>,
}

impl Signals {
    #[cfg(unix)]
    pub(crate) fn new() -> Done<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let ignored = ignored();
        let listen = |kind: SignalKind| {
            if ignored >> (kind.as_raw_value() - 1) & 1 == 1 {
                return Ok(None);
            }
            let listening = signal(kind).map(Some);
            listening.map_err(|error| Stop::from(Failure::io("cannot listen to signals", &error)))
        };
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// The number of the next one.
    #[cfg(unix)]
    pub(crate) async fn next(&mut self) -> u8 {
        use tokio::signal::unix::Signal;
        async fn one(signal: &mut Option<Signal>) {
            let Some(signal) = signal else { return std::future::pending().await };
            if signal.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
        }
        tokio::select! {
            () = one(&mut self.hangup) => 1,
            () = one(&mut self.interrupt) => 2,
            () = one(&mut self.terminate) => 15,
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

/// The signals that whoever started this process had it ignore, a bit each; none where that cannot be told.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
