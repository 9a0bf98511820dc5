//! The policy of a store: what leaves the log by its age, when somebody asks for it or on a schedule.

mod aim;
mod pace;
mod report;
mod running;
pub(crate) mod schedule;

pub use report::{HoldBack, Retained, RetentionPlan, Scheduled};
