//! What leaves the log.

mod check;
mod compact;
mod holds;
mod named;
mod plan;
mod planning;
mod run;
mod slices;
mod thin;
mod thinning;
mod values;

#[cfg(all(test, feature = "sqlite"))]
pub(crate) use check::Check;
pub use compact::{Compact, Compacted, CompactionPlan};
#[cfg(feature = "sqlite")]
pub(crate) use named::Named;
#[cfg(all(test, feature = "sqlite"))]
pub(crate) use plan::{Record, recording};
#[cfg(all(test, feature = "sqlite"))]
pub(crate) use slices::{Made, Slices};
pub use thin::{Thin, Thinned, ThinningPlan};
