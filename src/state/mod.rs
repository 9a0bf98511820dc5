//! What the log means: requests, decisions, and the fold of changes into entries.
//!
//! All of it is pure: no I/O, no clock, no randomness.

mod batch;
mod decide;
mod entry;
mod projection;
mod slot;
mod transaction;

pub use batch::Batch;
pub use entry::Entry;
pub use transaction::TransactionOp;

pub(crate) use batch::{Condition, Write};
pub(crate) use decide::{Slots, decide};
pub(crate) use projection::Projection;
pub(crate) use slot::{Life, Slot};

#[cfg(test)]
mod properties;
