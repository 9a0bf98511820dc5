//! Times for people and for machines.

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp as Instant};
use std::time::Duration;
use univrs_state::log::{Timestamp, Until};

use crate::wall::Wall;

/// How times are shown.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    pub(crate) zone: TimeZone,
    pub(crate) relative: bool,
}

impl Times {
    /// Date and time, to the second.
    pub(crate) fn date(&self, at: Timestamp) -> String {
        if self.relative { column(at) } else { self.show(at, "%Y-%m-%dT%H:%M:%S", true) }
    }

    /// Date and time, as exact as it was recorded.
    pub(crate) fn exact(&self, at: Timestamp) -> String {
        format!("{} ({})", self.show(at, "%Y-%m-%dT%H:%M:%S%.6f", true), ago(at))
    }

    /// When an entry ends by itself.
    pub(crate) fn until(&self, until: Until) -> String {
        until.deadline().map_or_else(|| format!("{until} ends"), |deadline| self.exact(deadline))
    }

    /// The hour that it is part of.
    pub(crate) fn hour(&self, at: Timestamp) -> String {
        self.show(at, "%Y-%m-%dT%H:00", true)
    }

    /// The time of day, to the millisecond: for what happens now.
    pub(crate) fn clock(&self, at: Timestamp) -> String {
        if self.relative { column(at) } else { self.show(at, "%H:%M:%S%.3f", false) }
    }

    /// In a form of `strftime`, and with the distance from UTC. A time that a clock in the zone cannot show is shown as
    /// it is for machines.
    fn show(&self, at: Timestamp, format: &str, with_offset: bool) -> String {
        let Some(wall) = Wall::at(at, &self.zone) else { return rfc3339(at) };
        let offset = match with_offset {
            false => String::new(),
            true if self.zone == TimeZone::UTC => "Z".to_owned(),
            true => wall.text("%:z"),
        };
        wall.text(format) + &offset
    }
}

/// For machines: always UTC, always six digits. Outside of the years 0 to 9999, `@` and microseconds since 1970.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    at.to_string()
}

/// A distance as wide as they get, so that what follows stands in line.
fn column(at: Timestamp) -> String {
    format!("{:>10}", ago(at))
}

/// `12 s ago`.
pub(crate) fn ago(at: Timestamp) -> String {
    distance(i128::from(Instant::now().as_microsecond()) - i128::from(at.as_micros()))
}

/// A distance in microseconds.
fn distance(since: i128) -> String {
    let seconds = since.unsigned_abs() / 1_000_000;
    let (number, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..3_600 => (seconds / 60, "min"),
        3_600..86_400 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    if since < 0 && seconds > 0 {
        format!("in {number} {unit}")
    } else if seconds == 0 {
        "just now".into()
    } else {
        format!("{number} {unit} ago")
    }
}

/// A time zone by its name, `local`, or as `+02:00`.
pub(crate) fn parse_zone(text: &str) -> Result<TimeZone, String> {
    if text.eq_ignore_ascii_case("local") {
        return Ok(TimeZone::system());
    }
    if text.eq_ignore_ascii_case("utc") {
        return Ok(TimeZone::UTC);
    }
    if let Some(offset) = parse_offset(text) {
        return Ok(TimeZone::fixed(offset));
    }
    TimeZone::get(text).map_err(|_| {
        "no such time zone; use a name like Europe/Berlin, an offset like +02:00, or local".into()
    })
}

fn parse_offset(text: &str) -> Option<Offset> {
    let sign = match text.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':').unwrap_or((text.get(1..)?, "0"));
    let (hours, minutes) = (hours.parse::<i32>().ok()?, minutes.parse::<i32>().ok()?);
    let fits = (0..24).contains(&hours) && (0..60).contains(&minutes);
    fits.then(|| Offset::from_seconds(sign * (hours * 3_600 + minutes * 60)).ok()).flatten()
}

/// A duration in its largest whole unit: `7 d`, `90 s`.
pub(crate) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "min")];
    let whole = units.into_iter().find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit));
    let (unit, name) = whole.unwrap_or((1, "s"));
    format!("{} {name}", seconds / unit)
}

/// An age like `90d`, `2w`, `1y` of 365 days, or whatever else is a duration.
pub(crate) fn parse_age(text: &str) -> Result<Duration, String> {
    let days = [("d", 1), ("w", 7), ("y", 365)];
    let of_days =
        days.iter().find_map(|(unit, days)| Some((text.strip_suffix(unit)?.parse::<u32>().ok()?, days)));
    if let Some((number, days)) = of_days {
        return Ok(Duration::from_secs(u64::from(number) * days * 86_400));
    }
    parse_duration(text).map_err(|_| "an age looks like 90d, 12h or 1y".to_owned())
}

/// A duration like `5s`, `500ms`, `2m`, or a number of seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    let wrong = || "a duration looks like 5s, 500ms or 2m".to_owned();
    let duration: SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(duration).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_the_zone_that_was_asked_for() {
        let at = Timestamp::from_micros(1_788_264_302_093_456);
        let shown = |zone| {
            let times = Times { zone: parse_zone(zone).unwrap(), relative: false };
            (times.date(at), times.clock(at))
        };
        assert_eq!(shown("utc"), ("2026-09-01T12:05:02Z".into(), "12:05:02.093".into()));
        assert_eq!(shown("+02:00"), ("2026-09-01T14:05:02+02:00".into(), "14:05:02.093".into()));
        assert_eq!(shown("Europe/Berlin"), shown("+2"));
        assert_eq!(rfc3339(at), "2026-09-01T12:05:02.093456Z");
        assert!(parse_zone("Nowhere/Land").is_err() && parse_zone("+99").is_err());
    }

    #[test]
    fn a_time_that_no_clock_shows_is_shown_as_it_is_recorded() {
        let times = |zone| Times { zone: parse_zone(zone).unwrap(), relative: false };
        let last = Timestamp::MAX_CLOCK;
        let first_after = Timestamp::from_micros(last.as_micros() + 1);
        assert_eq!(times("utc").date(last), "9999-12-31T23:59:59Z");
        assert_eq!(times("+01:00").date(last), "9999-12-31T23:59:59.999999Z", "there it is the year 10000");
        for (at, shown) in [
            (first_after, "@253402300800000000"),
            (Timestamp::from_micros(i64::MAX), "@9223372036854775807"),
            (Timestamp::from_micros(i64::MIN), "@-9223372036854775808"),
        ] {
            let utc = times("utc");
            assert_eq!([utc.date(at), utc.clock(at), utc.hour(at), rfc3339(at)], [shown; 4]);
            assert!(utc.exact(at).starts_with(&format!("{shown} (")), "{}", utc.exact(at));
        }
        assert_eq!(
            ago(Timestamp::from_micros(i64::MAX))[..8],
            *"in 10673",
            "and not the end of what jiff shows"
        );
    }

    #[test]
    fn distances_and_durations() {
        let d = |seconds: i128| distance(seconds * 1_000_000);
        assert_eq!(
            [d(0), d(12), d(61), d(7_200), d(200_000)],
            ["just now", "12 s ago", "1 min ago", "2 h ago", "2 d ago"]
        );
        assert_eq!([d(-90), d(-1), distance(-999_999)], ["in 1 min", "in 1 s", "just now"]);
        let s = |seconds| span(Duration::from_secs(seconds));
        assert_eq!([s(604_800), s(7_200), s(60), s(90), s(0)], ["7 d", "2 h", "1 min", "90 s", "0 s"]);
        assert_eq!(parse_duration("5"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(parse_duration("-5s").is_err() && parse_duration("soon").is_err());
    }
}
