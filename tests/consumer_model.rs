//! Random work with a consumer, against a model of what it may be told and may record.

use std::sync::Arc;
use std::time::Duration;

use univrs_state::consumer::{Consumed, Consumer};
use univrs_state::log::Change;
use univrs_state::{Batch, Cursor, LocalStore, StateError};

use crate::consumer::{KEY, noted, noting};
use crate::consumer_time::Steady;
use crate::support::{Seeded, Subject, audit, options, seed, seq, value};

/// How many runs a store has, and how many steps a run.
const RUNS: u64 = 4;
const STEPS: u64 = 120;

/// A run: a consumer, and what is known of it.
struct Run {
    local: Arc<dyn LocalStore>,
    clock: Steady,
    random: Seeded,
    consumer: Consumer,
    /// Where the matching commits end.
    due: Vec<u64>,
    /// What was delivered last, and what is acknowledged, by this consumer or by one before it that recorded it.
    delivered: u64,
    acknowledged: u64,
    recorded: u64,
    /// The commits whose effects are recorded.
    effects: Vec<u64>,
    fenced: u32,
}

async fn opened(local: &Arc<dyn LocalStore>) -> Consumer {
    local.consumer("c").pattern("/in/*").open().await.unwrap()
}

impl Run {
    async fn begin(local: Arc<dyn LocalStore>, clock: Steady, random: Seeded) -> Self {
        let consumer = opened(&local).await;
        let (due, effects) = (Vec::new(), Vec::new());
        let recorded = consumer.cursor().seq().as_u64();
        let (delivered, acknowledged) = (recorded, recorded);
        Self { local, clock, random, consumer, due, delivered, acknowledged, recorded, effects, fenced: 0 }
    }

    /// The first matching commit after a position.
    fn after(&self, position: u64) -> Option<u64> {
        self.due.iter().copied().find(|end| *end > position)
    }

    async fn step(&mut self) {
        match self.random.below(16) {
            0..=3 => self.write().await,
            4..=6 => self.deliver().await,
            7..=8 => self.acknowledge().await,
            9..=10 => self.process().await,
            11 => self.acknowledge_wrongly().await,
            12..=13 => self.clock.pass(Duration::from_secs(self.random.below(12))),
            _ => self.open_again().await,
        }
        self.check().await;
    }

    async fn write(&mut self) {
        let mut batch = Batch::new();
        for _ in 0..=self.random.below(3) {
            let (folder, key) =
                (["in", "other"][usize::try_from(self.random.below(2)).unwrap()], self.random.below(4));
            batch = batch.set(format!("/{folder}/{key}"), value(key));
        }
        let receipt = self.local.commit(batch).await.unwrap();
        let commits = self.local.changes(receipt.first.previous(), 1).await.unwrap();
        if commits[0].changes.iter().any(|change| change.key.starts_with("/in/")) {
            self.due.push(receipt.last.as_u64());
        }
    }

    /// Whether the next commit is there, so that nobody waits.
    fn expects(&self) -> Option<u64> {
        self.after(self.delivered)
    }

    async fn deliver(&mut self) {
        if let Some(due) = self.expects() {
            let commit = self.consumer.next().await.unwrap().unwrap();
            assert_eq!(commit.cursor.seq(), seq(due), "after {}", self.delivered);
            self.delivered = due;
        }
    }

    async fn acknowledge(&mut self) {
        let delivered =
            self.due.iter().copied().filter(|end| (self.acknowledged..=self.delivered).contains(end));
        let delivered: Vec<u64> = delivered.collect();
        if !delivered.is_empty() {
            let to = delivered[usize::try_from(self.random.below(delivered.len() as u64)).unwrap()];
            self.consumer.ack(seq(to)).await.unwrap();
            self.acknowledged = to;
        }
    }

