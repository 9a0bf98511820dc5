//! What the erasures of a log have named.

use std::ops::ControlFlow;

use crate::backend::Snapshot;
use crate::error::Result;
use crate::key::ERASURES_PREFIX;
use crate::state::{ErasureRecord, Erasures};

/// What all erasures of a log have named.
pub(crate) fn erasures(snapshot: &dyn Snapshot) -> Result<Erasures> {
    let mut erasures = Erasures::default();
    snapshot.entries(ERASURES_PREFIX, &mut |entry| {
        erasures.add(&ErasureRecord::decode(&entry.key, &entry.value, entry.seq)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(erasures)
}
