//! Clocks: the source of commit times.

use std::any::Any;
use std::sync::{Arc, LazyLock};
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

static SYSTEM: LazyLock<Arc<dyn Clock>> = LazyLock::new(|| Arc::new(SystemClock));

/// The clock of the operating system, the same pointer each time.
pub(super) fn system_clock() -> Arc<dyn Clock> {
    SYSTEM.clone()
}

/// A pointer to a clock.
pub(super) fn pointed_to(clock: impl Clock + 'static) -> Arc<dyn Clock> {
    if (&clock as &dyn Any).is::<SystemClock>() { system_clock() } else { Arc::new(clock) }
}