    async fn acknowledge_wrongly(&mut self) {
        if let Some(due) = self.expects() {
            assert!(self.consumer.ack(seq(due)).await.is_err());
        }
        if let Some(back) = self.acknowledged.checked_sub(1) {
            assert!(self.consumer.ack(seq(back)).await.is_err());
        }
    }

    async fn process(&mut self) {
        let Some(due) = self.expects() else { return };
        let kind = self.random.below(4);
        let effects = |commit: &Consumed| match kind {
            0 => Batch::new(),
            1 => noting(commit).expect_absent(KEY),
            _ => noting(commit),
        };
        let processed = self.consumer.process(effects).await;
        if self.acknowledged < self.delivered {
            assert!(matches!(processed, Err(StateError::InvalidArgument(_))));
        } else if kind == 1 {
            assert!(matches!(processed, Err(StateError::Rejected(_))));
        } else {
            assert_eq!(processed.unwrap().unwrap().cursor.seq(), seq(due));
            (self.delivered, self.acknowledged) = (due, due);
            self.effects.extend((kind > 1).then_some(due));
        }
    }

    /// After it was closed, or dropped as in a crash, or by somebody who takes it over.
    async fn open_again(&mut self) {
        let (way, acknowledged) = (self.random.below(3), self.acknowledged);
        if way == 0 {
            let other = self.local.consumer("other").pattern("/none").open().await.unwrap();
            std::mem::replace(&mut self.consumer, other).close().await.unwrap();
        }
        let new = opened(&self.local).await;
        let mut old = std::mem::replace(&mut self.consumer, new);
        if way == 1 {
            let fenced = old.ack(old.cursor()).await.unwrap_err();
            assert!(matches!(fenced, StateError::Fenced(_)), "{fenced}");
            self.fenced += 1;
        }
        self.resume();
        assert!(way > 0 || self.acknowledged >= acknowledged, "closing records what was acknowledged");
    }

    /// It goes on where it is recorded to be.
    fn resume(&mut self) {
        let position = self.consumer.cursor().seq().as_u64();
        (self.delivered, self.acknowledged) = (position, position);
    }

    /// The recorded position never goes back, and never passes a commit that is not acknowledged.
    async fn check(&mut self) {
        let record = self.local.get(KEY).await.unwrap().unwrap().value_json::<serde_json::Value>().unwrap();
        let cursor: Cursor = record["cursor"].as_str().unwrap().parse().unwrap();
        let recorded = cursor.seq().as_u64();
        assert!(recorded >= self.recorded, "{recorded} is before {}", self.recorded);
        if let Some(open) = self.after(self.acknowledged) {
            assert!(recorded < open, "{recorded} is recorded, and {open} is not acknowledged");
        }
        self.recorded = recorded;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_repeats_at_most_what_is_not_recorded_and_leaves_nothing_out() {
    let seeds = Seeded::from(seed());
    let mut fenced = 0;
    for run in 0..3 * RUNS {
        let (clock, seed) = (Steady::default(), seeds.next());
        let options = options().clock(clock.clone());
        let subject = match run % 3 {
            0 => Subject::memory_with(options),
            1 => Subject::disk_with(options).await,
            _ => Subject::sqlite_memory_with(options).await,
        };
        let mut run = Run::begin(subject.local.opened(), clock, Seeded::from(seed)).await;
        for _ in 0..STEPS {
            run.step().await;
        }
        let log: Vec<Change> = audit(&subject.local).await;
        assert_eq!(noted(&log), run.effects, "each effect is there once and in order");
        assert!(run.effects.is_sorted_by(|a, b| a < b));
        fenced += run.fenced;
        // What is left comes in order, and nothing else.
        while run.expects().is_some() {
            run.deliver().await;
        }
        run.consumer.ack(seq(run.delivered)).await.unwrap();
        run.consumer.close().await.unwrap();
        assert!(
            run.local.consumers().await.unwrap()[0].cursor.seq() >= seq(run.due.last().copied().unwrap_or(0))
        );
    }
    assert!(fenced > 0, "nobody was fenced");
}
