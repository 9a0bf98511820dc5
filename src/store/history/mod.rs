//! What was: points of the past, states as of them, differences between two, and bringing one back.

pub(crate) mod as_of;
pub(crate) mod diff;
mod past;
pub(crate) mod point;
mod restore;

pub use diff::{Diff, DiffPage, Difference};
pub use past::Past;
pub use point::Point;
pub use restore::Restore;
pub(crate) use restore::RestorePlan;
