//! Where times come from.

use std::time::SystemTime;

use crate::log::Timestamp;

/// A source of commit times. A store takes the later of the clock and the moment just after its
/// last commit, so that times strictly increase whatever the clock does.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }
}
