//! When a consumer records how far it is: rarely, in time, and never for positions of consumers alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use univrs_state::consumer::Consumer;
use univrs_state::log::Timestamp;
use univrs_state::options::Clock;
use univrs_state::{Batch, LocalStore, Seq, StateError, StateStore};

use crate::consumer::{KEY, next, noting, open};
use crate::support::{START, Subject, audit, log_of, options, seq, value};

const DAY: Duration = Duration::from_secs(86_400);
/// An eighth of the hold of a consumer that says nothing else.
const EIGHTH: Duration = Duration::from_secs(7 * 86_400 / 8);

/// A clock that goes on when it is told to, and counts how often it is looked at.
#[derive(Clone, Default)]
pub(crate) struct Steady {
    micros: Arc<AtomicU64>,
    looks: Arc<AtomicU64>,
}

impl Steady {
    pub(crate) fn pass(&self, time: Duration) {
        self.micros.fetch_add(u64::try_from(time.as_micros()).unwrap(), Ordering::SeqCst);
    }

    fn looks(&self) -> u64 {
        self.looks.load(Ordering::SeqCst)
    }
}

impl Clock for Steady {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(START + i64::try_from(self.micros.load(Ordering::SeqCst)).unwrap())
    }

    fn uptime(&self) -> Option<Duration> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        Some(Duration::from_micros(self.micros.load(Ordering::SeqCst)))
    }
}

/// Passes over what is there and does not match.
async fn catches_up(consumer: &mut Consumer, local: &Arc<dyn LocalStore>) {
    let head = local.head().await.unwrap().seq;
    while consumer.cursor().seq() < head {
        let waited = tokio::time::timeout(Duration::from_millis(1), consumer.next()).await;
        assert!(waited.is_err(), "{waited:?}");
    }
}

/// Waits for a commit, in vain, until the consumer has looked whether something is to be recorded.
async fn waits(consumer: &mut Consumer, local: &Arc<dyn LocalStore>, clock: &Steady) {
    catches_up(consumer, local).await;
    let from = clock.looks();
    tokio::select! {
        biased;
        commit = consumer.next() => panic!("{commit:?}"),
        // One look finds that it is due, one is made after that, and one before it waits again.
        () = async { while clock.looks() < from + 4 { tokio::task::yield_now().await } } => {}
    }
}

/// The recorded position, and how often it was recorded since the consumer was made.
async fn recorded(local: &Arc<dyn LocalStore>, key: &str) -> (u64, u64) {
    let name = key.rsplit('/').next().unwrap();
    let listed = local.consumers().await.unwrap();
    let consumer = listed.iter().find(|consumer| consumer.name == name).unwrap();
    (consumer.cursor.seq().as_u64(), local.version(key).await.unwrap() - 1)
}

