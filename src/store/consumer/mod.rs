//! Consumers: readers of the log whose position the store keeps.

mod claim;
mod consumed;
mod info;
mod progress;
mod reader;
mod request;
mod timer;

pub use consumed::{Consumed, Processed};
pub use info::ConsumerInfo;
pub use reader::Consumer;
pub use request::ConsumerRequest;

pub(crate) use info::{list, remove, reset};
