//! The request for a consumer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::claim::{Claim, key_of, recorded, written};
use super::reader::Consumer;
use crate::error::{Result, StateError};
use crate::key::CONSUMERS_PREFIX;
use crate::log::{Cursor, Meta};
use crate::pattern::Pattern;
use crate::seq::Seq;
use crate::state::{Batch, ConsumerRecord};
use crate::store::history::{Point, point};
use crate::store::open_store::OpenStore;
use crate::store::read::log::check;

/// For how long a position holds retention back, by default: 7 days.
const HOLD: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The shortest hold. A position is recorded every 10 seconds at most, so a shorter one could end in between.
const SHORTEST: Duration = Duration::from_secs(60);
/// The longest hold: 100 years.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// A request for a consumer. Made by [`LocalStore::consumer`](crate::LocalStore::consumer).
#[must_use = "a consumer does nothing until it is opened"]
pub struct ConsumerRequest {
    store: Arc<OpenStore>,
    meta: Arc<Meta>,
    name: String,
    pattern: Option<String>,
    start: Point,
    hold: Option<Duration>,
}

impl ConsumerRequest {
    /// A request by a handle that adds this metadata to every batch.
    pub(crate) fn new(store: Arc<OpenStore>, meta: Arc<Meta>, name: &str) -> Self {
        let (name, start) = (name.to_owned(), Seq::ZERO.into());
        Self { store, meta, name, pattern: None, start, hold: None }
    }

    /// The keys that it reads; a new consumer needs it. One that exists keeps its own, and is refused with another one.
    pub fn pattern(mut self, pattern: impl Into<String>) -> Self {
        self.pattern = Some(pattern.into());
        self
    }

    /// Where a new consumer starts: it gets the commits after this point. The default is the start of the log;
    /// [`Point::Head`] is from now on. One that exists goes on where it was.
    pub fn start(mut self, point: impl Into<Point>) -> Self {
        self.start = point.into();
        self
    }

    /// For how long a recorded position keeps retention from dropping what comes after it: from 1 minute to 100 years.
    /// The default is 7 days for a new consumer, and what it had for one that exists.
    pub fn hold(mut self, hold: Duration) -> Self {
        self.hold = Some(hold);
        self
    }

    /// Opens the consumer: makes it, or takes it over, in one commit. From then on, another one who has the consumer
    /// open is refused with [`StateError::Fenced`].
    ///
    /// # Errors
    /// Nothing is recorded then. [`StateError::InvalidArgument`] for a name that is empty, has over 128 bytes or
    /// anything but ASCII letters, digits, `-`, `_` and `.`, or does not start with a letter or a digit; for a hold out
    /// of its range; for another pattern than that of the consumer that exists, or none where there is no consumer yet;
    /// and for a pattern below `/.univrs/consumers/`, as no consumer gets positions of consumers.
    /// [`StateError::InvalidKey`] for a pattern that breaks the rules. [`StateError::CursorDiverged`] and
    /// [`StateError::Compacted`] if the log does not have the position:
    /// [`reset_consumer`](crate::LocalStore::reset_consumer) leads on. For a new consumer those of
    /// [`StateStore::at`](crate::StateStore::at) for the start. [`StateError::UpgradeNeeded`] if a newer version
    /// recorded the consumer in another format. [`StateError::Unsupported`] for an export that withholds changes or
    /// begins after the first change of its log. Those of [`StateStore::commit`](crate::StateStore::commit).
    pub async fn open(self) -> Result<Consumer> {
        let key = key_of(&self.name)?;
        self.check_hold()?;
        self.pattern.as_deref().map(|pattern| self.readable(pattern)).transpose()?;
        loop {
            let (known, version) = recorded(&self.store, &key).await?;
            let record = match known {
                Some(known) => self.taken_over(known).await?,
                None => self.made().await?,
            };
            let pattern = self.readable(&record.pattern)?;
            let batch = written(Batch::new(), &key, version, &record).stamped(&self.meta);
            match self.store.order(batch).await {
                // Somebody else took it over meanwhile.
                Err(StateError::Rejected(_)) => {}
                Err(error) => return Err(error),
                Ok(receipt) => {
                    let version = receipt.versions.last().copied().unwrap_or_default();
                    let claim = Claim { store: self.store, meta: self.meta, key, record, version };
                    return Consumer::new(self.name, claim, pattern);
                }
            }
        }
    }

    /// The record of a consumer that exists, as this one goes on from it.
    async fn taken_over(&self, known: ConsumerRecord) -> Result<ConsumerRecord> {
        if let Some(pattern) = self.pattern.as_deref().filter(|pattern| *pattern != known.pattern) {
            return Err(self.invalid(&format!(
                "it reads {:?}, and not {pattern:?}; use another name for another pattern, or remove the consumer first",
                known.pattern
            )));
        }
        let cursor = known.cursor;
        self.store.read_snapshot(move |snapshot| check(snapshot, cursor)).await?;
        let mut record = known.taken_over();
        record.hold = self.hold.unwrap_or(record.hold);
        Ok(record)
    }

    /// The record of a new consumer.
    async fn made(&self) -> Result<ConsumerRecord> {
        let Some(pattern) = &self.pattern else {
            return Err(self.invalid("there is none with this name yet, and a new one needs a pattern"));
        };
        let start = self.start;
        let (head, _) = self.store.read_snapshot(move |snapshot| point::find(snapshot, start)).await?;
        let cursor = Cursor::new(self.store.shared.store, head);
        Ok(ConsumerRecord::new(pattern, cursor, self.hold.unwrap_or(HOLD)))
    }

    /// Parses a pattern, and refuses one that can match nothing.
    fn readable(&self, pattern: &str) -> Result<Pattern> {
        let parsed = self.store.watchable(pattern)?;
        if parsed.prefix().starts_with(CONSUMERS_PREFIX) {
            return Err(
                self.invalid("its pattern names positions of consumers, which no consumer gets: watch them")
            );
        }
        Ok(parsed)
    }

    fn check_hold(&self) -> Result<()> {
        match self.hold {
            Some(hold) if !(SHORTEST..=LONGEST).contains(&hold) => Err(self.invalid(&format!(
                "a hold of {hold:?} is out of range; it is from {SHORTEST:?} to {LONGEST:?}"
            ))),
            _ => Ok(()),
        }
    }

    fn invalid(&self, why: &str) -> StateError {
        StateError::InvalidArgument(format!("consumer {:?}: {why}", self.name))
    }
}

impl fmt::Debug for ConsumerRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerRequest")
            .field("name", &self.name)
            .field("pattern", &self.pattern)
            .field("start", &self.start)
            .field("hold", &self.hold)
            .finish_non_exhaustive()
    }
}
