//! Proposals: batches with the time and the salts that they are sealed with.

use std::sync::Arc;

use crate::error::Result;
use crate::log::{SALT_BYTES, Timestamp};
use crate::state::Batch;
use crate::store::clock::Clock;
use crate::store::entropy::Entropy;
use crate::store::foreign;

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
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

impl Sources {
    /// Makes proposals of batches, with the present time. The salts of all of them are drawn at once, because each
    /// call of the system takes 0.37 µs.
    pub(super) fn propose<'a>(&self, batches: &'a [Batch]) -> Result<Vec<Proposal<'a>>> {
        let mut bytes = vec![0; batches.iter().map(Batch::values).sum::<usize>() * SALT_BYTES];
        if !bytes.is_empty() {
            foreign::fill(&*self.entropy, &mut bytes)?;
        }
        let mut salts = bytes.as_chunks().0.iter().copied();
        let mut propose = |batch: &'a Batch| {
            let salts = salts.by_ref().take(batch.values()).collect();
            Ok(Proposal { batch, clock: self.now()?, salts })
        };
        batches.iter().map(&mut propose).collect()
    }

    /// The present time.
    pub(super) fn now(&self) -> Result<Timestamp> {
        foreign::now(&*self.clock)
    }
}
