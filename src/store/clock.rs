//! Clocks: the source of commit times.

use std::time::SystemTime;

use crate::log::Timestamp;

/// A source of commit times. A commit gets the time of the clock, or a microsecond after the last commit if
/// the clock is not later. So commit times increase even if the clock is set back.
///
/// The store asks for the time of every batch before it decides, also of one that it then refuses.
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
