//! Waking watches: the watches that have joined, the newest commits for watches that keep up, and the index
//! that finds the watches whose pattern matches a key; and the memory that they hold.

mod budget;
mod erased;
mod matching;
mod pattern_index;
mod recent_commits;
mod registry;
mod wakers;
mod watcher;

pub(crate) use budget::{Budget, Denied, Lease, Loan, Standing};
pub(crate) use erased::Erased;
pub(crate) use matching::{Before, Matching, Old};
pub(crate) use recent_commits::RecentCommit;
pub(crate) use registry::{Registry, WATCH_BYTES};
pub(crate) use wakers::{Wakers, undisturbed};
pub(crate) use watcher::Watcher;
