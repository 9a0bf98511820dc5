//! The pace of checkpoints: when the write-ahead log is moved into the database, and how long commits wait for
//! that. It decides by numbers alone; [`Checkpoints`](super::checkpoints) does what it says.

use std::time::Duration;

use crate::backend::sqlite::{LogPages, Moved};

/// The part of the cap after which the log is moved. By default that is 64 MiB: measured with 512 tasks, it gives
/// 1.5 times the rate of the 1 000 pages after which SQLite would do it.
const STEPS_A_CAP: u64 = 4;
/// The writer itself moves so many pages at most, or what two groups write if that is more: a few milliseconds,
/// or about as long as these groups took.
const FEW: u64 = 1_000;
/// The pages after which the writer tries for the second time to start the log over; then twice as many, and so on.
const RETRY: u64 = 8;
/// At twice the cap a group waits for so many times as long as a group takes.
const SLOWER_A_CAP: u64 = 2;
/// The most that a group waits, in times that a group takes, for a log that grew while a reader held it: a group then
/// takes three times as long.
const MOST_WAIT: f64 = 2.0;
/// The longest wait of a group.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// What is done after a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Nothing,
    /// The thread moves the log while commits go on.
    Pass,
    /// The writer moves the few pages that are left, so that the next commit starts the log over.
    Finish,
    /// The same, and the writer waits for readers for a moment.
    Restart,
}

/// The pace of the checkpoints of one writer. Numbers are pages of the log.
#[derive(Debug)]
pub(super) struct Pace {
    cap: u64,
    /// When the log has so many pages, it is moved, unless that is going on.
    due: u64,
    /// How many pages were in use after the last group.
    used: u64,
    /// How many the largest of the last groups wrote.
    largest: u64,
    /// How long a group takes.
    usual: Duration,
    /// Whether a reader needs the log as it is.
    held: bool,
    /// If the log is not started over, because somebody reads it just then, that is tried again after so many pages.
    retry: u64,
    /// The cap, or how many pages the log had when its reader was gone, if that is more.
    grown: u64,
}

impl Pace {
    /// For a log with this cap.
    pub(super) fn new(cap: u64) -> Self {
        let due = cap / STEPS_A_CAP;
        Self { cap, due, used: 0, largest: 0, usual: Duration::ZERO, held: false, retry: RETRY, grown: cap }
    }

    /// Notes a group.
    pub(super) fn wrote(&mut self, log: &LogPages, took: Duration) {
        let used = u64::from(log.used);
        let written = if used < self.used {
            self.start_over();
            used
        } else {
            used - self.used
        };
        self.used = used;
        self.largest = written.max(self.largest - self.largest / 8);
        self.usual = if self.usual.is_zero() { took } else { self.usual * 15 / 16 + took / 16 };
    }

    fn start_over(&mut self) {
        *self = Self { largest: self.largest, usual: self.usual, ..Self::new(self.cap) };
    }

    /// What is to be done while the thread is not at work.
    pub(super) fn due(&mut self, log: &LogPages) -> Step {
        if self.used < self.due {
            Step::Nothing
        } else if self.held || u64::from(log.left()) > self.few() {
            self.due = self.used + self.cap / STEPS_A_CAP;
            Step::Pass
        } else {
            // All is moved but for a little, and the log was not started over all the same: readers come and go.
            self.finish()
        }
    }

    /// What is to be done after a pass of the thread.
    pub(super) fn passed(&mut self, log: &LogPages, moved: Moved) -> Step {
        self.learn(moved);
        let left = u64::from(log.left());
        match moved {
            Moved::Held | Moved::Nothing => {
                self.due = self.used + self.cap / STEPS_A_CAP;
                Step::Nothing
            }
            Moved::All if left <= self.few() => self.finish(),
            Moved::All => Step::Pass,
        }
    }

    /// Notes what a checkpoint of the writer, or a pass of the thread, has moved.
    pub(super) fn learn(&mut self, moved: Moved) {
        match moved {
            Moved::All => self.held = false,
            Moved::Held => {
                self.held = true;
                self.grown = self.grown.max(self.used);
            }
            Moved::Nothing => {}
        }
    }

