//! How programs reach the log and its projection: the trait, the queue, watches.
//!
//! The only clock and the only randomness of the crate are here.

mod alongside;
mod archive;
mod as_of;
mod bell;
mod cache;
mod chain;
#[cfg(feature = "sqlite")]
mod checkpoints;
mod clock;
mod commit;
mod commits;
mod core;
#[cfg(all(test, feature = "sqlite"))]
#[path = "../../tests/sim/corpus.rs"]
mod corpus;
#[cfg(feature = "sqlite")]
mod deliveries;
mod diff;
mod engine;
mod entropy;
mod event;
mod export;
#[cfg(feature = "sqlite")]
mod follower;
mod forward;
mod import;
#[cfg(all(test, kernels))]
#[path = "../../tests/kernels/interleavings.rs"]
mod interleavings;
#[cfg(all(test, feature = "sqlite"))]
#[path = "../../tests/sim/io_faults.rs"]
mod io_faults;
#[cfg(feature = "sqlite")]
mod loading;
mod long;
mod memory;
mod options;
mod page;
mod past;
mod pattern_index;
mod pending;
mod point;
#[cfg(all(test, feature = "sqlite"))]
#[path = "../../tests/sim/power.rs"]
mod power;
mod published;
mod read;
#[cfg(feature = "sqlite")]
mod readers;
mod receipt;
mod recent;
mod restore;
mod shared;
mod snapshot_watch;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "sqlite")]
mod sqlite_engine;
mod staged;
mod state_store;
mod stats;
mod typed;
mod verify;
#[cfg(any(feature = "sqlite", kernels))]
mod waiting;
mod watch;
mod watcher;
mod with_meta;
#[cfg(feature = "sqlite")]
mod writer;

pub use archive::Archive;
pub use clock::{Clock, SystemClock};
pub use commits::Commits;
pub use diff::{Diff, DiffPage, Difference};
pub use entropy::{Entropy, OsEntropy};
pub use event::WatchEvent;
pub use export::{Export, Exported};
pub use memory::MemoryStore;
pub use options::Options;
pub use page::{DeletedKey, Page, Scan};
pub use past::Past;
pub use point::Point;
pub use receipt::Receipt;
pub use restore::Restore;
pub use snapshot_watch::{SnapshotEvent, SnapshotWatch};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;
pub use state_store::StateStore;
pub use stats::{Residency, Stats, WatcherStats};
pub use verify::Verify;
pub use watch::WatchStream;
pub use with_meta::WithMeta;
