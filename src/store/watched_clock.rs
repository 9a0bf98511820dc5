//! The clock of a store, watched: a leap is told, and one that would pin all later times is refused.

use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::foreign;
use super::stats::{About, Warning};
use crate::error::{Result, StateError};
use crate::log::Timestamp;
use crate::sync::{Mutex, lock};

/// A clock may be set by so much without being refused.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A newest commit that is further ahead of the clock is told.
const AHEAD: Duration = Duration::from_secs(60);
/// The year 2020. A machine without a battery starts with an earlier time, often 1970, until its clock is set.
const NEVER_SET_BEFORE: Timestamp = Timestamp::from_micros(1_577_836_800_000_000);

/// A clock, and what it should show by the monotonic clock beside it. A clock without one is left alone: it is asked
/// for the times of commits and nothing else.
pub(crate) struct WatchedClock {
    clock: Arc<dyn Clock>,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    /// What both clocks showed at one moment.
    base: Option<(Timestamp, Duration)>,
    /// The last leap.
    leap: Option<Leap>,
}

/// A leap of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Leap {
    /// What it should have shown.
    due: Timestamp,
    shown: Timestamp,
}

/// What a clock shows, judged by what it should show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It did not leap.
    Steady,
    /// It leapt, which does no harm: back, or not far beyond the newest commit.
    Harmless,
    /// It was wrong before, and was set.
    Corrected,
    /// It leapt ahead: a commit would pin all later times.
    Ahead,
}

fn verdict(due: Timestamp, shown: Timestamp, newest: Timestamp) -> Verdict {
    if shown <= due.plus(DAY) {
        return if shown.plus(DAY) < due { Verdict::Harmless } else { Verdict::Steady };
    }
    if shown <= newest.plus(DAY) {
        Verdict::Harmless
    } else if due < NEVER_SET_BEFORE || due.plus(DAY) < newest {
        Verdict::Corrected
    } else {
        Verdict::Ahead
    }
}

impl WatchedClock {
    /// Notes what both clocks show now.
    pub(crate) fn start(clock: Arc<dyn Clock>) -> Self {
        let watched = Self { clock, line: Mutex::default() };
        // A clock that panics does so again at the first commit, whose caller learns of it.
        if let (Ok(Some(uptime)), Ok(now)) = (watched.uptime(), foreign::now_if(&*watched.clock)) {
            lock(&watched.line).base = now.map(|now| (now, uptime));
        }
        watched
    }

    /// What the monotonic clock beside it shows; `None` if it has none.
    pub(crate) fn uptime(&self) -> Result<Option<Duration>> {
        foreign::uptime(&*self.clock)
    }

    /// The present time, for a commit after one of this time; an error if the clock leapt ahead.
    pub(crate) fn now(&self, newest: Timestamp) -> Result<Timestamp> {
        let shown = foreign::now(&*self.clock)?;
        let Some(uptime) = self.uptime()? else { return Ok(shown) };
        let mut line = lock(&self.line);
        let (time, since) = *line.base.get_or_insert((shown, uptime));
        let due = time.plus(uptime.saturating_sub(since));
        let judged = verdict(due, shown, newest);
        if judged != Verdict::Steady {
            line.leap = Some(Leap { due, shown });
        }
        match judged {
            Verdict::Steady | Verdict::Harmless => Ok(shown),
            Verdict::Corrected => {
                line.base = Some((shown, uptime));
                Ok(shown)
            }
            Verdict::Ahead => Err(StateError::ClockLeapt(format!(
                "it shows {shown}, but should show about {due} by the time that has passed since the store was opened; \
                 with that time all later changes would be dated after {shown}: set the clock right and try again, or, \
                 if {shown} is right, accept the clock"
            ))),
        }
    }

    /// What the clock shows, unjudged.
    pub(crate) fn shown(&self) -> Result<Timestamp> {
        foreign::now(&*self.clock)
    }

    /// Takes what the clock shows for right from now on.
    pub(crate) fn accept(&self) {
        // A clock that panics does so again at the next commit, whose caller learns of it.
        if let (Ok(Some(uptime)), Ok(shown)) = (self.uptime(), self.shown()) {
            *lock(&self.line) = Line { base: Some((shown, uptime)), leap: None };
        }
    }

    /// A later time for a commit of the same group: without a look at the other clock while it is near.
    pub(crate) fn later(&self, first: Timestamp, newest: Timestamp) -> Result<Timestamp> {
        let shown = foreign::now(&*self.clock)?;
        if shown > first.plus(DAY) { self.now(newest) } else { Ok(shown) }
    }

    /// How far the newest commit is ahead of the clock; zero if it is not, or the clock is not watched.
    pub(crate) fn ahead(&self, newest: Timestamp) -> Result<Duration> {
        let shown = foreign::now_if(&*self.clock)?;
        Ok(shown.map_or(Duration::ZERO, |shown| newest.since(shown)))
    }

    /// What an operator should know.
    pub(crate) fn warnings(&self, newest: Timestamp, ahead: Duration) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if ahead > AHEAD {
            let then = match newest {
                Timestamp::MAX => "no commit can follow it",
                _ => "all later commits get times just after it",
            };
            let what = format!(
                "the newest commit has the time {newest}, {} ahead of the clock, so {then}: if the clock is \
                 wrong, set it right; if it was wrong then, accept the clock, and times go on from its time",
                lasting(ahead)
            );
            warnings.push(Warning::new(About::Clock, what));
        }
        if let Some(Leap { due, shown }) = lock(&self.line).leap {
            let way = if shown < due { "back" } else { "ahead" };
            let what = format!(
                "the clock leapt {way} while the store was open: it showed {shown}, but should have shown about {due}"
            );
            warnings.push(Warning::new(About::Clock, what));
        }
        warnings
    }
}

/// A length of time, roughly.
fn lasting(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} seconds"),
        120..7_200 => format!("{} minutes", seconds / 60),
        7_200..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// So many days after 2023-11-14.
    fn day(days: i64) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000 + days * 86_400_000_000)
    }

    #[test]
    fn only_a_leap_that_pins_later_times_is_one_ahead() {
        for (due, shown, newest, judged) in [
            (day(10), day(10), day(9), Verdict::Steady),
            (day(10), day(11), day(9), Verdict::Steady),
            (day(10), day(9), day(9), Verdict::Steady),
            (day(10), day(12), day(9), Verdict::Ahead),
            (day(10), day(27_000), day(9), Verdict::Ahead),
            (day(10), day(27_000), Timestamp::EPOCH, Verdict::Ahead),
            (day(10), day(2), day(9), Verdict::Harmless),
            (day(10), day(27_000), day(27_000), Verdict::Harmless),
            (day(10), day(5_000), day(27_000), Verdict::Harmless),
            // The log is newer than the clock was.
            (day(10), day(100), day(60), Verdict::Corrected),
            // The clock of a machine without a battery.
            (Timestamp::EPOCH, day(10), Timestamp::EPOCH, Verdict::Corrected),
        ] {
            assert_eq!(verdict(due, shown, newest), judged, "{due} {shown} {newest}");
        }
        assert_eq!(verdict(day(10), day(11).plus(HOUR), day(9)), Verdict::Ahead);
    }

    #[test]
    fn a_length_of_time_is_told_in_the_unit_that_fits() {
        let told = [90, 600, 10_000, 900_000].map(|seconds| lasting(Duration::from_secs(seconds)));
        assert_eq!(told, ["90 seconds", "10 minutes", "2 hours", "10 days"]);
    }
}
