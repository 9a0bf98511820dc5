//! Watches: streams that read the log from a cursor, and are woken by commits.

mod commits;
mod event;
mod held;
pub(crate) mod page;
mod pages;
mod pending;
mod results;
mod snapshot_watch;
mod stream;

pub use commits::Commits;
pub use event::WatchEvent;
pub use results::Results;
pub use snapshot_watch::{SnapshotEvent, SnapshotWatch};
pub use stream::WatchStream;
