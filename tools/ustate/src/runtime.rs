//! The runtime that commands run on.

use std::io;

use tokio::runtime::{Builder, Runtime};

use crate::stop::Failure;

/// Pairs of sockets that must fit beside what is open. The runtime takes six descriptors.
#[cfg(unix)]
const PAIRS: usize = 4;

/// Starts the runtime.
pub(crate) fn start() -> Result<Runtime, Failure> {
    let started = has_room().and_then(|()| Builder::new_current_thread().enable_all().build());
    started.map_err(|error| {
        Failure::io("cannot start", &error).hint("raise the limit of open files: ulimit -n 1024")
    })
}

/// An error if the runtime would not get its descriptors.
///
/// IMPORTANT: tried before, because `tokio` panics where it has no descriptor left for its signals.
#[cfg(unix)]
fn has_room() -> io::Result<()> {
    let pairs = (0..PAIRS).map(|_| std::os::unix::net::UnixStream::pair());
    pairs.collect::<io::Result<Vec<_>>>().map(drop)
}

#[cfg(not(unix))]
#[allow(clippy::unnecessary_wraps)]
fn has_room() -> io::Result<()> {
    Ok(())
}
