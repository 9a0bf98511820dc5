//! Times as a clock on a wall shows them: a date and a time of day, and how far that is from UTC.

use jiff::civil::{DateTime, date};
use jiff::fmt::strtime::BrokenDownTime;
use jiff::fmt::temporal::Pieces;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp as Instant};
use univrs_state::log::Timestamp;

/// What a clock in Greenwich showed at the Unix epoch.
const EPOCH: DateTime = date(1970, 1, 1).at(0, 0, 0, 0);

/// A date and a time of day in the years 0 to 9999. It reaches further than an instant of `jiff`, which ends 26 hours
/// before the last of these years does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wall {
    civil: DateTime,
    offset: Offset,
}

impl Wall {
    /// What a clock in this zone shows; none outside of these years.
    pub(crate) fn at(at: Timestamp, zone: &TimeZone) -> Option<Self> {
        let offset = zone.to_offset(nearest(at));
        let since = SignedDuration::from_micros(at.as_micros()).checked_add(distance(offset))?;
        let civil = EPOCH.checked_add(since).ok()?;
        (civil.year() >= 0).then_some(Self { civil, offset })
    }

    /// A date and a time of day with its distance from UTC, as [`text`](Self::text) shows them.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let pieces = Pieces::parse(text).ok()?;
        Some(Self { civil: pieces.date().to_datetime(pieces.time()?), offset: pieces.to_numeric_offset()? })
    }

    /// When a clock in this zone shows this. Where it is put forward or back, as most would say.
    pub(crate) fn in_zone(civil: DateTime, zone: &TimeZone) -> Timestamp {
        if let Ok(instant) = zone.to_ambiguous_timestamp(civil).compatible() {
            return Timestamp::from_micros(instant.as_microsecond());
        }
        let bound = if civil < EPOCH { Instant::MIN } else { Instant::MAX };
        Self { civil, offset: zone.to_offset(bound) }.moment()
    }

    pub(crate) fn moment(self) -> Timestamp {
        let since = self.civil.duration_since(EPOCH).saturating_sub(distance(self.offset));
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// In a form of `strftime`.
    pub(crate) fn text(self, format: &str) -> String {
        let mut time = BrokenDownTime::from(self.civil);
        time.set_offset(Some(self.offset));
        // Only a form that asks for what it does not have could fail.
        time.to_string(format).unwrap_or_default()
    }
}

/// The instant that is nearest.
fn nearest(at: Timestamp) -> Instant {
    let bound = if at < Timestamp::EPOCH { Instant::MIN } else { Instant::MAX };
    Instant::from_microsecond(at.as_micros()).unwrap_or(bound)
}

fn distance(offset: Offset) -> SignedDuration {
    SignedDuration::from_secs(offset.seconds().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::parse_zone;

    #[test]
    fn a_moment_is_what_the_clock_shows_and_back_to_the_end_of_the_last_year() {
        let last = Timestamp::MAX_CLOCK.as_micros();
        let hour = 3_600_000_000;
        for (zone, micros, shown) in [
            ("utc", last, "9999-12-31T23:59:59.999999+00:00"),
            ("utc", last - 26 * hour, "9999-12-30T21:59:59.999999+00:00"),
            ("-02:00", last, "9999-12-31T21:59:59.999999-02:00"),
            ("+02:00", last - 2 * hour, "9999-12-31T23:59:59.999999+02:00"),
            ("Europe/Berlin", last - hour, "9999-12-31T23:59:59.999999+01:00"),
            ("-02:00", last + 2 * hour, "9999-12-31T23:59:59.999999-02:00"),
            ("Europe/Berlin", 1_788_264_302_093_456, "2026-09-01T14:05:02.093456+02:00"),
            ("utc", -1, "1969-12-31T23:59:59.999999+00:00"),
            ("utc", -62_167_219_200_000_000, "0000-01-01T00:00:00.000000+00:00"),
        ] {
            let zone = parse_zone(zone).unwrap();
            let (at, wall) = (Timestamp::from_micros(micros), Wall::parse(shown).unwrap());
            assert_eq!(Wall::at(at, &zone), Some(wall), "{shown}");
            assert_eq!(wall.text("%Y-%m-%dT%H:%M:%S%.6f%:z"), shown);
            assert_eq!((wall.moment(), Wall::in_zone(wall.civil, &zone)), (at, at), "{shown}");
        }
    }

    #[test]
    fn no_clock_shows_a_year_of_more_digits() {
        let last = Timestamp::MAX_CLOCK.as_micros();
        for (zone, micros) in [
            ("utc", last + 1),
            ("+02:00", last),
            ("utc", i64::MAX),
            ("utc", -62_167_219_200_000_001),
            ("-02:00", -62_167_219_200_000_000),
            ("utc", i64::MIN),
        ] {
            let zone = parse_zone(zone).unwrap();
            assert_eq!(Wall::at(Timestamp::from_micros(micros), &zone), None, "{micros}");
        }
    }
}
