//! Proposals: batches with the time and the salts that they are sealed with.

use std::sync::Arc;

use crate::error::Result;
use crate::log::{SALT_BYTES, Timestamp};
use crate::state::Batch;
use crate::store::clock::Clock;
use crate::store::entropy::Entropy;
use crate::store::foreign;
use crate::store::watched_clock::WatchedClock;

/// A batch with the time and the salts that its changes get if it is not refused.
///
/// IMPORTANT: the verdict and the changes follow from the proposal and the state before it alone.
pub(super) struct Proposal<'a> {
    pub(super) batch: &'a Batch,
    pub(super) clock: Timestamp,
    /// A salt for each value, in the order of the writes.
    pub(super) salts: Vec<[u8; SALT_BYTES]>,
}

/// The sources of times and randomness for the write path.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) clock: Arc<WatchedClock>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

impl Sources {
    /// These sources. The clock is watched from now on.
    pub(crate) fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { clock: Arc::new(WatchedClock::start(clock)), entropy }
    }

    /// The present time, for a commit after one of this time; unjudged where the clock is accepted.
    pub(super) fn now(&self, accepts: bool, newest: Timestamp) -> Result<Timestamp> {
        if accepts { self.clock.shown() } else { self.clock.now(newest) }
    }

    /// Makes proposals of batches for a log whose newest commit has this time, with the present time. The salts of
    /// all of them are drawn at once, because each call of the system takes 0.37 µs.
    pub(super) fn propose<'a>(&self, batches: &'a [Batch], newest: Timestamp) -> Result<Vec<Proposal<'a>>> {
        let mut bytes = vec![0; batches.iter().map(Batch::values).sum::<usize>() * SALT_BYTES];
        if !bytes.is_empty() {
            foreign::fill(&*self.entropy, &mut bytes)?;
        }
        let mut salts = bytes.as_chunks().0.iter().copied();
        let mut first = None;
        let accepts = batches.iter().any(Batch::accepts_clock);
        let mut propose = |batch: &'a Batch| {
            let salts = salts.by_ref().take(batch.values()).collect();
            let clock = match first {
                Some(first) if !accepts => self.clock.later(first, newest)?,
                _ => *first.insert(self.now(accepts, newest)?),
            };
            Ok(Proposal { batch, clock, salts })
        };
        batches.iter().map(&mut propose).collect()
    }
}
