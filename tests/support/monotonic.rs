//! One clock for all processes of this machine, which never goes back.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since some moment that is the same for all processes.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(time.tv_sec).unwrap(), u64::try_from(time.tv_nsec).unwrap());
    seconds * 1_000_000_000 + nanos
}
