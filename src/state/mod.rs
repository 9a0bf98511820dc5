//! The meaning of the log: batches, decisions on them, and the fold of changes into entries.
//!
//! All of it is pure: no I/O, no clock, no randomness.

mod batch;
mod decide;
mod entry;
mod key_state;
mod key_version;
mod node;
mod projection;
mod refusal;
mod row;
mod transaction;
mod tree;

pub use batch::Batch;
pub use entry::Entry;
pub use transaction::TransactionOp;

pub(crate) use batch::{Condition, Write};
pub(crate) use decide::{KeyVersions, KeysBelow, decide};
pub(crate) use key_state::KeyState;
pub(crate) use key_version::{KeyVersion, Life};
pub(crate) use projection::Projection;
pub(crate) use refusal::Refusal;
pub(crate) use row::RowView;

#[cfg(test)]
mod properties;
