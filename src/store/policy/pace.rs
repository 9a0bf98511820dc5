//! How far a run on a schedule may go, so that a wrong clock does not eat the log.

use std::time::Duration;

use crate::log::Timestamp;
use crate::seq::Seq;

/// How much of the log may go at once, in the times of its commits.
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// The pace of one thing that a schedule drops: the floor, or the values of one rule.
///
/// The clock says how old a commit is, and a clock may be wrong by years. So in one opening, no more leaves the log by
/// schedule than a day and twice the time for which the opening has lasted, which a clock measures that nobody sets. It is
/// counted in the times of the commits, from the first one that had not left. Twice, so that a schedule catches up.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace(Option<Base>);

#[derive(Debug, Clone)]
struct Base {
    /// Up to here it has dropped. Whoever moved that further has asked for a run: it begins anew from there.
    from: Seq,
    first: Timestamp,
    since: Duration,
}

impl Pace {
    /// The time up to where commits may leave now, where all up to `from` have left already, the first commit after it has
    /// the time `first`, and the opening has lasted for `uptime`.
    pub(super) fn limit(&mut self, from: Seq, first: Timestamp, uptime: Duration) -> Timestamp {
        let base = match self.0.take() {
            Some(base) if base.from == from => base,
            _ => Base { from, first, since: uptime },
        };
        let lasted = uptime.saturating_sub(base.since);
        let limit = base.first.plus(DAY.saturating_add(lasted.saturating_mul(2)));
        self.0 = Some(base);
        limit
    }

    /// Notes that a run on the schedule dropped up to here.
    pub(super) fn moved(&mut self, to: Seq) {
        if let Some(base) = &mut self.0 {
            base.from = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn at(hours: u32) -> Timestamp {
        Timestamp::EPOCH.plus(HOUR * hours)
    }

    #[test]
    fn a_schedule_drops_a_day_at_once_and_then_twice_as_fast_as_time_goes_by() {
        let mut pace = Pace::default();
        assert_eq!(pace.limit(Seq::new(5), at(100), HOUR), at(124));
        pace.moved(Seq::new(9));
        // The first commit that is left is later now, which changes nothing.
        assert_eq!(pace.limit(Seq::new(9), at(124), HOUR * 2), at(126));
        assert_eq!(pace.limit(Seq::new(9), at(124), HOUR * 12), at(146));
    }

    #[test]
    fn whoever_asks_for_a_run_lets_the_schedule_begin_anew_from_there() {
        let mut pace = Pace::default();
        assert_eq!(pace.limit(Seq::new(5), at(100), HOUR), at(124));
        assert_eq!(pace.limit(Seq::new(50), at(9_000), HOUR * 3), at(9_024));
        assert_eq!(pace.limit(Seq::new(50), at(9_000), HOUR * 4), at(9_026));
    }

    // A run each hour, which drops all that it may, of a log with a commit each hour. The clock is years ahead all the time.
    #[test]
    fn a_clock_that_is_years_ahead_lets_no_more_leave_than_the_pace() {
        let (mut pace, mut dropped) = (Pace::default(), 0);
        for hour in 0..24 * 30 {
            let limit = pace.limit(Seq::new(dropped), at(u32::try_from(dropped).unwrap() + 1), HOUR * hour);
            let to = limit.since(Timestamp::EPOCH).as_secs() / 3_600;
            assert!(to >= dropped && to <= 1 + 24 + 2 * u64::from(hour), "{to} after {hour} hours");
            dropped = to;
            pace.moved(Seq::new(dropped));
        }
        assert_eq!(dropped, 1 + 24 + 2 * (24 * 30 - 1), "it uses what it may");
    }
}
