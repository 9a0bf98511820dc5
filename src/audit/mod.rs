//! Is it true? Checks of logs and projections, wherever they come from.

mod verify;

pub use verify::{Finding, VerifyReport};

pub(crate) use verify::{Verification, contradicts};
