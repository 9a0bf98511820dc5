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
    /// Makes a proposal of a batch, with the present time.
    pub(super) fn propose<'a>(&self, batch: &'a Batch) -> Result<Proposal<'a>> {
        let mut bytes = vec![0; batch.values() * SALT_BYTES];
        foreign::fill(&*self.entropy, &mut bytes)?;
        let (salts, _) = bytes.as_chunks();
        Ok(Proposal { batch, clock: self.now()?, salts: salts.to_vec() })
    }

    /// The present time.
    pub(super) fn now(&self) -> Result<Timestamp> {
        foreign::now(&*self.clock)
    }
}
