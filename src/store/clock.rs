//! Clocks: the source of commit times.

use std::any::Any;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use crate::log::Timestamp;

/// A source of commit times. A commit gets the time of the clock, or a microsecond after the last commit if
/// the clock is not later. So commit times increase even if the clock is set back.
///
/// The store asks for the time of every batch before it decides, also of one that it then refuses.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;

    /// How long the machine has been up, with the time in which it was suspended: a clock that nobody sets, by which
    /// the store sees that [`now`](Self::now) leapt.
    ///
    /// Where it is `Some`, a commit is refused with [`StateError::ClockLeapt`](crate::StateError::ClockLeapt) if the
    /// clock has leapt ahead by more than a day since the store was opened, because its time would pin the times of
    /// all later commits. A leap of a clock that showed a time before 2020, or before the newest commit, is taken for
    /// its correction, and a leap back is told by [`Stats::warnings`](crate::stats::Stats::warnings) alone. So
    /// a machine that starts with a stale time later than 2020 should open its stores after its clock was set, or open
    /// them again then. With `None`, the default, the clock may show what it likes.
    fn uptime(&self) -> Option<Duration> {
        None
    }
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }

    /// `Some` on Linux, with the feature `sqlite`.
    fn uptime(&self) -> Option<Duration> {
        #[cfg(feature = "sqlite")]
        return crate::backend::sqlite::uptime();
        #[cfg(not(feature = "sqlite"))]
        None
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
