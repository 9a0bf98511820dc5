//! Moments, in microseconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Microseconds since the Unix epoch. Commit times of one store strictly increase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);
    /// The last microsecond of the year 9999. A clock that shows a later moment counts as showing this one.
    pub const MAX_CLOCK: Self = Self(253_402_300_799_999_999);

    /// The latest moment that the file format can hold.
    pub(crate) const MAX: Self = Self(i64::MAX);

    /// The moment `micros` microseconds after the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The time of the commit after `previous` when the clock shows `self`: the clock, or a microsecond after
    /// `previous` if the clock is not later. So commit times increase even if the clock is set back.
    pub(crate) fn after(self, previous: Self) -> Self {
        let clock = self.clamp(Self::EPOCH, Self::MAX_CLOCK);
        clock.max(Self(previous.0.saturating_add(1)))
    }
}

impl From<SystemTime> for Timestamp {
    /// Rounds down to microseconds. A moment out of range becomes the nearest one in range.
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(i64::try_from(after.as_micros()).unwrap_or(i64::MAX)),
            Err(before) => Self(
                i64::try_from(before.duration().as_nanos().div_ceil(1000)).map_or(i64::MIN, |micros| -micros),
            ),
        }
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        let distance = Duration::from_micros(time.0.unsigned_abs());
        let there =
            if time.0 < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
        there.unwrap_or(UNIX_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commit_times_increase_whatever_the_clock_does() {
        let t = Timestamp::from_micros;
        assert_eq!(t(100).after(t(50)), t(100));
        assert_eq!(t(50).after(t(100)), t(101), "the clock went back");
        assert_eq!(t(100).after(t(100)), t(101), "the clock stood still");
        assert_eq!(t(-5).after(t(0)), t(1), "before the epoch");
        assert_eq!(t(i64::MAX).after(t(0)), Timestamp::MAX_CLOCK);
    }

    #[test]
    fn microseconds_survive_the_way_through_system_time() {
        for micros in [0, 1, -1, 1_700_000_000_123_456, -86_400_000_001] {
            let time = Timestamp::from_micros(micros);
            assert_eq!(Timestamp::from(SystemTime::from(time)), time);
        }
    }
}
