//! Reads of one state: pure functions over a snapshot.

pub(crate) mod base;
pub(crate) mod current;
pub(crate) mod erasures;
pub(crate) mod key_history;
pub(crate) mod log;
mod page;
pub(crate) mod superseded;

pub use page::{DeletedKey, Page, Scan};
