//! What the log means: requests, decisions, and the fold of changes into entries.
//!
//! All of it is pure: no I/O, no clock, no randomness.

mod batch;
mod decide;
mod entry;
mod latest;
mod node;
mod projection;
mod refusal;
mod row;
mod slot;
mod transaction;
mod tree;

pub use batch::Batch;
pub use entry::Entry;
pub use transaction::TransactionOp;

pub(crate) use batch::{Condition, Write};
pub(crate) use decide::{KeysBelow, Slots, decide};
pub(crate) use latest::Latest;
pub(crate) use projection::Projection;
pub(crate) use refusal::Refusal;
pub(crate) use row::RowView;
pub(crate) use slot::{Life, Slot};

#[cfg(test)]
mod properties;
