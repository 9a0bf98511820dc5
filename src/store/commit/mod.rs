//! The write path, in the order of its steps: what waits becomes a group of proposals, each is decided
//! on the state that the ones before it leave and sealed, and all are recorded in one storage
//! transaction.

mod group;
mod group_state;
mod proposal;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod groupings;

#[cfg(feature = "sqlite")]
pub(super) use group::Outcome;
pub(super) use group::{Recorded, commit_group};
pub(super) use proposal::Sources;
