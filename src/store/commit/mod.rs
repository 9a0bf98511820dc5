//! The write path, in the order of its steps. The waiting batches become a group of proposals. Each proposal
//! is decided on the state that the ones before it leave, and sealed. All are recorded in one storage
//! transaction.

mod group;
mod group_state;
mod proposal;
mod rehearsal;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod groupings;

#[cfg(feature = "sqlite")]
pub(super) use group::Outcome;
pub(super) use group::{Recorded, commit_group};
pub(super) use proposal::Sources;
pub(super) use rehearsal::rehearse;
