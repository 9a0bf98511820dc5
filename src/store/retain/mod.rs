//! What leaves the log.

mod check;
mod compact;
mod run;
mod slices;

pub use compact::{Compact, Compacted};
