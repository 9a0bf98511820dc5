//! Moments, as people write them.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp as Instant};
use univrs_state::log::Timestamp;

use crate::wall::Wall;

/// A moment that depends, perhaps, on the zone and on now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Moment {
    /// `2026-09-01T12:05:02Z`, or `@1788264302000000` in microseconds since 1970.
    Instant(Timestamp),
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
        if let Some(micros) = text.strip_prefix('@') {
            return micros.parse().ok().map(|micros| Self::Instant(Timestamp::from_micros(micros)));
        }
        // A date is longer than the numbers that stand for places.
        if !text.get(..10)?.bytes().all(|c| c.is_ascii_digit() || c == b'-') {
            return None;
        }
        if let Ok(instant) = text.parse::<Instant>() {
            return Some(Self::Instant(Timestamp::from_micros(instant.as_microsecond())));
        }
        // One of the last 26 hours that are shown as dates.
        if let Some(wall) = Wall::parse(text) {
            return Some(Self::Instant(wall.moment()));
        }
        let date = text.parse::<Date>().ok().filter(|_| text.len() == 10);
        let civil = date.map(|date| date.at(0, 0, 0, 0));
        // With another zone in brackets, or the like, it would not be what it looks like.
        let plain = text.bytes().all(|c| c.is_ascii_digit() || b"-:.T ".contains(&c));
        civil.or_else(|| text.parse().ok().filter(|_| plain)).map(Self::Civil)
    }

    pub(crate) fn at(&self, zone: &TimeZone) -> Timestamp {
        match self {
            Self::Instant(at) => *at,
            Self::Civil(civil) => Wall::in_zone(*civil, zone),
            Self::Ago(distance) => {
                let now = SignedDuration::from_micros(Instant::now().as_microsecond());
                let at = now.saturating_sub(*distance).as_micros();
                Timestamp::from_micros(i64::try_from(at).unwrap_or(i64::MIN))
            }
        }
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
    use crate::time::{Times, parse_zone, rfc3339};

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
    fn every_time_that_is_shown_is_a_moment_again() {
        let last = Timestamp::MAX_CLOCK.as_micros();
        for micros in [i64::MIN, -1, 0, last - 100_000_000_000, last, last + 1, i64::MAX] {
            let shown = rfc3339(Timestamp::from_micros(micros));
            assert_eq!(at(&shown, "+02:00"), shown);
        }
        let times = Times { zone: parse_zone("-02:00").unwrap(), relative: false };
        let after = times.date(Timestamp::from_micros(last + 1));
        assert_eq!(
            (after.as_str(), &*at(&after, "utc")),
            ("9999-12-31T22:00:00-02:00", "@253402300800000000")
        );
        assert_eq!(at("9999-12-31", "utc"), "9999-12-31T00:00:00.000000Z");
        assert_eq!(at("9999-12-31T12:00", "+02:00"), "9999-12-31T10:00:00.000000Z");
        assert_eq!(at("9999-12-31T23:59:59Z", "+02:00"), "9999-12-31T23:59:59.000000Z");
        assert_eq!(at("@-5", "utc"), "1969-12-31T23:59:59.999995Z");
        assert_eq!(at("7304484d-ago", "utc").chars().next(), Some('@'), "earlier than the year 0");
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
            "@",
            "@5s",
            "@9223372036854775808",
            "9999-12-32T23:59:59Z",
        ] {
            assert_eq!(Moment::parse(bad), None, "{bad}");
        }
    }
}
