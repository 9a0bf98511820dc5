//! How long to retry an operation that another process blocks.

use std::thread;
use std::time::{Duration, Instant};

/// A limited time for attempts, with a pause between them.
///
/// It ends by the clock, not by the sum of the pauses: an attempt at a lock may itself block, for as long as
/// all attempts together may take.
pub(super) struct Patience<C = Machine> {
    clock: C,
    most: Duration,
    between: Duration,
}

/// The clock that measures the time; a trait, so that tests can let time pass.
pub(super) trait Clock {
    /// How much time has passed.
    fn passed(&self) -> Duration;
    /// Sleeps for this time.
    fn sleep(&self, time: Duration);
}

/// The monotonic clock of the machine. It ends waits; no recorded time comes from it.
pub(super) struct Machine(Instant);

impl Clock for Machine {
    fn passed(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) {
        thread::sleep(time);
    }
}

impl Patience {
    /// Attempts for at most `most` from now on, with pauses of `between`.
    pub(super) fn new(most: Duration, between: Duration) -> Self {
        Self::by(Machine(Instant::now()), most, between)
    }
}

impl<C: Clock> Patience<C> {
    /// Attempts for at most `most` by another clock, with pauses of `between`.
    pub(super) fn by(clock: C, most: Duration, between: Duration) -> Self {
        Self { clock, most, between }
    }

    /// The time that is left. An attempt should not block for longer.
    pub(super) fn left(&self) -> Duration {
        self.most.saturating_sub(self.clock.passed())
    }

    /// Attempts until one is not blocked, or the time is over. Each attempt is told how long it may block.
    ///
    /// IMPORTANT: the last attempt begins when the time is over. A thread that was off the processor for all the
    /// time would otherwise give up after one, whatever became free meanwhile.
    pub(super) fn attempts<T>(
        &mut self,
        mut attempt: impl FnMut(Duration) -> T,
        is_blocked: impl Fn(&T) -> bool,
    ) -> T {
        loop {
            let left = self.left();
            let done = attempt(left);
            if left.is_zero() || !is_blocked(&done) {
                return done;
            }
            self.pause();
        }
    }

    /// Sleeps before the next attempt; false if the time is over, so that no attempt may follow.
    pub(super) fn pause(&mut self) -> bool {
        let left = self.left();
        if left.is_zero() {
            return false;
        }
        self.clock.sleep(self.between.min(left));
        true
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sync::{Mutex, lock};

    /// A clock on which time passes when somebody sleeps or says so.
    #[derive(Clone, Default)]
    pub(in super::super) struct Told(Arc<Mutex<Duration>>);

    impl Told {
        pub(in super::super) fn pass(&self, time: Duration) {
            *lock(&self.0) += time;
        }
    }

    impl Clock for Told {
        fn passed(&self) -> Duration {
            *lock(&self.0)
        }

        fn sleep(&self, time: Duration) {
            self.pass(time);
        }
    }

    const MS: Duration = Duration::from_millis(1);

    /// How many tries that block so long there are in 100 ms with pauses of 5 ms, and when they end.
    fn tries(blocks: impl Fn(Duration) -> Duration) -> (u32, Duration) {
        let clock = Told::default();
        let mut patience = Patience::by(clock.clone(), 100 * MS, 5 * MS);
        let mut tries = 0;
        loop {
            tries += 1;
            clock.pass(blocks(patience.left()));
            if !patience.pause() {
                return (tries, clock.passed());
            }
        }
    }

    #[test]
    fn tries_that_block_end_in_the_time_that_was_asked_for() {
        assert_eq!(tries(|_| Duration::ZERO), (21, 100 * MS), "the last one is at the end of the time");
        assert_eq!(tries(|_| 40 * MS), (3, 130 * MS));
        assert_eq!(tries(|left| left), (1, 100 * MS), "a try that blocks for all there is left");
        assert_eq!(tries(|left| left.min(40 * MS)), (3, 100 * MS));
        assert_eq!(tries(|_| 1000 * MS), (1, 1000 * MS));
    }

    /// How many attempts that take so long there are in 100 ms with pauses of 5 ms, and when they end, if `free` is
    /// free from then on.
    fn attempts(takes: impl Fn(Duration) -> Duration, free: Duration) -> (bool, u32, Duration) {
        let (clock, mut attempts) = (Told::default(), 0);
        let got = Patience::by(clock.clone(), 100 * MS, 5 * MS).attempts(
            |left| {
                attempts += 1;
                let is_free = clock.passed() >= free;
                clock.pass(takes(left));
                is_free
            },
            |got| !got,
        );
        (got, attempts, clock.passed())
    }

    #[test]
    fn attempts_end_by_the_clock_and_the_last_one_begins_when_the_time_is_over() {
        const NEVER: Duration = Duration::MAX;
        assert_eq!(attempts(|_| Duration::ZERO, NEVER), (false, 21, 100 * MS));
        assert_eq!(attempts(|_| Duration::ZERO, 20 * MS), (true, 5, 20 * MS));
        assert_eq!(
            attempts(|left| left, NEVER),
            (false, 2, 100 * MS),
            "one that blocks for all there is left"
        );
        assert_eq!(attempts(|left| left.min(40 * MS), NEVER), (false, 4, 100 * MS));
    }

    // The lock was free long before the thread was on the processor again, and was never asked for.
    #[test]
    fn a_thread_that_was_off_the_processor_for_all_the_time_tries_once_more() {
        let away = |left: Duration| if left.is_zero() { Duration::ZERO } else { 1000 * MS };
        assert_eq!(attempts(away, 50 * MS), (true, 2, 1000 * MS));
        assert_eq!(attempts(away, Duration::MAX), (false, 2, 1000 * MS));
    }

    #[test]
    fn without_time_there_is_one_try() {
        assert!(!Patience::by(Told::default(), Duration::ZERO, MS).pause());
        assert!(!Patience::new(Duration::ZERO, MS).pause());
    }
}
