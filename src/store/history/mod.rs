//! The past: points of the history, states at them, differences between two, and restoring one.

pub(crate) mod as_of;
pub(crate) mod diff;
mod mark;
mod past;
pub(crate) mod point;
mod restore;

pub use diff::{Diff, DiffPage, Difference};
pub use mark::Mark;
pub use past::Past;
pub use point::Point;
pub use restore::Restore;
pub(crate) use restore::RestorePlan;
