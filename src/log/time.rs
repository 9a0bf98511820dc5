//! Moments, in microseconds.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The first microsecond of the year 0.
const YEAR_0: i64 = -62_167_219_200_000_000;

/// Microseconds since the Unix epoch. Commit times of one store strictly increase, except where the clock was accepted:
/// see [`Follow`](super::Follow).
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
        self.within_years().max(Self(previous.0.saturating_add(1)))
    }

    /// The moment that a clock counts as showing: not before 1970, and not after the year 9999.
    pub(crate) fn within_years(self) -> Self {
        self.clamp(Self::EPOCH, Self::MAX_CLOCK)
    }

    /// The moment so much later.
    pub(crate) fn plus(self, time: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(time.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The moment so much earlier.
    pub(crate) fn minus(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(time.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How much later this moment is than an earlier one; zero if it is not later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// In UTC, as `2026-09-01T12:05:02.000250Z`. A moment outside of the years 0 to 9999, which have no such form, is shown
/// as [microseconds](Timestamp::as_micros) behind an `@`: `@253402300800000000` is the first one after them.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !(YEAR_0..=Self::MAX_CLOCK.0).contains(&self.0) {
            return write!(f, "@{}", self.0);
        }
        let (seconds, micros) = (self.0.div_euclid(1_000_000), self.0.rem_euclid(1_000_000));
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Days since 1 March of the year 0, in eras of 400 years, which have the same days each.
        let days = days + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        let year = era * 400 + year + next;
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
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
    fn a_moment_is_shown_in_utc() {
        for (micros, shown) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (951_782_399_000_000, "2000-02-28T23:59:59.000000Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_709_251_200_000_250, "2024-03-01T00:00:00.000250Z"),
            (4_070_908_800_000_000, "2099-01-01T00:00:00.000000Z"),
            (-2_203_891_200_000_000, "1900-03-01T00:00:00.000000Z"),
            (YEAR_0, "0000-01-01T00:00:00.000000Z"),
            (Timestamp::MAX_CLOCK.0, "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(Timestamp(micros).to_string(), shown);
        }
        for micros in [i64::MIN, YEAR_0 - 1, Timestamp::MAX_CLOCK.0 + 1, i64::MAX] {
            assert_eq!(Timestamp(micros).to_string(), format!("@{micros}"), "a year of more digits");
        }
    }

    #[test]
    fn microseconds_survive_the_way_through_system_time() {
        for micros in [0, 1, -1, 1_700_000_000_123_456, -86_400_000_001] {
            let time = Timestamp::from_micros(micros);
            assert_eq!(Timestamp::from(SystemTime::from(time)), time);
        }
    }
}
