//! How far a consumer is, and when its position is to be recorded.

use std::time::Duration;

use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::log::Cursor;
use crate::seq::Seq;

/// What was acknowledged is recorded at most so often. Each record takes some 350 bytes of the log.
const INTERVAL: Duration = Duration::from_secs(10);
/// What was acknowledged is recorded after so many events in any case, so that a crash repeats no more.
const EVENTS: usize = 10_000;
/// A position is recorded so many times while it holds, so that a consumer that keeps up never loses its place.
const RECORDS_OF_A_HOLD: u32 = 8;

/// How far a consumer is: delivered, acknowledged, recorded. It never goes back.
pub(super) struct Progress {
    /// The end of the last commit that was delivered.
    delivered: Cursor,
    /// Up to here everything was acknowledged.
    acknowledged: Cursor,
    /// Whether the program acknowledged something that is not recorded.
    owed: bool,
    /// How many events were delivered since the last record.
    events: usize,
    /// When the position was last recorded, or it was seen that there is nothing to record.
    since: Duration,
    hold: Duration,
}

impl Progress {
    /// That of a consumer that was opened at a position, at this moment.
    pub(super) fn new(start: Cursor, hold: Duration, now: Duration) -> Self {
        Self { delivered: start, acknowledged: start, owed: false, events: 0, since: now, hold }
    }

    /// The end of the last commit that was delivered.
    pub(super) fn delivered(&self) -> Cursor {
        self.delivered
    }

    /// Up to here everything was acknowledged.
    pub(super) fn acknowledged(&self) -> Cursor {
        self.acknowledged
    }

    /// Whether everything that was delivered is acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        self.acknowledged.seq() >= self.delivered.seq()
    }

    /// Notes that a commit was delivered.
    pub(super) fn deliver(&mut self, to: Cursor, events: usize) {
        self.delivered = to;
        self.events = self.events.saturating_add(events);
    }

    /// Judges an acknowledgement of everything up to a position, where everything up to `reached` was delivered.
    pub(super) fn judge(&self, to: Seq, reached: Seq) -> Result<()> {
        if to > reached && !failpoint("undelivered_acknowledged") {
            return Err(StateError::InvalidArgument(format!(
                "position {to} cannot be acknowledged: only commits up to {reached} were delivered"
            )));
        }
        if to < self.acknowledged.seq() {
            return Err(StateError::InvalidArgument(format!(
                "position {to} cannot be acknowledged: everything up to {} is, and that is not taken back",
                self.acknowledged.seq()
            )));
        }
        Ok(())
    }

    /// Notes that the program acknowledged everything up to a position. What is recorded may lie behind it already, as
    /// what was passed over is recorded, too.
    pub(super) fn acknowledge(&mut self, to: Cursor, recorded: Seq) {
        self.owed |= to.seq() > self.acknowledged.seq().max(recorded);
        self.acknowledged = to;
    }

    /// Notes that everything up to a position is done with, which nobody need know soon.
    pub(super) fn pass(&mut self, to: Cursor) {
        if to.seq() > self.acknowledged.seq() {
            self.acknowledged = to;
        }
        if to.seq() > self.delivered.seq() {
            self.delivered = to;
        }
    }

    /// Notes that the position was recorded.
    pub(super) fn record(&mut self, now: Duration) {
        (self.owed, self.events, self.since) = (false, 0, now);
    }

    /// Whether the program acknowledged something that is not recorded.
    pub(super) fn is_owed(&self) -> bool {
        self.owed
    }

    /// Notes that there was nothing to record, or that it failed: the next attempt has time.
    pub(super) fn postpone(&mut self, now: Duration) {
        self.since = now;
    }

    /// How long it is until the position should be recorded, if it moved.
    pub(super) fn until_due(&self, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.since);
        let after = if self.owed { INTERVAL } else { INTERVAL.max(self.hold / RECORDS_OF_A_HOLD) };
        if self.owed && self.events >= EVENTS { Duration::ZERO } else { after.saturating_sub(passed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Hash, Head, StoreId};

    const SECOND: Duration = Duration::from_secs(1);

    fn cursor(seq: u64) -> Cursor {
        let head = Head { seq: Seq::new(seq), hash: Hash::from_bytes([1; 32]) };
        Cursor::new(StoreId::from_bytes([7; 16]), head)
    }

    fn progress() -> Progress {
        Progress::new(cursor(5), 800 * SECOND, 100 * SECOND)
    }

    #[test]
    fn what_was_delivered_may_be_acknowledged_and_nothing_goes_back() {
        let mut progress = progress();
        assert!(progress.is_settled());
        progress.deliver(cursor(7), 2);
        progress.deliver(cursor(9), 1);
        let judge = |progress: &Progress, seq| progress.judge(Seq::new(seq), progress.delivered().seq());
        for (seq, right) in [(4, false), (5, true), (7, true), (9, true), (10, false)] {
            assert_eq!(judge(&progress, seq).is_ok(), right, "{seq}");
        }
        progress.acknowledge(cursor(7), Seq::new(5));
        assert!(!progress.is_settled() && progress.is_owed());
        for (seq, right) in [(6, false), (7, true), (9, true)] {
            assert_eq!(judge(&progress, seq).is_ok(), right, "{seq}");
        }
        progress.acknowledge(cursor(9), Seq::new(5));
        progress.pass(cursor(8));
        assert_eq!((progress.acknowledged(), progress.delivered()), (cursor(9), cursor(9)));
        assert!(progress.is_settled());
    }

    #[test]
    fn an_acknowledgement_is_due_ten_seconds_after_the_last_record_or_ten_thousand_events() {
        let mut progress = progress();
        progress.deliver(cursor(6), EVENTS - 1);
        progress.acknowledge(cursor(5), Seq::new(5));
        assert!(!progress.is_owed(), "nothing new was acknowledged");
        progress.acknowledge(cursor(6), Seq::new(7));
        assert!(!progress.is_owed(), "it is recorded already");
        progress.acknowledge(cursor(7), Seq::new(5));
        assert_eq!(progress.until_due(103 * SECOND), 7 * SECOND);
        assert_eq!(progress.until_due(110 * SECOND), Duration::ZERO);
        progress.deliver(cursor(8), 1);
        assert_eq!(progress.until_due(103 * SECOND), Duration::ZERO);
        progress.record(103 * SECOND);
        assert!(!progress.is_owed());
        assert_eq!(progress.until_due(104 * SECOND), 99 * SECOND);
    }

    #[test]
    fn what_was_passed_over_is_due_eight_times_a_hold_and_no_more_often_than_every_ten_seconds() {
        let mut progress = progress();
        progress.pass(cursor(50));
        assert!(!progress.is_owed());
        assert_eq!(progress.until_due(100 * SECOND), 100 * SECOND);
        assert_eq!(progress.until_due(200 * SECOND), Duration::ZERO);
        progress.postpone(200 * SECOND);
        assert_eq!(progress.until_due(250 * SECOND), 50 * SECOND);
        assert_eq!(progress.until_due(90 * SECOND), 100 * SECOND, "a moment before the last one is none");
        let short = Progress::new(cursor(5), 60 * SECOND, Duration::ZERO);
        assert_eq!(short.until_due(Duration::ZERO), 10 * SECOND);
    }
}
