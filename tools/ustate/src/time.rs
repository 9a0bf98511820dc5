//! Times for people and for machines.

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp as Instant, Zoned};
use std::time::Duration;
use univrs_state::log::Timestamp;

/// How times are shown.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    pub(crate) zone: TimeZone,
    pub(crate) relative: bool,
}

impl Times {
    /// Date and time, to the second.
    pub(crate) fn date(&self, at: Timestamp) -> String {
        self.show(at, "%Y-%m-%dT%H:%M:%S")
    }

    /// Date and time, as exact as it was recorded.
    pub(crate) fn exact(&self, at: Timestamp) -> String {
        let shown = self.zoned(at).strftime("%Y-%m-%dT%H:%M:%S%.6f").to_string();
        format!("{shown}{} ({})", self.offset(at), ago(at))
    }

    /// The hour that it is part of.
    pub(crate) fn hour(&self, at: Timestamp) -> String {
        format!("{}{}", self.zoned(at).strftime("%Y-%m-%dT%H:00"), self.offset(at))
    }

    /// The time of day, to the millisecond: for what happens now.
    pub(crate) fn clock(&self, at: Timestamp) -> String {
        if self.relative { column(at) } else { self.zoned(at).strftime("%H:%M:%S%.3f").to_string() }
    }

    fn show(&self, at: Timestamp, format: &str) -> String {
        if self.relative {
            column(at)
        } else {
            format!("{}{}", self.zoned(at).strftime(format), self.offset(at))
        }
    }

    fn offset(&self, at: Timestamp) -> String {
        if self.zone == TimeZone::UTC { "Z".into() } else { self.zoned(at).strftime("%:z").to_string() }
    }

    fn zoned(&self, at: Timestamp) -> Zoned {
        instant(at).to_zoned(self.zone.clone())
    }
}

fn instant(at: Timestamp) -> Instant {
    let bound = if at.as_micros() < 0 { Instant::MIN } else { Instant::MAX };
    Instant::from_microsecond(at.as_micros()).unwrap_or(bound)
}

/// For machines: always UTC, always six digits.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    instant(at).strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// A distance as wide as they get, so that what follows stands in line.
fn column(at: Timestamp) -> String {
    format!("{:>10}", ago(at))
}

/// `12 s ago`.
pub(crate) fn ago(at: Timestamp) -> String {
    distance(Instant::now().duration_since(instant(at)))
}

fn distance(since: SignedDuration) -> String {
    let seconds = since.unsigned_abs().as_secs();
    let (number, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..3_600 => (seconds / 60, "min"),
        3_600..86_400 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    if since.is_negative() && seconds > 0 {
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
    fn distances_and_durations() {
        let d = |seconds| distance(SignedDuration::from_secs(seconds));
        assert_eq!(
            [d(0), d(12), d(61), d(7_200), d(200_000)],
            ["just now", "12 s ago", "1 min ago", "2 h ago", "2 d ago"]
        );
        assert_eq!(d(-90), "in 1 min");
        assert_eq!(parse_duration("5"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(parse_duration("-5s").is_err() && parse_duration("soon").is_err());
    }
}
