//! The stores as programs see them: the trait, the writer's queue, watches.
//!
//! The crate reads a clock and draws randomness only here. The modules, in order: each uses those above it in
//! this list, and none below.
//!
//! | module | what it does |
//! |---|---|
//! | `clock` `entropy` `stats` `foreign` `threads` `receipt` | what all modules share |
//! | `feed/` | wakes watches |
//! | `commit/` | the write path: load, decide, seal, record |
//! | `resident/` | keeps the published state in memory |
//! | `read/` | pure reads of one state |
//! | `engine/` | puts batches in order and runs reads |
//! | `session` | a store that runs, and its openings, which may be several |
//! | `open_store` | one opening: state, start, read, close |
//! | `history/` `watch/` | past states and restoring them; watches |
//! | `consumer/` | readers whose position the store keeps |
//! | `retain/` | what leaves the log |
//! | `policy/` | when, by its age |
//! | `transfer/` | exports and imports |
//! | `verify/` | verifications |
//! | the rest | the traits, and their implementation by an open store; the stores; their options |

mod archive;
mod clock;
mod codec;
mod commit;
mod consumer;
mod delegate;
mod engine;
mod entropy;
mod feed;
mod foreign;
mod history;
mod local_store;
mod marks;
mod memory_store;
mod open_store;
#[cfg(feature = "sqlite")]
mod openings;
mod options;
mod policy;
mod read;
mod receipt;
mod resident;
mod restoring;
mod retain;
mod retention;
mod session;
#[cfg(feature = "sqlite")]
mod sqlite_store;
mod state_store;
mod stats;
mod store_impl;
mod threads;
mod transfer;
mod update;
mod verify;
mod watch;
mod watched_clock;
mod with_meta;

#[cfg(all(test, feature = "sqlite"))]
#[path = "../../tests/sim/corpus.rs"]
mod corpus;
#[cfg(all(test, feature = "sqlite"))]
#[path = "../../tests/sim/doubt.rs"]
mod doubt;
#[cfg(all(test, kernels))]
#[path = "../../tests/kernels/interleavings.rs"]
mod interleavings;
#[cfg(all(test, feature = "sqlite"))]
#[path = "../../tests/sim/io_faults.rs"]
mod io_faults;
#[cfg(all(test, feature = "sqlite"))]
#[path = "../../tests/sim/power.rs"]
mod power;

pub use archive::Archive;
pub use clock::{Clock, SystemClock};
pub use consumer::{Consumed, Consumer, ConsumerInfo, ConsumerRequest, Processed};
pub use entropy::{Entropy, OsEntropy};
pub use history::{Diff, DiffPage, Difference, Mark, Past, Point, Restore};
pub use local_store::LocalStore;
pub use memory_store::MemoryStore;
pub use options::Options;
pub use policy::{HoldBack, Retained, RetentionPlan, Scheduled};
pub use read::{DeletedKey, Page, Scan};
pub use receipt::Receipt;
pub use retain::{
    Compact, Compacted, CompactionPlan, Erase, Erasure, ErasurePlan, Purged, Thin, Thinned, ThinningPlan,
};
pub use retention::Retention;
#[cfg(feature = "sqlite")]
pub use sqlite_store::SqliteStore;
pub use state_store::StateStore;
pub use stats::{About, Residency, Stats, WalReader, Warning, WatcherStats};
pub use transfer::{Export, Exported};
pub use update::Update;
pub use verify::Verify;
pub use watch::{Commits, Results, SnapshotEvent, SnapshotWatch, WatchEvent, WatchStream};
pub use with_meta::WithMeta;
