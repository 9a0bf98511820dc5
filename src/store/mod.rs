//! How programs reach the log and its projection: the trait, the queue, watches.
//!
//! The only clock and the only randomness of the crate are here.

mod cache;
#[cfg(feature = "sqlite")]
mod checkpoints;
mod clock;
mod commits;
mod core;
#[cfg(all(test, feature = "sqlite"))]
#[path = "../../tests/sim/corpus.rs"]
mod corpus;
mod engine;
mod entropy;
mod event;
#[cfg(test)]
mod faults;
#[cfg(feature = "sqlite")]
mod follower;
mod forward;
mod group;
#[cfg(all(test, kernels))]
#[path = "../../tests/kernels/interleavings.rs"]
mod interleavings;
#[cfg(all(test, feature = "sqlite"))]
#[path = "../../tests/sim/io_faults.rs"]
mod io_faults;
#[cfg(feature = "sqlite")]
mod loading;
mod memory;
mod options;
mod page;
mod pattern_index;
#[cfg(all(test, feature = "sqlite"))]
#[path = "../../tests/sim/power.rs"]
mod power;
mod published;
#[cfg(feature = "sqlite")]
mod queue;
mod read;
#[cfg(feature = "sqlite")]
mod readers;
mod receipt;
mod recent;
mod shared;
mod snapshot_watch;
#[cfg(feature = "sqlite")]
mod sqlite;
mod state_store;
mod stats;
mod watch;
mod watcher;
mod with_meta;
#[cfg(feature = "sqlite")]
mod writer;

pub use clock::{Clock, SystemClock};
pub use commits::Commits;
pub use entropy::{Entropy, OsEntropy};
pub use event::WatchEvent;
pub use memory::MemoryStore;
pub use options::Options;
pub use page::{Page, Scan};
pub use receipt::Receipt;
pub use snapshot_watch::{SnapshotEvent, SnapshotWatch};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;
pub use state_store::StateStore;
pub use stats::{Residency, Stats, WatcherStats};
pub use watch::WatchStream;
pub use with_meta::WithMeta;
