//! A batch with what it is sealed with.

use std::sync::Arc;

use crate::error::Result;
use crate::log::{SALT_BYTES, Timestamp};
use crate::state::Batch;
use crate::store::clock::Clock;
use crate::store::entropy::Entropy;
use crate::store::foreign;

/// A batch with the time and the salts that its changes get if it is not refused. What becomes of it
/// follows from this and the state before it alone.
pub(super) struct Proposal<'a> {
    pub(super) batch: &'a Batch,
    pub(super) clock: Timestamp,
    /// One for each value, in the order of the writes.
    pub(super) salts: Vec<[u8; SALT_BYTES]>,
}

/// Where the write path gets times and randomness from.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

impl Sources {
    /// Proposes a batch now.
    pub(super) fn propose<'a>(&self, batch: &'a Batch) -> Result<Proposal<'a>> {
        let mut bytes = vec![0; batch.values() * SALT_BYTES];
        foreign::fill(&*self.entropy, &mut bytes)?;
        let (salts, _) = bytes.as_chunks();
        Ok(Proposal { batch, clock: foreign::now(&*self.clock)?, salts: salts.to_vec() })
    }
}