    fn finish(&mut self) -> Step {
        self.due = self.used + self.retry;
        let above = self.excess() > 0;
        self.retry = (self.retry * 2).min(if above { self.few() } else { self.cap / STEPS_A_CAP });
        if above { Step::Restart } else { Step::Finish }
    }

    /// How many pages the writer itself moves.
    fn few(&self) -> u64 {
        FEW.min(self.cap / 16).max(2 * self.largest)
    }

    fn excess(&self) -> u64 {
        self.used.saturating_sub(self.cap)
    }

    /// Whether more pages than the cap are not in the database yet.
    pub(super) fn is_above(&self, log: &LogPages) -> bool {
        u64::from(log.left()) > self.cap
    }

    /// How long the next group waits, so that the thread catches up: in proportion to the excess over the cap.
    /// Nobody waits for a reader.
    pub(super) fn wait(&self) -> Duration {
        if self.held { Duration::ZERO } else { self.usual.mul_f64(self.slower()).min(LONGEST_WAIT) }
    }

    /// The wait, in times that a group takes. What a log has grown to while a reader held it makes groups wait for
    /// [`MOST_WAIT`] at most; what it grows on makes them wait for longer, until the thread is faster.
    fn slower(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "it is a wait")]
        let over = |size: u64| (self.used.saturating_sub(size) * SLOWER_A_CAP) as f64 / size.max(1) as f64;
        over(self.cap).min(MOST_WAIT).max(over(self.grown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: u64 = 60_000;
    const MS: Duration = Duration::from_millis(1);

    /// A store whose groups write `group` pages in 10 ms each, and whose thread moves `rate` pages in a millisecond.
    /// While a reader is there, nothing is moved.
    struct World {
        pace: Pace,
        log: LogPages,
        group: u32,
        rate: u32,
        reader: bool,
        /// The rest of the pass of the thread, and what it will have moved.
        pass: Option<(u64, u32)>,
        /// How long each group took with its wait, in milliseconds.
        took: Vec<u64>,
        most: u32,
        restarts: usize,
        /// The most pages that the writer itself moved at once.
        writer_moved: u32,
    }

    impl World {
        fn new(group: u32, rate: u32) -> Self {
            let (pace, log) = (Pace::new(CAP), LogPages::default());
            let took = Vec::new();
            Self {
                pace,
                log,
                group,
                rate,
                reader: false,
                pass: None,
                took,
                most: 0,
                restarts: 0,
                writer_moved: 0,
            }
        }

        /// Lets time pass, of which the thread makes use; what its pass moved if it ends.
        fn pass_time(&mut self, millis: u64) -> Option<Moved> {
            let (rest, end) = self.pass?;
            let done = millis * u64::from(self.rate);
            if rest > done {
                self.pass = Some((rest - done, end));
                return None;
            }
            self.pass = None;
            if self.reader {
                return Some(Moved::Held);
            }
            self.log.moved = end;
            Some(Moved::All)
        }

        fn take(&mut self, step: Step) {
            match step {
                Step::Nothing => {}
                Step::Pass => {
                    self.pass = Some((if self.reader { 0 } else { self.log.left().into() }, self.log.used));
                }
                Step::Finish | Step::Restart => {
                    self.writer_moved = self.writer_moved.max(self.log.left());
                    let moved = if self.reader { Moved::Held } else { Moved::All };
                    if !self.reader {
                        self.log.moved = self.log.used;
                    }
                    self.pace.learn(moved);
                }
            }
        }

        fn group(&mut self) {
            if self.log.moved == self.log.used && self.log.used > 0 && !self.reader {
                self.log = LogPages::default();
                self.restarts += 1;
            }
            self.log.used += self.group;
            self.most = self.most.max(self.log.used);
            let ended = self.pass_time(10);
            self.pace.wrote(&self.log, 10 * MS);
            let step = match ended {
                Some(moved) => self.pace.passed(&self.log, moved),
                None if self.pass.is_some() => Step::Nothing,
                None => self.pace.due(&self.log),
            };
            self.take(step);
            let wait = u64::try_from(self.pace.wait().as_millis()).unwrap();
            let mut waited = 0;
            while waited < wait {
                waited += 1;
                if let Some(moved) = self.pass_time(1) {
                    let step = self.pace.passed(&self.log, moved);
                    self.take(step);
                    break;
                }
            }
            self.took.push(10 + waited);
        }

        fn groups(&mut self, count: usize) {
            (0..count).for_each(|_| self.group());
        }

        fn slowest_hundredth(&self) -> u64 {
            let mut took = self.took.clone();
            took.sort_unstable();
            took[took.len() * 99 / 100]
        }
    }

    #[test]
    fn checkpoints_that_keep_up_slow_nobody_down() {
        let mut world = World::new(300, 60);
        world.groups(10_000);
        assert_eq!(world.slowest_hundredth(), 10);
        assert!(world.restarts > 50 && u64::from(world.most) < CAP, "{} {}", world.restarts, world.most);
    }

    #[test]
    fn writers_that_are_faster_than_the_checkpoints_are_slowed_down_until_the_log_starts_over() {
        for (group, rate) in [(4_000, 300), (4_000, 150), (1_000, 60), (3_000, 40)] {
            let mut world = World::new(group, rate);
            world.groups(10_000);
            let (most, few) = (u64::from(world.most), u64::from(world.writer_moved));
            assert!(world.restarts > 10, "{group} {rate}: {}", world.restarts);
            assert!(few <= FEW.max(2 * u64::from(group)), "{group} {rate}: the writer moved {few}");
            // Where the writers write less than twice as fast as the thread moves.
            let slow = u64::from(group) < 20 * u64::from(rate);
            assert!(most < if slow { 3 } else { 9 } * CAP, "{group} {rate}: {most}");
            if slow {
                assert!(world.slowest_hundredth() <= 40, "{group} {rate}: {}", world.slowest_hundredth());
            }
        }
    }

    #[test]
    fn nobody_waits_for_a_reader_and_when_it_is_gone_the_writer_moves_a_few_pages_only() {
        let mut world = World::new(500, 100);
        world.reader = true;
        world.groups(2_000);
        assert!(u64::from(world.most) > 10 * CAP, "the log grows: {}", world.most);
        assert_eq!(world.took.iter().max(), Some(&10));
        assert_eq!(world.restarts, 0);
        world.reader = false;
        world.took.clear();
        world.groups(2_000);
        assert!(world.restarts > 0, "the log starts over");
        assert!(world.slowest_hundredth() <= 40, "{}", world.slowest_hundredth());
        assert!(u64::from(world.writer_moved) <= FEW.max(2 * 500), "{}", world.writer_moved);
        assert!(u64::from(world.log.used) < 2 * CAP);
    }

    #[test]
    fn a_log_that_readers_keep_from_starting_over_is_tried_again_and_above_the_cap_the_writer_waits_for_them()
    {
        let log = |used, moved| LogPages { used, moved, ..LogPages::default() };
        let mut pace = Pace::new(CAP);
        (1..=150).for_each(|group| pace.wrote(&log(group * 100, 0), MS));
        assert_eq!(pace.due(&log(15_000, 0)), Step::Pass);
        assert_eq!(pace.passed(&log(17_000, 15_000), Moved::All), Step::Pass, "much is left");
        assert_eq!(pace.passed(&log(17_100, 17_000), Moved::All), Step::Finish);
        pace.wrote(&log(15_004, 15_000), MS);
        assert_eq!(pace.due(&log(15_004, 15_000)), Step::Nothing, "it may start over any time");
        pace.wrote(&log(15_008, 15_000), MS);
        assert_eq!(pace.due(&log(15_008, 15_000)), Step::Finish, "somebody read it just then");
        pace.wrote(&log(15_016, 15_008), MS);
        assert_eq!(pace.due(&log(15_016, 15_008)), Step::Nothing, "it is not tried each time");
        pace.wrote(&log(61_000, 60_990), MS);
        assert_eq!(pace.due(&log(61_000, 60_990)), Step::Restart);
        pace.wrote(&log(4, 0), MS);
        assert_eq!(pace.due(&log(4, 0)), Step::Nothing, "it has started over");
    }
}
