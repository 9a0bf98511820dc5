//! Exports of a log, and stores that are made of exports.

mod atomic_file;
#[cfg(feature = "sqlite")]
mod build;
mod export;
pub(crate) mod exporting;
mod load;

#[cfg(feature = "sqlite")]
pub(crate) use build::import;
pub use export::{Export, Exported};
pub(crate) use load::load;
