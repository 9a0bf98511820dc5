//! Moments, as people write them.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp as Instant};
use univrs_state::log::Timestamp;

/// A moment that depends, perhaps, on the zone and on now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Moment {
    /// `2026-09-01T12:05:02Z`
    Instant(Instant),
    /// `2026-09-01` or `2026-09-01T12:05`, in the zone that times are shown in.
    Civil(DateTime),
    /// `2h-ago`
    Ago(SignedDuration),
}

impl Moment {
    /// None if the text is no moment.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(distance) = text.strip_suffix("-ago") {
            return ago(distance).map(Self::Ago);
        }
        // A date is longer than the numbers that stand for places.
        if !text.get(..10)?.bytes().all(|c| c.is_ascii_digit() || c == b'-') {
            return None;
        }
        if let Ok(instant) = text.parse() {
            return Some(Self::Instant(instant));
        }
        let date = text.parse::<Date>().ok().filter(|_| text.len() == 10);
        let civil = date.map(|date| date.at(0, 0, 0, 0));
        // With another zone in brackets, or the like, it would not be what it looks like.
        let plain = text.bytes().all(|c| c.is_ascii_digit() || b"-:.T ".contains(&c));
        civil.or_else(|| text.parse().ok().filter(|_| plain)).map(Self::Civil)
    }

    pub(crate) fn at(&self, zone: &TimeZone) -> Timestamp {
        let instant = match self {
            Self::Instant(instant) => *instant,
            Self::Civil(civil) => zone.to_ambiguous_timestamp(*civil).compatible().unwrap_or(Instant::MAX),
            Self::Ago(distance) => Instant::now().checked_sub(*distance).unwrap_or(Instant::MIN),
        };
        Timestamp::from_micros(instant.as_microsecond())
    }
}

/// `2h`, `30d`: a distance whose days have 24 hours.
fn ago(text: &str) -> Option<SignedDuration> {
    let span: Span = text.parse().ok().filter(|_| text.starts_with(|c: char| c.is_ascii_digit()))?;
    span.to_duration(SpanRelativeTo::days_are_24_hours()).ok().filter(|distance| !distance.is_negative())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{parse_zone, rfc3339};

    fn at(text: &str, zone: &str) -> String {
        rfc3339(Moment::parse(text).unwrap().at(&parse_zone(zone).unwrap()))
    }

    #[test]
    fn a_time_without_a_zone_is_one_of_the_zone_that_is_shown() {
        assert_eq!(at("2026-09-01T12:05:02.5Z", "+02:00"), "2026-09-01T12:05:02.500000Z");
        assert_eq!(at("2026-09-01T12:05:02+01:00", "utc"), "2026-09-01T11:05:02.000000Z");
        assert_eq!(at("2026-09-01", "utc"), "2026-09-01T00:00:00.000000Z");
        assert_eq!(at("2026-09-01", "+02:00"), "2026-08-31T22:00:00.000000Z");
        assert_eq!(at("2026-09-01T12:05", "Europe/Berlin"), "2026-09-01T10:05:00.000000Z");
    }

    #[test]
    fn what_was_some_time_ago_is_measured_from_now() {
        let distance = |text| Moment::parse(text);
        assert_eq!(distance("2h-ago"), Some(Moment::Ago(SignedDuration::from_hours(2))));
        assert_eq!(distance("30d-ago"), Some(Moment::Ago(SignedDuration::from_hours(30 * 24))));
        assert_eq!(distance("1w-ago"), Some(Moment::Ago(SignedDuration::from_hours(7 * 24))));
        assert_eq!(distance("90s-ago"), Some(Moment::Ago(SignedDuration::from_secs(90))));
        assert_eq!(distance("5m-ago"), Some(Moment::Ago(SignedDuration::from_mins(5))));
        let now = Timestamp::from_micros(Instant::now().as_microsecond());
        assert!(Moment::parse("1h-ago").unwrap().at(&TimeZone::UTC) < now);
    }

    #[test]
    fn anything_else_is_no_moment() {
        for bad in [
            "",
            "-ago",
            "2-ago",
            "h-ago",
            "-2h-ago",
            "1y-ago",
            "soon-ago",
            "2026",
            "20260901",
            "2026-13-01",
            "2026-09-01T25:00",
            "2026-09-01[Europe/Berlin]",
            "2026-09-01T12:00[UTC]",
            "now",
            "2026-09-0ä",
        ] {
            assert_eq!(Moment::parse(bad), None, "{bad}");
        }
    }
}
