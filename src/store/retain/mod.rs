//! What leaves the log.

mod check;
mod compact;
mod erase;
mod erasing;
mod holds;
mod judgement;
mod named;
mod plan;
mod planning;
mod purge;
mod run;
mod slices;
mod thin;
mod thinning;
mod values;

#[cfg(all(test, feature = "sqlite"))]
pub(crate) use check::Check;
pub use compact::{Compact, Compacted, CompactionPlan};
pub use erase::{Erase, Erasure, ErasurePlan};
#[cfg(all(test, feature = "sqlite"))]
pub(crate) use erasing::{next_number, recording as recording_erasure};
#[cfg(all(test, feature = "sqlite"))]
pub(crate) use judgement::Judgement;
#[cfg(feature = "sqlite")]
pub(crate) use named::Named;
#[cfg(all(test, feature = "sqlite"))]
pub(crate) use plan::{Record, recording};
pub use purge::Purged;
#[cfg(all(test, feature = "sqlite"))]
pub(crate) use slices::{Made, Slices};
pub use thin::{Thin, Thinned, ThinningPlan};
