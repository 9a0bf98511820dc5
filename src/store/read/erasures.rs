//! What the erasures of a log have named.

use std::ops::ControlFlow;

use crate::backend::Snapshot;
use crate::error::Result;
use crate::key::ERASURES_PREFIX;
use crate::seq::Seq;
use crate::state::{ErasureRecord, Erasures};

/// The position of the newest record of an erasure; 0 if there is none.
pub(crate) fn newest(snapshot: &dyn Snapshot) -> Result<Seq> {
    let mut newest = Seq::ZERO;
    snapshot.entries(ERASURES_PREFIX, &mut |entry| {
        newest = newest.max(entry.seq);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(newest)
}

/// What all erasures of a log have named.
pub(crate) fn erasures(snapshot: &dyn Snapshot) -> Result<Erasures> {
    let mut erasures = Erasures::default();
    snapshot.entries(ERASURES_PREFIX, &mut |entry| {
        erasures.add(&ErasureRecord::decode(&entry.key, &entry.value, entry.seq)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(erasures)
}
