//! Who is woken: the watches that have joined, the newest commits for those that keep up, and the index
//! of patterns that says whom a commit concerns.

mod matching;
mod pattern_index;
mod recent_commits;
mod registry;
mod wakers;
mod watcher;

pub(crate) use matching::{Before, Matching, Old};
pub(crate) use recent_commits::RecentCommit;
pub(crate) use registry::Registry;
pub(crate) use wakers::{Wakers, undisturbed};
pub(crate) use watcher::Watcher;
