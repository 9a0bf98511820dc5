//! The meaning of the log: batches, decisions on them, and the fold of changes into entries.
//!
//! All of it is pure: no I/O, no clock, no randomness.

mod batch;
mod compaction;
mod consumer_record;
mod decide;
mod entry;
mod erasure;
mod floor;
mod key_state;
mod key_version;
mod leaving;
mod node;
mod policy;
mod projection;
mod refusal;
mod row;
mod seq_ranges;
mod seq_set;
mod superseded;
mod thinning;
mod transaction;
mod tree;

pub use batch::Batch;
pub use entry::Entry;
pub use transaction::TransactionOp;

pub(crate) use batch::{Condition, Write};
pub(crate) use compaction::{BaseSeal, Compaction, Forgetting, Forgotten};
pub(crate) use consumer_record::{ConsumerRecord, Hold};
pub(crate) use decide::{KeyVersions, KeysBelow, decide};
pub(crate) use erasure::{ErasureRecord, Erasures};
pub(crate) use floor::{Floor, Unfinished};
pub(crate) use key_state::KeyState;
pub(crate) use key_version::{KeyVersion, Life};
pub(crate) use leaving::{Fate, Leaving};
pub use policy::{Policy, ValueRule};
pub(crate) use policy::{PolicyRecord, YOUNG};
pub(crate) use projection::Projection;
pub(crate) use refusal::Refusal;
pub(crate) use row::RowView;
pub(crate) use seq_ranges::SeqRanges;
pub(crate) use seq_set::SeqSet;
pub(crate) use superseded::Superseded;
pub(crate) use thinning::Thinning;

#[cfg(test)]
mod properties;