async fn each() -> Vec<(Subject, Arc<dyn LocalStore>, Steady)> {
    let mut all = Vec::new();
    for kind in 0..3 {
        let clock = Steady::default();
        let options = options().clock(clock.clone());
        let subject = match kind {
            0 => Subject::memory_with(options),
            1 => Subject::disk_with(options).await,
            _ => Subject::sqlite_memory_with(options).await,
        };
        let local = subject.local.opened();
        all.push((subject, local, clock));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_is_recorded_every_ten_seconds_by_a_call_or_while_it_waits() {
    for (subject, local, clock) in each().await {
        for n in 0..100 {
            local.set("/in/a", value(n)).await.unwrap();
        }
        let mut consumer = open(&local, "/in/*").await;
        for _ in 0..50 {
            let commit = next(&mut consumer).await;
            consumer.ack(&commit).await.unwrap();
        }
        assert_eq!(recorded(&local, KEY).await, (0, 0));
        clock.pass(Duration::from_micros(9_999_999));
        consumer.ack(consumer.cursor()).await.unwrap();
        assert_eq!(recorded(&local, KEY).await, (0, 0));
        clock.pass(Duration::from_micros(1));
        let commit = next(&mut consumer).await;
        assert_eq!(recorded(&local, KEY).await, (0, 0), "it did not wait");
        consumer.ack(&commit).await.unwrap();
        assert_eq!(recorded(&local, KEY).await, (51, 1));
        while consumer.cursor().seq() < seq(100) {
            let commit = next(&mut consumer).await;
            consumer.ack(&commit).await.unwrap();
        }
        clock.pass(Duration::from_secs(9));
        waits(&mut consumer, &local, &clock).await;
        assert_eq!(recorded(&local, KEY).await, (51, 1));
        clock.pass(Duration::from_secs(1));
        waits(&mut consumer, &local, &clock).await;
        let (position, times) = recorded(&local, KEY).await;
        assert!(position >= 100 && times == 2, "{position} {times}");
        audit(&subject.local).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_is_recorded_after_ten_thousand_events() {
    for (subject, local, _) in each().await {
        for n in 0..9_u64 {
            let batch = (0..2_500).fold(Batch::new(), |batch, key| batch.set(format!("/in/{key}"), value(n)));
            local.commit(batch).await.unwrap();
        }
        let mut consumer = open(&local, "/in/*").await;
        let mut records = Vec::new();
        for _ in 0..9 {
            let commit = next(&mut consumer).await;
            consumer.ack(&commit).await.unwrap();
            records.push(recorded(&local, KEY).await.0 / 2_500);
        }
        assert_eq!(records, [0, 0, 0, 4, 4, 4, 4, 8, 8]);
        audit(&subject.local).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_that_wait_write_nothing_while_nobody_else_does() {
    for (subject, local, clock) in each().await {
        let mut consumers = Vec::new();
        for (name, pattern) in [("one", "/none/*"), ("two", "/**"), ("three", "/.univrs/**")] {
            consumers.push(local.consumer(name).pattern(pattern).open().await.unwrap());
        }
        let opened = local.head().await.unwrap().seq;
        for _ in 0..20 {
            clock.pass(EIGHTH);
            for consumer in &mut consumers {
                waits(consumer, &local, &clock).await;
            }
        }
        assert_eq!(local.head().await.unwrap().seq, opened, "nobody wrote");
        // One change of somebody else is recorded once by each, though each passes over what the others record.
        local.set("/a", value(1)).await.unwrap();
        let commit = next(&mut consumers[1]).await;
        consumers[1].ack(&commit).await.unwrap();
        for _ in 0..20 {
            clock.pass(EIGHTH);
            for consumer in &mut consumers {
                waits(consumer, &local, &clock).await;
            }
        }
        let records = log_of(&local).await.split_off(usize::try_from(opened.as_u64()).unwrap());
        let mut keys: Vec<&str> = records.iter().map(|change| &*change.key).collect();
        keys.sort_unstable();
        let [one, three, two] = ["one", "three", "two"].map(|name| format!("/.univrs/consumers/{name}"));
        assert_eq!(keys, [one.as_str(), &three, &two, "/a"]);
        for consumer in consumers {
            consumer.close().await.unwrap();
        }
        assert_eq!(
            log_of(&local).await.len() as u64,
            opened.as_u64() + 4,
            "nor is anything left to be recorded"
        );
        audit(&subject.local).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_keeps_up_records_what_it_passes_over_eight_times_a_hold_and_holds_all_the_time() {
    for (subject, local, clock) in each().await {
        let hold = 4 * DAY;
        let mut rare = local.consumer("rare").pattern("/none/*").hold(hold).open().await.unwrap();
        local.consumer("gone").pattern("/none/*").hold(hold).open().await.unwrap();
        let (mut longest, mut last, mut holding) = (Duration::ZERO, Duration::ZERO, Vec::new());
        let mut times = 0;
        for quarter in 1..=4 * 8 * 3_u32 {
            clock.pass(hold / 32);
            local.set("/busy", value(quarter)).await.unwrap();
            waits(&mut rare, &local, &clock).await;
            let recorded = recorded(&local, "/.univrs/consumers/rare").await.1;
            if recorded > times {
                let now = hold / 32 * quarter;
                (longest, last, times) = (longest.max(now.checked_sub(last).unwrap()), now, recorded);
            }
            let listed = local.consumers().await.unwrap();
            assert!(listed.iter().any(|consumer| consumer.name == "rare" && consumer.holds));
            holding.push(listed.iter().any(|consumer| consumer.name == "gone" && consumer.holds));
        }
        assert_eq!((times, longest), (24, hold / 8));
        let listed = holding.iter().filter(|holds| **holds).count();
        assert!(
            listed == 32 && holding.is_sorted_by(|a, b| a >= b),
            "one that nobody has open holds for its time"
        );
        let position = rare.cursor().seq();
        assert!(position >= seq(96), "{position}");
        audit(&subject.local).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_without_effects_are_recorded_eight_times_a_hold() {
    for (subject, local, clock) in each().await {
        for n in 0..40 {
            local.set("/in/a", value(n)).await.unwrap();
        }
        let mut consumer = open(&local, "/in/*").await;
        let mut records = Vec::new();
        for _ in 0..40 {
            clock.pass(EIGHTH / 10);
            consumer.process(|_| Batch::new()).await.unwrap();
            records.push(recorded(&local, KEY).await.0);
        }
        records.dedup();
        assert_eq!(records, [0, 10, 20, 30, 40]);
        // Effects are a record, too.
        local.set("/in/a", value(40)).await.unwrap();
        clock.pass(EIGHTH / 2);
        consumer.process(noting).await.unwrap();
        clock.pass(EIGHTH / 2);
        let times = recorded(&local, KEY).await.1;
        local.set("/in/a", value(41)).await.unwrap();
        consumer.process(|_| Batch::new()).await.unwrap();
        assert_eq!(recorded(&local, KEY).await.1, times);
        audit(&subject.local).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_waits_wakes_by_itself_to_record() {
    for (subject, local, clock) in each().await {
        local.set("/in/a", value(1)).await.unwrap();
        let mut consumer = open(&local, "/in/*").await;
        let commit = next(&mut consumer).await;
        consumer.ack(&commit).await.unwrap();
        clock.pass(Duration::from_millis(9_999)); // A millisecond before it is due.
        let mut watch = local.watch(KEY).unwrap();
        let waiting = tokio::spawn(async move { consumer.next().await });
        let from = clock.looks();
        while clock.looks() < from + 5 {
            tokio::task::yield_now().await; // It was woken, and the time had not come.
        }
        clock.pass(Duration::from_millis(1));
        assert_eq!(watch.try_next().await.unwrap().unwrap().version, 2);
        waiting.abort();
        audit(&subject.local).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_fails_while_it_waits_is_told_and_does_not_keep_commits_back() {
    for (subject, local, clock) in each().await {
        local.set("/in/a", value(1)).await.unwrap();
        let mut consumer = open(&local, "/in/*").await;
        let commit = next(&mut consumer).await;
        consumer.ack(&commit).await.unwrap();
        let mut other = open(&local, "/in/*").await;
        clock.pass(Duration::from_secs(10));
        let fenced = consumer.next().await.unwrap_err();
        assert!(matches!(fenced, StateError::Fenced(_)), "{fenced}");
        local.set("/in/a", value(2)).await.unwrap();
        let second = next(&mut consumer).await;
        assert!(second.cursor.seq() > commit.cursor.seq());
        // The other one got nothing acknowledged.
        assert_eq!(next(&mut other).await.cursor, commit.cursor);
        assert_eq!(recorded(&local, KEY).await.0, Seq::ZERO.as_u64());
        audit(&subject.local).await;
    }
}
